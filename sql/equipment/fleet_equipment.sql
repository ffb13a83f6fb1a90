/*---
description = "One row per piece of equipment, as of the last snapshot."
unique_key = ["id"]
---*/
SELECT DISTINCT
  id,                                                 -- Samsara's equipment id
  name,                                               -- its name
  assetSerial,                                        -- serial number of the equipment
  notes,                                              -- free text
  installedGateway['serial'] AS installedGateway_serial, -- serial of the installed gateway
  installedGateway['model'] AS installedGateway_model, -- its model
  externalIds['samsara.serial'] AS externalIds_samsara_serial, -- serial in the external ids
  externalIds['samsara.vin'] AS externalIds_samsara_vin, -- VIN in the external ids
  to_json(externalIds) AS externalIds,                -- all external ids, as JSON text
  tags                                                -- tags of the equipment, as JSON text
FROM raw.fleet_equipment
