/*---
description = "One row per vehicle, as of the last snapshot."
cluster_by = ["vehicle_id"]
unique_key = ["vehicle_id"]
---*/
SELECT DISTINCT
  id AS vehicle_id,                                   -- Samsara's vehicle id
  name AS parc_id,                                    -- the fleet's own number for the vehicle
  vin,                                                -- vehicle identification number
  serial,                                             -- gateway serial without dashes
  make,                                               -- manufacturer
  model,                                              -- model name
  year,                                               -- model year, as text
  licensePlate,                                       -- licence plate
  notes,                                              -- free text
  esn,                                                -- engine serial number
  cameraSerial,                                       -- serial of the installed camera
  vehicleType,                                        -- kind of vehicle
  vehicleRegulationMode,                              -- regulated, unregulated or mixed (hours of service)
  harshAccelerationSettingType,                       -- harsh event sensitivity profile
  isRemotePrivacyButtonEnabled,                       -- whether the remote privacy button is on
  vehicleWeight,                                      -- weight in the unit of the organisation
  vehicleWeightInKilograms,                           -- weight in kilograms
  vehicleWeightInPounds,                              -- weight in pounds
  auxInputType1,                                      -- what auxiliary input 1 is wired to
  auxInputType2,                                      -- what auxiliary input 2 is wired to
  auxInputType3,                                      -- what auxiliary input 3 is wired to
  auxInputType4,                                      -- what auxiliary input 4 is wired to
  auxInputType5,                                      -- what auxiliary input 5 is wired to
  auxInputType6,                                      -- what auxiliary input 6 is wired to
  auxInputType7,                                      -- what auxiliary input 7 is wired to
  auxInputType8,                                      -- what auxiliary input 8 is wired to
  auxInputType9,                                      -- what auxiliary input 9 is wired to
  auxInputType10,                                     -- what auxiliary input 10 is wired to
  auxInputType11,                                     -- what auxiliary input 11 is wired to
  auxInputType12,                                     -- what auxiliary input 12 is wired to
  auxInputType13,                                     -- what auxiliary input 13 is wired to
  gateway['serial'] AS gateway_serial,                -- gateway serial with dashes
  gateway['model'] AS gateway_model,                  -- gateway model
  staticAssignedDriver['id'] AS staticAssignedDriver_id,     -- driver assigned for good, if any
  staticAssignedDriver['name'] AS staticAssignedDriver_name, -- that driver's name
  externalIds['samsara.serial'] AS externalIds_samsara_serial, -- gateway serial in the external ids
  externalIds['samsara.vin'] AS externalIds_samsara_vin,     -- VIN in the external ids
  to_json(externalIds) AS externalIds,                -- all external ids, as JSON text
  tags,                                               -- tags of the vehicle, as JSON text
  attributes,                                         -- custom attributes, as JSON text
  sensorConfiguration,                                -- sensors by position, as JSON text
  samsara_time(createdAtTime) AS createdAtTime,       -- when the vehicle was created
  samsara_time(updatedAtTime) AS updatedAtTime        -- when it was last changed
FROM raw.fleet_vehicles
