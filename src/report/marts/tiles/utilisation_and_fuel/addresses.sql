/*---
title = "Most visited addresses"
question = "Where do vehicles spend their time?"
chart = "table"
columns = [
  ["address_name", "Address"],
  ["visits", "Visits"],
  ["vehicles", "Vehicles"],
  ["hours", "Time there", "h"],
]
---*/
SELECT
  MAX(address_name) AS address_name,
  COUNT(*) AS visits,
  COUNT(DISTINCT vehicle_id) AS vehicles,
  ROUND(SUM(duration_minutes) / 60, 1) AS hours
FROM samsara.geofence_visits
WHERE arrival_time >= CAST(DATE_SUB(CURRENT_DATE(), INTERVAL 90 DAY) AS TIMESTAMP)
GROUP BY address_id
ORDER BY 2 DESC, 1 NULLS LAST, address_id
LIMIT 15
