/*---
description = "Schedules of preventive maintenance, one row per schedule, as of the last snapshot."
unique_key = ["id"]
---*/
SELECT DISTINCT
  id,                                                 -- Samsara's id of the schedule
  title,                                              -- its title
  description,                                        -- what it is about
  dateIntervalMs,                                     -- how often it is due by the calendar, milliseconds
  distanceInterval,                                   -- how often it is due by distance, meters
  engineHourInterval,                                 -- how often it is due by running time of the engine, hours
  linkedSchedules,                                    -- schedules that it is linked with, as JSON text
  workOrderTemplateId                                 -- template of its work orders
FROM raw.maintenance_preventive_schedules
