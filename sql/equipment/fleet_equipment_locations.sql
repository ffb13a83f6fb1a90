/*---
description = "Positions of equipment, one row per fix."
partition_by = "time"
cluster_by = ["equipment_id"]
unique_key = ["equipment_id", "time"]
---*/
SELECT DISTINCT
  equipment_id,                                       -- Samsara's equipment id
  equipment_name,                                     -- its name
  samsara_time(fix['time']) AS time,                  -- when the fix was taken
  fix['latitude'] AS latitude,                        -- degrees north
  fix['longitude'] AS longitude,                      -- degrees east
  fix['heading'] AS heading,                          -- course over ground, degrees
  fix['speed'] AS speed                               -- speed, miles per hour
FROM (
  SELECT id AS equipment_id, name AS equipment_name, unnest(locations) AS fix
  FROM raw.fleet_equipment_locations
)
