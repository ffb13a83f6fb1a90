/*---
description = "What went into the safety scores, one row per driver, UTC day and behavior."
partition_by = "date"
cluster_by = ["driver_id"]
unique_key = ["driver_id", "date", "behaviorType"]
---*/
SELECT DISTINCT
  date,                                               -- the UTC day of the score; joins safety_scores_drivers.date
  driver_id,                                          -- Samsara's driver id
  item['behaviorType'] AS behaviorType,               -- kind of behavior, such as acceleration or mobileUsage
  item['count'] AS count,                             -- how often it was seen
  item['scoreImpact'] AS scoreImpact                  -- what it took from the score
FROM (
  SELECT CAST(_window_start AS DATE) AS date, driverId AS driver_id, unnest(behaviors) AS item
  FROM raw.safety_scores_drivers
)
