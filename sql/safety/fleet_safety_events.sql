/*---
description = "Safety events, one row per event and behaviour label; an event without labels keeps one row."
partition_by = "time"
cluster_by = ["vehicle_id"]
unique_key = ["event_id", "behavior_label", "behavior_source"]
---*/
SELECT DISTINCT
  id AS event_id,                                     -- the event: vehicle id and time in milliseconds
  samsara_time(time) AS time,                         -- when it happened
  vehicle['id'] AS vehicle_id,                        -- Samsara's vehicle id
  vehicle['name'] AS vehicle_name,                    -- the fleet's own number for the vehicle
  vehicle['ExternalIds']['samsara.serial'] AS vehicle_ExternalIds_samsara_serial, -- gateway serial in its external ids
  vehicle['ExternalIds']['samsara.vin'] AS vehicle_ExternalIds_samsara_vin, -- VIN in its external ids
  to_json(vehicle['ExternalIds']) AS vehicle_ExternalIds, -- all external ids of the vehicle, as JSON text
  driver['id'] AS driver_id,                          -- the driver, if known
  driver['name'] AS driver_name,                      -- that driver's name
  coachingState,                                      -- how far reviewing and coaching have come
  maxAccelerationGForce,                              -- strongest acceleration, in g
  location['latitude'] AS location_latitude,          -- degrees north
  location['longitude'] AS location_longitude,        -- degrees east
  downloadForwardVideoUrl,                            -- video of the road; the address expires
  downloadInwardVideoUrl,                             -- video of the driver; the address expires
  downloadTrackedInwardVideoUrl,                      -- video of the driver with tracking marks; the address expires
  behaviorLabels[i]['label'] AS behavior_label,       -- what was detected; the list of labels grows
  behaviorLabels[i]['name'] AS behavior_name,         -- the label's name for people
  behaviorLabels[i]['source'] AS behavior_source      -- automated or userGenerated
FROM (
  SELECT
    *,
    unnest(range(1, 1 + greatest(1, coalesce(CAST(array_length(behaviorLabels) AS BIGINT), 0)))) AS i
  FROM raw.fleet_safety_events
)
