/*---
description = "Visits of vehicles at addresses of the organisation, one row per vehicle, address and uninterrupted stay on a UTC day, from GPS fixes. A stay over midnight has a row on each day."
partition_by = "arrival_time"
cluster_by = ["address_id"]
unique_key = ["vehicle_id", "arrival_time"]

[[tests]]
range = { column = "duration_minutes", min = 0, max = 1440 }
---*/
WITH fixes AS (
  SELECT
    vehicle_id, parc_id, time, address_id, address_name,
    row_number() OVER (PARTITION BY vehicle_id ORDER BY time)
      - row_number() OVER (PARTITION BY vehicle_id, address_id ORDER BY time) AS stay
  FROM fleet_vehicle_stats_gps
)
SELECT
  vehicle_id,                                         -- Samsara's vehicle id; joins dim_vehicles.vehicle_id
  max(parc_id) AS vehicle_name,                       -- the fleet's own number for the vehicle
  address_id,                                         -- address of the organisation; joins addresses.id
  max(address_name) AS address_name,                  -- its name
  min(time) AS arrival_time,                          -- first fix of the stay
  max(time) AS departure_time,                        -- last fix of the stay
  round((CAST(max(time) AS BIGINT) - CAST(min(time) AS BIGINT)) / 60000000.0, 2) AS duration_minutes, -- from the first fix to the last, minutes
  count(*) AS fixes                                   -- GPS fixes of the stay
FROM fixes
WHERE address_id IS NOT NULL
GROUP BY vehicle_id, address_id, stay
