/*---
description = "OBD-II trouble codes, one row per reading, control unit, list and code: each code on a row of its own."
partition_by = "time"
cluster_by = ["vehicle_id"]
---*/
SELECT DISTINCT
  vehicle_id,                                         -- Samsara's vehicle id
  parc_id,                                            -- the fleet's own number for the vehicle
  time,                                               -- when it was read
  canBusType,                                         -- kind of vehicle bus
  ecu['txId'] AS txId,                                -- control unit that reports
  dtc_type,                                           -- list in which the code stands: confirmed, pending or permanent
  dtc['dtcId'] AS dtcId,                              -- number of the code
  dtc['dtcShortCode'] AS dtcShortCode,                -- short code, such as P0420
  dtc['dtcDescription'] AS dtcDescription             -- its meaning
FROM (
  SELECT vehicle_id, parc_id, time, canBusType, ecu, 'confirmed' AS dtc_type, unnest(ecu['confirmedDtcs']) AS dtc
  FROM (
    SELECT vehicle_id, parc_id, samsara_time(reading['time']) AS time, reading['canBusType'] AS canBusType,
      unnest(reading['obdii']['diagnosticTroubleCodes']) AS ecu
    FROM (SELECT id AS vehicle_id, name AS parc_id, unnest(faultCodes) AS reading FROM raw.fleet_vehicle_stats_faultCodes)
  )
  UNION ALL
  SELECT vehicle_id, parc_id, time, canBusType, ecu, 'pending' AS dtc_type, unnest(ecu['pendingDtcs']) AS dtc
  FROM (
    SELECT vehicle_id, parc_id, samsara_time(reading['time']) AS time, reading['canBusType'] AS canBusType,
      unnest(reading['obdii']['diagnosticTroubleCodes']) AS ecu
    FROM (SELECT id AS vehicle_id, name AS parc_id, unnest(faultCodes) AS reading FROM raw.fleet_vehicle_stats_faultCodes)
  )
  UNION ALL
  SELECT vehicle_id, parc_id, time, canBusType, ecu, 'permanent' AS dtc_type, unnest(ecu['permanentDtcs']) AS dtc
  FROM (
    SELECT vehicle_id, parc_id, samsara_time(reading['time']) AS time, reading['canBusType'] AS canBusType,
      unnest(reading['obdii']['diagnosticTroubleCodes']) AS ecu
    FROM (SELECT id AS vehicle_id, name AS parc_id, unnest(faultCodes) AS reading FROM raw.fleet_vehicle_stats_faultCodes)
  )
)
WHERE dtc IS NOT NULL
