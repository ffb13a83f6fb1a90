/*---
description = "Tags to join by tag_id, with how many carry them: one row per tag, as of the last snapshot."
unique_key = ["tag_id"]

[[tests]]
not_null = ["tag_id"]
---*/
SELECT
  t.tag_id,                                           -- the tag
  t.tag_name,                                         -- its name
  NULLIF(t.parentTagId, '') AS parent_tag_id,         -- the tag above it, if any; joins tag_id
  p.tag_name AS parent_tag_name,                      -- name of the tag above it
  coalesce(v.members, 0) AS vehicles,                 -- number of vehicles with this tag itself
  coalesce(d.members, 0) AS drivers                   -- number of drivers with this tag itself
FROM fleet_tags AS t
LEFT JOIN fleet_tags AS p ON p.tag_id = t.parentTagId
LEFT JOIN (SELECT tag_id, count(*) AS members FROM fleet_tags_vehicles GROUP BY tag_id) AS v ON v.tag_id = t.tag_id
LEFT JOIN (SELECT tag_id, count(*) AS members FROM fleet_tags_drivers GROUP BY tag_id) AS d ON d.tag_id = t.tag_id
