/*---
description = "One row per alert configuration, enabled or not, as of the last snapshot."
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
  CASE json_as_text(scope, 'all') WHEN 'true' THEN true WHEN 'false' THEN false END AS scope_all, -- whether it watches all that it can apply to
  json_as_text(scope, 'assets') AS scope_assets,      -- assets that it watches, as JSON text
  json_as_text(scope, 'drivers') AS scope_drivers,    -- drivers that it watches, as JSON text
  json_as_text(scope, 'tags') AS scope_tags,          -- tags whose members it watches, as JSON text
  json_as_text(scope, 'widgets') AS scope_widgets,    -- widgets that it watches, as JSON text
  triggers,                                           -- what sets it off, as JSON text
  actions,                                            -- what it then does, as JSON text
  operationalSettings,                                -- when it is active, as JSON text
  json_as_text(operationalSettings, 'timeRangeType') AS operationalSettings_timeRangeType, -- whether it is active (activeBetween) or inactive (inactiveBetween) in the time ranges
  json_as_text(operationalSettings, 'timeRanges') AS operationalSettings_timeRanges -- days of the week and times of day, each with its time zone, as JSON text
FROM raw.alerts_configurations
