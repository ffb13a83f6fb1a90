/*---
description = "One row per tag and trailer that carries it. Tags without trailers have no row."
cluster_by = ["tag_id"]
unique_key = ["tag_id", "trailer_id"]
---*/
SELECT DISTINCT
  json_as_text(tag, 'id') AS tag_id,                  -- the tag; joins fleet_tags.tag_id
  json_as_text(tag, 'name') AS tag_name,              -- its name
  json_as_text(tag, 'parentTagId') AS parentTagId,    -- the tag above it
  trailer_id,                                              -- the trailer that carries the tag
  trailer_name                                             -- its name
FROM (
  SELECT id AS trailer_id, name AS trailer_name, unnest(json_get_array(tags)) AS tag
  FROM raw.fleet_trailers
)
WHERE tag <> 'null'
