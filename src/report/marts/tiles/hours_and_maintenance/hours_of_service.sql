/*---
title = "Hours of service in this period"
question = "Do drivers keep to the rules, and certify their logs?"
chart = "figures"
columns = [
  ["drivers", "Drivers with a log"],
  ["daily_logs", "Daily logs"],
  ["compliant_percent", "Logs without a violation", "%"],
  ["certified_percent", "Logs certified", "%"],
  ["violations", "Violations"],
  ["driving_hours", "Driving", "h"],
]
---*/
SELECT
  COUNT(DISTINCT driver_id) AS drivers,
  COUNT(*) AS daily_logs,
  ROUND(100 * SUM(CASE WHEN is_compliant THEN 1.0 ELSE 0.0 END) / NULLIF(COUNT(*), 0), 1) AS compliant_percent,
  ROUND(100 * SUM(CASE WHEN is_certified THEN 1.0 ELSE 0.0 END) / NULLIF(COUNT(*), 0), 1) AS certified_percent,
  SUM(violations) AS violations,
  ROUND(SUM(driving_hours), 0) AS driving_hours
FROM samsara.hos_compliance
WHERE day >= DATE_SUB(CURRENT_DATE(), INTERVAL 90 DAY)
