/*---
description = "Which driver had which vehicle, one row per assignment, on the day of its start."
partition_by = "startTime"
cluster_by = ["driver_id", "vehicle_id"]
---*/
SELECT DISTINCT
  driver['id'] AS driver_id,                          -- the driver
  driver['name'] AS driver_name,                      -- the driver's name
  to_json(driver['externalIds']) AS driver_externalIds, -- all external ids of the driver, as JSON text
  vehicle['id'] AS vehicle_id,                        -- the vehicle
  vehicle['name'] AS vehicle_name,                    -- its name
  vehicle['externalIds']['samsara.serial'] AS vehicle_externalIds_samsara_serial, -- gateway serial in its external ids
  vehicle['externalIds']['samsara.vin'] AS vehicle_externalIds_samsara_vin, -- VIN in its external ids
  to_json(vehicle['externalIds']) AS vehicle_externalIds, -- all its external ids, as JSON text
  samsara_time(startTime) AS startTime,               -- when the assignment started
  samsara_time(endTime) AS endTime,                   -- when it ended; empty while it lasts
  samsara_time(assignedAtTime) AS assignedAtTime,     -- when it was made, mostly unknown
  assignmentType,                                     -- what made it: HOS, idCard, static …
  isPassenger,                                        -- whether the driver was a passenger
  metadata['sourceName'] AS metadata_sourceName       -- name of the external system that made it
FROM raw.driver_vehicle_assignments
