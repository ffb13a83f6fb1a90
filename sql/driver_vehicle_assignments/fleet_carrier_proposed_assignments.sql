/*---
description = "Assignments proposed to drivers, one row per proposal, as of the last snapshot."
cluster_by = ["driver_id"]
unique_key = ["id"]
---*/
SELECT DISTINCT
  id,                                                 -- Samsara's id of the proposal
  driver['id'] AS driver_id,                          -- Samsara's driver id
  driver['name'] AS driver_name,                      -- full name
  to_json(driver['externalIds']) AS driver_externalIds, -- all external ids of the driver, as JSON text
  vehicle['id'] AS vehicle_id,                        -- Samsara's vehicle id
  vehicle['name'] AS vehicle_name,                    -- its name
  to_json(vehicle['ExternalIds']) AS vehicle_externalIds, -- all external ids of the vehicle, as JSON text
  trailers,                                           -- proposed trailers, as JSON text
  shippingDocs,                                       -- numbers of shipping documents
  samsara_time(activeTime) AS activeTime,             -- when the proposal becomes active
  samsara_time(firstSeenTime) AS firstSeenTime,       -- when the driver first saw it
  samsara_time(acceptedTime) AS acceptedTime,         -- when the driver accepted it
  samsara_time(rejectedTime) AS rejectedTime          -- when the driver rejected it
FROM raw.fleet_carrier_proposed_assignments
