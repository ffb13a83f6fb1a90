/*---
description = "Co-drivers on trips, one row per trip and co-driver."
partition_by = "startTime"
cluster_by = ["vehicle_id"]
unique_key = ["vehicle_id", "startTime", "codriver_id"]
---*/
SELECT DISTINCT
  vehicle_id,                                         -- Samsara's vehicle id; joins fleet_trips.vehicle_id
  samsara_time_ms(startMs) AS startTime,              -- when the trip started; joins fleet_trips.startTime
  driver_id,                                          -- driver at the wheel, if known
  json_as_text(item) AS codriver_id                   -- the co-driver; joins fleet_drivers.id
FROM (
  SELECT
    _parent_id AS vehicle_id,
    startMs,
    NULLIF(driverId, '0') AS driver_id,
    unnest(json_get_array(codriverIds)) AS item
  FROM raw.fleet_trips
)
WHERE item NOT IN ('null', '0')
