/*---
title = "Compliance"
question = "Which share of the daily logs has no violation, and which is certified?"
chart = "lines"
columns = [
  ["day", "Day"],
  ["compliant_percent", "Without a violation", "%"],
  ["certified_percent", "Certified", "%"],
]
---*/
SELECT
  day,
  ROUND(100 * SUM(CASE WHEN is_compliant THEN 1.0 ELSE 0.0 END) / COUNT(*), 1) AS compliant_percent,
  ROUND(100 * SUM(CASE WHEN is_certified THEN 1.0 ELSE 0.0 END) / COUNT(*), 1) AS certified_percent
FROM samsara.hos_compliance
WHERE day >= DATE_SUB(CURRENT_DATE(), INTERVAL 90 DAY)
GROUP BY day
ORDER BY day
