/*---
description = "Definitions of attributes, one row per attribute, as of the last snapshot."
unique_key = ["entityType", "id"]
---*/
SELECT DISTINCT
  id,                                                 -- Samsara's attribute id
  name,                                               -- its name
  entityType,                                         -- what carries it: driver or asset
  attributeType,                                      -- kind of its values, such as single-select, text or number
  unit,                                               -- unit of its numbers
  numberValues,                                       -- the numbers to choose from, as JSON text
  stringValues                                        -- the texts to choose from, as JSON text
FROM raw.attributes
