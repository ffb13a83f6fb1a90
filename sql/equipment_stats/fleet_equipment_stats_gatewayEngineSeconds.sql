/*---
description = "Engine running time of equipment, as counted by the gateway, one row per reading."
partition_by = "time"
cluster_by = ["equipment_id"]
unique_key = ["equipment_id", "time"]
---*/
SELECT DISTINCT
  equipment_id,                                       -- Samsara's equipment id
  equipment_name,                                     -- its name
  samsara_time(reading['time']) AS time,              -- when it was read
  reading['value'] AS gatewayEngineSeconds             -- running time by the auxiliary input, seconds
FROM (
  SELECT id AS equipment_id, name AS equipment_name, unnest(gatewayEngineSeconds) AS reading
  FROM raw.fleet_equipment_stats_gatewayEngineSeconds
)
