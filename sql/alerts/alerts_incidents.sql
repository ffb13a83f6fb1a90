/*---
description = "Alert incidents as they are now, one row per incident."
partition_by = "happenedAtTime"
cluster_by = ["configurationId"]
unique_key = ["configurationId", "happenedAtTime", "incidentUrl"]
---*/
SELECT DISTINCT
  configurationId,                                    -- the configuration that was set off; joins alerts_configurations.id
  samsara_time(happenedAtTime) AS happenedAtTime,     -- when it happened
  samsara_time(updatedAtTime) AS updatedAtTime,       -- when the incident last changed
  samsara_time(resolvedAtTime) AS resolvedAtTime,     -- when it was resolved
  isResolved,                                         -- whether it is resolved
  incidentUrl,                                        -- page of the incident
  conditions                                          -- what was met, with driver and vehicle, as JSON text
FROM raw.alerts_incidents
