/*---
description = "Trips, one row per vehicle and start. A trip still under way has no end."
partition_by = "startTime"
cluster_by = ["vehicle_id"]
unique_key = ["vehicle_id", "startTime"]
---*/
SELECT DISTINCT
  _parent_id AS vehicle_id,                           -- Samsara's vehicle id
  NULLIF(driverId, '0') AS driver_id,                 -- driver at the wheel, if known
  samsara_time_ms(startMs) AS startTime,              -- when the trip started
  -- The largest 64-bit integer stands for "still under way".
  samsara_time_ms(NULLIF(endMs, 9223372036854775807)) AS endTime, -- when it ended
  startLocation,                                      -- place of departure, free text
  endLocation,                                        -- place of arrival, free text
  startAddress['id'] AS startAddress_id,              -- address of departure
  startAddress['name'] AS startAddress_name,          -- its name
  startAddress['address'] AS startAddress_address,    -- its postal address
  endAddress['id'] AS endAddress_id,                  -- address of arrival
  endAddress['name'] AS endAddress_name,              -- its name
  endAddress['address'] AS endAddress_address,        -- its postal address
  startCoordinates['latitude'] AS startCoordinates_latitude,   -- degrees north at departure
  startCoordinates['longitude'] AS startCoordinates_longitude, -- degrees east at departure
  endCoordinates['latitude'] AS endCoordinates_latitude,       -- degrees north at arrival
  endCoordinates['longitude'] AS endCoordinates_longitude,     -- degrees east at arrival
  -- 0 stands for an odometer that could not be read.
  NULLIF(startOdometer, 0) AS startOdometer,          -- odometer at departure, metres; empty if it could not be read
  NULLIF(endOdometer, 0) AS endOdometer,              -- odometer at arrival, metres; empty if it could not be read
  distanceMeters,                                     -- distance, metres
  fuelConsumedMl,                                     -- fuel, millilitres
  tollMeters,                                         -- distance on toll roads, metres
  codriverIds,                                        -- co-drivers, as JSON text
  assetIds                                            -- attached trailers, as JSON text
FROM raw.fleet_trips
