/*---
title = "Safety events per distance"
question = "Does driving become safer, whatever the distance?"
chart = "lines"
columns = [
  ["day", "Day"],
  ["safety_events_per_1000_km", "Safety events", "per 1000 km"],
]
---*/
SELECT day, ROUND(1000 * safety_events / NULLIF(trip_distance_km, 0), 2) AS safety_events_per_1000_km
FROM samsara.fleet_daily
WHERE day >= DATE_SUB(CURRENT_DATE(), INTERVAL 90 DAY)
ORDER BY day
