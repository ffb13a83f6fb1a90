/*---
description = "What was met when an alert was set off, one row per incident and condition."
partition_by = "happenedAtTime"
cluster_by = ["configurationId"]
unique_key = ["configurationId", "happenedAtTime", "incidentUrl", "position"]
---*/
SELECT DISTINCT
  configurationId,                                    -- the configuration that was set off; joins alerts_configurations.id
  samsara_time(happenedAtTime) AS happenedAtTime,     -- when the incident happened
  incidentUrl,                                        -- page of the incident; with the two before the key of alerts_incidents
  position,                                           -- number of the condition in the incident, from 1
  CAST(json_as_text(item, 'triggerId') AS BIGINT) AS triggerId, -- Samsara's id of the kind of trigger
  json_as_text(item, 'description') AS description,   -- what the trigger watches, in the organisation's language
  json_as_text(item, 'details') AS details            -- what was met, with driver and vehicle, as JSON text
FROM (
  SELECT configurationId, happenedAtTime, incidentUrl, position, items[position] AS item
  FROM (
    SELECT configurationId, happenedAtTime, incidentUrl, items,
      unnest(range(1, CAST(cardinality(items) AS BIGINT) + 1)) AS position
    FROM (
      SELECT configurationId, happenedAtTime, incidentUrl, json_get_array(conditions) AS items
      FROM raw.alerts_incidents
    )
  )
)
