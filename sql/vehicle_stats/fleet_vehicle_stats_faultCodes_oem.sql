/*---
description = "Trouble codes in the maker's own numbering: one row per reading and code. Readings without such codes have no row."
partition_by = "time"
cluster_by = ["vehicle_id"]
---*/
SELECT DISTINCT
  vehicle_id,                                         -- Samsara's vehicle id
  parc_id,                                            -- the fleet's own number for the vehicle
  samsara_time(time) AS time,      -- when it was read
  canBusType,                                         -- kind of vehicle bus
  json_as_text(code, 'codeIdentifier') AS oem_diag_trouble_codes_codeIdentifier, -- the maker's code
  json_as_text(code, 'codeDescription') AS oem_diag_trouble_codes_codeDescription, -- its meaning
  json_as_text(code, 'codeSeverity') AS oem_diag_trouble_codes_codeSeverity, -- how grave it is, in the maker's words
  json_as_text(code, 'codeSource') AS oem_diag_trouble_codes_codeSource -- what reported it
FROM (
  SELECT
    vehicle_id,
    parc_id,
    reading['time'] AS time,
    reading['canBusType'] AS canBusType,
    unnest(json_get_array(reading['oem'], 'diagnosticTroubleCodes')) AS code
  FROM (
    SELECT id AS vehicle_id, name AS parc_id, unnest(faultCodes) AS reading
    FROM raw.fleet_vehicle_stats_faultCodes
  )
)
WHERE code <> 'null'
