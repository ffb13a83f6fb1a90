/*---
description = "OBD-II trouble codes: one row per reading, control unit and position in its code lists."
partition_by = "time"
cluster_by = ["vehicle_id"]
---*/
-- A control unit reports three lists (confirmed, pending, permanent). Row i holds the i-th code of each list,
-- so a list is never multiplied by another, and a unit without codes keeps one row.
SELECT DISTINCT
  vehicle_id,                                         -- Samsara's vehicle id
  parc_id,                                            -- the fleet's own number for the vehicle
  time,                                               -- when it was read
  canBusType,                                         -- kind of vehicle bus
  obdii_engine_light_on,                              -- whether the check-engine light is on
  ecu['txId'] AS obdii_txId,                          -- control unit that reports
  ecu['milStatus'] AS obdii_milStatus,                -- malfunction indicator of this control unit
  ecu['ignitionType'] AS obdii_ignitionType,          -- spark or compression
  ecu['monitorStatus']['catalyst'] AS obdii_monitorStatus_catalyst, -- readiness monitor catalyst
  ecu['monitorStatus']['comprehensive'] AS obdii_monitorStatus_comprehensive, -- readiness monitor comprehensive
  ecu['monitorStatus']['egr'] AS obdii_monitorStatus_egr, -- readiness monitor egr
  ecu['monitorStatus']['evapSystem'] AS obdii_monitorStatus_evapSystem, -- readiness monitor evapSystem
  ecu['monitorStatus']['fuel'] AS obdii_monitorStatus_fuel, -- readiness monitor fuel
  ecu['monitorStatus']['heatedCatalyst'] AS obdii_monitorStatus_heatedCatalyst, -- readiness monitor heatedCatalyst
  ecu['monitorStatus']['heatedO2Sensor'] AS obdii_monitorStatus_heatedO2Sensor, -- readiness monitor heatedO2Sensor
  ecu['monitorStatus']['isoSaeReserved'] AS obdii_monitorStatus_isoSaeReserved, -- readiness monitor isoSaeReserved
  ecu['monitorStatus']['misfire'] AS obdii_monitorStatus_misfire, -- readiness monitor misfire
  ecu['monitorStatus']['notReadyCount'] AS obdii_monitorStatus_notReadyCount, -- monitors not ready
  ecu['monitorStatus']['o2Sensor'] AS obdii_monitorStatus_o2Sensor, -- readiness monitor o2Sensor
  ecu['monitorStatus']['secondaryAir'] AS obdii_monitorStatus_secondaryAir, -- readiness monitor secondaryAir
  ecu['confirmedDtcs'][i]['dtcId'] AS obdii_confirmed_dtcId, -- confirmed code: number
  ecu['confirmedDtcs'][i]['dtcShortCode'] AS obdii_confirmed_dtcShortCode, -- confirmed code: short code
  ecu['confirmedDtcs'][i]['dtcDescription'] AS obdii_confirmed_dtcDescription, -- confirmed code: description
  ecu['pendingDtcs'][i]['dtcId'] AS obdii_pending_dtcId, -- pending code: number
  ecu['pendingDtcs'][i]['dtcShortCode'] AS obdii_pending_dtcShortCode, -- pending code: short code
  ecu['pendingDtcs'][i]['dtcDescription'] AS obdii_pending_dtcDescription, -- pending code: description
  ecu['permanentDtcs'][i]['dtcId'] AS obdii_permanent_dtcId, -- permanent code: number
  ecu['permanentDtcs'][i]['dtcShortCode'] AS obdii_permanent_dtcShortCode, -- permanent code: short code
  ecu['permanentDtcs'][i]['dtcDescription'] AS obdii_permanent_dtcDescription -- permanent code: description
FROM (
  SELECT
    vehicle_id, parc_id, time, canBusType, obdii_engine_light_on, ecu,
    unnest(range(1, 1 + greatest(
      1,
      coalesce(CAST(array_length(ecu['confirmedDtcs']) AS BIGINT), 0),
      coalesce(CAST(array_length(ecu['pendingDtcs']) AS BIGINT), 0),
      coalesce(CAST(array_length(ecu['permanentDtcs']) AS BIGINT), 0)
    ))) AS i
  FROM (
    SELECT
      vehicle_id, parc_id, time, canBusType,
      obdii['checkEngineLightIsOn'] AS obdii_engine_light_on,
      obdii['diagnosticTroubleCodes'][u] AS ecu
    FROM (
      SELECT
        vehicle_id,
        parc_id,
        samsara_time(reading['time']) AS time,
        reading['canBusType'] AS canBusType,
        reading['obdii'] AS obdii,
        unnest(range(1, 1 + greatest(1, coalesce(CAST(array_length(reading['obdii']['diagnosticTroubleCodes']) AS BIGINT), 0)))) AS u
      FROM (
        SELECT id AS vehicle_id, name AS parc_id, unnest(faultCodes) AS reading
        FROM raw.fleet_vehicle_stats_faultCodes
      )
    )
  )
)
-- Each unit that is listed, whatever it says of itself.
WHERE ecu IS NOT NULL
  OR obdii_engine_light_on IS NOT NULL
