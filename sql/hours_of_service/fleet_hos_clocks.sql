/*---
description = "Remaining hours of service, one row per driver, as of the last snapshot."
cluster_by = ["driver_id"]
unique_key = ["driver_id"]
---*/
SELECT DISTINCT
  driver['id'] AS driver_id,                          -- Samsara's driver id
  driver['name'] AS driver_name,                      -- full name
  currentDutyStatus['hosStatusType'] AS currentDutyStatus_hosStatusType, -- duty status; empty while the driver app is offline
  currentVehicle['id'] AS currentVehicle_id,          -- vehicle in use, if any
  currentVehicle['name'] AS currentVehicle_name,      -- its name
  currentVehicle['ExternalIds']['samsara.serial'] AS currentVehicle_ExternalIds_samsara_serial, -- gateway serial in its external ids
  currentVehicle['ExternalIds']['samsara.vin'] AS currentVehicle_ExternalIds_samsara_vin, -- VIN in its external ids
  to_json(currentVehicle['ExternalIds']) AS currentVehicle_ExternalIds, -- all its external ids, as JSON text
  clocks['break']['timeUntilBreakDurationMs'] AS clocks_break_timeUntilBreakDurationMs, -- time until a break is due, milliseconds
  clocks['cycle']['cycleRemainingDurationMs'] AS clocks_cycle_cycleRemainingDurationMs, -- time left in the cycle, milliseconds
  samsara_time(clocks['cycle']['cycleStartedAtTime']) AS clocks_cycle_cycleStartedAtTime, -- when the cycle started
  clocks['cycle']['cycleTomorrowDurationMs'] AS clocks_cycle_cycleTomorrowDurationMs, -- time available tomorrow, milliseconds
  clocks['drive']['driveRemainingDurationMs'] AS clocks_drive_driveRemainingDurationMs, -- driving time left in the shift, milliseconds
  clocks['shift']['shiftRemainingDurationMs'] AS clocks_shift_shiftRemainingDurationMs, -- time left in the shift, milliseconds
  violations['cycleViolationDurationMs'] AS violations_cycleViolationDurationMs, -- time beyond the cycle's limit, milliseconds
  violations['shiftDrivingViolationDurationMs'] AS violations_shiftDrivingViolationDurationMs -- time beyond the shift's driving limit, milliseconds
FROM raw.fleet_hos_clocks
