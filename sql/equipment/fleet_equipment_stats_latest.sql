/*---
description = "Last known statistics of equipment, one row per piece of equipment, as of the last snapshot."
unique_key = ["equipment_id"]
---*/
-- Each call brings some of the statistics; a row brings them together.
SELECT
  equipment_id,                                       -- Samsara's equipment id
  equipment_name,                                     -- its name
  engineRpm['value'] AS engineRpm_value,              -- engine speed, revolutions per minute
  samsara_time(engineRpm['time']) AS engineRpm_time,  -- when that was read
  engineTotalIdleTimeMinutes['value'] AS engineTotalIdleTimeMinutes_value, -- total idle time of the engine, minutes
  samsara_time(engineTotalIdleTimeMinutes['time']) AS engineTotalIdleTimeMinutes_time, -- when that was read
  fuelPercent['value'] AS fuelPercent_value,          -- fuel level, percent of the tank
  samsara_time(fuelPercent['time']) AS fuelPercent_time, -- when that was read
  gatewayEngineSeconds['value'] AS gatewayEngineSeconds_value, -- running time of the engine as counted by the gateway, seconds
  samsara_time(gatewayEngineSeconds['time']) AS gatewayEngineSeconds_time, -- when that was read
  gatewayEngineState['value'] AS gatewayEngineState_value, -- state of the engine as seen by the gateway: Off or On
  samsara_time(gatewayEngineState['time']) AS gatewayEngineState_time, -- when that was read
  gatewayJ1939EngineSeconds['value'] AS gatewayJ1939EngineSeconds_value, -- running time of the engine from the J1939 bus, seconds
  samsara_time(gatewayJ1939EngineSeconds['time']) AS gatewayJ1939EngineSeconds_time, -- when that was read
  gpsOdometerMeters['value'] AS gpsOdometerMeters_value, -- odometer by GPS, meters
  samsara_time(gpsOdometerMeters['time']) AS gpsOdometerMeters_time, -- when that was read
  obdEngineSeconds['value'] AS obdEngineSeconds_value, -- running time of the engine as told by its computer, seconds
  samsara_time(obdEngineSeconds['time']) AS obdEngineSeconds_time, -- when that was read
  obdEngineState['value'] AS obdEngineState_value,    -- state of the engine as told by its computer: Off, On or Idle
  samsara_time(obdEngineState['time']) AS obdEngineState_time, -- when that was read
  samsara_time(gps['time']) AS gps_time,              -- when the last fix was taken
  gps['latitude'] AS gps_latitude,                    -- degrees north
  gps['longitude'] AS gps_longitude,                  -- degrees east
  gps['headingDegrees'] AS gps_headingDegrees,        -- course over ground, degrees
  gps['speedMilesPerHour'] AS gps_speedMilesPerHour,  -- speed, miles per hour
  gps['reverseGeo']['formattedLocation'] AS gps_reverseGeo_formattedLocation, -- place, free text
  gps['address']['id'] AS gps_address_id,             -- address of the organisation at this place
  gps['address']['name'] AS gps_address_name          -- its name
FROM (
  SELECT
    id AS equipment_id,
    max(name) AS equipment_name,
    last_value(engineRpm ORDER BY engineRpm['time'] NULLS FIRST) AS engineRpm,
    last_value(engineTotalIdleTimeMinutes ORDER BY engineTotalIdleTimeMinutes['time'] NULLS FIRST) AS engineTotalIdleTimeMinutes,
    last_value(fuelPercent ORDER BY fuelPercent['time'] NULLS FIRST) AS fuelPercent,
    last_value(gatewayEngineSeconds ORDER BY gatewayEngineSeconds['time'] NULLS FIRST) AS gatewayEngineSeconds,
    last_value(gatewayEngineState ORDER BY gatewayEngineState['time'] NULLS FIRST) AS gatewayEngineState,
    last_value(gatewayJ1939EngineSeconds ORDER BY gatewayJ1939EngineSeconds['time'] NULLS FIRST) AS gatewayJ1939EngineSeconds,
    last_value(gpsOdometerMeters ORDER BY gpsOdometerMeters['time'] NULLS FIRST) AS gpsOdometerMeters,
    last_value(obdEngineSeconds ORDER BY obdEngineSeconds['time'] NULLS FIRST) AS obdEngineSeconds,
    last_value(obdEngineState ORDER BY obdEngineState['time'] NULLS FIRST) AS obdEngineState,
    last_value(gps ORDER BY gps['time'] NULLS FIRST) AS gps
  FROM raw.fleet_equipment_stats_latest
  GROUP BY id
)
