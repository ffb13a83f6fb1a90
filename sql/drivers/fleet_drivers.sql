/*---
description = "One row per driver, active or deactivated, as of the last snapshot."
cluster_by = ["id"]
unique_key = ["id"]
---*/
SELECT DISTINCT
  id,                                                 -- Samsara's driver id
  name,                                               -- full name
  username,                                           -- login of the driver app
  phone,                                              -- phone number, as entered
  email,                                              -- e-mail address
  dateOfBirth,                                        -- date of birth, as text
  licenseNumber,                                      -- driving licence number
  licenseState,                                       -- state that issued the licence
  driverActivationStatus,                             -- active or deactivated
  isDeactivated,                                      -- deprecated twin of driverActivationStatus
  timezone,                                           -- home terminal time zone (IANA)
  locale,                                             -- locale of the driver app
  notes,                                              -- free text
  profileImageUrl,                                    -- portrait
  currentIdCardCode,                                  -- code of the identity card in use
  tachographCardNumber,                               -- tachograph card (EU)
  eldExempt,                                          -- exempt from electronic logging
  eldExemptReason,                                    -- why exempt
  eldPcEnabled,                                       -- personal conveyance allowed
  eldYmEnabled,                                       -- yard moves allowed
  eldDayStartHour,                                    -- hour at which the logging day starts
  eldAdverseWeatherExemptionEnabled,                  -- adverse weather exemption allowed
  eldBigDayExemptionEnabled,                          -- big day exemption allowed
  waitingTimeDutyStatusEnabled,                       -- waiting time duty status allowed
  hasDrivingFeaturesHidden,                           -- driving features hidden in the app
  hasVehicleUnpinningEnabled,                         -- driver may unpin the vehicle
  carrierSettings['carrierName'] AS carrierSettings_carrierName,                 -- carrier
  carrierSettings['dotNumber'] AS carrierSettings_dotNumber,                     -- carrier's US DOT number
  carrierSettings['homeTerminalName'] AS carrierSettings_homeTerminalName,       -- home terminal
  carrierSettings['homeTerminalAddress'] AS carrierSettings_homeTerminalAddress, -- its address
  carrierSettings['mainOfficeAddress'] AS carrierSettings_mainOfficeAddress,     -- main office address
  eldSettings['rulesets'] AS eldSettings_rulesets,    -- hours-of-service rule sets, as JSON text
  usDriverRulesetOverride['cycle'] AS usDriverRulesetOverride_cycle,             -- overridden cycle
  usDriverRulesetOverride['restart'] AS usDriverRulesetOverride_restart,         -- overridden restart
  usDriverRulesetOverride['restbreak'] AS usDriverRulesetOverride_restbreak,     -- overridden rest break
  usDriverRulesetOverride['usStateToOverride'] AS usDriverRulesetOverride_usStateToOverride, -- state of the override
  staticAssignedVehicle['id'] AS staticAssignedVehicle_id,     -- vehicle assigned for good
  staticAssignedVehicle['name'] AS staticAssignedVehicle_name, -- its name
  peerGroupTag['id'] AS peerGroupTag_id,              -- peer group tag
  peerGroupTag['name'] AS peerGroupTag_name,          -- its name
  peerGroupTag['parentTagId'] AS peerGroupTag_parentTagId,     -- its parent
  vehicleGroupTag['id'] AS vehicleGroupTag_id,        -- tag of the vehicles the driver may choose
  vehicleGroupTag['name'] AS vehicleGroupTag_name,    -- its name
  vehicleGroupTag['parentTagId'] AS vehicleGroupTag_parentTagId, -- its parent
  trailerGroupTag['id'] AS trailerGroupTag_id,        -- tag of the trailers the driver may choose
  trailerGroupTag['name'] AS trailerGroupTag_name,    -- its name
  trailerGroupTag['parentTagId'] AS trailerGroupTag_parentTagId, -- its parent
  tags,                                               -- tags of the driver, as JSON text
  attributes,                                         -- custom attributes, as JSON text
  to_json(externalIds) AS externalIds,                -- all external ids, as JSON text
  samsara_time(createdAtTime) AS createdAtTime,       -- when the driver was created
  samsara_time(updatedAtTime) AS updatedAtTime        -- when it was last changed
FROM raw.fleet_drivers
