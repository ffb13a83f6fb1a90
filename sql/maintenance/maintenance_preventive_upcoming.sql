/*---
description = "When assets are next due for preventive maintenance, one row per schedule and asset, as of the last snapshot."
cluster_by = ["asset_id"]
unique_key = ["schedule_id", "asset_id"]
---*/
SELECT DISTINCT
  schedule['id'] AS schedule_id,                      -- the schedule; joins maintenance_preventive_schedules.id
  asset['id'] AS asset_id,                            -- Samsara's asset id; joins assets.id
  workOrder['id'] AS workOrder_id,                    -- work order that was made for it
  status,                                             -- how far it has come
  currentEngineHours,                                 -- running time of the engine at present, hours
  currentOdometer,                                    -- odometer at present, meters
  dueInDays,                                          -- days until it is due; negative if it is overdue
  dueInEngineHours,                                   -- hours of running until it is due
  dueInOdometer,                                      -- meters until it is due
  samsara_time(nextTime) AS nextTime,                 -- when it is due by the calendar
  nextEngineHours,                                    -- running time of the engine at which it is due, hours
  nextOdometer,                                       -- odometer at which it is due, meters
  samsara_time(lastResolvedAt) AS lastResolvedAt,     -- when it was last done
  lastResolvedAtEngineHours,                          -- running time of the engine then, hours
  lastResolvedAtOdometer                              -- odometer then, meters
FROM raw.maintenance_preventive_upcoming
