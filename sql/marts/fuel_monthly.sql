/*---
description = "Fuel and energy by vehicle and calendar month (UTC), one row per vehicle and month with a fuel and energy report. A month that is over has all of its days, or no rows; the current month has the days to last_day and is derived again as days arrive."
partition_by = "month"
window = "month"
cluster_by = ["vehicle_id"]
unique_key = ["vehicle_id", "month"]

[[tests]]
not_null = ["vehicle_id"]

[[tests]]
range = { column = "fuel_l", min = 0 }
---*/
SELECT
  partition_day() AS month,                           -- first day of the month
  f.vehicle_id,                                       -- Samsara's vehicle id; joins dim_vehicles.vehicle_id
  max(v.vehicle_name) AS vehicle_name,                -- the fleet's own number for the vehicle, as of the derivation of the month
  max(max(CAST(f.date AS DATE))) OVER () AS last_day, -- last day of the month with a report of any vehicle
  count(DISTINCT CAST(f.date AS DATE)) AS days,       -- days with a report of the vehicle
  round(sum(f.distanceTraveledMeters) / 1000, 3) AS distance_km, -- distance, kilometres (fleet_vehicles_fuel_energy)
  round(sum(f.engineRunTimeDurationMs) / 3600000.0, 4) AS engine_hours, -- time with the engine running, hours (fleet_vehicles_fuel_energy)
  round(sum(f.engineIdleTimeDurationMs) / 3600000.0, 4) AS idle_hours, -- of that, idling, hours (fleet_vehicles_fuel_energy)
  round(sum(f.fuelConsumedMl) / 1000, 3) AS fuel_l,   -- fuel, litres (fleet_vehicles_fuel_energy)
  round(sum(f.energyUsedKwh), 3) AS energy_kwh,       -- electric energy, kilowatt-hours (fleet_vehicles_fuel_energy)
  round(100 * sum(f.fuelConsumedMl) / NULLIF(sum(f.distanceTraveledMeters), 0), 2) AS fuel_l_per_100_km, -- fuel_l over distance_km, litres per 100 kilometres
  round(sum(f.estCarbonEmissionsKg), 3) AS carbon_kg  -- estimated carbon dioxide, kilograms (fleet_vehicles_fuel_energy)
FROM fleet_vehicles_fuel_energy AS f
LEFT JOIN dim_vehicles AS v ON v.vehicle_id = f.vehicle_id
GROUP BY f.vehicle_id
