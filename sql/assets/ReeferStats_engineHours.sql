/*---
description = "Engine hours of the unit, one row per change."
partition_by = "engineHoursChangedAt"
cluster_by = ["asset_id"]
unique_key = ["asset_id", "engineHoursChangedAt"]
---*/
SELECT DISTINCT
  asset_id,                                           -- Samsara's id of the refrigerated trailer
  asset_name,                                         -- its name
  assetType,                                          -- maker of the unit
  samsara_time_ms(change['changedAtMs']) AS engineHoursChangedAt, -- when it changed
  change['engineHours'] AS engineHours                -- engine hours
FROM (
  SELECT id AS asset_id, name AS asset_name, assetType, unnest(reeferStats['engineHours']) AS change
  FROM raw.fleet_assets_reefers
)
WHERE change['changedAtMs'] IS NOT NULL
