/*---
description = "One row per tag and machine that carries it. Tags without machines have no row."
cluster_by = ["tag_id"]
unique_key = ["tag_id", "machine_id"]
---*/
SELECT DISTINCT
  tag_id,                                             -- the tag
  tag_name,                                           -- its name
  externalIds_samsara_name,                           -- its name in the external ids
  parentTagId,                                        -- the tag above it
  parentTag_id,                                       -- the tag above it, again
  parentTag_name,                                     -- name of the tag above it
  member['id'] AS machine_id,                -- the machine that carries the tag
  member['name'] AS machine_name               -- its name
FROM (
  SELECT
    id AS tag_id,
    name AS tag_name,
    externalIds['samsara.name'] AS externalIds_samsara_name,
    parentTagId,
    parentTag['id'] AS parentTag_id,
    parentTag['name'] AS parentTag_name,
    unnest(machines) AS member
  FROM raw.fleet_tags
)
