/*---
description = "What happened on routes, one row per event: stops reached, left or skipped, tasks done, new expected arrivals."
partition_by = "happenedAtTime"
cluster_by = ["route_id"]
unique_key = ["id"]
---*/
SELECT DISTINCT
  id,                                                 -- Samsara's id of the event
  eventType,                                          -- what happened, such as stopArrived, stopSkipped or stopEtaUpdated
  samsara_time(happenedAtTime) AS happenedAtTime,     -- when it happened
  samsara_time(eventTime) AS eventTime,               -- when Samsara processed it
  route['id'] AS route_id,                            -- the route; joins fleet_routes.id
  to_json(route['externalIds']) AS route_externalIds, -- all external ids of the route, as JSON text
  stop['id'] AS stop_id,                              -- the stop; joins fleet_routes_stops.id
  to_json(stop['externalIds']) AS stop_externalIds,   -- all external ids of the stop, as JSON text
  samsara_time_ms(TRY_CAST(eventDetails['stopEtaUpdated']['etaMs'] AS BIGINT)) AS stopEtaUpdated_eta, -- when the driver is now expected to arrive
  samsara_time_ms(TRY_CAST(eventDetails['stopEtaUpdated']['etaUpdatedAtMs'] AS BIGINT)) AS stopEtaUpdated_etaUpdatedAt, -- when that was reckoned
  eventDetails['stopTaskCompleted']['taskId'] AS stopTaskCompleted_taskId, -- the task that was done
  eventDetails['stopTaskCompleted']['taskType'] AS stopTaskCompleted_taskType, -- form or document
  eventDetails['stopTaskSkipped']['taskId'] AS stopTaskSkipped_taskId, -- the task that was left out
  eventDetails['stopTaskSkipped']['taskType'] AS stopTaskSkipped_taskType -- form or document
FROM raw.route_events
