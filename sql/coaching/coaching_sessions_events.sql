/*---
description = "Events that the behaviors of coaching sessions come from, one row per session, behavior and event."
cluster_by = ["coaching_session_id"]
unique_key = ["coaching_session_id", "behavior_id", "id"]
---*/
SELECT DISTINCT
  coaching_session_id,                                -- the session; joins coaching_sessions.id
  behavior_id,                                        -- the behavior; joins coaching_sessions_behaviors.id
  event['id'] AS id,                                  -- Samsara's id of the event
  event['linkage']['sourceType'] AS linkage_sourceType, -- what the event is, such as triageEvent
  event['linkage']['sourceId'] AS linkage_sourceId    -- Samsara's id of that
FROM (
  SELECT coaching_session_id, item['id'] AS behavior_id, unnest(item['coachableEvents']) AS event
  FROM (
    SELECT id AS coaching_session_id, unnest(behaviors) AS item
    FROM raw.coaching_sessions
  )
)
