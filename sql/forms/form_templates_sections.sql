/*---
description = "Sections of forms, one row per template and section, as of the last snapshot."
cluster_by = ["form_template_id"]
unique_key = ["form_template_id", "id"]
---*/
SELECT DISTINCT
  form_template_id,                                   -- the template; joins form_templates.id
  item['id'] AS id,                                   -- Samsara's id of the section
  item['label'] AS label,                             -- its heading
  item['fieldIndexFirstInclusive'] AS fieldIndexFirstInclusive, -- position of its first field, from 0
  item['fieldIndexLastInclusive'] AS fieldIndexLastInclusive -- position of its last field
FROM (
  SELECT id AS form_template_id, unnest(sections) AS item
  FROM raw.form_templates
)
