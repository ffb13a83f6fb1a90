/*---
description = "Hours of service by driver and calendar day of the driver: one row per day chart. Violations are those that began within the logging day, as far as they began on the same UTC day."
partition_by = "day"
cluster_by = ["driver_id"]
unique_key = ["driver_id", "logging_day_start"]

[[tests]]
not_null = ["driver_id"]
---*/
SELECT
  CAST(l.date AS DATE) AS day,                        -- the calendar day of the log, in local time
  l.driver_id,                                        -- Samsara's driver id; joins dim_drivers.driver_id
  l.driver_name,                                      -- full name
  l.driver_timezone AS time_zone,                     -- home terminal time zone (IANA)
  l.startTime AS logging_day_start,                   -- start of the driver's logging day
  round(l.dutyStatusDurations_driveDurationMs / 3600000.0, 4) AS driving_hours, -- driving time, hours
  round(l.dutyStatusDurations_onDutyDurationMs / 3600000.0, 4) AS on_duty_hours, -- time on duty without driving, hours
  round(l.dutyStatusDurations_offDutyDurationMs / 3600000.0, 4) AS off_duty_hours, -- time off duty, hours
  round(l.dutyStatusDurations_sleeperBerthDurationMs / 3600000.0, 4) AS sleeper_berth_hours, -- time in the sleeper berth, hours
  coalesce(l.logMetaData_isCertified, false) AS is_certified, -- whether the driver certified the log
  coalesce(v.violations, 0) AS violations,            -- hours-of-service violations
  coalesce(v.violations, 0) = 0 AS is_compliant,      -- whether there were none
  v.violation_types                                   -- rules that were broken, in alphabetical order, separated by commas
FROM fleet_hos_daily_logs AS l
LEFT JOIN (
  SELECT driver_id, day_startTime, count(*) AS violations,
    string_agg(DISTINCT type, ', ' ORDER BY type) AS violation_types
  FROM fleet_hos_violations
  GROUP BY driver_id, day_startTime
) AS v ON v.driver_id = l.driver_id AND v.day_startTime = l.startTime
