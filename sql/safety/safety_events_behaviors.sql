/*---
description = "Behaviors that safety events show, one row per event and label."
partition_by = "startTime"
cluster_by = ["safety_event_id"]
unique_key = ["safety_event_id", "label", "source"]
---*/
SELECT DISTINCT
  safety_event_id,                                    -- the event; joins safety_events.id
  samsara_time(startMs) AS startTime,                 -- when the event began
  item['label'] AS label,                             -- the behavior, such as Acceleration or MobileUsage
  item['source'] AS source                            -- automated or userGenerated
FROM (
  SELECT id AS safety_event_id, startMs, unnest(behaviorLabels) AS item
  FROM raw.safety_events
)
