/*---
description = "Hours-of-service day charts, one row per driver and calendar day in local time. Uploads from the driver app may come days later."
partition_by = "date"
cluster_by = ["driver_id"]
unique_key = ["driver_id", "startTime"]
---*/
SELECT DISTINCT
  _window_start AS date,                              -- the calendar day of the log, in local time
  driver['id'] AS driver_id,                          -- Samsara's driver id
  driver['name'] AS driver_name,                      -- full name
  driver['timezone'] AS driver_timezone,              -- home terminal time zone (IANA)
  driver['eldSettings']['rulesets'] AS driver_eldSettings_rulesets, -- hours-of-service rule sets, as JSON text
  to_json(driver['externalIds']) AS driver_externalIds, -- all external ids of the driver, as JSON text
  samsara_time(startTime) AS startTime,               -- start of the driver's logging day
  samsara_time(endTime) AS endTime,                   -- its end
  distanceTraveled['driveDistanceMeters'] AS distanceTraveled_driveDistanceMeters, -- distance driven, metres
  distanceTraveled['personalConveyanceDistanceMeters'] AS distanceTraveled_personalConveyanceDistanceMeters, -- distance for personal conveyance, metres
  distanceTraveled['yardMoveDistanceMeters'] AS distanceTraveled_yardMoveDistanceMeters, -- distance of yard moves, metres
  dutyStatusDurations['activeDurationMs'] AS dutyStatusDurations_activeDurationMs, -- time on duty or driving, milliseconds
  dutyStatusDurations['driveDurationMs'] AS dutyStatusDurations_driveDurationMs, -- driving time, milliseconds
  dutyStatusDurations['offDutyDurationMs'] AS dutyStatusDurations_offDutyDurationMs, -- time off duty, milliseconds
  dutyStatusDurations['onDutyDurationMs'] AS dutyStatusDurations_onDutyDurationMs, -- time on duty without driving, milliseconds
  dutyStatusDurations['personalConveyanceDurationMs'] AS dutyStatusDurations_personalConveyanceDurationMs, -- driving time for personal conveyance, milliseconds
  dutyStatusDurations['sleeperBerthDurationMs'] AS dutyStatusDurations_sleeperBerthDurationMs, -- time in the sleeper berth, milliseconds
  dutyStatusDurations['waitingTimeDurationMs'] AS dutyStatusDurations_waitingTimeDurationMs, -- waiting time, milliseconds
  dutyStatusDurations['yardMoveDurationMs'] AS dutyStatusDurations_yardMoveDurationMs, -- time of yard moves, milliseconds
  pendingDutyStatusDurations['activeDurationMs'] AS pendingDutyStatusDurations_activeDurationMs, -- time on duty or driving, were all proposed edits accepted, milliseconds
  pendingDutyStatusDurations['driveDurationMs'] AS pendingDutyStatusDurations_driveDurationMs, -- driving time, were all proposed edits accepted, milliseconds
  pendingDutyStatusDurations['offDutyDurationMs'] AS pendingDutyStatusDurations_offDutyDurationMs, -- time off duty, were all proposed edits accepted, milliseconds
  pendingDutyStatusDurations['onDutyDurationMs'] AS pendingDutyStatusDurations_onDutyDurationMs, -- time on duty without driving, were all proposed edits accepted, milliseconds
  pendingDutyStatusDurations['personalConveyanceDurationMs'] AS pendingDutyStatusDurations_personalConveyanceDurationMs, -- driving time for personal conveyance, were all proposed edits accepted, milliseconds
  pendingDutyStatusDurations['sleeperBerthDurationMs'] AS pendingDutyStatusDurations_sleeperBerthDurationMs, -- time in the sleeper berth, were all proposed edits accepted, milliseconds
  pendingDutyStatusDurations['waitingTimeDurationMs'] AS pendingDutyStatusDurations_waitingTimeDurationMs, -- waiting time, were all proposed edits accepted, milliseconds
  pendingDutyStatusDurations['yardMoveDurationMs'] AS pendingDutyStatusDurations_yardMoveDurationMs, -- time of yard moves, were all proposed edits accepted, milliseconds
  logMetaData['adverseDrivingClaimed'] AS logMetaData_adverseDrivingClaimed, -- whether the adverse driving exemption is claimed
  logMetaData['bigDayClaimed'] AS logMetaData_bigDayClaimed, -- whether the big day exemption is claimed
  logMetaData['carrierFormattedAddress'] AS logMetaData_carrierFormattedAddress, -- the carrier's address
  logMetaData['carrierName'] AS logMetaData_carrierName, -- the carrier
  logMetaData['carrierUsDotNumber'] AS logMetaData_carrierUsDotNumber, -- the carrier's US DOT number
  samsara_time(logMetaData['certifiedAtTime']) AS logMetaData_certifiedAtTime, -- when the driver certified the log
  logMetaData['homeTerminalFormattedAddress'] AS logMetaData_homeTerminalFormattedAddress, -- address of the home terminal
  logMetaData['homeTerminalName'] AS logMetaData_homeTerminalName, -- home terminal
  logMetaData['isCertified'] AS logMetaData_isCertified, -- whether the driver certified the log
  logMetaData['isUsShortHaulActive'] AS logMetaData_isUsShortHaulActive, -- whether the US short-haul exemption is active
  logMetaData['shippingDocs'] AS logMetaData_shippingDocs, -- shipping documents, free text
  logMetaData['trailerNames'] AS logMetaData_trailerNames, -- trailers, as JSON text
  logMetaData['vehicles'] AS logMetaData_vehicles     -- vehicles of the day, as JSON text
FROM raw.fleet_hos_daily_logs
