/*---
description = "Stops of routes, one row per route and stop, on the day of the route's start."
partition_by = "routeStartTime"
cluster_by = ["route_id"]
unique_key = ["route_id", "id"]
---*/
SELECT DISTINCT
  route_id,                                           -- the route; joins fleet_routes.id
  routeStartTime,                                     -- when the route starts; joins fleet_routes.routeStartTime
  driver_id,                                          -- driver of the route, if one is assigned
  vehicle_id,                                         -- vehicle of the route, if one is assigned
  stop['id'] AS id,                                   -- Samsara's id of the stop
  stop['name'] AS name,                               -- its name
  stop['state'] AS state,                             -- unassigned, scheduled, en route, skipped, arrived or departed
  stop['sequenceNumber'] AS sequenceNumber,           -- place in the route where stops are ordered by hand
  samsara_time(stop['scheduledArrivalTime']) AS scheduledArrivalTime, -- when the driver is to arrive
  samsara_time(stop['scheduledDepartureTime']) AS scheduledDepartureTime, -- when the driver is to leave
  samsara_time(stop['enRouteTime']) AS enRouteTime,   -- when the driver set out for it
  samsara_time(stop['actualArrivalTime']) AS actualArrivalTime, -- when the driver arrived
  samsara_time(stop['actualDepartureTime']) AS actualDepartureTime, -- when the driver left
  samsara_time(stop['skippedTime']) AS skippedTime,   -- when it was skipped
  samsara_time(stop['eta']) AS eta,                   -- when the driver is expected to arrive
  stop['plannedDistanceMeters'] AS plannedDistanceMeters, -- distance from the stop before as planned, meters
  stop['actualDistanceMeters'] AS actualDistanceMeters, -- distance from the stop before as driven, meters
  stop['ontimeWindowBeforeArrivalMs'] AS ontimeWindowBeforeArrivalMs, -- how much earlier than scheduled is on time, milliseconds
  stop['ontimeWindowAfterArrivalMs'] AS ontimeWindowAfterArrivalMs, -- how much later than scheduled is on time, milliseconds
  stop['address']['id'] AS address_id,                -- address of the organisation; joins addresses.id
  stop['address']['name'] AS address_name,            -- its name
  to_json(stop['address']['externalIds']) AS address_externalIds, -- all external ids of the address, as JSON text
  stop['singleUseLocation']['address'] AS singleUseLocation_address, -- where the stop is, if that is not an address of the organisation
  stop['singleUseLocation']['latitude'] AS singleUseLocation_latitude, -- degrees north
  stop['singleUseLocation']['longitude'] AS singleUseLocation_longitude, -- degrees east
  stop['singleUseLocation']['radiusMeters'] AS singleUseLocation_radiusMeters, -- how near counts as there, meters
  stop['notes'] AS notes,                             -- notes for the driver
  stop['documents'] AS documents,                     -- documents of the stop, as JSON text
  stop['forms'] AS forms,                             -- forms of the stop, as JSON text
  stop['issues'] AS issues,                           -- issues of the stop, as JSON text
  stop['appointmentWindows'] AS appointmentWindows,   -- when it can be served, as JSON text
  stop['orders'] AS orders,                           -- orders that are served there, as JSON text
  to_json(stop['externalIds']) AS externalIds         -- all external ids of the stop, as JSON text
FROM (
  SELECT
    id AS route_id,
    coalesce(samsara_time(scheduledRouteStartTime), samsara_time(actualRouteStartTime)) AS routeStartTime,
    driver['id'] AS driver_id,
    vehicle['id'] AS vehicle_id,
    unnest(stops) AS stop
  FROM raw.fleet_routes
)
WHERE stop IS NOT NULL
