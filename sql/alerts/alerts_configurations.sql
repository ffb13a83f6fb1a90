/*---
description = "One row per alert configuration, as of the last snapshot."
unique_key = ["id"]
---*/
SELECT DISTINCT
  id,                                                 -- the configuration
  name,                                               -- its name
  isEnabled,                                          -- whether it is switched on
  samsara_time(createdAtTime) AS createdAtTime,       -- when it was made
  samsara_time(lastModifiedAtTime) AS lastModifiedAtTime, -- when it was last changed
  to_json(externalIds) AS externalIds,                -- all external ids, as JSON text
  scope,                                              -- whom it watches, as JSON text
  triggers,                                           -- what sets it off, as JSON text
  actions,                                            -- what it then does, as JSON text
  operationalSettings                                 -- when it is active, as JSON text
FROM raw.alerts_configurations
