/*---
description = "What went into the safety scores, one row per tag, kind of score, UTC day and behavior."
partition_by = "date"
cluster_by = ["tag_id"]
unique_key = ["tag_id", "scoreType", "date", "behaviorType"]
---*/
SELECT DISTINCT
  date,                                               -- the UTC day of the score; joins safety_scores_tags.date
  tag_id,                                             -- the tag; joins safety_scores_tags.tag_id
  scoreType,                                          -- of what the score is made: driver or vehicle
  item['behaviorType'] AS behaviorType,               -- kind of behavior, such as acceleration or mobileUsage
  item['count'] AS count,                             -- how often it was seen
  item['scoreImpact'] AS scoreImpact                  -- what it took from the score
FROM (
  SELECT CAST(_window_start AS DATE) AS date, tagId AS tag_id, _asked['scoreType'] AS scoreType, unnest(behaviors) AS item
  FROM raw.safety_scores_tags
)
