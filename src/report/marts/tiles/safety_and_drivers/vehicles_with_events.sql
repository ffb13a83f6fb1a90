/*---
title = "Vehicles with most safety events"
question = "Are there vehicles that stand out?"
chart = "bars"
columns = [
  ["vehicle_name", "Vehicle"],
  ["safety_events", "Safety events", "events"],
  ["safety_events_per_1000_km", "Safety events", "per 1000 km"],
]
---*/
SELECT
  COALESCE(MAX(vehicle_name), vehicle_id, 'no vehicle') AS vehicle_name,
  SUM(safety_events) AS safety_events,
  ROUND(1000 * SUM(safety_events) / NULLIF(SUM(trip_distance_km), 0), 2) AS safety_events_per_1000_km
FROM samsara.vehicle_daily
WHERE day >= DATE_SUB(CURRENT_DATE(), INTERVAL 90 DAY)
GROUP BY vehicle_id
HAVING SUM(safety_events) > 0
ORDER BY 2 DESC, 1, vehicle_id NULLS LAST
LIMIT 15
