/*---
title = "Least used vehicles"
question = "Which vehicles stand still, and could be sold or moved?"
chart = "table"
columns = [
  ["vehicle_name", "Vehicle"],
  ["vehicle_type", "Kind"],
  ["days_with_trip", "Days with a trip", "days"],
  ["distance_km", "Distance", "km"],
  ["last_trip_day", "Last trip"],
]
---*/
SELECT
  MAX(d.vehicle_name) AS vehicle_name,
  MAX(d.vehicle_type) AS vehicle_type,
  COUNT(CASE WHEN v.trips > 0 THEN v.day END) AS days_with_trip,
  ROUND(COALESCE(SUM(v.trip_distance_km), 0), 0) AS distance_km,
  MAX(CASE WHEN v.trips > 0 THEN v.day END) AS last_trip_day
FROM samsara.dim_vehicles AS d
LEFT JOIN (
  SELECT vehicle_id, day, trips, trip_distance_km
  FROM samsara.vehicle_daily
  WHERE day >= DATE_SUB(CURRENT_DATE(), INTERVAL 90 DAY)
) AS v ON v.vehicle_id = d.vehicle_id
GROUP BY d.vehicle_id
ORDER BY 3, 4, 1 NULLS LAST, d.vehicle_id
LIMIT 15
