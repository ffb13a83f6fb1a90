/*---
description = "Safety scores of tags, one row per tag, kind of score and UTC day. Days do not add up: trips that overlap the day count."
partition_by = "date"
cluster_by = ["tag_id"]
unique_key = ["tag_id", "scoreType", "date"]
---*/
SELECT DISTINCT
  CAST(_window_start AS DATE) AS date,                -- the UTC day of the score
  tagId AS tag_id,                                    -- the tag; joins fleet_tags.tag_id
  _asked['scoreType'] AS scoreType,                   -- of what it is made: driver or vehicle
  tagScore,                                           -- the score, 0 to 100
  driveDistanceMeters,                                -- distance driven, meters
  driveTimeMilliseconds                               -- driving time, milliseconds
FROM raw.safety_scores_tags
