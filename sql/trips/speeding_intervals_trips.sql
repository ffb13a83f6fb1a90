/*---
description = "Trips that were looked at for speeding, one row per trip, also those without any."
partition_by = "tripStartTime"
cluster_by = ["asset_id"]
unique_key = ["asset_id", "tripStartTime"]
---*/
SELECT DISTINCT
  asset['id'] AS asset_id,                            -- Samsara's asset id; joins assets.id
  asset['name'] AS asset_name,                        -- its name
  asset['type'] AS asset_type,                        -- type of the asset, such as vehicle or trailer
  asset['vin'] AS asset_vin,                          -- its VIN
  driverId AS driver_id,                              -- Samsara's driver id
  samsara_time(tripStartTime) AS tripStartTime,       -- when the trip began
  samsara_time(createdAtTime) AS createdAtTime,       -- when it was made in Samsara
  samsara_time(updatedAtTime) AS updatedAtTime        -- when it was last changed
FROM raw.speeding_intervals
