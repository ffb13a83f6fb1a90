/*---
title = "Most urgent services"
question = "What has to go to the workshop first? A negative rest is overdue."
chart = "table"
columns = [
  ["vehicle_name", "Vehicle"],
  ["schedule_title", "Service"],
  ["status", "Status"],
  ["due_in_days", "Due in", "days"],
  ["due_in_km", "Due in", "km"],
  ["due_in_engine_hours", "Due in", "engine hours"],
]
---*/
SELECT
  COALESCE(vehicle_name, asset_id) AS vehicle_name,
  schedule_title,
  status,
  due_in_days,
  due_in_km,
  due_in_engine_hours
FROM samsara.maintenance_due
ORDER BY is_overdue DESC, due_in_days NULLS LAST, due_in_km NULLS LAST, due_in_engine_hours NULLS LAST, asset_id, schedule_id
LIMIT 20
