/*---
description = "Roles that users can have, one row per role, as of the last snapshot. Who has which is in fleet_user_roles."
unique_key = ["id"]
---*/
SELECT DISTINCT
  id,                                                 -- Samsara's id of the role
  name                                                -- its name
FROM raw.user_roles
