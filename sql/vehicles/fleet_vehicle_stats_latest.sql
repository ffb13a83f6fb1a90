/*---
description = "Last known statistics of vehicles, one row per vehicle, as of the last snapshot. Values may be months old: each has its time. Trouble codes, auxiliary inputs and cards are in tables of their own."
unique_key = ["vehicle_id"]
---*/
-- Each call brings some of the statistics; a row brings them together.
SELECT
  vehicle_id,                                         -- Samsara's vehicle id
  parc_id,                                            -- the fleet's own number for the vehicle
  ambientAirTemperatureMilliC['value'] AS ambientAirTemperatureMilliC_value, -- thousandths of a degree Celsius
  samsara_time(ambientAirTemperatureMilliC['time']) AS ambientAirTemperatureMilliC_time, -- when that was read
  barometricPressurePa['value'] AS barometricPressurePa_value, -- pascals
  samsara_time(barometricPressurePa['time']) AS barometricPressurePa_time, -- when that was read
  batteryMilliVolts['value'] AS batteryMilliVolts_value, -- millivolts
  samsara_time(batteryMilliVolts['time']) AS batteryMilliVolts_time, -- when that was read
  defLevelMilliPercent['value'] AS defLevelMilliPercent_value, -- thousandths of a percent of a full tank
  samsara_time(defLevelMilliPercent['time']) AS defLevelMilliPercent_time, -- when that was read
  ecuDoorStatus['value'] AS ecuDoorStatus_value,      -- state of the doors: Closed, Open or Unknown
  samsara_time(ecuDoorStatus['time']) AS ecuDoorStatus_time, -- when that was read
  ecuSpeedMph['value'] AS ecuSpeedMph_value,          -- miles per hour
  samsara_time(ecuSpeedMph['time']) AS ecuSpeedMph_time, -- when that was read
  engineCoolantTemperatureMilliC['value'] AS engineCoolantTemperatureMilliC_value, -- thousandths of a degree Celsius
  samsara_time(engineCoolantTemperatureMilliC['time']) AS engineCoolantTemperatureMilliC_time, -- when that was read
  engineLoadPercent['value'] AS engineLoadPercent_value, -- percent
  samsara_time(engineLoadPercent['time']) AS engineLoadPercent_time, -- when that was read
  engineOilPressureKPa['value'] AS engineOilPressureKPa_value, -- kilopascals
  samsara_time(engineOilPressureKPa['time']) AS engineOilPressureKPa_time, -- when that was read
  engineRpm['value'] AS engineRpm_value,              -- revolutions per minute
  samsara_time(engineRpm['time']) AS engineRpm_time,  -- when that was read
  engineState['value'] AS engineState_value,          -- Off, On or Idle
  samsara_time(engineState['time']) AS engineState_time, -- when that was read
  evAverageBatteryTemperatureMilliCelsius['value'] AS evAverageBatteryTemperatureMilliCelsius_value, -- thousandths of a degree Celsius
  samsara_time(evAverageBatteryTemperatureMilliCelsius['time']) AS evAverageBatteryTemperatureMilliCelsius_time, -- when that was read
  evBatteryCurrentMilliAmp['value'] AS evBatteryCurrentMilliAmp_value, -- current of the battery, milliamperes
  samsara_time(evBatteryCurrentMilliAmp['time']) AS evBatteryCurrentMilliAmp_time, -- when that was read
  evBatteryStateOfHealthMilliPercent['value'] AS evBatteryStateOfHealthMilliPercent_value, -- thousandths of a percent of the battery's capacity when new
  samsara_time(evBatteryStateOfHealthMilliPercent['time']) AS evBatteryStateOfHealthMilliPercent_time, -- when that was read
  evBatteryVoltageMilliVolt['value'] AS evBatteryVoltageMilliVolt_value, -- voltage of the battery, millivolts
  samsara_time(evBatteryVoltageMilliVolt['time']) AS evBatteryVoltageMilliVolt_time, -- when that was read
  evChargingCurrentMilliAmp['value'] AS evChargingCurrentMilliAmp_value, -- milliamperes
  samsara_time(evChargingCurrentMilliAmp['time']) AS evChargingCurrentMilliAmp_time, -- when that was read
  evChargingEnergyMicroWh['value'] AS evChargingEnergyMicroWh_value, -- microwatt-hours taken from the charger
  samsara_time(evChargingEnergyMicroWh['time']) AS evChargingEnergyMicroWh_time, -- when that was read
  evChargingStatus['value'] AS evChargingStatus_value, -- 0 unknown, 1 not charging, 2 charging; further codes occur
  samsara_time(evChargingStatus['time']) AS evChargingStatus_time, -- when that was read
  evChargingVoltageMilliVolt['value'] AS evChargingVoltageMilliVolt_value, -- millivolts
  samsara_time(evChargingVoltageMilliVolt['time']) AS evChargingVoltageMilliVolt_time, -- when that was read
  evConsumedEnergyMicroWh['value'] AS evConsumedEnergyMicroWh_value, -- microwatt-hours, regenerated energy included
  samsara_time(evConsumedEnergyMicroWh['time']) AS evConsumedEnergyMicroWh_time, -- when that was read
  evDistanceDrivenMeters['value'] AS evDistanceDrivenMeters_value, -- metres
  samsara_time(evDistanceDrivenMeters['time']) AS evDistanceDrivenMeters_time, -- when that was read
  evRegeneratedEnergyMicroWh['value'] AS evRegeneratedEnergyMicroWh_value, -- microwatt-hours
  samsara_time(evRegeneratedEnergyMicroWh['time']) AS evRegeneratedEnergyMicroWh_time, -- when that was read
  evStateOfChargeMilliPercent['value'] AS evStateOfChargeMilliPercent_value, -- thousandths of a percent of a full charge
  samsara_time(evStateOfChargeMilliPercent['time']) AS evStateOfChargeMilliPercent_time, -- when that was read
  fuelConsumedMilliliters['value'] AS fuelConsumedMilliliters_value, -- fuel consumed, milliliters; it only grows, and is not cleaned of odd readings
  samsara_time(fuelConsumedMilliliters['time']) AS fuelConsumedMilliliters_time, -- when that was read
  fuelPercent['value'] AS fuelPercent_value,          -- percent of a full tank
  samsara_time(fuelPercent['time']) AS fuelPercent_time, -- when that was read
  gpsDistanceMeters['value'] AS gpsDistanceMeters_value, -- metres since installation
  samsara_time(gpsDistanceMeters['time']) AS gpsDistanceMeters_time, -- when that was read
  gpsOdometerMeters['value'] AS gpsOdometerMeters_value, -- metres
  samsara_time(gpsOdometerMeters['time']) AS gpsOdometerMeters_time, -- when that was read
  idlingDurationMilliseconds['value'] AS idlingDurationMilliseconds_value, -- idling time, milliseconds; it only grows, and is not cleaned of odd readings
  samsara_time(idlingDurationMilliseconds['time']) AS idlingDurationMilliseconds_time, -- when that was read
  intakeManifoldTemperatureMilliC['value'] AS intakeManifoldTemperatureMilliC_value, -- thousandths of a degree Celsius
  samsara_time(intakeManifoldTemperatureMilliC['time']) AS intakeManifoldTemperatureMilliC_time, -- when that was read
  obdEngineSeconds['value'] AS obdEngineSeconds_value, -- seconds
  samsara_time(obdEngineSeconds['time']) AS obdEngineSeconds_time, -- when that was read
  obdOdometerMeters['value'] AS obdOdometerMeters_value, -- distance driven, meters
  samsara_time(obdOdometerMeters['time']) AS obdOdometerMeters_time, -- when that was read
  seatbeltDriver['value'] AS seatbeltDriver_value,    -- state of the belt: Buckled or Unbuckled
  samsara_time(seatbeltDriver['time']) AS seatbeltDriver_time, -- when that was read
  spreaderActive['value'] AS spreaderActive_value,    -- whether it is spreading anything, in the words of the API
  samsara_time(spreaderActive['time']) AS spreaderActive_time, -- when that was read
  spreaderAirTemp['value'] AS spreaderAirTemp_value,  -- air temperature, millidegrees Celsius
  samsara_time(spreaderAirTemp['time']) AS spreaderAirTemp_time, -- when that was read
  spreaderBlastState['value'] AS spreaderBlastState_value, -- whether it is in blast mode, in the words of the API
  samsara_time(spreaderBlastState['time']) AS spreaderBlastState_time, -- when that was read
  spreaderGranularName['value'] AS spreaderGranularName_value, -- name of the granular material
  samsara_time(spreaderGranularName['time']) AS spreaderGranularName_time, -- when that was read
  spreaderGranularRate['value'] AS spreaderGranularRate_value, -- granular material spread, milliliters per meter
  samsara_time(spreaderGranularRate['time']) AS spreaderGranularRate_time, -- when that was read
  spreaderLiquidName['value'] AS spreaderLiquidName_value, -- name of the liquid
  samsara_time(spreaderLiquidName['time']) AS spreaderLiquidName_time, -- when that was read
  spreaderLiquidRate['value'] AS spreaderLiquidRate_value, -- liquid spread, milliliters per meter
  samsara_time(spreaderLiquidRate['time']) AS spreaderLiquidRate_time, -- when that was read
  spreaderOnState['value'] AS spreaderOnState_value,  -- whether it is enabled, in the words of the API
  samsara_time(spreaderOnState['time']) AS spreaderOnState_time, -- when that was read
  spreaderPlowStatus['value'] AS spreaderPlowStatus_value, -- position of the plow: Up or Down
  samsara_time(spreaderPlowStatus['time']) AS spreaderPlowStatus_time, -- when that was read
  spreaderPrewetName['value'] AS spreaderPrewetName_value, -- name of the prewet material
  samsara_time(spreaderPrewetName['time']) AS spreaderPrewetName_time, -- when that was read
  spreaderPrewetRate['value'] AS spreaderPrewetRate_value, -- prewet spread, milliliters per meter
  samsara_time(spreaderPrewetRate['time']) AS spreaderPrewetRate_time, -- when that was read
  spreaderRoadTemp['value'] AS spreaderRoadTemp_value, -- road temperature, millidegrees Celsius
  samsara_time(spreaderRoadTemp['time']) AS spreaderRoadTemp_time, -- when that was read
  syntheticEngineSeconds['value'] AS syntheticEngineSeconds_value, -- running time of the engine, seconds
  samsara_time(syntheticEngineSeconds['time']) AS syntheticEngineSeconds_time, -- when that was read
  samsara_time(gps['time']) AS gps_time,              -- when the last fix was taken
  gps['latitude'] AS gps_latitude,                    -- degrees north
  gps['longitude'] AS gps_longitude,                  -- degrees east
  gps['headingDegrees'] AS gps_headingDegrees,        -- course over ground, degrees
  gps['speedMilesPerHour'] AS gps_speedMilesPerHour,  -- speed, miles per hour
  gps['isEcuSpeed'] AS gps_isEcuSpeed,                -- whether the speed is from the vehicle's electronics
  gps['reverseGeo']['formattedLocation'] AS gps_reverseGeo_formattedLocation, -- place, free text
  gps['address']['id'] AS gps_address_id,             -- address of the organisation at this place
  gps['address']['name'] AS gps_address_name          -- its name
FROM (
  SELECT
    id AS vehicle_id,
    max(name) AS parc_id,
    last_value(ambientAirTemperatureMilliC ORDER BY ambientAirTemperatureMilliC['time'] NULLS FIRST) AS ambientAirTemperatureMilliC,
    last_value(barometricPressurePa ORDER BY barometricPressurePa['time'] NULLS FIRST) AS barometricPressurePa,
    last_value(batteryMilliVolts ORDER BY batteryMilliVolts['time'] NULLS FIRST) AS batteryMilliVolts,
    last_value(defLevelMilliPercent ORDER BY defLevelMilliPercent['time'] NULLS FIRST) AS defLevelMilliPercent,
    last_value(ecuDoorStatus ORDER BY ecuDoorStatus['time'] NULLS FIRST) AS ecuDoorStatus,
    last_value(ecuSpeedMph ORDER BY ecuSpeedMph['time'] NULLS FIRST) AS ecuSpeedMph,
    last_value(engineCoolantTemperatureMilliC ORDER BY engineCoolantTemperatureMilliC['time'] NULLS FIRST) AS engineCoolantTemperatureMilliC,
    last_value(engineLoadPercent ORDER BY engineLoadPercent['time'] NULLS FIRST) AS engineLoadPercent,
    last_value(engineOilPressureKPa ORDER BY engineOilPressureKPa['time'] NULLS FIRST) AS engineOilPressureKPa,
    last_value(engineRpm ORDER BY engineRpm['time'] NULLS FIRST) AS engineRpm,
    last_value(engineState ORDER BY engineState['time'] NULLS FIRST) AS engineState,
    last_value(evAverageBatteryTemperatureMilliCelsius ORDER BY evAverageBatteryTemperatureMilliCelsius['time'] NULLS FIRST) AS evAverageBatteryTemperatureMilliCelsius,
    last_value(evBatteryCurrentMilliAmp ORDER BY evBatteryCurrentMilliAmp['time'] NULLS FIRST) AS evBatteryCurrentMilliAmp,
    last_value(evBatteryStateOfHealthMilliPercent ORDER BY evBatteryStateOfHealthMilliPercent['time'] NULLS FIRST) AS evBatteryStateOfHealthMilliPercent,
    last_value(evBatteryVoltageMilliVolt ORDER BY evBatteryVoltageMilliVolt['time'] NULLS FIRST) AS evBatteryVoltageMilliVolt,
    last_value(evChargingCurrentMilliAmp ORDER BY evChargingCurrentMilliAmp['time'] NULLS FIRST) AS evChargingCurrentMilliAmp,
    last_value(evChargingEnergyMicroWh ORDER BY evChargingEnergyMicroWh['time'] NULLS FIRST) AS evChargingEnergyMicroWh,
    last_value(evChargingStatus ORDER BY evChargingStatus['time'] NULLS FIRST) AS evChargingStatus,
    last_value(evChargingVoltageMilliVolt ORDER BY evChargingVoltageMilliVolt['time'] NULLS FIRST) AS evChargingVoltageMilliVolt,
    last_value(evConsumedEnergyMicroWh ORDER BY evConsumedEnergyMicroWh['time'] NULLS FIRST) AS evConsumedEnergyMicroWh,
    last_value(evDistanceDrivenMeters ORDER BY evDistanceDrivenMeters['time'] NULLS FIRST) AS evDistanceDrivenMeters,
    last_value(evRegeneratedEnergyMicroWh ORDER BY evRegeneratedEnergyMicroWh['time'] NULLS FIRST) AS evRegeneratedEnergyMicroWh,
    last_value(evStateOfChargeMilliPercent ORDER BY evStateOfChargeMilliPercent['time'] NULLS FIRST) AS evStateOfChargeMilliPercent,
    last_value(fuelConsumedMilliliters ORDER BY fuelConsumedMilliliters['time'] NULLS FIRST) AS fuelConsumedMilliliters,
    last_value(fuelPercent ORDER BY fuelPercent['time'] NULLS FIRST) AS fuelPercent,
    last_value(gpsDistanceMeters ORDER BY gpsDistanceMeters['time'] NULLS FIRST) AS gpsDistanceMeters,
    last_value(gpsOdometerMeters ORDER BY gpsOdometerMeters['time'] NULLS FIRST) AS gpsOdometerMeters,
    last_value(idlingDurationMilliseconds ORDER BY idlingDurationMilliseconds['time'] NULLS FIRST) AS idlingDurationMilliseconds,
    last_value(intakeManifoldTemperatureMilliC ORDER BY intakeManifoldTemperatureMilliC['time'] NULLS FIRST) AS intakeManifoldTemperatureMilliC,
    last_value(obdEngineSeconds ORDER BY obdEngineSeconds['time'] NULLS FIRST) AS obdEngineSeconds,
    last_value(obdOdometerMeters ORDER BY obdOdometerMeters['time'] NULLS FIRST) AS obdOdometerMeters,
    last_value(seatbeltDriver ORDER BY seatbeltDriver['time'] NULLS FIRST) AS seatbeltDriver,
    last_value(spreaderActive ORDER BY spreaderActive['time'] NULLS FIRST) AS spreaderActive,
    last_value(spreaderAirTemp ORDER BY spreaderAirTemp['time'] NULLS FIRST) AS spreaderAirTemp,
    last_value(spreaderBlastState ORDER BY spreaderBlastState['time'] NULLS FIRST) AS spreaderBlastState,
    last_value(spreaderGranularName ORDER BY spreaderGranularName['time'] NULLS FIRST) AS spreaderGranularName,
    last_value(spreaderGranularRate ORDER BY spreaderGranularRate['time'] NULLS FIRST) AS spreaderGranularRate,
    last_value(spreaderLiquidName ORDER BY spreaderLiquidName['time'] NULLS FIRST) AS spreaderLiquidName,
    last_value(spreaderLiquidRate ORDER BY spreaderLiquidRate['time'] NULLS FIRST) AS spreaderLiquidRate,
    last_value(spreaderOnState ORDER BY spreaderOnState['time'] NULLS FIRST) AS spreaderOnState,
    last_value(spreaderPlowStatus ORDER BY spreaderPlowStatus['time'] NULLS FIRST) AS spreaderPlowStatus,
    last_value(spreaderPrewetName ORDER BY spreaderPrewetName['time'] NULLS FIRST) AS spreaderPrewetName,
    last_value(spreaderPrewetRate ORDER BY spreaderPrewetRate['time'] NULLS FIRST) AS spreaderPrewetRate,
    last_value(spreaderRoadTemp ORDER BY spreaderRoadTemp['time'] NULLS FIRST) AS spreaderRoadTemp,
    last_value(syntheticEngineSeconds ORDER BY syntheticEngineSeconds['time'] NULLS FIRST) AS syntheticEngineSeconds,
    last_value(gps ORDER BY gps['time'] NULLS FIRST) AS gps
  FROM raw.fleet_vehicle_stats_latest
  GROUP BY id
)
