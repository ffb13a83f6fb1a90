/*---
description = "Last known statistics of trailers and their refrigeration units, one row per trailer, as of the last snapshot. Alarms are in fleet_trailer_stats_reeferAlarms."
unique_key = ["trailer_id"]
---*/
-- Each call brings some of the statistics; a row brings them together.
SELECT
  trailer_id,                                         -- Samsara's trailer id
  trailer_name,                                       -- its name
  gpsOdometerMeters['value'] AS gpsOdometerMeters_value, -- odometer, meters
  samsara_time(gpsOdometerMeters['time']) AS gpsOdometerMeters_time, -- when that was read
  reeferAmbientAirTemperatureMilliC['value'] AS reeferAmbientAirTemperatureMilliC_value, -- air temperature, millidegrees Celsius
  samsara_time(reeferAmbientAirTemperatureMilliC['time']) AS reeferAmbientAirTemperatureMilliC_time, -- when that was read
  reeferObdEngineSeconds['value'] AS reeferObdEngineSeconds_value, -- running time, seconds
  samsara_time(reeferObdEngineSeconds['time']) AS reeferObdEngineSeconds_time, -- when that was read
  reeferFuelPercent['value'] AS reeferFuelPercent_value, -- fuel level, percent of the tank
  samsara_time(reeferFuelPercent['time']) AS reeferFuelPercent_time, -- when that was read
  reeferRunMode['value'] AS reeferRunMode_value,      -- mode of operation, such as Continuous
  samsara_time(reeferRunMode['time']) AS reeferRunMode_time, -- when that was read
  reeferSupplyAirTemperatureMilliCZone1['value'] AS reeferSupplyAirTemperatureMilliCZone1_value, -- temperature of the supplied air, millidegrees Celsius
  samsara_time(reeferSupplyAirTemperatureMilliCZone1['time']) AS reeferSupplyAirTemperatureMilliCZone1_time, -- when that was read
  reeferReturnAirTemperatureMilliCZone1['value'] AS reeferReturnAirTemperatureMilliCZone1_value, -- temperature of the returning air, millidegrees Celsius
  samsara_time(reeferReturnAirTemperatureMilliCZone1['time']) AS reeferReturnAirTemperatureMilliCZone1_time, -- when that was read
  reeferSetPointTemperatureMilliCZone1['value'] AS reeferSetPointTemperatureMilliCZone1_value, -- set point, millidegrees Celsius
  samsara_time(reeferSetPointTemperatureMilliCZone1['time']) AS reeferSetPointTemperatureMilliCZone1_time, -- when that was read
  reeferDoorStateZone1['value'] AS reeferDoorStateZone1_value, -- state of the door: open or closed
  samsara_time(reeferDoorStateZone1['time']) AS reeferDoorStateZone1_time, -- when that was read
  reeferSupplyAirTemperatureMilliCZone2['value'] AS reeferSupplyAirTemperatureMilliCZone2_value, -- temperature of the supplied air, millidegrees Celsius
  samsara_time(reeferSupplyAirTemperatureMilliCZone2['time']) AS reeferSupplyAirTemperatureMilliCZone2_time, -- when that was read
  reeferReturnAirTemperatureMilliCZone2['value'] AS reeferReturnAirTemperatureMilliCZone2_value, -- temperature of the returning air, millidegrees Celsius
  samsara_time(reeferReturnAirTemperatureMilliCZone2['time']) AS reeferReturnAirTemperatureMilliCZone2_time, -- when that was read
  reeferSetPointTemperatureMilliCZone2['value'] AS reeferSetPointTemperatureMilliCZone2_value, -- set point, millidegrees Celsius
  samsara_time(reeferSetPointTemperatureMilliCZone2['time']) AS reeferSetPointTemperatureMilliCZone2_time, -- when that was read
  reeferDoorStateZone2['value'] AS reeferDoorStateZone2_value, -- state of the door: open or closed
  samsara_time(reeferDoorStateZone2['time']) AS reeferDoorStateZone2_time, -- when that was read
  reeferSupplyAirTemperatureMilliCZone3['value'] AS reeferSupplyAirTemperatureMilliCZone3_value, -- temperature of the supplied air, millidegrees Celsius
  samsara_time(reeferSupplyAirTemperatureMilliCZone3['time']) AS reeferSupplyAirTemperatureMilliCZone3_time, -- when that was read
  reeferReturnAirTemperatureMilliCZone3['value'] AS reeferReturnAirTemperatureMilliCZone3_value, -- temperature of the returning air, millidegrees Celsius
  samsara_time(reeferReturnAirTemperatureMilliCZone3['time']) AS reeferReturnAirTemperatureMilliCZone3_time, -- when that was read
  reeferSetPointTemperatureMilliCZone3['value'] AS reeferSetPointTemperatureMilliCZone3_value, -- set point, millidegrees Celsius
  samsara_time(reeferSetPointTemperatureMilliCZone3['time']) AS reeferSetPointTemperatureMilliCZone3_time, -- when that was read
  reeferDoorStateZone3['value'] AS reeferDoorStateZone3_value, -- state of the door: open or closed
  samsara_time(reeferDoorStateZone3['time']) AS reeferDoorStateZone3_time, -- when that was read
  carrierReeferState['value'] AS carrierReeferState_value, -- state, such as On or Off
  samsara_time(carrierReeferState['time']) AS carrierReeferState_time, -- when that was read
  reeferStateZone1['value'] AS reeferStateZone1_value, -- state, such as On or Off
  samsara_time(reeferStateZone1['time']) AS reeferStateZone1_time, -- when that was read
  reeferStateZone2['value'] AS reeferStateZone2_value, -- state, such as On or Off
  samsara_time(reeferStateZone2['time']) AS reeferStateZone2_time, -- when that was read
  reeferStateZone3['value'] AS reeferStateZone3_value, -- state, such as On or Off
  samsara_time(reeferStateZone3['time']) AS reeferStateZone3_time, -- when that was read
  samsara_time(gps['time']) AS gps_time,              -- when the last fix was taken
  gps['latitude'] AS gps_latitude,                    -- degrees north
  gps['longitude'] AS gps_longitude,                  -- degrees east
  gps['headingDegrees'] AS gps_headingDegrees,        -- course over ground, degrees
  gps['speedMilesPerHour'] AS gps_speedMilesPerHour,  -- speed, miles per hour
  gps['reverseGeo']['formattedLocation'] AS gps_reverseGeo_formattedLocation -- place, free text
FROM (
  SELECT
    id AS trailer_id,
    max(name) AS trailer_name,
    last_value(gpsOdometerMeters ORDER BY gpsOdometerMeters['time'] NULLS FIRST) AS gpsOdometerMeters,
    last_value(reeferAmbientAirTemperatureMilliC ORDER BY reeferAmbientAirTemperatureMilliC['time'] NULLS FIRST) AS reeferAmbientAirTemperatureMilliC,
    last_value(reeferObdEngineSeconds ORDER BY reeferObdEngineSeconds['time'] NULLS FIRST) AS reeferObdEngineSeconds,
    last_value(reeferFuelPercent ORDER BY reeferFuelPercent['time'] NULLS FIRST) AS reeferFuelPercent,
    last_value(reeferRunMode ORDER BY reeferRunMode['time'] NULLS FIRST) AS reeferRunMode,
    last_value(reeferSupplyAirTemperatureMilliCZone1 ORDER BY reeferSupplyAirTemperatureMilliCZone1['time'] NULLS FIRST) AS reeferSupplyAirTemperatureMilliCZone1,
    last_value(reeferReturnAirTemperatureMilliCZone1 ORDER BY reeferReturnAirTemperatureMilliCZone1['time'] NULLS FIRST) AS reeferReturnAirTemperatureMilliCZone1,
    last_value(reeferSetPointTemperatureMilliCZone1 ORDER BY reeferSetPointTemperatureMilliCZone1['time'] NULLS FIRST) AS reeferSetPointTemperatureMilliCZone1,
    last_value(reeferDoorStateZone1 ORDER BY reeferDoorStateZone1['time'] NULLS FIRST) AS reeferDoorStateZone1,
    last_value(reeferSupplyAirTemperatureMilliCZone2 ORDER BY reeferSupplyAirTemperatureMilliCZone2['time'] NULLS FIRST) AS reeferSupplyAirTemperatureMilliCZone2,
    last_value(reeferReturnAirTemperatureMilliCZone2 ORDER BY reeferReturnAirTemperatureMilliCZone2['time'] NULLS FIRST) AS reeferReturnAirTemperatureMilliCZone2,
    last_value(reeferSetPointTemperatureMilliCZone2 ORDER BY reeferSetPointTemperatureMilliCZone2['time'] NULLS FIRST) AS reeferSetPointTemperatureMilliCZone2,
    last_value(reeferDoorStateZone2 ORDER BY reeferDoorStateZone2['time'] NULLS FIRST) AS reeferDoorStateZone2,
    last_value(reeferSupplyAirTemperatureMilliCZone3 ORDER BY reeferSupplyAirTemperatureMilliCZone3['time'] NULLS FIRST) AS reeferSupplyAirTemperatureMilliCZone3,
    last_value(reeferReturnAirTemperatureMilliCZone3 ORDER BY reeferReturnAirTemperatureMilliCZone3['time'] NULLS FIRST) AS reeferReturnAirTemperatureMilliCZone3,
    last_value(reeferSetPointTemperatureMilliCZone3 ORDER BY reeferSetPointTemperatureMilliCZone3['time'] NULLS FIRST) AS reeferSetPointTemperatureMilliCZone3,
    last_value(reeferDoorStateZone3 ORDER BY reeferDoorStateZone3['time'] NULLS FIRST) AS reeferDoorStateZone3,
    last_value(carrierReeferState ORDER BY carrierReeferState['time'] NULLS FIRST) AS carrierReeferState,
    last_value(reeferStateZone1 ORDER BY reeferStateZone1['time'] NULLS FIRST) AS reeferStateZone1,
    last_value(reeferStateZone2 ORDER BY reeferStateZone2['time'] NULLS FIRST) AS reeferStateZone2,
    last_value(reeferStateZone3 ORDER BY reeferStateZone3['time'] NULLS FIRST) AS reeferStateZone3,
    last_value(gps ORDER BY gps['time'] NULLS FIRST) AS gps
  FROM raw.fleet_trailer_stats_latest
  GROUP BY id
)
