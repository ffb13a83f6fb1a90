/*---
description = "Temperature of the ambient air, one row per change."
partition_by = "ambientAirTemperatureChangedAt"
cluster_by = ["asset_id"]
unique_key = ["asset_id", "ambientAirTemperatureChangedAt"]
---*/
SELECT DISTINCT
  asset_id,                                           -- Samsara's id of the refrigerated trailer
  asset_name,                                         -- its name
  assetType,                                          -- maker of the unit
  samsara_time_ms(change['changedAtMs']) AS ambientAirTemperatureChangedAt, -- when it changed
  change['tempInMilliC'] AS ambientAirTemperatureMilliCelsius -- ambient air temperature in thousandths of a degree Celsius
FROM (
  SELECT id AS asset_id, name AS asset_name, assetType, unnest(reeferStats['ambientAirTemperature']) AS change
  FROM raw.fleet_assets_reefers
)
WHERE change['changedAtMs'] IS NOT NULL
