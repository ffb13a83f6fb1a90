/*---
description = "GPS fixes of trailers, one row per reading."
partition_by = "time"
cluster_by = ["trailer_id"]
unique_key = ["trailer_id", "time"]
---*/
SELECT DISTINCT
  trailer_id,                                         -- Samsara's trailer id; joins fleet_trailers.trailer_id
  trailer_name,                                       -- its name
  samsara_time(reading['time']) AS time,              -- when it was read
  reading['latitude'] AS latitude,                    -- degrees north
  reading['longitude'] AS longitude,                  -- degrees east
  reading['headingDegrees'] AS headingDegrees,        -- course over ground, degrees
  reading['speedMilesPerHour'] AS speedMilesPerHour,  -- speed, miles per hour
  reading['reverseGeo']['formattedLocation'] AS reverseGeo_formattedLocation -- place, free text
FROM (
  SELECT id AS trailer_id, name AS trailer_name, unnest(gps) AS reading
  FROM raw.fleet_trailer_stats_gps
)
