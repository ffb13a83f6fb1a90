/*---
description = "Safety scores, one row per driver and UTC day. Days cannot be summed: trips that overlap a day count for it."
partition_by = "date"
cluster_by = ["driver_id"]
unique_key = ["driver_id", "date"]
---*/
SELECT DISTINCT
  CAST(_window_start AS DATE) AS date,                -- the UTC day of the score
  driverId AS driver_id,                              -- Samsara's driver id
  driverScore,                                        -- the score, 0 to 100
  driveDistanceMeters,                                -- distance driven, meters
  driveTimeMilliseconds                               -- driving time, milliseconds
FROM raw.safety_scores_drivers
