/*---
description = "GPS fixes of equipment, one row per fix."
partition_by = "time"
cluster_by = ["equipment_id"]
unique_key = ["equipment_id", "time"]
---*/
SELECT DISTINCT
  equipment_id,                                       -- Samsara's equipment id
  equipment_name,                                     -- its name
  samsara_time(fix['time']) AS time,                  -- when the fix was taken
  fix['latitude'] AS latitude,                        -- degrees north
  fix['longitude'] AS longitude,                      -- degrees east
  fix['headingDegrees'] AS headingDegrees,            -- course over ground, degrees
  fix['speedMilesPerHour'] AS speedMilesPerHour,      -- speed, miles per hour
  fix['reverseGeo']['formattedLocation'] AS reverseGeo_formattedLocation, -- place, free text
  fix['address']['id'] AS address_id,                 -- address of the organisation at this place
  fix['address']['name'] AS address_name              -- its name
FROM (
  SELECT id AS equipment_id, name AS equipment_name, unnest(gps) AS fix
  FROM raw.fleet_equipment_stats_gps
)
