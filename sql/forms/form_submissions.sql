/*---
description = "Forms that were assigned or filled in, as they are now, one row per form."
partition_by = "createdAtTime"
cluster_by = ["form_template_id"]
unique_key = ["id"]
---*/
SELECT DISTINCT
  id,                                                 -- Samsara's id of the form
  formTemplate['id'] AS form_template_id,             -- its template; joins form_templates.id
  formTemplate['revisionId'] AS formTemplate_revisionId, -- revision of the template
  title,                                              -- what it is called
  status,                                             -- notStarted, completed, archived and others
  isRequired,                                         -- whether it must be filled in
  samsara_time(createdAtTime) AS createdAtTime,       -- when it was made
  samsara_time(assignedAtTime) AS assignedAtTime,     -- when it was assigned
  samsara_time(dueAtTime) AS dueAtTime,               -- until when it is to be filled in
  samsara_time(submittedAtTime) AS submittedAtTime,   -- when it was submitted
  samsara_time(updatedAtTime) AS updatedAtTime,       -- when it was last changed
  assignedTo['id'] AS assignedTo_id,                  -- to whom it is assigned, a driver or a user
  assignedTo['type'] AS assignedTo_type,              -- driver or user
  submittedBy['id'] AS submittedBy_id,                -- who submitted it, a driver or a user
  submittedBy['type'] AS submittedBy_type,            -- driver or user
  durationMs,                                         -- how long filling in took, in milliseconds
  asset['entryType'] AS asset_entryType,              -- tracked if Samsara knows the asset, else untracked
  asset['id'] AS asset_id,                            -- Samsara's asset id; joins assets.id
  asset['name'] AS asset_name,                        -- its name
  to_json(asset['externalIds']) AS asset_externalIds, -- all external ids of the asset, as JSON text
  geofence['entryType'] AS geofence_entryType,        -- tracked if Samsara knows the address, else untracked
  geofence['id'] AS geofence_id,                      -- the address; joins addresses.id
  geofence['name'] AS geofence_name,                  -- its name
  geofence['address'] AS geofence_address,            -- its text
  to_json(geofence['externalIds']) AS geofence_externalIds, -- all external ids of the address, as JSON text
  location['latitude'] AS location_latitude,          -- where it was submitted: latitude in degrees
  location['longitude'] AS location_longitude,        -- longitude in degrees
  routeId AS route_id,                                -- the route that it belongs to
  routeStopId AS route_stop_id,                       -- the stop of that
  score['maxPoints'] AS score_maxPoints,              -- points that can be had
  score['scorePoints'] AS score_scorePoints,          -- points that were had
  score['scorePercent'] AS score_scorePercent,        -- their share, in percent
  approvalDetails['comment'] AS approvalDetails_comment, -- what whoever approves it wrote
  to_json(externalIds) AS externalIds                 -- all external ids of the form, as JSON text
FROM raw.form_submissions
