/*---
description = "Safety scores of the whole organisation, one row per kind of score and UTC day. Days do not add up: trips that overlap the day count."
partition_by = "date"
unique_key = ["scoreType", "date"]
---*/
SELECT DISTINCT
  CAST(_window_start AS DATE) AS date,                -- the UTC day of the score
  _asked['scoreType'] AS scoreType,                   -- of what it is made: driver or vehicle
  combinedScore,                                      -- the score, 0 to 100
  driveDistanceMeters,                                -- distance driven, meters
  driveTimeMilliseconds                               -- driving time, milliseconds
FROM raw.safety_scores_tag_group
