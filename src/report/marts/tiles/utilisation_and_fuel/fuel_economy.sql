/*---
title = "Fuel economy"
question = "How much fuel does the fleet use for its distance?"
chart = "lines"
columns = [
  ["day", "Day"],
  ["fuel_l_per_100_km", "Fuel", "l/100 km"],
]
---*/
SELECT day, fuel_l_per_100_km
FROM samsara.fleet_daily
WHERE day >= DATE_SUB(CURRENT_DATE(), INTERVAL 90 DAY)
ORDER BY day
