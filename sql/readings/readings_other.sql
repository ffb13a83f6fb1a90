/*---
description = "Readings of categories that have no table of their own, one row per reading and instant."
partition_by = "happenedAtTime"
cluster_by = ["reading_id", "entity_id"]
unique_key = ["entityType", "reading_id", "entity_id", "happenedAtTime"]
---*/
SELECT DISTINCT
  _asked['entityType'] AS entityType,                 -- what it was read of: asset or sensor
  _parent_id AS reading_id,                           -- id of the reading; with entityType it joins readings_definitions, which has its unit
  entityId AS entity_id,                              -- id of the asset or sensor
  CASE WHEN _asked['entityType'] = 'asset' THEN entityId END AS asset_id, -- Samsara's asset id, where it is an asset; joins assets.id
  samsara_time(happenedAtTime) AS happenedAtTime,     -- when it was read
  value,                                              -- the value as it was sent, as JSON text
  TRY_CAST(value AS DOUBLE) AS value_number,          -- the value, where it is a number; in the unit of the definition
  CASE WHEN value LIKE '"%' THEN json_as_text(value) END AS value_text, -- the value, where it is a text, such as a symbol of enumValues
  to_json(externalIds) AS externalIds                 -- all external ids of the asset or sensor, as JSON text
FROM raw.readings_other
