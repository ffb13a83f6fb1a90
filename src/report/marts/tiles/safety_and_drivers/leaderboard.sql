/*---
title = "Drivers by safety"
question = "Who drives most safely, and who least? Events and distance of the period, added up and divided then."
chart = "table"
columns = [
  ["safety_rank", "Rank"],
  ["driver_name", "Driver"],
  ["distance_km", "Distance", "km"],
  ["safety_events", "Safety events"],
  ["safety_events_per_1000_km", "Safety events", "per 1000 km"],
  ["violations", "Hours-of-service violations"],
]
---*/
SELECT
  RANK() OVER (ORDER BY SUM(safety_events) / SUM(distance_km), SUM(violations), SUM(distance_km) DESC) AS safety_rank,
  MAX(driver_name) AS driver_name,
  ROUND(SUM(distance_km), 0) AS distance_km,
  SUM(safety_events) AS safety_events,
  ROUND(1000 * SUM(safety_events) / SUM(distance_km), 2) AS safety_events_per_1000_km,
  SUM(violations) AS violations
FROM samsara.safety_leaderboard
WHERE day >= DATE_SUB(CURRENT_DATE(), INTERVAL 90 DAY)
GROUP BY driver_id
ORDER BY 1, 2 NULLS LAST, driver_id
LIMIT 50
