/*---
description = "Settings about safety, one row as a rule, as of the last snapshot."
---*/
SELECT DISTINCT
  defaultVehicleType,                                 -- type that new vehicles are given, such as automatic or heavyDuty
  safetyScoreTarget,                                  -- safety score to be reached, 0 to 100
  distractedDrivingDetectionAlerts,                   -- alerts on distracted driving, as JSON text
  followingDistanceDetectionAlerts,                   -- alerts on following too closely, as JSON text
  forwardCollisionDetectionAlerts,                    -- alerts on collisions ahead, as JSON text
  harshEventSensitivity,                              -- how strong harsh events are, in g, as JSON text
  harshEventSensitivityV2,                            -- how strong harsh events are, in words, as JSON text
  policyViolationsDetectionAlerts,                    -- alerts on breaches of policy, as JSON text
  rollingStopDetectionAlerts,                         -- alerts on rolling stops, as JSON text
  speedingSettings,                                   -- levels of speeding, as JSON text
  voiceCoaching,                                      -- coaching by voice, as JSON text
  safetyScoreConfiguration['aiInattentiveDrivingDetectionWeight'] AS safetyScoreConfiguration_aiInattentiveDrivingDetectionWeight, -- weight of ai inattentive driving detection in the safety score
  safetyScoreConfiguration['crashWeight'] AS safetyScoreConfiguration_crashWeight, -- weight of crash in the safety score
  safetyScoreConfiguration['defensiveDrivingWeight'] AS safetyScoreConfiguration_defensiveDrivingWeight, -- weight of defensive driving in the safety score
  safetyScoreConfiguration['didNotYieldWeight'] AS safetyScoreConfiguration_didNotYieldWeight, -- weight of did not yield in the safety score
  safetyScoreConfiguration['drowsyWeight'] AS safetyScoreConfiguration_drowsyWeight, -- weight of drowsy in the safety score
  safetyScoreConfiguration['eatingDrinkingWeight'] AS safetyScoreConfiguration_eatingDrinkingWeight, -- weight of eating drinking in the safety score
  safetyScoreConfiguration['followingDistanceModerateWeight'] AS safetyScoreConfiguration_followingDistanceModerateWeight, -- weight of following distance moderate in the safety score
  safetyScoreConfiguration['followingDistanceSevereWeight'] AS safetyScoreConfiguration_followingDistanceSevereWeight, -- weight of following distance severe in the safety score
  safetyScoreConfiguration['followingDistanceWeight'] AS safetyScoreConfiguration_followingDistanceWeight, -- weight of following distance in the safety score
  safetyScoreConfiguration['forwardCollisionWarningWeight'] AS safetyScoreConfiguration_forwardCollisionWarningWeight, -- weight of forward collision warning in the safety score
  safetyScoreConfiguration['harshAccelWeight'] AS safetyScoreConfiguration_harshAccelWeight, -- weight of harsh accel in the safety score
  safetyScoreConfiguration['harshBrakeWeight'] AS safetyScoreConfiguration_harshBrakeWeight, -- weight of harsh brake in the safety score
  safetyScoreConfiguration['harshTurnWeight'] AS safetyScoreConfiguration_harshTurnWeight, -- weight of harsh turn in the safety score
  safetyScoreConfiguration['heavySpeedingWeight'] AS safetyScoreConfiguration_heavySpeedingWeight, -- weight of heavy speeding in the safety score
  safetyScoreConfiguration['inattentiveDrivingWeight'] AS safetyScoreConfiguration_inattentiveDrivingWeight, -- weight of inattentive driving in the safety score
  safetyScoreConfiguration['laneDepartureWeight'] AS safetyScoreConfiguration_laneDepartureWeight, -- weight of lane departure in the safety score
  safetyScoreConfiguration['lateResponseWeight'] AS safetyScoreConfiguration_lateResponseWeight, -- weight of late response in the safety score
  safetyScoreConfiguration['lightSpeedingWeight'] AS safetyScoreConfiguration_lightSpeedingWeight, -- weight of light speeding in the safety score
  safetyScoreConfiguration['maxSpeedWeight'] AS safetyScoreConfiguration_maxSpeedWeight, -- weight of max speed in the safety score
  safetyScoreConfiguration['mobileUsageWeight'] AS safetyScoreConfiguration_mobileUsageWeight, -- weight of mobile usage in the safety score
  safetyScoreConfiguration['moderateSpeedingWeight'] AS safetyScoreConfiguration_moderateSpeedingWeight, -- weight of moderate speeding in the safety score
  safetyScoreConfiguration['nearCollisionWeight'] AS safetyScoreConfiguration_nearCollisionWeight, -- weight of near collision in the safety score
  safetyScoreConfiguration['noSeatbeltWeight'] AS safetyScoreConfiguration_noSeatbeltWeight, -- weight of no seatbelt in the safety score
  safetyScoreConfiguration['obstructedCameraWeight'] AS safetyScoreConfiguration_obstructedCameraWeight, -- weight of obstructed camera in the safety score
  safetyScoreConfiguration['ranRedLightWeight'] AS safetyScoreConfiguration_ranRedLightWeight, -- weight of ran red light in the safety score
  safetyScoreConfiguration['rollingStopWeight'] AS safetyScoreConfiguration_rollingStopWeight, -- weight of rolling stop in the safety score
  safetyScoreConfiguration['severeSpeedingWeight'] AS safetyScoreConfiguration_severeSpeedingWeight, -- weight of severe speeding in the safety score
  safetyScoreConfiguration['smokingWeight'] AS safetyScoreConfiguration_smokingWeight, -- weight of smoking in the safety score
  safetyScoreConfiguration['speedingWeight'] AS safetyScoreConfiguration_speedingWeight, -- weight of speeding in the safety score
  safetyScoreConfiguration['vulnerableRoadUserWeight'] AS safetyScoreConfiguration_vulnerableRoadUserWeight -- weight of vulnerable road user in the safety score
FROM raw.fleet_settings_safety
