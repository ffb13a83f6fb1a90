/*---
description = "Settings of the organisation about compliance, one row, as of the last snapshot."
---*/
SELECT DISTINCT
  carrierName,                                        -- name of the carrier
  dotNumber,                                          -- DOT number of the carrier
  mainOfficeFormattedAddress,                         -- address of its main office
  canadaHosEnabled,                                   -- whether Canadian hours of service are enabled
  driverAutoDutyEnabled,                              -- whether duty statuses follow the driving by themselves
  editCertifiedLogsEnabled,                           -- whether drivers can edit certified logs
  forceManualLocationForDutyStatusChangesEnabled,     -- whether drivers must enter their place when their status changes
  forceReviewUnassignedHosEnabled,                    -- whether drivers must review unassigned hours
  persistentDutyStatusEnabled,                        -- whether duty statuses persist
  allowUnregulatedVehiclesEnabled                     -- whether unregulated vehicles are allowed; deprecated
FROM raw.fleet_settings_compliance
