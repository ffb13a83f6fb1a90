/*---
description = "Total idle time of the engine of equipment, one row per reading."
partition_by = "time"
cluster_by = ["equipment_id"]
unique_key = ["equipment_id", "time"]
---*/
SELECT DISTINCT
  equipment_id,                                       -- Samsara's equipment id
  equipment_name,                                     -- its name
  samsara_time(reading['time']) AS time,              -- when it was read
  reading['value'] AS engineTotalIdleTimeMinutes       -- idle time since the engine was new, minutes
FROM (
  SELECT id AS equipment_id, name AS equipment_name, unnest(engineTotalIdleTimeMinutes) AS reading
  FROM raw.fleet_equipment_stats_engineTotalIdleTimeMinutes
)
