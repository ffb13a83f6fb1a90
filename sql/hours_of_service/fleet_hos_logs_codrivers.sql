/*---
description = "Codrivers in duty status logs, one row per log and codriver."
partition_by = "logStartTime"
cluster_by = ["driver_id"]
unique_key = ["driver_id", "logStartTime", "codriver_id"]
---*/
SELECT DISTINCT
  driver_id,                                          -- driver whose log it is; joins fleet_hos_logs.driver_id
  samsara_time(logStartTime) AS logStartTime,         -- when the log began; joins fleet_hos_logs.logStartTime
  codriver['id'] AS codriver_id,                      -- Samsara's driver id of the codriver
  codriver['name'] AS codriver_name                   -- full name
FROM (
  SELECT driver_id, log['logStartTime'] AS logStartTime, unnest(log['codrivers']) AS codriver
  FROM (
    SELECT driver['id'] AS driver_id, unnest(hosLogs) AS log
    FROM raw.fleet_hos_logs
  )
)
