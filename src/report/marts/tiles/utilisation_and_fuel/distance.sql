/*---
title = "Distance"
question = "How far does the fleet drive each day?"
chart = "columns"
columns = [
  ["day", "Day"],
  ["distance_km", "Distance", "km"],
]
---*/
SELECT day, ROUND(distance_km, 1) AS distance_km
FROM samsara.fleet_daily
WHERE day >= DATE_SUB(CURRENT_DATE(), INTERVAL 90 DAY)
ORDER BY day
