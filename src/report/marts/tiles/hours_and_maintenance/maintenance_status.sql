/*---
title = "Preventive maintenance"
question = "How much is due or overdue? As of the last snapshot."
chart = "bars"
columns = [
  ["status", "Status"],
  ["services", "Services", "services"],
  ["vehicles", "Vehicles and other assets", "assets"],
]
---*/
SELECT
  COALESCE(status, 'unknown') AS status,
  COUNT(*) AS services,
  COUNT(DISTINCT asset_id) AS vehicles
FROM samsara.maintenance_due
GROUP BY COALESCE(status, 'unknown')
ORDER BY 2 DESC, 1
