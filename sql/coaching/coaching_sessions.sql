/*---
description = "Coaching sessions as they are now, one row per session."
cluster_by = ["driver_id"]
unique_key = ["id"]
---*/
SELECT DISTINCT
  id,                                                 -- Samsara's id of the session
  driver['driverId'] AS driver_id,                    -- Samsara's driver id
  to_json(driver['externalIds']) AS driver_externalIds, -- all external ids of the driver, as JSON text
  assignedCoachId,                                    -- who is to coach; joins fleet_users.id
  completedCoachId,                                   -- who has coached; joins fleet_users.id
  coachingType,                                       -- how it is done, such as selfCoaching or withManager
  sessionStatus,                                      -- upcoming, completed, deleted or unknown
  sessionNote,                                        -- what the coach wrote
  samsara_time(dueAtTime) AS dueAtTime,               -- until when it is to be done
  samsara_time(completedAtTime) AS completedAtTime,   -- when it was done
  samsara_time(updatedAtTime) AS updatedAtTime        -- when it was last changed
FROM raw.coaching_sessions
