/*---
description = "Idling by vehicle and UTC day and what its fuel costs, one row per vehicle and day with idling. An event counts for the day on which it begins. The price is fuel_price_per_l of settings.toml."
partition_by = "day"
cluster_by = ["vehicle_id"]
unique_key = ["vehicle_id", "day"]

[[tests]]
range = { column = "idle_hours", min = 0 }
---*/
SELECT
  CAST(i.startTime AS DATE) AS day,                   -- the UTC day
  i.vehicle_id,                                       -- Samsara's vehicle id; joins dim_vehicles.vehicle_id
  max(v.vehicle_name) AS vehicle_name,                -- the fleet's own number for the vehicle, as of the derivation of the day
  count(*) AS idling_events,                          -- idling events (fleet_vehicle_idling)
  round(sum(i.durationMs) / 3600000.0, 4) AS idle_hours, -- idling, hours
  round(sum(CASE WHEN i.isPtoActive THEN i.durationMs END) / 3600000.0, 4) AS pto_hours, -- of that, with the power take-off in use, hours
  round(sum(i.fuelConsumptionMl) / 1000.0, 3) AS fuel_l, -- fuel burnt meanwhile, litres
  round(CAST(setting('fuel_price_per_l') AS DOUBLE) * sum(i.fuelConsumptionMl) / 1000.0, 2) AS cost -- fuel_l times the price, in its currency
FROM fleet_vehicle_idling AS i
LEFT JOIN dim_vehicles AS v ON v.vehicle_id = i.vehicle_id
GROUP BY 1, 2
