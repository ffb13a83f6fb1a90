/*---
description = "Readings that there are, one row per kind of entity and reading, as of the last snapshot."
unique_key = ["entityType", "reading_id"]
---*/
SELECT DISTINCT
  readingId AS reading_id,                            -- id of the reading
  entityType,                                         -- what it is read of, such as asset or sensor
  category,                                           -- group that it belongs to, such as reefer or tireCondition
  grouping['id'] AS grouping_id,                      -- finer group that it belongs to
  grouping['label'] AS grouping_label,                -- name of that
  label,                                              -- its name for people
  description,                                        -- what it is
  ingestionEnabled,                                   -- whether such readings can be sent to Samsara
  type,                                               -- type and unit, as JSON text
  enumValues                                          -- values that it can have, with their names, as JSON text
FROM raw.readings_definitions
