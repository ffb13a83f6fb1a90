/*---
description = "Cards that drivers held to the reader of vehicles, one row per reading."
partition_by = "time"
cluster_by = ["vehicle_id"]
unique_key = ["vehicle_id", "time"]
---*/
SELECT DISTINCT
  vehicle_id,                                         -- Samsara's vehicle id
  parc_id,                                            -- the fleet's own number for the vehicle
  samsara_time(reading['time']) AS time,              -- when it was read
  reading['card']['id'] AS card_id                    -- the card; joins fleet_drivers.currentIdCardCode
FROM (
  SELECT id AS vehicle_id, name AS parc_id, unnest(nfcCardScans) AS reading
  FROM raw.fleet_vehicle_stats_nfcCardScans
)
