/*---
description = "Courses, one row per course, as of the last snapshot."
unique_key = ["id"]
---*/
SELECT DISTINCT
  id,                                                 -- Samsara's course id
  revisionId,                                         -- id of the published revision
  title,                                              -- its title
  description,                                        -- what it is about
  status,                                             -- published, deleted or archived
  category['id'] AS category_id,                      -- id of its category
  category['name'] AS category_name,                  -- name of its category
  labels,                                             -- labels of the course, as JSON text
  estimatedTimeToCompleteMinutes                      -- time that it takes, minutes
FROM raw.training_courses
