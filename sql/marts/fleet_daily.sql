/*---
description = "What the fleet did on a UTC day, one row per day: the sums of vehicle_daily."
partition_by = "day"
unique_key = ["day"]

[[tests]]
range = { column = "active_vehicles", min = 0 }
---*/
SELECT
  day,                                                -- the UTC day
  count(vehicle_id) AS vehicles,                      -- vehicles with any row in vehicle_daily
  count(CASE WHEN trips > 0 THEN vehicle_id END) AS active_vehicles, -- vehicles with a trip that started on the day
  sum(trips) AS trips,                                -- trips that started on the day
  round(sum(trip_distance_km), 3) AS trip_distance_km, -- distance of these trips, kilometres
  round(sum(distance_km), 3) AS distance_km,          -- distance of the day, kilometres, of the fuel and energy report
  round(sum(engine_hours), 4) AS engine_hours,        -- time with the engine running, hours
  round(sum(idle_hours), 4) AS idle_hours,            -- of that, idling, hours
  round(100 * sum(idle_hours) / NULLIF(sum(engine_hours), 0), 2) AS idle_percent, -- share of idling in engine time, percent
  round(sum(fuel_l), 3) AS fuel_l,                    -- fuel, litres
  round(sum(energy_kwh), 3) AS energy_kwh,            -- electric energy, kilowatt-hours
  round(100 * sum(fuel_l) / NULLIF(sum(distance_km), 0), 2) AS fuel_l_per_100_km, -- fuel_l over distance_km, litres per 100 kilometres
  round(sum(carbon_kg), 3) AS carbon_kg,              -- estimated carbon dioxide, kilograms
  sum(safety_events) AS safety_events                 -- safety events
FROM vehicle_daily
GROUP BY day
