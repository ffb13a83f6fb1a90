/*---
title = "Duty hours"
question = "How much of the time on duty is driving?"
chart = "columns"
columns = [
  ["day", "Day"],
  ["driving_hours", "Driving", "h"],
  ["on_duty_hours", "On duty, not driving", "h"],
]
---*/
SELECT
  day,
  ROUND(SUM(driving_hours), 1) AS driving_hours,
  ROUND(SUM(on_duty_hours), 1) AS on_duty_hours
FROM samsara.hos_compliance
WHERE day >= DATE_SUB(CURRENT_DATE(), INTERVAL 90 DAY)
GROUP BY day
ORDER BY day
