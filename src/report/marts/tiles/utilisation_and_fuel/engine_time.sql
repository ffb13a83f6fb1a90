/*---
title = "Engine time"
question = "How much of the engine time is driving, and how much is idling?"
chart = "columns"
columns = [
  ["day", "Day"],
  ["moving_hours", "Moving", "h"],
  ["idle_hours", "Idling", "h"],
]
---*/
SELECT
  day,
  ROUND(engine_hours - COALESCE(idle_hours, 0), 2) AS moving_hours,
  ROUND(idle_hours, 2) AS idle_hours
FROM samsara.fleet_daily
WHERE day >= DATE_SUB(CURRENT_DATE(), INTERVAL 90 DAY)
ORDER BY day
