/*---
title = "Trips without a known driver"
question = "How much of the driving cannot be attributed to anybody?"
chart = "lines"
columns = [
  ["day", "Day"],
  ["without_driver_percent", "Trips without a driver", "%"],
]
---*/
SELECT
  CAST(start_time AS DATE) AS day,
  ROUND(100 * SUM(CASE WHEN driver_id IS NULL THEN 1.0 ELSE 0.0 END) / COUNT(*), 1) AS without_driver_percent
FROM samsara.trips_enriched
WHERE start_time >= CAST(DATE_SUB(CURRENT_DATE(), INTERVAL 90 DAY) AS TIMESTAMP)
GROUP BY CAST(start_time AS DATE)
ORDER BY day
