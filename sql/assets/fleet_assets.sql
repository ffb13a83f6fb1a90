/*---
description = "One row per asset of the v1 list, as of the last snapshot: trailers and equipment, powered or not. Vehicles are in fleet_vehicles; a vehicleId names the vehicle that an asset belongs to."
unique_key = ["asset_id"]
---*/
SELECT DISTINCT
  id AS asset_id,                                     -- Samsara's id of the asset
  name AS asset_name,                                 -- its name
  assetSerialNumber,                                  -- serial number of the asset
  cable['assetType'] AS cable_assetType,              -- what its cable is connected to: maker of a refrigeration unit
  engineHours,                                        -- engine hours
  NULLIF(vehicleId, '0') AS vehicleId                 -- vehicle associated with the asset, if any
FROM raw.fleet_assets
