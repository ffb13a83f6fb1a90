/*---
description = "Lights on the dashboard, one row per reading. The API does not document their fields: they are JSON text, as sent."
partition_by = "time"
cluster_by = ["vehicle_id"]
unique_key = ["vehicle_id", "time"]
---*/
SELECT DISTINCT
  vehicle_id,                                         -- Samsara's vehicle id
  parc_id,                                            -- the fleet's own number for the vehicle
  samsara_time(reading['time']) AS time,              -- when it was read
  reading['value'] AS tellTales,                      -- its value, if it has one, as JSON text
  rescued_fields(_rescued_data, concat('tellTales[', CAST(i - 1 AS VARCHAR), ']')) AS tellTales_fields -- its other fields, as JSON text
FROM (
  SELECT vehicle_id, parc_id, _rescued_data, i, tellTales[i] AS reading
  FROM (
    SELECT
      id AS vehicle_id, name AS parc_id, _rescued_data, tellTales,
      unnest(range(1, 1 + coalesce(CAST(array_length(tellTales) AS BIGINT), 0))) AS i
    FROM raw.fleet_vehicle_stats_tellTales
  )
)
