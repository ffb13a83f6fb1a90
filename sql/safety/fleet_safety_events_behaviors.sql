/*---
description = "Behaviours that safety events show, one row per event and label. Events without labels have no row."
partition_by = "time"
cluster_by = ["vehicle_id"]
unique_key = ["event_id", "label", "source"]
---*/
SELECT DISTINCT
  event_id,                                           -- the event; joins fleet_safety_events.event_id
  samsara_time(time) AS time,                         -- when it happened
  vehicle_id,                                         -- Samsara's vehicle id
  driver_id,                                          -- the driver, if known
  item['label'] AS label,                             -- what was detected; the list of labels grows
  item['name'] AS name,                               -- the label's name for people
  item['source'] AS source                            -- automated or userGenerated
FROM (
  SELECT
    id AS event_id,
    time,
    vehicle['id'] AS vehicle_id,
    driver['id'] AS driver_id,
    unnest(behaviorLabels) AS item
  FROM raw.fleet_safety_events
)
WHERE item IS NOT NULL
