/*---
description = "Routes, one row per route, on the day of its start."
partition_by = "routeStartTime"
cluster_by = ["driver_id"]
unique_key = ["id"]
---*/
SELECT DISTINCT
  id,                                                 -- Samsara's route id
  name,                                               -- its name
  notes,                                              -- notes for the driver
  -- The field that decides the day of the route.
  coalesce(samsara_time(scheduledRouteStartTime), samsara_time(actualRouteStartTime)) AS routeStartTime, -- when it starts: as scheduled, or else as it did
  samsara_time(scheduledRouteStartTime) AS scheduledRouteStartTime, -- when it is to start
  samsara_time(scheduledRouteEndTime) AS scheduledRouteEndTime, -- when it is to end
  samsara_time(actualRouteStartTime) AS actualRouteStartTime, -- when it started
  samsara_time(actualRouteEndTime) AS actualRouteEndTime, -- when it ended
  orgLocalTimezone,                                   -- time zone of the organisation, such as Europe/Paris
  driver['id'] AS driver_id,                          -- the driver, if one is assigned
  driver['name'] AS driver_name,                      -- full name
  to_json(driver['externalIds']) AS driver_externalIds, -- all external ids of the driver, as JSON text
  vehicle['id'] AS vehicle_id,                        -- the vehicle, if one is assigned
  vehicle['name'] AS vehicle_name,                    -- its name
  to_json(vehicle['externalIds']) AS vehicle_externalIds, -- all external ids of the vehicle, as JSON text
  settings['routeStartingCondition'] AS settings_routeStartingCondition, -- what starts it: departFirstStop or arriveFirstStop
  settings['routeCompletionCondition'] AS settings_routeCompletionCondition, -- what ends it: arriveLastStop or departLastStop
  settings['sequencingMethod'] AS settings_sequencingMethod, -- how its stops are ordered: scheduledArrivalTime or manual
  tagIds,                                             -- tags of the route, as JSON text
  to_json(externalIds) AS externalIds                 -- all external ids of the route, as JSON text
FROM raw.fleet_routes
