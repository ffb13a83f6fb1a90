/*---
description = "Values to choose from, one row per attribute and value, as of the last snapshot."
unique_key = ["entityType", "attribute_id", "id"]
---*/
SELECT DISTINCT
  attribute_id,                                       -- the attribute; joins attributes.id
  entityType,                                         -- what carries it: driver or asset
  item['id'] AS id,                                   -- Samsara's id of the value
  item['stringValue'] AS stringValue                  -- the value
FROM (
  SELECT id AS attribute_id, entityType, unnest(values) AS item
  FROM raw.attributes
)
