/*---
description = "Stops that changes of routes are about, one row per change, stop and side: as it was before, and as it is after."
partition_by = "time"
cluster_by = ["route_id"]
---*/
SELECT DISTINCT
  samsara_time(time) AS time,                         -- when it was changed; joins fleet_routes_audit_logs.time
  route_id,                                           -- the route; joins fleet_routes.id
  operation,                                          -- what was changed, such as stop arrived
  source,                                             -- who changed it: automatic, driver or admin
  side,                                               -- before or after the change
  stop['id'] AS id,                                   -- the stop; joins fleet_routes_stops.id
  stop['state'] AS state,                             -- unassigned, scheduled, en route, skipped, arrived or departed
  samsara_time(stop['scheduledArrivalTime']) AS scheduledArrivalTime, -- when the driver is to arrive
  samsara_time(stop['scheduledDepartureTime']) AS scheduledDepartureTime, -- when the driver is to leave
  samsara_time(stop['enRouteTime']) AS enRouteTime, -- when the driver set out for it
  samsara_time(stop['actualArrivalTime']) AS actualArrivalTime, -- when the driver arrived
  samsara_time(stop['actualDepartureTime']) AS actualDepartureTime, -- when the driver left
  samsara_time(stop['skippedTime']) AS skippedTime, -- when it was skipped
  samsara_time(stop['eta']) AS eta, -- when the driver is expected to arrive
  to_json(stop['externalIds']) AS externalIds         -- all external ids of the stop, as JSON text
FROM (
  SELECT time, operation, source, route['id'] AS route_id, 'before' AS side, unnest(changes['before']['stops']) AS stop
  FROM raw.fleet_routes_audit_logs
  UNION ALL
  SELECT time, operation, source, route['id'] AS route_id, 'after' AS side, unnest(changes['after']['stops']) AS stop
  FROM raw.fleet_routes_audit_logs
)
WHERE stop IS NOT NULL
