/*---
description = "Alert incidents, one row per incident. Resolution is filled in later."
partition_by = "happenedAtTime"
cluster_by = ["configurationId"]
---*/
SELECT DISTINCT
  configurationId,                                    -- the configuration that was set off
  to_timestamp_micros(NULLIF(happenedAtTime, '')) AS happenedAtTime, -- when it happened
  to_timestamp_micros(NULLIF(updatedAtTime, '')) AS updatedAtTime,   -- when the incident last changed
  to_timestamp_micros(NULLIF(resolvedAtTime, '')) AS resolvedAtTime, -- when it was resolved
  isResolved,                                         -- whether it is resolved
  incidentUrl,                                        -- page of the incident
  conditions                                          -- what was met, with driver and vehicle, as JSON text
FROM raw.alerts_incidents
