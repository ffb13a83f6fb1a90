/*---
description = "Values of attributes, one row per attribute and driver or asset that carries it, as of the last snapshot."
cluster_by = ["attribute_id"]
unique_key = ["entityType", "attribute_id", "entity_id"]
---*/
SELECT DISTINCT
  attribute_id,                                       -- the attribute; joins attributes.id
  attribute_name,                                     -- its name
  entityType,                                         -- driver or asset; joins attributes.entityType
  entity['entityId'] AS entity_id,                    -- who carries it
  CASE WHEN entityType = 'driver' THEN entity['entityId'] END AS driver_id, -- the driver who carries it; joins fleet_drivers.id
  CASE WHEN entityType = 'asset' THEN entity['entityId'] END AS asset_id, -- the asset that carries it; joins assets.id
  entity['name'] AS entity_name,                      -- name of the driver or asset
  to_json(entity['externalIds']) AS entity_externalIds, -- all its external ids, as JSON text
  entity['numberValues'] AS numberValues,             -- its numbers, in the unit of the attribute, as JSON text
  entity['stringValues'] AS stringValues,             -- its texts, as JSON text
  entity['dateValues'] AS dateValues,                 -- its dates, as JSON text
  entity['values'] AS values                          -- chosen values with their ids, as JSON text
FROM (
  SELECT id AS attribute_id, name AS attribute_name, entityType, unnest(entities) AS entity
  FROM raw.attributes_entities
)
WHERE entity IS NOT NULL
