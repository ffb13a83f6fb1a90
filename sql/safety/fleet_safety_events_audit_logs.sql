/*---
description = "Changes made to safety events, one row per change."
partition_by = "time"
unique_key = ["id"]
---*/
SELECT DISTINCT
  id,                                                 -- the change
  samsara_time(time) AS time,                         -- when it was made
  type,                                               -- kind of change
  safetyEvent['id'] AS safetyEvent_id,                -- the event: vehicle id and time in milliseconds
  safetyEvent['uuid'] AS safetyEvent_uuid,            -- the event in the newer endpoints
  samsara_time(safetyEvent['time']) AS safetyEvent_time, -- when the event happened
  safetyEvent['driver']['id'] AS safetyEvent_driver_id,   -- the driver
  safetyEvent['vehicle']['id'] AS safetyEvent_vehicle_id, -- the vehicle
  safetyEvent['behaviorLabels'] AS safetyEvent_behaviorLabels -- labels after the change, as JSON text
FROM raw.fleet_safety_events_audit_logs
