/*---
title = "Drivers with most idling"
question = "Who leaves the engine running?"
chart = "bars"
columns = [
  ["driver_name", "Driver"],
  ["idle_hours", "Idling", "h"],
  ["fuel_l", "Fuel, all", "l"],
]
---*/
SELECT
  MAX(driver_name) AS driver_name,
  ROUND(SUM(idle_hours), 1) AS idle_hours,
  ROUND(SUM(fuel_l), 0) AS fuel_l
FROM samsara.driver_daily
WHERE day >= DATE_SUB(CURRENT_DATE(), INTERVAL 90 DAY) AND driver_id IS NOT NULL
GROUP BY driver_id
HAVING SUM(idle_hours) > 0
ORDER BY 2 DESC, 1 NULLS LAST, driver_id
LIMIT 15
