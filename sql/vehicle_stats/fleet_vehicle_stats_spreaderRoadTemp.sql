/*---
description = "Road temperature, as read by material spreaders, one row per reading."
partition_by = "time"
cluster_by = ["vehicle_id"]
unique_key = ["vehicle_id", "time"]
---*/
SELECT DISTINCT
  vehicle_id,                                         -- Samsara's vehicle id
  parc_id,                                            -- the fleet's own number for the vehicle
  samsara_time(reading['time']) AS time,              -- when it was read
  reading['value'] AS spreaderRoadTemp                -- road temperature, millidegrees Celsius
FROM (
  SELECT id AS vehicle_id, name AS parc_id, unnest(spreaderRoadTemp) AS reading
  FROM raw.fleet_vehicle_stats_spreaderRoadTemp
)
