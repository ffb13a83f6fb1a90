/*---
description = "Recordings of safety events, one row per event and camera."
partition_by = "startTime"
cluster_by = ["safety_event_id"]
unique_key = ["safety_event_id", "input", "cameraRole", "auxcamSerial", "url"]
---*/
SELECT DISTINCT
  safety_event_id,                                    -- the event; joins safety_events.id
  samsara_time(startMs) AS startTime,                 -- when the event began
  item['input'] AS input,                             -- the camera, such as dashcamRoadFacing
  item['cameraRole'] AS cameraRole,                   -- where it is mounted
  item['auxcamSerial'] AS auxcamSerial,               -- serial number of an auxiliary camera
  item['url'] AS url                                  -- address of the recording, which expires
FROM (
  SELECT id AS safety_event_id, startMs, unnest(media) AS item
  FROM raw.safety_events
)
