/*---
description = "One row per tag and piece of equipment that carries it. Tags without equipment have no row."
cluster_by = ["tag_id"]
unique_key = ["tag_id", "equipment_id"]
---*/
SELECT DISTINCT
  json_as_text(tag, 'id') AS tag_id,                  -- the tag; joins fleet_tags.tag_id
  json_as_text(tag, 'name') AS tag_name,              -- its name
  json_as_text(tag, 'parentTagId') AS parentTagId,    -- the tag above it
  equipment_id,                                              -- the piece of equipment that carries the tag
  equipment_name                                             -- its name
FROM (
  SELECT id AS equipment_id, name AS equipment_name, unnest(json_get_array(tags)) AS tag
  FROM raw.fleet_equipment
)
WHERE tag <> 'null'
