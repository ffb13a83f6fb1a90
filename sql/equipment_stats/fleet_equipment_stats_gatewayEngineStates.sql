/*---
description = "Engine state of equipment, as seen by the gateway, one row per reading."
partition_by = "time"
cluster_by = ["equipment_id"]
unique_key = ["equipment_id", "time"]
---*/
SELECT DISTINCT
  equipment_id,                                       -- Samsara's equipment id
  equipment_name,                                     -- its name
  samsara_time(reading['time']) AS time,              -- when it was read
  reading['value'] AS gatewayEngineStates              -- Off, On or Idle, by the auxiliary input
FROM (
  SELECT id AS equipment_id, name AS equipment_name, unnest(gatewayEngineStates) AS reading
  FROM raw.fleet_equipment_stats_gatewayEngineStates
)
