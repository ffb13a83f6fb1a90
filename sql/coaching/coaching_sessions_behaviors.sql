/*---
description = "Behaviors that coaching sessions are about, one row per session and behavior."
cluster_by = ["coaching_session_id"]
unique_key = ["coaching_session_id", "id"]
---*/
SELECT DISTINCT
  coaching_session_id,                                -- the session; joins coaching_sessions.id
  item['id'] AS id,                                   -- Samsara's id of the behavior in this session
  item['coachableBehaviorType'] AS coachableBehaviorType, -- the behavior, such as acceleration or braking
  samsara_time(item['lastCoachedTime']) AS lastCoachedTime, -- when the driver was last coached about it
  item['note'] AS note,                               -- what the coach wrote
  samsara_time(item['updatedAtTime']) AS updatedAtTime -- when it was last changed
FROM (
  SELECT id AS coaching_session_id, unnest(behaviors) AS item
  FROM raw.coaching_sessions
)
