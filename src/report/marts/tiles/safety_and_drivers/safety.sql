/*---
title = "Safety in this period"
question = "How safely does the fleet drive? Distance is of trips, also of those without a known driver."
chart = "figures"
columns = [
  ["drivers", "Drivers with a trip"],
  ["safety_events", "Safety events"],
  ["safety_events_per_1000_km", "Safety events per distance", "per 1000 km"],
  ["distance_km", "Distance", "km"],
  ["known_driver_percent", "Distance with a known driver", "%"],
  ["violations", "Hours-of-service violations"],
]
---*/
SELECT
  COUNT(DISTINCT CASE WHEN trips > 0 THEN driver_id END) AS drivers,
  SUM(safety_events) AS safety_events,
  ROUND(1000 * SUM(safety_events) / NULLIF(SUM(distance_km), 0), 2) AS safety_events_per_1000_km,
  ROUND(SUM(distance_km), 0) AS distance_km,
  ROUND(100 * SUM(CASE WHEN driver_id IS NOT NULL THEN distance_km END) / NULLIF(SUM(distance_km), 0), 1) AS known_driver_percent,
  SUM(violations) AS violations
FROM samsara.driver_daily
WHERE day >= DATE_SUB(CURRENT_DATE(), INTERVAL 90 DAY)
