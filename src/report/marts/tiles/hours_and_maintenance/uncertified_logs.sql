/*---
title = "Logs to be certified"
question = "Who has daily logs that are not certified?"
chart = "bars"
columns = [
  ["driver_name", "Driver"],
  ["uncertified_logs", "Not certified", "logs"],
  ["first_day", "Since"],
]
---*/
SELECT
  MAX(driver_name) AS driver_name,
  COUNT(*) AS uncertified_logs,
  MIN(day) AS first_day
FROM samsara.hos_compliance
WHERE day >= DATE_SUB(CURRENT_DATE(), INTERVAL 90 DAY) AND NOT is_certified
GROUP BY driver_id
ORDER BY 2 DESC, 1 NULLS LAST, driver_id
LIMIT 15
