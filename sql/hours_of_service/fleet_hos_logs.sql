/*---
description = "Duty status logs, one row per driver and change of status."
partition_by = "logStartTime"
cluster_by = ["driver_id"]
unique_key = ["driver_id", "logStartTime"]
---*/
SELECT DISTINCT
  driver_id,                                          -- Samsara's driver id
  driver_name,                                        -- full name
  samsara_time(log['logStartTime']) AS logStartTime,  -- when the status began
  samsara_time(log['logEndTime']) AS logEndTime,      -- when it ended; empty while it lasts
  log['hosStatusType'] AS hosStatusType,              -- offDuty, sleeperBed, driving, onDuty, yardMove, personalConveyance …
  log['remark'] AS remark,                            -- free text
  log['logRecordedLocation']['latitude'] AS logRecordedLocation_latitude, -- degrees north
  log['logRecordedLocation']['longitude'] AS logRecordedLocation_longitude, -- degrees east
  log['vehicle']['id'] AS vehicle_id,                 -- Samsara's vehicle id
  log['vehicle']['name'] AS vehicle_name,             -- its name
  to_json(log['vehicle']['ExternalIds']) AS vehicle_externalIds -- all external ids of the vehicle, as JSON text
FROM (
  SELECT driver['id'] AS driver_id, driver['name'] AS driver_name, unnest(hosLogs) AS log
  FROM raw.fleet_hos_logs
)
