/*---
description = "Current of the traction battery, one row per reading."
partition_by = "time"
cluster_by = ["vehicle_id"]
unique_key = ["vehicle_id", "time"]
---*/
SELECT DISTINCT
  vehicle_id,                                         -- Samsara's vehicle id
  parc_id,                                            -- the fleet's own number for the vehicle
  samsara_time(reading['time']) AS time,              -- when it was read
  reading['value'] AS evBatteryCurrentMilliAmp        -- current of the battery, milliamperes
FROM (
  SELECT id AS vehicle_id, name AS parc_id, unnest(evBatteryCurrentMilliAmp) AS reading
  FROM raw.fleet_vehicle_stats_evBatteryCurrentMilliAmp
)
