/*---
description = "Trips with the names of vehicle and driver, one row per trip. Names are those of the derivation of the day. A trip still under way has no end."
partition_by = "start_time"
cluster_by = ["vehicle_id"]
unique_key = ["vehicle_id", "start_time"]

[[tests]]
not_null = ["vehicle_id", "start_time"]
---*/
SELECT
  t.vehicle_id,                                       -- Samsara's vehicle id; joins dim_vehicles.vehicle_id
  v.vehicle_name,                                     -- the fleet's own number for the vehicle
  v.make,                                             -- manufacturer
  v.model,                                            -- model name
  v.tag_names AS vehicle_tag_names,                   -- tags of the vehicle, separated by commas
  t.driver_id,                                        -- driver at the wheel, if known; joins dim_drivers.driver_id
  d.driver_name,                                      -- full name of the driver
  t.startTime AS start_time,                          -- when the trip started
  t.endTime AS end_time,                              -- when it ended
  local_time(t.startTime, setting('time_zone')) AS start_local_time, -- start_time on the wall clock of the organisation's time zone
  local_time(t.endTime, setting('time_zone')) AS end_local_time, -- end_time likewise
  round((CAST(t.endTime AS BIGINT) - CAST(t.startTime AS BIGINT)) / 60000000.0, 2) AS duration_minutes, -- from start to end, minutes
  coalesce(t.startAddress_name, t.startLocation) AS start_place, -- address of departure, or else the place, free text
  coalesce(t.endAddress_name, t.endLocation) AS end_place, -- address of arrival, or else the place, free text
  t.startAddress_id AS start_address_id,              -- address of the organisation at departure
  t.endAddress_id AS end_address_id,                  -- address of the organisation at arrival
  t.startCoordinates_latitude AS start_latitude,      -- degrees north at departure
  t.startCoordinates_longitude AS start_longitude,    -- degrees east at departure
  t.endCoordinates_latitude AS end_latitude,          -- degrees north at arrival
  t.endCoordinates_longitude AS end_longitude,        -- degrees east at arrival
  round(t.distanceMeters / 1000, 3) AS distance_km,   -- distance, kilometres
  round(t.tollMeters / 1000, 3) AS toll_distance_km,  -- distance on toll roads, kilometres
  round(t.fuelConsumedMl / 1000, 3) AS fuel_l,        -- fuel, litres
  round(100 * t.fuelConsumedMl / NULLIF(t.distanceMeters, 0), 2) AS fuel_l_per_100_km -- fuel_l over distance_km, litres per 100 kilometres
FROM fleet_trips AS t
LEFT JOIN dim_vehicles AS v ON v.vehicle_id = t.vehicle_id
LEFT JOIN dim_drivers AS d ON d.driver_id = t.driver_id
