/*---
description = "Idling, one row per event, with or without an address. Still changes for about three days."
partition_by = "startTime"
cluster_by = ["vehicle_id"]
unique_key = ["vehicle_id", "startTime"]
---*/
SELECT DISTINCT
  vehicle['id'] AS vehicle_id,                        -- Samsara's vehicle id
  vehicle['name'] AS parc_id,                         -- the fleet's own number for the vehicle
  to_json(vehicle['externalIds']) AS vehicle_externalIds, -- all external ids, as JSON text
  samsara_time(startTime) AS startTime,               -- when idling began
  samsara_time(endTime) AS endTime,                   -- when it ended
  durationMs,                                         -- how long it lasted, milliseconds
  fuelConsumptionMl,                                  -- fuel burnt meanwhile, millilitres
  isPtoActive,                                        -- whether the power take-off was in use
  address['formatted'] AS address_formatted,          -- where, free text
  address['latitude'] AS address_latitude,            -- degrees north
  address['longitude'] AS address_longitude           -- degrees east
FROM raw.fleet_vehicle_idling
