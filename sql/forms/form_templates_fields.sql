/*---
description = "Fields of forms, one row per template and field, as of the last snapshot."
cluster_by = ["form_template_id"]
unique_key = ["form_template_id", "id"]
---*/
SELECT DISTINCT
  form_template_id,                                   -- the template; joins form_templates.id
  item['id'] AS id,                                   -- Samsara's id of the field
  item['label'] AS label,                             -- what is asked
  item['type'] AS type,                               -- kind of the answer, such as number, text, multiple_choice or media
  item['isRequired'] AS isRequired,                   -- whether it must be answered
  item['questionWeight'] AS questionWeight,           -- weight of the answer in the score
  item['numDecimalPlaces'] AS numDecimalPlaces,       -- decimal places of a number
  item['allowManualEntry'] AS allowManualEntry,       -- whether a text may be entered in place of a choice
  item['allowedAssetTypes'] AS allowedAssetTypes,     -- types of assets to choose from, as JSON text
  item['allowedDateTimeValueType'] AS allowedDateTimeValueType, -- datetime, date or time
  item['includeDrivers'] AS includeDrivers,           -- whether drivers can be chosen
  item['includeUsers'] AS includeUsers,               -- whether users can be chosen
  item['filterByRoleIds'] AS filterByRoleIds,         -- roles of the people to choose from, as JSON text
  item['autofillFromId'] AS autofillFromId,           -- field whose answer is taken over
  item['isAutofillSource'] AS isAutofillSource,       -- whether other fields take over its answer
  item['options'] AS options,                         -- choices, as JSON text
  item['columns'] AS columns,                         -- columns of a table, as JSON text
  item['conditionalActions'] AS conditionalActions    -- what an answer brings about, as JSON text
FROM (
  SELECT id AS form_template_id, unnest(fields) AS item
  FROM raw.form_templates
)
