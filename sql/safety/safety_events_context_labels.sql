/*---
description = "Circumstances of safety events, one row per event, label and author."
partition_by = "startTime"
cluster_by = ["safety_event_id"]
unique_key = ["safety_event_id", "name", "authorId", "createdAtTime"]
---*/
SELECT DISTINCT
  safety_event_id,                                    -- the event; joins safety_events.id
  samsara_time(startMs) AS startTime,                 -- when the event began
  item['name'] AS name,                               -- the circumstance
  item['authorId'] AS authorId,                       -- who noted it; joins fleet_users.id
  samsara_time(item['createdAtTime']) AS createdAtTime -- when it was noted
FROM (
  SELECT id AS safety_event_id, startMs, unnest(contextLabels) AS item
  FROM raw.safety_events
)
