/*---
description = "Alert incidents, one row per incident. Resolution is filled in later."
partition_by = "happenedAtTime"
cluster_by = ["configurationId"]
unique_key = ["configurationId", "happenedAtTime", "incidentUrl"]
---*/
-- An incident that changed comes back as a new version: the newest one counts.
SELECT
  configurationId,                                    -- the configuration that was set off
  happenedAtTime,                                     -- when it happened
  updatedAtTime,                                      -- when the incident last changed
  resolvedAtTime,                                     -- when it was resolved
  isResolved,                                         -- whether it is resolved
  incidentUrl,                                        -- page of the incident
  conditions                                          -- what was met, with driver and vehicle, as JSON text
FROM (
  SELECT
    *,
    row_number() OVER (
      PARTITION BY configurationId, happenedAtTime, incidentUrl
      ORDER BY updatedAtTime DESC NULLS LAST, isResolved DESC NULLS LAST, conditions
    ) AS version
  FROM (
    SELECT
      configurationId,
      to_timestamp_micros(NULLIF(happenedAtTime, '')) AS happenedAtTime,
      to_timestamp_micros(NULLIF(updatedAtTime, '')) AS updatedAtTime,
      to_timestamp_micros(NULLIF(resolvedAtTime, '')) AS resolvedAtTime,
      isResolved,
      incidentUrl,
      conditions
    FROM raw.alerts_incidents
  )
)
WHERE version = 1
