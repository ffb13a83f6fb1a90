/*---
description = "Safety scores, one row per vehicle and UTC day. Days cannot be summed: trips that overlap a day count for it."
partition_by = "date"
cluster_by = ["vehicle_id"]
unique_key = ["vehicle_id", "date"]
---*/
SELECT DISTINCT
  CAST(_window_start AS DATE) AS date,                -- the UTC day of the score
  vehicleId AS vehicle_id,                            -- Samsara's vehicle id
  vehicleScore,                                       -- the score, 0 to 100
  driveDistanceMeters,                                -- distance driven, meters
  driveTimeMilliseconds                               -- driving time, milliseconds
FROM raw.safety_scores_vehicles
