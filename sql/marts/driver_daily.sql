/*---
description = "What each driver did on a day: one row per driver and day with a trip, a fuel and energy report, a day chart, a violation or a safety event. Days are UTC days, but for day charts, which have the driver's calendar day. Distance is of trips; driving and duty times are of the day charts."
partition_by = "day"
cluster_by = ["driver_id"]
unique_key = ["driver_id", "day"]

[[tests]]
range = { column = "trips", min = 0 }
---*/
WITH measures AS (
  SELECT
    CAST(startTime AS DATE) AS day, driver_id, 1 AS trips, distanceMeters AS trip_meters,
    CAST(NULL AS DOUBLE) AS fuel_ml, CAST(NULL AS DOUBLE) AS idle_ms, CAST(NULL AS DOUBLE) AS drive_ms,
    CAST(NULL AS DOUBLE) AS active_ms, 0 AS violations, CAST(NULL AS VARCHAR) AS event_id
  FROM fleet_trips
  UNION ALL
  SELECT
    CAST(date AS DATE), driver_id, 0, NULL, fuelConsumedMl, engineIdleTimeDurationMs, NULL, NULL, 0, NULL
  FROM fleet_drivers_fuel_energy
  UNION ALL
  SELECT
    CAST(date AS DATE), driver_id, 0, NULL, NULL, NULL, dutyStatusDurations_driveDurationMs,
    dutyStatusDurations_activeDurationMs, 0, NULL
  FROM fleet_hos_daily_logs
  UNION ALL
  SELECT CAST(violationStartTime AS DATE), driver_id, 0, NULL, NULL, NULL, NULL, NULL, 1, NULL
  FROM fleet_hos_violations
  UNION ALL
  SELECT CAST(time AS DATE), driver_id, 0, NULL, NULL, NULL, NULL, NULL, 0, event_id
  FROM fleet_safety_events
)
SELECT
  m.day,                                              -- the day
  m.driver_id,                                        -- Samsara's driver id; joins dim_drivers.driver_id. Empty for what is of no known driver
  max(d.driver_name) AS driver_name,                  -- full name, as of the derivation of the day
  sum(m.trips) AS trips,                              -- trips that started on the day (fleet_trips)
  round(sum(m.trip_meters) / 1000, 3) AS distance_km, -- distance of these trips, kilometres (fleet_trips)
  round(sum(m.drive_ms) / 3600000, 4) AS driving_hours, -- driving time, hours (fleet_hos_daily_logs)
  round(sum(m.active_ms) / 3600000, 4) AS on_duty_hours, -- time on duty or driving, hours (fleet_hos_daily_logs)
  round(sum(m.fuel_ml) / 1000, 3) AS fuel_l,          -- fuel, litres (fleet_drivers_fuel_energy)
  round(sum(m.idle_ms) / 3600000, 4) AS idle_hours,   -- idling, hours (fleet_drivers_fuel_energy)
  sum(m.violations) AS violations,                    -- hours-of-service violations that began on the day (fleet_hos_violations)
  count(DISTINCT m.event_id) AS safety_events         -- safety events, each counted once (fleet_safety_events)
FROM measures AS m
LEFT JOIN dim_drivers AS d ON d.driver_id = m.driver_id
GROUP BY m.day, m.driver_id
