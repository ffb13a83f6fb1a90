/*---
description = "What each vehicle did on a UTC day: one row per vehicle and day with a trip, a fuel and energy report or a safety event. A trip counts for the day on which it starts. Distance and fuel are from the fuel and energy report, which divides at midnight; trip_distance_km is from trips."
partition_by = "day"
cluster_by = ["vehicle_id"]
unique_key = ["vehicle_id", "day"]

[[tests]]
range = { column = "utilisation_percent", min = 0, max = 100 }
severity = "warn"

[[tests]]
range = { column = "trips", min = 0 }
---*/
WITH measures AS (
  SELECT
    CAST(startTime AS DATE) AS day, vehicle_id, 1 AS trips, driver_id, distanceMeters AS trip_meters,
    (CAST(endTime AS BIGINT) - CAST(startTime AS BIGINT)) / 1000000.0 AS trip_seconds,
    CAST(NULL AS DOUBLE) AS meters, CAST(NULL AS DOUBLE) AS fuel_ml, CAST(NULL AS DOUBLE) AS energy_kwh,
    CAST(NULL AS DOUBLE) AS carbon_kg, CAST(NULL AS DOUBLE) AS engine_ms, CAST(NULL AS DOUBLE) AS idle_ms,
    0 AS safety_events
  FROM fleet_trips
  UNION ALL
  SELECT
    CAST(date AS DATE), vehicle_id, 0, NULL, NULL, NULL, distanceTraveledMeters, fuelConsumedMl, energyUsedKwh,
    estCarbonEmissionsKg, engineRunTimeDurationMs, engineIdleTimeDurationMs, 0
  FROM fleet_vehicles_fuel_energy
  UNION ALL
  SELECT DISTINCT
    CAST(time AS DATE), vehicle_id, 0, event_id, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 1
  FROM fleet_safety_events
)
SELECT
  m.day,                                              -- the UTC day
  m.vehicle_id,                                       -- Samsara's vehicle id; joins dim_vehicles.vehicle_id. Empty for safety events of no vehicle
  max(v.vehicle_name) AS vehicle_name,                -- the fleet's own number for the vehicle, as of the derivation of the day
  sum(m.trips) AS trips,                              -- trips that started on the day (fleet_trips)
  count(DISTINCT CASE WHEN m.trips = 1 THEN m.driver_id END) AS drivers, -- known drivers of these trips
  round(sum(m.trip_meters) / 1000, 3) AS trip_distance_km, -- distance of these trips, kilometres (fleet_trips)
  round(sum(m.trip_seconds) / 3600, 4) AS trip_hours, -- duration of those of these trips that have ended, hours (fleet_trips)
  round(sum(m.meters) / 1000, 3) AS distance_km,      -- distance of the day, kilometres (fleet_vehicles_fuel_energy)
  round(sum(m.engine_ms) / 3600000, 4) AS engine_hours, -- time with the engine running, hours (fleet_vehicles_fuel_energy)
  round(sum(m.idle_ms) / 3600000, 4) AS idle_hours,   -- of that, idling, hours (fleet_vehicles_fuel_energy)
  round(100 * sum(m.idle_ms) / NULLIF(sum(m.engine_ms), 0), 2) AS idle_percent, -- share of idling in engine time, percent
  round(sum(m.engine_ms) / 864000, 2) AS utilisation_percent, -- share of the day with the engine running, percent
  round(sum(m.fuel_ml) / 1000, 3) AS fuel_l,          -- fuel, litres (fleet_vehicles_fuel_energy)
  round(sum(m.energy_kwh), 3) AS energy_kwh,          -- electric energy, kilowatt-hours (fleet_vehicles_fuel_energy)
  round(100 * sum(m.fuel_ml) / NULLIF(sum(m.meters), 0), 2) AS fuel_l_per_100_km, -- fuel_l over distance_km, litres per 100 kilometres
  round(sum(m.carbon_kg), 3) AS carbon_kg,            -- estimated carbon dioxide, kilograms (fleet_vehicles_fuel_energy)
  sum(m.safety_events) AS safety_events               -- safety events, each counted once (fleet_safety_events)
FROM measures AS m
LEFT JOIN dim_vehicles AS v ON v.vehicle_id = m.vehicle_id
GROUP BY m.day, m.vehicle_id
