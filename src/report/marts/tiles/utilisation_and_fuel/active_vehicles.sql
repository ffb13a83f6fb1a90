/*---
title = "Vehicles with a trip"
question = "How many vehicles are on the road each day?"
chart = "columns"
columns = [
  ["day", "Day"],
  ["active_vehicles", "Vehicles", "vehicles"],
]
---*/
SELECT day, active_vehicles
FROM samsara.fleet_daily
WHERE day >= DATE_SUB(CURRENT_DATE(), INTERVAL 90 DAY)
ORDER BY day
