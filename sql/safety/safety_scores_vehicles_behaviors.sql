/*---
description = "What went into the safety scores, one row per vehicle, UTC day and behavior."
partition_by = "date"
cluster_by = ["vehicle_id"]
unique_key = ["vehicle_id", "date", "behaviorType"]
---*/
SELECT DISTINCT
  date,                                               -- the UTC day of the score; joins safety_scores_vehicles.date
  vehicle_id,                                         -- Samsara's vehicle id
  item['behaviorType'] AS behaviorType,               -- kind of behavior, such as acceleration or mobileUsage
  item['count'] AS count,                             -- how often it was seen
  item['scoreImpact'] AS scoreImpact                  -- what it took from the score
FROM (
  SELECT CAST(_window_start AS DATE) AS date, vehicleId AS vehicle_id, unnest(behaviors) AS item
  FROM raw.safety_scores_vehicles
)
