/*---
description = "Documents of drivers, one row per document, on the day of its creation."
partition_by = "createdAtTime"
cluster_by = ["driver_id"]
unique_key = ["id"]
---*/
SELECT DISTINCT
  id,                                                 -- the document
  name,                                               -- its name
  state,                                              -- required, submitted or archived
  notes,                                              -- free text
  samsara_time(createdAtTime) AS createdAtTime,       -- when it was created
  samsara_time(updatedAtTime) AS updatedAtTime,       -- when it was last changed
  documentType['id'] AS documentType_id,              -- its document type
  documentType['name'] AS documentType_name,          -- the type's name
  driver['id'] AS driver_id,                          -- the driver
  driver['name'] AS driver_name,                      -- the driver's name
  to_json(driver['externalIds']) AS driver_externalIds, -- all external ids of the driver, as JSON text
  vehicle['id'] AS vehicle_id,                        -- the vehicle
  vehicle['name'] AS vehicle_name,                    -- its name
  vehicle['externalIds']['samsara.serial'] AS vehicle_externalIds_samsara_serial, -- gateway serial in its external ids
  vehicle['externalIds']['samsara.vin'] AS vehicle_externalIds_samsara_vin, -- VIN in its external ids
  to_json(vehicle['externalIds']) AS vehicle_externalIds, -- all its external ids, as JSON text
  route['id'] AS route_id,                            -- the route
  route['name'] AS route_name,                        -- its name
  to_json(route['externalIds']) AS route_externalIds, -- all its external ids, as JSON text
  routeStop['id'] AS routeStop_id,                    -- the stop of the route
  routeStop['name'] AS routeStop_name,                -- its name
  to_json(routeStop['externalIds']) AS routeStop_externalIds, -- all its external ids, as JSON text
  fields,                                             -- the filled-in fields, as JSON text; links to photos expire
  conditionalFieldSections                            -- which answer brought up which further fields, as JSON text
FROM raw.fleet_documents
