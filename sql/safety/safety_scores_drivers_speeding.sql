/*---
description = "What went into the safety scores, one row per driver, UTC day and kind of speeding."
partition_by = "date"
cluster_by = ["driver_id"]
unique_key = ["driver_id", "date", "speedingType"]
---*/
SELECT DISTINCT
  date,                                               -- the UTC day of the score; joins safety_scores_drivers.date
  driver_id,                                          -- Samsara's driver id
  item['speedingType'] AS speedingType,               -- kind of speeding: light, moderate, heavy, severe or maxSpeed
  item['durationMilliseconds'] AS durationMilliseconds, -- how long, milliseconds
  item['scoreImpact'] AS scoreImpact                  -- what it took from the score
FROM (
  SELECT CAST(_window_start AS DATE) AS date, driverId AS driver_id, unnest(speeding) AS item
  FROM raw.safety_scores_drivers
)
