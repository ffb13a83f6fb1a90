/*---
description = "Activities of drivers by their tachograph cards, one row per driver and activity."
partition_by = "startTime"
cluster_by = ["driver_id"]
---*/
SELECT DISTINCT
  driver_id,                                          -- Samsara's driver id
  driver_name,                                        -- full name
  samsara_time(item['startTime']) AS startTime,       -- when it began
  samsara_time(item['endTime']) AS endTime,           -- when it ended
  item['state'] AS state,                             -- BREAK/REST, WORK, AVAILABILITY, DRIVING or UNKNOWN
  item['isManualEntry'] AS isManualEntry              -- whether the driver entered it by hand
FROM (
  SELECT driver['id'] AS driver_id, driver['name'] AS driver_name, unnest(activity) AS item
  FROM raw.fleet_drivers_tachograph_activity
)
WHERE item IS NOT NULL
