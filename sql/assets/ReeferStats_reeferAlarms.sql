/*---
description = "Alarms of the unit, one row per change and alarm; a change to no alarms, which clears them, keeps one row."
partition_by = "reeferAlarmsChangedAt"
cluster_by = ["asset_id"]
---*/
SELECT DISTINCT
  asset_id,                                           -- Samsara's id of the refrigerated trailer
  asset_name,                                         -- its name
  assetType,                                          -- maker of the unit
  samsara_time_ms(changedAtMs) AS reeferAlarmsChangedAt, -- when the set of alarms changed
  alarm['alarmCode'] AS alarm_alarmCode,              -- code of the alarm; empty where all were cleared, or where it has none
  alarm['description'] AS alarm_description,          -- what it means
  alarm['operatorAction'] AS alarm_operatorAction,    -- what to do
  alarm['severity'] AS alarm_severity                 -- 1 lightest to 3 gravest
FROM (
  SELECT
    asset_id, asset_name, assetType,
    change['changedAtMs'] AS changedAtMs,
    change['alarms'][i] AS alarm,
    i
  FROM (
    SELECT
      asset_id, asset_name, assetType, change,
      unnest(range(1, 1 + greatest(1, coalesce(CAST(array_length(change['alarms']) AS BIGINT), 0)))) AS i
    FROM (
      SELECT id AS asset_id, name AS asset_name, assetType, unnest(reeferStats['reeferAlarms']) AS change
      FROM raw.fleet_assets_reefers
    )
  )
)
WHERE changedAtMs IS NOT NULL AND (alarm IS NOT NULL OR i = 1)
