/*---
description = "Drivers to join by driver_id, with their tags: one row per driver, active or deactivated, as of the last snapshot."
cluster_by = ["driver_id"]
unique_key = ["driver_id"]

[[tests]]
not_null = ["driver_id"]
---*/
SELECT
  d.id AS driver_id,                                  -- Samsara's driver id
  d.name AS driver_name,                              -- full name
  d.username,                                         -- login of the driver app
  d.driverActivationStatus AS activation_status,      -- active or deactivated
  d.timezone AS time_zone,                            -- home terminal time zone (IANA)
  d.licenseState AS license_state,                    -- state that issued the driving licence
  d.carrierSettings_carrierName AS carrier_name,      -- carrier
  d.carrierSettings_homeTerminalName AS home_terminal_name, -- home terminal
  d.staticAssignedVehicle_id AS assigned_vehicle_id,  -- vehicle assigned for good, if any; joins dim_vehicles.vehicle_id
  d.eldExempt AS is_eld_exempt,                       -- exempt from electronic logging
  coalesce(t.tags, 0) AS tags,                        -- number of tags on the driver
  t.tag_names,                                        -- their names in alphabetical order, separated by commas
  d.createdAtTime AS created_at                       -- when the driver was created
FROM fleet_drivers AS d
LEFT JOIN (
  SELECT driver_id, count(*) AS tags, string_agg(tag_name, ', ' ORDER BY tag_name) AS tag_names
  FROM fleet_tags_drivers
  GROUP BY driver_id
) AS t ON t.driver_id = d.id
