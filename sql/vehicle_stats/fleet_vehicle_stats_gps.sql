/*---
description = "GPS fixes, one row per fix."
partition_by = "time"
cluster_by = ["vehicle_id"]
unique_key = ["vehicle_id", "time"]
---*/
SELECT DISTINCT
  vehicle_id,                                         -- Samsara's vehicle id
  parc_id,                                            -- the fleet's own number for the vehicle
  samsara_time(fix['time']) AS time,                  -- when the fix was taken
  fix['latitude'] AS latitude,                        -- degrees north
  fix['longitude'] AS longitude,                      -- degrees east
  fix['headingDegrees'] AS headingDegrees,            -- course over ground; 0 also when standing
  fix['speedMilesPerHour'] AS speedMilesPerHour,      -- speed in miles per hour
  fix['isEcuSpeed'] AS isEcuSpeed,                    -- whether the speed comes from the vehicle
  fix['reverseGeo']['formattedLocation'] AS reverseGeo_formattedLocation, -- place, free text
  fix['address']['id'] AS address_id,                 -- address of the organisation at this place
  fix['address']['name'] AS address_name              -- its name
FROM (
  SELECT id AS vehicle_id, name AS parc_id, unnest(gps) AS fix
  FROM raw.fleet_vehicle_stats_gps
)
