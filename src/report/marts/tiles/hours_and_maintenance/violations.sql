/*---
title = "Drivers with violations"
question = "Who broke the rules, how often, and when last? hos_compliance tells which rules, by day."
chart = "table"
columns = [
  ["driver_name", "Driver"],
  ["total", "Violations"],
  ["days", "Days with a violation", "days"],
  ["most_on_a_day", "Most on one day"],
  ["last_day", "Last on"],
]
---*/
SELECT
  MAX(driver_name) AS driver_name,
  SUM(violations) AS total,
  COUNT(DISTINCT day) AS days,
  MAX(violations) AS most_on_a_day,
  MAX(day) AS last_day
FROM samsara.hos_compliance
WHERE day >= DATE_SUB(CURRENT_DATE(), INTERVAL 90 DAY) AND violations > 0
GROUP BY driver_id
ORDER BY 2 DESC, 1 NULLS LAST, driver_id
LIMIT 20
