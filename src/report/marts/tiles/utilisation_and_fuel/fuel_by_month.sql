/*---
title = "Fuel of the newest month"
question = "Which vehicles use most fuel, and how economically? The current month is counted up to the last day that was read."
chart = "table"
columns = [
  ["vehicle_name", "Vehicle"],
  ["month", "Month"],
  ["distance_km", "Distance", "km"],
  ["fuel_l", "Fuel", "l"],
  ["fuel_l_per_100_km", "Fuel economy", "l/100 km"],
  ["idle_percent", "Idling, of engine time", "%"],
]
---*/
SELECT
  vehicle_name,
  month,
  ROUND(distance_km, 0) AS distance_km,
  ROUND(fuel_l, 0) AS fuel_l,
  fuel_l_per_100_km,
  ROUND(100 * idle_hours / NULLIF(engine_hours, 0), 1) AS idle_percent
FROM samsara.fuel_monthly
WHERE month = (SELECT MAX(month) FROM samsara.fuel_monthly)
ORDER BY fuel_l DESC NULLS LAST, vehicle_name NULLS LAST, vehicle_id
LIMIT 20
