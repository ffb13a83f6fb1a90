/*---
description = "Door of zone 2 of refrigeration units, one row per reading."
partition_by = "time"
cluster_by = ["trailer_id"]
unique_key = ["trailer_id", "time"]
---*/
SELECT DISTINCT
  trailer_id,                                         -- Samsara's trailer id; joins fleet_trailers.trailer_id
  trailer_name,                                       -- its name
  samsara_time(reading['time']) AS time,              -- when it was read
  reading['value'] AS reeferDoorStateZone2            -- state of the door: open or closed
FROM (
  SELECT id AS trailer_id, name AS trailer_name, unnest(reeferDoorStateZone2) AS reading
  FROM raw.fleet_trailer_stats_reeferDoorStateZone2
)
