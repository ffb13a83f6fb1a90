/*---
description = "Which driver had which trailer, one row per assignment."
partition_by = "startTime"
cluster_by = ["trailer_id"]
unique_key = ["trailer_id", "driver_id", "startTime"]
---*/
SELECT DISTINCT
  trailer_id,                                         -- Samsara's trailer id
  trailer_name,                                       -- its name
  NULLIF(item['driverId'], '0') AS driver_id,         -- Samsara's driver id
  samsara_time_ms(item['startMs']) AS startTime,      -- when the assignment began
  samsara_time_ms(item['endMs']) AS endTime           -- when it ended; empty while it lasts
FROM (
  SELECT id AS trailer_id, name AS trailer_name, unnest(trailerAssignments) AS item
  FROM raw.fleet_trailers_assignments
)
