/*---
title = "Safety events"
question = "How many safety events are there each day?"
chart = "columns"
columns = [
  ["day", "Day"],
  ["safety_events", "Safety events", "events"],
]
---*/
SELECT day, safety_events
FROM samsara.fleet_daily
WHERE day >= DATE_SUB(CURRENT_DATE(), INTERVAL 90 DAY)
ORDER BY day
