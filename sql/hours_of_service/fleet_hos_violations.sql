/*---
description = "Hours-of-service violations, one row per violation."
partition_by = "violationStartTime"
cluster_by = ["driver_id"]
unique_key = ["driver_id", "type", "violationStartTime"]
---*/
SELECT DISTINCT
  violation['driver']['id'] AS driver_id,             -- Samsara's driver id
  violation['driver']['name'] AS driver_name,         -- full name
  to_json(violation['driver']['externalIds']) AS driver_externalIds, -- all external ids of the driver, as JSON text
  violation['type'] AS type,                          -- the rule that was broken
  violation['description'] AS description,            -- rule, region and limit, in words
  samsara_time(violation['violationStartTime']) AS violationStartTime, -- when the violation began
  violation['durationMs'] AS durationMs,              -- how long it lasted, milliseconds
  samsara_time(violation['day']['startTime']) AS day_startTime, -- start of the driver's logging day
  samsara_time(violation['day']['endTime']) AS day_endTime -- end of the driver's logging day
FROM (
  SELECT unnest(violations) AS violation
  FROM raw.fleet_hos_violations
)
