/*---
description = "Driving efficiency, one row per vehicle and UTC day. Still changes for about three days."
partition_by = "date"
cluster_by = ["vehicle_id"]
unique_key = ["vehicle_id", "date"]
---*/
SELECT DISTINCT
  CAST(_window_start AS DATE) AS date,                -- the UTC day of the report
  vehicleId AS vehicle_id,                            -- Samsara's vehicle id
  TRY_CAST(difficultyScore['overallScore'] AS DOUBLE) AS difficultyScore_overallScore, -- how difficult the driving was, from 0 (hard) to 100
  TRY_CAST(difficultyScore['topographyScore'] AS DOUBLE) AS difficultyScore_topographyScore, -- how hilly it was
  TRY_CAST(difficultyScore['vehicleWeightScore'] AS DOUBLE) AS difficultyScore_vehicleWeightScore, -- how heavy the vehicle was
  TRY_CAST(scoreData['anticipationScore'] AS DOUBLE) AS scoreData_anticipationScore, -- score of brakings that were anticipated, 0 to 100
  TRY_CAST(scoreData['coastingScore'] AS DOUBLE) AS scoreData_coastingScore, -- score of coasting, 0 to 100
  TRY_CAST(scoreData['cruiseControlScore'] AS DOUBLE) AS scoreData_cruiseControlScore, -- score of cruise control, 0 to 100
  TRY_CAST(scoreData['greenBandScore'] AS DOUBLE) AS scoreData_greenBandScore, -- score of efficient engine speed, 0 to 100
  TRY_CAST(scoreData['highTorqueScore'] AS DOUBLE) AS scoreData_highTorqueScore, -- score of high torque, 0 to 100
  TRY_CAST(scoreData['idlingScore'] AS DOUBLE) AS scoreData_idlingScore, -- score of idling, 0 to 100
  TRY_CAST(scoreData['overSpeedScore'] AS DOUBLE) AS scoreData_overSpeedScore, -- score of speed above the efficient one, 0 to 100
  TRY_CAST(scoreData['overallScore'] AS DOUBLE) AS scoreData_overallScore, -- score of all together, 0 to 100
  TRY_CAST(scoreData['wearFreeBrakeScore'] AS DOUBLE) AS scoreData_wearFreeBrakeScore, -- score of braking without wear, 0 to 100
  percentageData['anticipationPercentage'] AS percentageData_anticipationPercentage, -- share of brakings that were anticipated, percent
  percentageData['coastingPercentage'] AS percentageData_coastingPercentage, -- share of coasting, percent
  percentageData['cruiseControlPercentage'] AS percentageData_cruiseControlPercentage, -- share of cruise control, percent
  percentageData['greenBandPercentage'] AS percentageData_greenBandPercentage, -- share of efficient engine speed, percent
  percentageData['highGradeRoadDrivingPercentage'] AS percentageData_highGradeRoadDrivingPercentage, -- share of steep roads, percent
  percentageData['highTorquePercentage'] AS percentageData_highTorquePercentage, -- share of high torque, percent
  percentageData['idlingPercentage'] AS percentageData_idlingPercentage, -- share of idling, percent
  percentageData['overSpeedPercentage'] AS percentageData_overSpeedPercentage, -- share of speed above the efficient one, percent
  percentageData['wearFreeBrakePercentage'] AS percentageData_wearFreeBrakePercentage, -- share of braking without wear, percent
  rawData['anticipationBrakeEventCount'] AS rawData_anticipationBrakeEventCount, -- brakings within a second of accelerating
  rawData['averageVehicleWeightKg'] AS rawData_averageVehicleWeightKg, -- mean weight of the vehicle, kilograms
  rawData['coastingDurationMs'] AS rawData_coastingDurationMs, -- time without accelerator or brake, milliseconds
  rawData['cruiseControlDurationMs'] AS rawData_cruiseControlDurationMs, -- time in cruise control, milliseconds
  rawData['driveTimeDurationMs'] AS rawData_driveTimeDurationMs, -- driving time, milliseconds
  rawData['engineOnDurationMs'] AS rawData_engineOnDurationMs, -- time with the engine on, milliseconds
  rawData['greenBandDurationMs'] AS rawData_greenBandDurationMs, -- time at an efficient engine speed, milliseconds
  rawData['highGradeRoadDrivingDurationMs'] AS rawData_highGradeRoadDrivingDurationMs, -- time on steep roads, milliseconds
  rawData['highTorqueDurationMs'] AS rawData_highTorqueDurationMs, -- time at high torque, milliseconds
  rawData['idlingDurationMs'] AS rawData_idlingDurationMs, -- idling time, milliseconds
  rawData['overSpeedDurationMs'] AS rawData_overSpeedDurationMs, -- time above the efficient speed, milliseconds
  rawData['totalBrakeDurationMs'] AS rawData_totalBrakeDurationMs, -- time spent braking, milliseconds
  rawData['totalBrakeEventCount'] AS rawData_totalBrakeEventCount, -- brakings
  rawData['wearFreeBrakeDurationMs'] AS rawData_wearFreeBrakeDurationMs -- braking without wear (retarder, engine brake), milliseconds
FROM raw.driver_efficiency_vehicles
