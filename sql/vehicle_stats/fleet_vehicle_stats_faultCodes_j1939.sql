/*---
description = "J1939 trouble codes: one row per reading and code; a reading without codes keeps one row for its lights."
partition_by = "time"
cluster_by = ["vehicle_id"]
---*/
SELECT DISTINCT
  vehicle_id,                                         -- Samsara's vehicle id
  parc_id,                                            -- the fleet's own number for the vehicle
  time,                                               -- when it was read
  canBusType,                                         -- kind of vehicle bus
  lights['protectIsOn'] AS j1939_protect_engine_light_On, -- whether the protect light is on
  lights['warningIsOn'] AS j1939_warning_engine_light_On, -- whether the warning light is on
  lights['stopIsOn'] AS j1939_stop_engine_light_On,   -- whether the stop light is on
  lights['emissionsIsOn'] AS j1939_emissions_engine_light_On, -- whether the emissions light is on
  code['spnId'] AS j1939_diag_trouble_codes_spnId,    -- suspect parameter number
  code['spnDescription'] AS j1939_diag_trouble_codes_spnDescription, -- its meaning
  code['fmiId'] AS j1939_diag_trouble_codes_fmiId,    -- failure mode
  code['fmiDescription'] AS j1939_diag_trouble_codes_fmiDescription, -- its meaning
  code['occurrenceCount'] AS j1939_diag_trouble_codes_occurrenceCount, -- how often it occurred
  code['milStatus'] AS j1939_diag_trouble_codes_milStatus, -- malfunction indicator, as a number
  code['txId'] AS j1939_diag_trouble_codes_txId,      -- control unit that reports
  code['sourceAddressName'] AS j1939_diag_trouble_codes_sourceAddressName, -- its name
  code['vendorSpecificFields']['dtcDescription'] AS j1939_diag_trouble_codes_vendorSpecificFields_dtcDescription, -- the maker's description
  code['vendorSpecificFields']['repairInstructionsUrl'] AS j1939_diag_trouble_codes_vendorSpecificFields_repairInstructionsUrl -- the maker's repair instructions
FROM (
  SELECT
    vehicle_id, parc_id, time, canBusType,
    j1939['checkEngineLights'] AS lights,
    j1939['diagnosticTroubleCodes'][i] AS code
  FROM (
    SELECT
      vehicle_id,
      parc_id,
      samsara_time(reading['time']) AS time,
      reading['canBusType'] AS canBusType,
      reading['j1939'] AS j1939,
      unnest(range(1, 1 + greatest(1, coalesce(CAST(array_length(reading['j1939']['diagnosticTroubleCodes']) AS BIGINT), 0)))) AS i
    FROM (
      SELECT id AS vehicle_id, name AS parc_id, unnest(faultCodes) AS reading
      FROM raw.fleet_vehicle_stats_faultCodes
    )
  )
)
-- Each code that is listed, whatever it says of itself.
WHERE code IS NOT NULL
  OR lights['protectIsOn'] IS NOT NULL
  OR lights['warningIsOn'] IS NOT NULL
  OR lights['stopIsOn'] IS NOT NULL
  OR lights['emissionsIsOn'] IS NOT NULL
