/*---
description = "Which driver had which vehicle, one row per assignment, on the day of its start; within trips and outside them."
partition_by = "startTime"
cluster_by = ["driver_id", "vehicle_id"]
unique_key = ["driver_id", "vehicle_id", "startTime", "assignedAtTime", "assignmentType", "isPassenger", "metadata_sourceName"]
---*/
-- One call for each type, and one for all within trips, bring many assignments twice, and one that ends meanwhile
-- differently: the version that has the (later) end counts.
SELECT
  driver_id,                                          -- the driver
  driver_name,                                        -- the driver's name
  driver_externalIds,                                 -- all external ids of the driver, as JSON text
  vehicle_id,                                         -- the vehicle
  vehicle_name,                                       -- its name
  vehicle_externalIds_samsara_serial,                 -- gateway serial in its external ids
  vehicle_externalIds_samsara_vin,                    -- VIN in its external ids
  vehicle_externalIds,                                -- all its external ids, as JSON text
  startTime,                                          -- when the assignment started
  endTime,                                            -- when it ended; empty while it lasts
  assignedAtTime,                                     -- when it was made, mostly unknown
  assignmentType,                                     -- what made it: HOS, idCard, static …
  isPassenger,                                        -- whether the driver was a passenger
  metadata_sourceName                                 -- name of the external system that made it
FROM (
  SELECT
    *,
    row_number() OVER (
      PARTITION BY driver_id, vehicle_id, startTime, assignedAtTime, assignmentType, isPassenger, metadata_sourceName
      ORDER BY endTime DESC NULLS LAST, driver_name, vehicle_name, driver_externalIds, vehicle_externalIds
    ) AS version
  FROM (
    SELECT
      driver['id'] AS driver_id,
      driver['name'] AS driver_name,
      to_json(driver['externalIds']) AS driver_externalIds,
      vehicle['id'] AS vehicle_id,
      vehicle['name'] AS vehicle_name,
      vehicle['externalIds']['samsara.serial'] AS vehicle_externalIds_samsara_serial,
      vehicle['externalIds']['samsara.vin'] AS vehicle_externalIds_samsara_vin,
      to_json(vehicle['externalIds']) AS vehicle_externalIds,
      samsara_time(startTime) AS startTime,
      samsara_time(endTime) AS endTime,
      samsara_time(assignedAtTime) AS assignedAtTime,
      assignmentType,
      isPassenger,
      metadata['sourceName'] AS metadata_sourceName
    FROM raw.driver_vehicle_assignments
  )
)
WHERE version = 1
