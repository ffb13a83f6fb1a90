/*---
description = "One row per trailer, as of the last snapshot. Ids and numbers are in the columns that vehicles use."
cluster_by = ["vehicle_id"]
unique_key = ["vehicle_id"]
---*/
SELECT DISTINCT
  id AS vehicle_id,                                   -- the trailer's id, under the name that this table has always had; see trailer_id
  id AS trailer_id,                                   -- Samsara's id of the trailer
  name AS parc_id,                                    -- the fleet's own number for the trailer
  trailerSerialNumber,                                -- serial number of the trailer
  licensePlate,                                       -- licence plate
  notes,                                              -- free text
  enabledForMobile,                                   -- whether drivers see it in the app
  installedGateway['serial'] AS installedGateway_serial, -- serial of the installed gateway
  installedGateway['model'] AS installedGateway_model, -- its model
  externalIds['samsara.serial'] AS externalIds_samsara_serial, -- serial in the external ids
  externalIds['samsara.vin'] AS externalIds_samsara_vin, -- VIN in the external ids
  to_json(externalIds) AS externalIds,                -- all external ids, as JSON text
  tags                                                -- tags of the trailer, as JSON text
FROM raw.fleet_trailers
