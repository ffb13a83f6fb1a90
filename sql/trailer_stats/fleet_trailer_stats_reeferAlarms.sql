/*---
description = "Alarms of refrigeration units, one row per reading and alarm. Readings without alarms have no row."
partition_by = "time"
cluster_by = ["trailer_id"]
---*/
SELECT DISTINCT
  trailer_id,                                         -- Samsara's trailer id; joins fleet_trailers.trailer_id
  trailer_name,                                       -- its name
  samsara_time(time) AS time,                         -- when it was read
  alarm['alarmCode'] AS alarmCode,                    -- code of the alarm
  alarm['description'] AS description,                -- its meaning
  alarm['operatorAction'] AS operatorAction,          -- what the driver is to do
  alarm['severity'] AS severity                       -- 1 fit to run, 2 to be checked, 3 to be acted on at once
FROM (
  SELECT trailer_id, trailer_name, reading['time'] AS time, unnest(reading['alarms']) AS alarm
  FROM (
    SELECT id AS trailer_id, name AS trailer_name, unnest(reeferAlarms) AS reading
    FROM raw.fleet_trailer_stats_reeferAlarms
  )
)
WHERE alarm IS NOT NULL
