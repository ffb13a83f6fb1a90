/*---
description = "What went into the safety scores, one row per kind of score, UTC day and kind of speeding."
partition_by = "date"
unique_key = ["scoreType", "date", "speedingType"]
---*/
SELECT DISTINCT
  date,                                               -- the UTC day of the score; joins safety_scores_tag_group.date
  scoreType,                                          -- of what the score is made: driver or vehicle
  item['speedingType'] AS speedingType,               -- kind of speeding: light, moderate, heavy, severe or maxSpeed
  item['durationMilliseconds'] AS durationMilliseconds, -- how long, milliseconds
  item['scoreImpact'] AS scoreImpact                  -- what it took from the score
FROM (
  SELECT CAST(_window_start AS DATE) AS date, _asked['scoreType'] AS scoreType, unnest(speeding) AS item
  FROM raw.safety_scores_tag_group
)
