/*---
description = "Fuel level of refrigeration units, one row per reading."
partition_by = "time"
cluster_by = ["trailer_id"]
unique_key = ["trailer_id", "time"]
---*/
SELECT DISTINCT
  trailer_id,                                         -- Samsara's trailer id; joins fleet_trailers.trailer_id
  trailer_name,                                       -- its name
  samsara_time(reading['time']) AS time,              -- when it was read
  reading['value'] AS reeferFuelPercent               -- fuel level, percent of the tank
FROM (
  SELECT id AS trailer_id, name AS trailer_name, unnest(reeferFuelPercent) AS reading
  FROM raw.fleet_trailer_stats_reeferFuelPercent
)
