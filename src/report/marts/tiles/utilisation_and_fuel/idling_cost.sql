/*---
title = "Fuel burnt while idling"
question = "Which vehicles idle most, and what does it cost? The price is fuel_price_per_l of settings.toml."
chart = "bars"
columns = [
  ["vehicle_name", "Vehicle"],
  ["cost", "Cost", "in your currency"],
  ["fuel_l", "Fuel", "l"],
  ["idle_hours", "Idling", "h"],
]
---*/
SELECT
  MAX(vehicle_name) AS vehicle_name,
  ROUND(SUM(cost), 2) AS cost,
  ROUND(SUM(fuel_l), 1) AS fuel_l,
  ROUND(SUM(idle_hours), 1) AS idle_hours
FROM samsara.idling_cost
WHERE day >= DATE_SUB(CURRENT_DATE(), INTERVAL 90 DAY)
GROUP BY vehicle_id
ORDER BY 2 DESC NULLS LAST, 1 NULLS LAST, vehicle_id
LIMIT 15
