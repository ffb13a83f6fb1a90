/*---
title = "The fleet in this period"
question = "What did the fleet do? Distance, engine time and fuel are of the fuel and energy reports."
chart = "figures"
columns = [
  ["active_vehicles", "Vehicles with a trip"],
  ["trips", "Trips"],
  ["distance_km", "Distance", "km"],
  ["engine_hours", "Engine time", "h"],
  ["idle_percent", "Idling, of engine time", "%"],
  ["fuel_l", "Fuel", "l"],
  ["fuel_l_per_100_km", "Fuel economy", "l/100 km"],
  ["energy_kwh", "Electric energy", "kWh"],
  ["carbon_kg", "Carbon dioxide, estimated", "kg"],
]
---*/
SELECT
  COUNT(DISTINCT CASE WHEN trips > 0 THEN vehicle_id END) AS active_vehicles,
  SUM(trips) AS trips,
  ROUND(SUM(distance_km), 0) AS distance_km,
  ROUND(SUM(engine_hours), 0) AS engine_hours,
  ROUND(100 * SUM(idle_hours) / NULLIF(SUM(engine_hours), 0), 1) AS idle_percent,
  ROUND(SUM(fuel_l), 0) AS fuel_l,
  ROUND(100 * SUM(fuel_l) / NULLIF(SUM(distance_km), 0), 1) AS fuel_l_per_100_km,
  ROUND(SUM(energy_kwh), 0) AS energy_kwh,
  ROUND(SUM(carbon_kg), 0) AS carbon_kg
FROM samsara.vehicle_daily
WHERE day >= DATE_SUB(CURRENT_DATE(), INTERVAL 90 DAY)
