/*---
description = "Engine state of equipment, as reported by its computer, one row per reading."
partition_by = "time"
cluster_by = ["equipment_id"]
unique_key = ["equipment_id", "time"]
---*/
SELECT DISTINCT
  equipment_id,                                       -- Samsara's equipment id
  equipment_name,                                     -- its name
  samsara_time(reading['time']) AS time,              -- when it was read
  reading['value'] AS obdEngineStates                  -- Off, On or Idle, by the on-board computer
FROM (
  SELECT id AS equipment_id, name AS equipment_name, unnest(obdEngineStates) AS reading
  FROM raw.fleet_equipment_stats_obdEngineStates
)
