/*---
description = "Vehicles to join by vehicle_id, with their tags: one row per vehicle, as of the last snapshot."
cluster_by = ["vehicle_id"]
unique_key = ["vehicle_id"]

[[tests]]
not_null = ["vehicle_id"]
---*/
SELECT
  v.vehicle_id,                                       -- Samsara's vehicle id
  v.parc_id AS vehicle_name,                          -- the fleet's own number for the vehicle
  v.vin,                                              -- vehicle identification number
  v.make,                                             -- manufacturer
  v.model,                                            -- model name
  TRY_CAST(v.year AS BIGINT) AS model_year,           -- model year
  v.licensePlate AS license_plate,                    -- licence plate
  v.vehicleType AS vehicle_type,                      -- kind of vehicle
  v.vehicleRegulationMode AS regulation_mode,         -- regulated, unregulated or mixed (hours of service)
  v.gateway_serial,                                   -- gateway serial with dashes
  v.gateway_model,                                    -- gateway model
  v.staticAssignedDriver_id AS assigned_driver_id,    -- driver assigned for good, if any; joins dim_drivers.driver_id
  coalesce(t.tags, 0) AS tags,                        -- number of tags on the vehicle
  t.tag_names                                         -- their names in alphabetical order, separated by commas
FROM fleet_vehicles AS v
LEFT JOIN (
  SELECT vehicle_id, count(*) AS tags, string_agg(tag_name, ', ' ORDER BY tag_name) AS tag_names
  FROM fleet_tags_vehicles
  GROUP BY vehicle_id
) AS t ON t.vehicle_id = v.vehicle_id
