/*---
description = "When drivers signed in and out, one row per driver and action."
partition_by = "happenedAt"
cluster_by = ["driver_id"]
unique_key = ["driver_id", "happenedAt", "actionType"]
---*/
SELECT DISTINCT
  _parent_id AS driver_id,                            -- Samsara's driver id
  samsara_time_ms(happenedAtMs) AS happenedAt,        -- when it happened
  actionType,                                         -- signin or signout
  address,                                            -- address at which it happened; no longer filled by Samsara
  addressName,                                        -- name of that address
  city,                                               -- city
  state                                               -- state
FROM raw.fleet_hos_authentication_logs
