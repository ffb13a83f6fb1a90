/*---
description = "What went into the safety scores, one row per kind of score, UTC day and behavior."
partition_by = "date"
unique_key = ["scoreType", "date", "behaviorType"]
---*/
SELECT DISTINCT
  date,                                               -- the UTC day of the score; joins safety_scores_tag_group.date
  scoreType,                                          -- of what the score is made: driver or vehicle
  item['behaviorType'] AS behaviorType,               -- kind of behavior, such as acceleration or mobileUsage
  item['count'] AS count,                             -- how often it was seen
  item['scoreImpact'] AS scoreImpact                  -- what it took from the score
FROM (
  SELECT CAST(_window_start AS DATE) AS date, _asked['scoreType'] AS scoreType, unnest(behaviors) AS item
  FROM raw.safety_scores_tag_group
)
