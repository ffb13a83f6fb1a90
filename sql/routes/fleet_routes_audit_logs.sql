/*---
description = "Changes of routes, one row per change. Begins with the first run: nothing older can be had."
partition_by = "time"
cluster_by = ["route_id"]
---*/
SELECT DISTINCT
  samsara_time(time) AS time,                         -- when it was changed
  type,                                               -- kind of change, such as route tracking
  operation,                                          -- what was changed, such as stop arrived
  source,                                             -- who changed it: automatic, driver or admin
  route['id'] AS route_id                             -- the route; joins fleet_routes.id
FROM raw.fleet_routes_audit_logs
