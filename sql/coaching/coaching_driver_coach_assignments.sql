/*---
description = "Coaches of drivers, one row per driver and coach, as of the last snapshot."
cluster_by = ["driver_id"]
unique_key = ["driver_id", "coach_id"]
---*/
SELECT DISTINCT
  driver['driverId'] AS driver_id,                    -- Samsara's driver id
  to_json(driver['externalIds']) AS driver_externalIds, -- all external ids of the driver, as JSON text
  coachId AS coach_id,                                -- Samsara's user id of the coach; joins fleet_users.id
  samsara_time(createdAtTime) AS createdAtTime,       -- when the coach was assigned
  samsara_time(updatedAtTime) AS updatedAtTime        -- when that was last changed
FROM raw.coaching_driver_coach_assignments
