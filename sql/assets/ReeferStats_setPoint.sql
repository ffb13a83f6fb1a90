/*---
description = "Set point of the unit, one row per change."
partition_by = "setPointChangedAt"
cluster_by = ["asset_id"]
unique_key = ["asset_id", "setPointChangedAt"]
---*/
SELECT DISTINCT
  asset_id,                                           -- Samsara's id of the refrigerated trailer
  asset_name,                                         -- its name
  assetType,                                          -- maker of the unit
  samsara_time_ms(change['changedAtMs']) AS setPointChangedAt, -- when it changed
  change['tempInMilliC'] AS setPointMilliCelsius      -- set point in thousandths of a degree Celsius
FROM (
  SELECT id AS asset_id, name AS asset_name, assetType, unnest(reeferStats['setPoint']) AS change
  FROM raw.fleet_assets_reefers
)
WHERE change['changedAtMs'] IS NOT NULL
