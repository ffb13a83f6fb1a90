/*---
description = "Trailers and other assets that were attached during trips, one row per trip and asset."
partition_by = "startTime"
cluster_by = ["vehicle_id"]
unique_key = ["vehicle_id", "startTime", "asset_id"]
---*/
SELECT DISTINCT
  vehicle_id,                                         -- Samsara's vehicle id; joins fleet_trips.vehicle_id
  samsara_time_ms(startMs) AS startTime,              -- when the trip started; joins fleet_trips.startTime
  json_as_text(item) AS asset_id                      -- the attached asset; joins fleet_trailers.trailer_id and fleet_assets.asset_id
FROM (
  SELECT _parent_id AS vehicle_id, startMs, unnest(json_get_array(assetIds)) AS item
  FROM raw.fleet_trips
)
WHERE item <> 'null'
