/*---
description = "Driving efficiency, one row per driver and UTC day. Still changes for about three days. From the older endpoint, which names drivers and vehicles and takes a day as soon as it is over."
partition_by = "date"
cluster_by = ["driver_id"]
unique_key = ["driver_id", "date"]
---*/
SELECT DISTINCT
  _window_start AS date,                              -- the UTC day of the report
  driver['id'] AS driver_id,                          -- Samsara's driver id
  driver['name'] AS driver_name,                      -- full name
  driver['username'] AS driver_username,              -- login of the driver app
  to_json(driver['externalIds']) AS driver_externalIds, -- all external ids, as JSON text
  anticipationBrakeEventCount,                        -- brakings within a second of accelerating
  coastingDurationMs,                                 -- time without accelerator or brake, milliseconds
  cruiseControlDurationMs,                            -- time in cruise control, milliseconds
  greenBandDrivingDurationMs,                         -- time at an efficient engine speed, milliseconds
  highTorqueMs,                                       -- time above 90 percent torque, milliseconds
  overSpeedMs,                                        -- time above the efficient speed, milliseconds
  totalBrakeEventCount,                               -- brakings
  totalDistanceDrivenMeters,                          -- distance, metres
  totalDriveTimeDurationMs,                           -- driving time, milliseconds
  totalFuelConsumedMl,                                -- fuel, millilitres
  totalIdleTimeDurationMs,                            -- idling time, milliseconds
  totalPowerTakeOffDurationMs,                        -- idling time with the power take-off in use, milliseconds
  vehicleSummaries                                    -- the same figures per vehicle, as JSON text
FROM raw.fleet_drivers_efficiency
