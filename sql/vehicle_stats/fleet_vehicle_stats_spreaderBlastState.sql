/*---
description = "Whether material spreaders are spreading in blast mode, one row per reading."
partition_by = "time"
cluster_by = ["vehicle_id"]
unique_key = ["vehicle_id", "time"]
---*/
SELECT DISTINCT
  vehicle_id,                                         -- Samsara's vehicle id
  parc_id,                                            -- the fleet's own number for the vehicle
  samsara_time(reading['time']) AS time,              -- when it was read
  reading['value'] AS spreaderBlastState              -- whether it is in blast mode, in the words of the API
FROM (
  SELECT id AS vehicle_id, name AS parc_id, unnest(spreaderBlastState) AS reading
  FROM raw.fleet_vehicle_stats_spreaderBlastState
)
