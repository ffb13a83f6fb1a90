/*---
description = "Power status of the unit, one row per change."
partition_by = "powerStatusChangedAt"
cluster_by = ["asset_id"]
unique_key = ["asset_id", "powerStatusChangedAt"]
---*/
SELECT DISTINCT
  asset_id,                                           -- Samsara's id of the refrigerated trailer
  asset_name,                                         -- its name
  assetType,                                          -- maker of the unit
  samsara_time_ms(change['changedAtMs']) AS powerStatusChangedAt, -- when it changed
  change['status'] AS powerStatus                     -- power status
FROM (
  SELECT id AS asset_id, name AS asset_name, assetType, unnest(reeferStats['powerStatus']) AS change
  FROM raw.fleet_assets_reefers
)
WHERE change['changedAtMs'] IS NOT NULL
