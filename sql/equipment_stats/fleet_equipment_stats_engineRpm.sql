/*---
description = "Engine speed of equipment, one row per reading."
partition_by = "time"
cluster_by = ["equipment_id"]
unique_key = ["equipment_id", "time"]
---*/
SELECT DISTINCT
  equipment_id,                                       -- Samsara's equipment id
  equipment_name,                                     -- its name
  samsara_time(reading['time']) AS time,              -- when it was read
  reading['value'] AS engineRpm                        -- revolutions per minute
FROM (
  SELECT id AS equipment_id, name AS equipment_name, unnest(engineRpm) AS reading
  FROM raw.fleet_equipment_stats_engineRpm
)
