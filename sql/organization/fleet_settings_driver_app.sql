/*---
description = "Settings of the driver app, one row, as of the last snapshot."
---*/
SELECT DISTINCT
  driverFleetId,                                      -- what drivers enter for the fleet when they sign in
  gamification,                                       -- whether drivers see how they compare
  gamificationConfig['anonymizeDriverNames'] AS gamificationConfig_anonymizeDriverNames, -- whether the names of the others are hidden
  orgVehicleSearch,                                   -- whether drivers can search for vehicles outside of their tag
  trailerSelection,                                   -- whether drivers can select trailers
  trailerSelectionConfig['driverTrailerCreationEnabled'] AS trailerSelectionConfig_driverTrailerCreationEnabled, -- whether drivers can create trailers
  trailerSelectionConfig['maxNumOfTrailersSelected'] AS trailerSelectionConfig_maxNumOfTrailersSelected, -- how many trailers a driver can select
  trailerSelectionConfig['orgTrailerSearch'] AS trailerSelectionConfig_orgTrailerSearch -- whether drivers can search for trailers outside of their tag
FROM raw.fleet_settings_driver_app
