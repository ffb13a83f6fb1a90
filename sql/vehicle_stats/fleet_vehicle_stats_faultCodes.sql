/*---
description = "Readings of trouble codes, one row per reading, with or without codes. The codes are in the fleet_vehicle_stats_faultCodes_… tables."
partition_by = "time"
cluster_by = ["vehicle_id"]
---*/
SELECT DISTINCT
  vehicle_id,                                         -- Samsara's vehicle id
  parc_id,                                            -- the fleet's own number for the vehicle
  samsara_time(reading['time']) AS time, -- when it was read
  reading['canBusType'] AS canBusType,                -- kind of vehicle bus
  reading['j1939']['checkEngineLights']['protectIsOn'] AS j1939_protect_engine_light_On, -- J1939: whether the protect light is on
  reading['j1939']['checkEngineLights']['warningIsOn'] AS j1939_warning_engine_light_On, -- J1939: whether the warning light is on
  reading['j1939']['checkEngineLights']['stopIsOn'] AS j1939_stop_engine_light_On, -- J1939: whether the stop light is on
  reading['j1939']['checkEngineLights']['emissionsIsOn'] AS j1939_emissions_engine_light_On, -- J1939: whether the emissions light is on
  coalesce(CAST(array_length(reading['j1939']['diagnosticTroubleCodes']) AS BIGINT), 0) AS j1939_diag_trouble_codes_count, -- J1939: how many codes are reported
  reading['obdii']['checkEngineLightIsOn'] AS obdii_engine_light_on, -- OBD-II: whether the check-engine light is on
  coalesce(CAST(array_length(reading['obdii']['diagnosticTroubleCodes']) AS BIGINT), 0) AS obdii_units_count, -- OBD-II: how many control units report
  coalesce(CAST(array_length(json_get_array(reading['oem'], 'diagnosticTroubleCodes')) AS BIGINT), 0) AS oem_diag_trouble_codes_count, -- how many codes in the maker's own numbering are reported
  reading['oem'] AS oem                               -- all that is reported in the maker's own numbering, as JSON text
FROM (
  SELECT id AS vehicle_id, name AS parc_id, unnest(faultCodes) AS reading
  FROM raw.fleet_vehicle_stats_faultCodes
)
WHERE reading['time'] IS NOT NULL
