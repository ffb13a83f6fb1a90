/*---
title = "Most used vehicles"
question = "Whose engine runs for the largest share of the period, nights included?"
chart = "bars"
columns = [
  ["vehicle_name", "Vehicle"],
  ["utilisation_percent", "Engine running", "% of the time"],
  ["engine_hours", "Engine time", "h"],
  ["distance_km", "Distance", "km"],
]
---*/
SELECT
  MAX(v.vehicle_name) AS vehicle_name,
  ROUND(100 * SUM(v.engine_hours) / (24 * MAX(p.days)), 1) AS utilisation_percent,
  ROUND(SUM(v.engine_hours), 1) AS engine_hours,
  ROUND(SUM(v.distance_km), 0) AS distance_km
FROM samsara.vehicle_daily AS v
CROSS JOIN (
  SELECT COUNT(DISTINCT day) AS days
  FROM samsara.vehicle_daily
  WHERE day >= DATE_SUB(CURRENT_DATE(), INTERVAL 90 DAY)
) AS p
WHERE v.day >= DATE_SUB(CURRENT_DATE(), INTERVAL 90 DAY) AND v.engine_hours IS NOT NULL
GROUP BY v.vehicle_id
ORDER BY 2 DESC NULLS LAST, 1 NULLS LAST, v.vehicle_id
LIMIT 15
