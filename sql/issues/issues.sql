/*---
description = "Issues that were reported, as they are now, one row per issue."
partition_by = "createdAtTime"
cluster_by = ["asset_id"]
unique_key = ["id"]
---*/
SELECT DISTINCT
  id,                                                 -- Samsara's id of the issue
  title,                                              -- what it is called
  description,                                        -- in words
  status,                                             -- open, inProgress, resolved or dismissed
  priority,                                           -- low, medium or high
  samsara_time(createdAtTime) AS createdAtTime,       -- when it was made
  samsara_time(submittedAtTime) AS submittedAtTime,   -- when it was submitted
  samsara_time(dueDate) AS dueDate,                   -- until when it is to be resolved
  samsara_time(updatedAtTime) AS updatedAtTime,       -- when it was last changed
  issueSource['id'] AS issueSource_id,                -- the form that it came from; joins form_submissions.id
  issueSource['type'] AS issueSource_type,            -- form or ad-hoc
  submittedBy['id'] AS submittedBy_id,                -- who submitted it, a driver or a user
  submittedBy['type'] AS submittedBy_type,            -- driver or user
  assignedTo['id'] AS assignedTo_id,                  -- who is to resolve it, a driver or a user
  assignedTo['type'] AS assignedTo_type,              -- driver or user
  asset['entryType'] AS asset_entryType,              -- tracked if Samsara knows the asset, else untracked
  asset['id'] AS asset_id,                            -- Samsara's asset id; joins assets.id
  asset['name'] AS asset_name,                        -- its name
  to_json(asset['externalIds']) AS asset_externalIds, -- all external ids of the asset, as JSON text
  mediaList,                                          -- photos and videos, as JSON text; their addresses expire
  to_json(externalIds) AS externalIds                 -- all external ids of the issue, as JSON text
FROM raw.issues
