/*---
description = "Drivers of whom a tachograph told in the 24 hours before the last snapshot, with their driving and rest times by EU rules (ISO 16844-7): one row per driver and vehicle."
unique_key = ["driver_id", "vehicle_id"]
---*/
SELECT DISTINCT
  driverId AS driver_id,                              -- Samsara's driver id; joins fleet_drivers.driver_id
  vehicleId AS vehicle_id,                            -- Samsara's vehicle id; joins fleet_vehicles.vehicle_id
  samsara_time(happenedAtTime) AS happenedAtTime,     -- when the tachograph told it
  workingState,                                       -- what the driver does: Rest, Availability, Work or Driving
  tachographCardNumber,                               -- number of the driver's card
  samsara_time(endOfLastDailyRestPeriod) AS endOfLastDailyRestPeriod, -- when the last daily rest ended
  samsara_time(endOfLastWeeklyRestPeriod) AS endOfLastWeeklyRestPeriod, -- when the last weekly rest ended
  numberOfTimes9hDailyDrivingTimesExceeded,           -- days of the week with more than 9 hours of driving
  numberOfUsedReducedDailyRestPeriods,                -- reduced daily rests since the last weekly rest
  currentDurationOfSelectedActivityMinute,            -- duration of the selected activity, minutes
  cumulativeBreakTimeMinute,                          -- break time so far, minutes
  currentDailyDrivingTimeMinute,                      -- driving time of the day, minutes
  currentWeeklyDrivingTimeMinute,                     -- driving time of the week, minutes
  cumulatedDrivingTimePreviousAndCurrentWeekMinute,   -- driving time of this week and the one before, minutes
  maximumDailyDrivingTimeMinute,                      -- driving time that the day allows at most, minutes
  remainingCurrentDrivingTimeMinute,                  -- driving time left without a break, minutes
  remainingDrivingTimeOnCurrentShiftMinute,           -- driving time left in the shift, minutes
  remainingDrivingTimeOfCurrentWeekMinute,            -- driving time left in the week, minutes
  remaining2WeeksDrivingTimeMinute,                   -- driving time left in the two weeks, minutes
  remainingTimeUntilNextBreakOrRestMinute,            -- time until a break or rest must begin, minutes
  durationOfNextBreakRestMinute,                      -- how long that break or rest must be, minutes
  remainingTimeOfCurrentBreakRestMinute,              -- time left of the present break or rest, minutes
  timeLeftUntilNextDrivingPeriodMinute,               -- time until driving may begin, minutes
  durationOfNextDrivingPeriodMinute,                  -- how long that driving may last, minutes
  timeLeftUntilNewDailyRestPeriodMinute,              -- time until the daily rest must begin, minutes
  minimumDailyRestMinute,                             -- how long the daily rest must be, minutes
  timeLeftUntilNewWeeklyRestPeriodMinute,             -- time until the weekly rest must begin, minutes
  minimumWeeklyRestMinute,                            -- how long the weekly rest must be, minutes
  openCompensationInTheLastWeekMinute,                -- rest owed from the last week, minutes
  openCompensationInWeekBeforeLastMinute,             -- rest owed from the week before the last, minutes
  openCompensationInSecondWeekBeforeLastMinute        -- rest owed from the second week before the last, minutes
FROM raw.fleet_tachograph_live_data
