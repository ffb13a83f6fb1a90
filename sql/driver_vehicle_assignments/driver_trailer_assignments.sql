/*---
description = "Which driver has which trailer, one row per assignment in force, as of the last snapshot."
cluster_by = ["driver_id"]
unique_key = ["id"]
---*/
SELECT DISTINCT
  id,                                                 -- Samsara's id of the assignment
  driver['driverId'] AS driver_id,                    -- Samsara's driver id
  to_json(driver['externalIds']) AS driver_externalIds, -- all external ids of the driver, as JSON text
  trailer['trailerId'] AS trailer_id,                 -- Samsara's trailer id; joins fleet_trailers.trailer_id
  samsara_time(startTime) AS startTime,               -- when it began
  samsara_time(endTime) AS endTime,                   -- when it will end, if that is known
  samsara_time(createdAtTime) AS createdAtTime,       -- when it was made
  samsara_time(updatedAtTime) AS updatedAtTime        -- when it was last changed
FROM raw.driver_trailer_assignments
