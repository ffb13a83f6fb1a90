/*---
description = "What became of detections, one row per detection and safety event."
partition_by = "createdAtTime"
cluster_by = ["detection_id"]
unique_key = ["detection_id", "safety_event_id", "inboxEvent", "inboxFilterReason"]
---*/
SELECT DISTINCT
  detection_id,                                       -- the detection; joins detections.id
  samsara_time(createdAtTime) AS createdAtTime,       -- when the detection was made
  item['id'] AS safety_event_id,                      -- the event; joins safety_events.id
  item['inboxEvent'] AS inboxEvent,                   -- whether it came into the safety inbox
  item['inboxFilterReason'] AS inboxFilterReason      -- why it did not, such as overDailyLimit
FROM (
  SELECT id AS detection_id, createdAtTime, unnest(safetyEvent) AS item
  FROM raw.detections
)
