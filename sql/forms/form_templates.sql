/*---
description = "Templates of forms, one row per template, as of the last snapshot."
unique_key = ["id"]
---*/
SELECT DISTINCT
  id,                                                 -- Samsara's id of the template
  revisionId,                                         -- id of its revision
  title,                                              -- its title
  description,                                        -- what it is for
  formCategory,                                       -- category of the form
  approvalConfig,                                     -- who has to approve submissions, as JSON text
  createdBy['id'] AS createdBy_id,                    -- who made it
  createdBy['type'] AS createdBy_type,                -- driver or user
  updatedBy['id'] AS updatedBy_id,                    -- who changed it last
  updatedBy['type'] AS updatedBy_type,                -- driver or user
  samsara_time(createdAtTime) AS createdAtTime,       -- when it was made
  samsara_time(updatedAtTime) AS updatedAtTime        -- when it was last changed
FROM raw.form_templates
