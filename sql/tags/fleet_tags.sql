/*---
description = "One row per tag, with or without members, as of the last snapshot. Who carries it is in the fleet_tags_… tables."
unique_key = ["tag_id"]
---*/
SELECT DISTINCT
  id AS tag_id,                                       -- the tag
  name AS tag_name,                                   -- its name
  externalIds['samsara.name'] AS externalIds_samsara_name, -- its name in the external ids
  to_json(externalIds) AS externalIds,                -- all external ids, as JSON text
  parentTagId,                                        -- the tag above it
  parentTag['id'] AS parentTag_id,                    -- the tag above it, again
  parentTag['name'] AS parentTag_name                 -- name of the tag above it
FROM raw.fleet_tags
