/*---
description = "Roles of the users, one row per user, role and tag, as of the last snapshot."
cluster_by = ["user_id"]
---*/
SELECT DISTINCT
  user_id,                                            -- Samsara's user id; joins fleet_users.id
  item['role']['id'] AS role_id,                      -- Samsara's role id
  item['role']['name'] AS role_name,                  -- name of the role
  item['tag']['id'] AS tag_id,                        -- tag to which the role is limited; empty: the whole organisation
  item['tag']['name'] AS tag_name,                    -- its name
  samsara_time(item['expireAt']) AS expireAt          -- when the role ends; empty if it does not
FROM (
  SELECT id AS user_id, unnest(roles) AS item
  FROM raw.fleet_users
)
