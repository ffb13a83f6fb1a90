/*---
description = "What went into the safety scores, one row per tag, kind of score, UTC day and kind of speeding."
partition_by = "date"
cluster_by = ["tag_id"]
unique_key = ["tag_id", "scoreType", "date", "speedingType"]
---*/
SELECT DISTINCT
  date,                                               -- the UTC day of the score; joins safety_scores_tags.date
  tag_id,                                             -- the tag; joins safety_scores_tags.tag_id
  scoreType,                                          -- of what the score is made: driver or vehicle
  item['speedingType'] AS speedingType,               -- kind of speeding: light, moderate, heavy, severe or maxSpeed
  item['durationMilliseconds'] AS durationMilliseconds, -- how long, milliseconds
  item['scoreImpact'] AS scoreImpact                  -- what it took from the score
FROM (
  SELECT CAST(_window_start AS DATE) AS date, tagId AS tag_id, _asked['scoreType'] AS scoreType, unnest(speeding) AS item
  FROM raw.safety_scores_tags
)
