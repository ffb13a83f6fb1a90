/*---
description = "Assets of all types, one row per asset, as of the last snapshot."
cluster_by = ["type"]
unique_key = ["id"]
---*/
SELECT DISTINCT
  id,                                                 -- Samsara's asset id; of a vehicle, trailer or equipment its own id
  name,                                               -- its name
  type,                                               -- vehicle, trailer, equipment, unpowered or uncategorized
  vin,                                                -- vehicle identification number
  serialNumber,                                       -- serial number of the asset
  licensePlate,                                       -- licence plate
  make,                                               -- maker
  model,                                              -- model
  year,                                               -- model year
  notes,                                              -- free text
  regulationMode,                                     -- whether driving it is regulated: regulated, unregulated or mixed
  readingsIngestionEnabled,                           -- whether readings may be sent for it by API
  tags,                                               -- tags of the asset, as JSON text
  attributes,                                         -- attributes of the asset, as JSON text
  to_json(externalIds) AS externalIds,                -- all external ids, as JSON text
  samsara_time(createdAtTime) AS createdAtTime,       -- when it was made in Samsara
  samsara_time(updatedAtTime) AS updatedAtTime        -- when it was last changed
FROM raw.assets
