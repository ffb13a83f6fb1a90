/*---
description = "Fuel level of the unit, one row per change."
partition_by = "fuelPercentageChangedAt"
cluster_by = ["asset_id"]
unique_key = ["asset_id", "fuelPercentageChangedAt"]
---*/
SELECT DISTINCT
  asset_id,                                           -- Samsara's id of the refrigerated trailer
  asset_name,                                         -- its name
  assetType,                                          -- maker of the unit
  samsara_time_ms(change['changedAtMs']) AS fuelPercentageChangedAt, -- when it changed
  change['fuelPercentage'] AS fuelPercentage          -- fuel level in percent
FROM (
  SELECT id AS asset_id, name AS asset_name, assetType, unnest(reeferStats['fuelPercentage']) AS change
  FROM raw.fleet_assets_reefers
)
WHERE change['changedAtMs'] IS NOT NULL
