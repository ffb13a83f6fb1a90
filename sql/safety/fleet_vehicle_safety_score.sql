/*---
description = "Safety score, one row per vehicle and UTC day. A vehicle that did not drive scores 100."
partition_by = "date"
cluster_by = ["vehicleId"]
unique_key = ["vehicleId", "date"]
---*/
SELECT DISTINCT
  _window_start AS date,                              -- the UTC day of the score
  coalesce(_parent_id, vehicleId) AS vehicleId,       -- Samsara's vehicle id
  safetyScore,                                        -- 0 to 100
  safetyScoreRank,                                    -- rank within the organisation, as text
  crashCount,                                         -- crashes
  harshAccelCount,                                    -- harsh accelerations
  harshBrakingCount,                                  -- harsh brakings
  harshTurningCount,                                  -- harsh turns
  totalHarshEventCount,                               -- harsh events of all kinds
  timeOverSpeedLimitMs,                               -- time above the speed limit, milliseconds
  totalDistanceDrivenMeters,                          -- distance, metres
  totalTimeDrivenMs,                                  -- driving time, milliseconds
  harshEvents                                         -- the harsh events with their times, as JSON text
FROM raw.fleet_vehicle_safety_score
