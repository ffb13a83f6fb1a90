/*---
description = "State of the doors, one row per reading."
partition_by = "time"
cluster_by = ["vehicle_id"]
unique_key = ["vehicle_id", "time"]
---*/
SELECT DISTINCT
  vehicle_id,                                         -- Samsara's vehicle id
  parc_id,                                            -- the fleet's own number for the vehicle
  samsara_time(reading['time']) AS time,              -- when it was read
  reading['value'] AS ecuDoorStatus                   -- state of the doors: Closed, Open or Unknown
FROM (
  SELECT id AS vehicle_id, name AS parc_id, unnest(ecuDoorStatus) AS reading
  FROM raw.fleet_vehicle_stats_ecuDoorStatus
)
