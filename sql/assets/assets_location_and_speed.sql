/*---
description = "Positions and speeds of assets, one row per fix."
partition_by = "happenedAtTime"
cluster_by = ["asset_id"]
unique_key = ["asset_id", "happenedAtTime"]
---*/
SELECT DISTINCT
  asset['id'] AS asset_id,                            -- Samsara's asset id; joins assets.id
  to_json(asset['externalIds']) AS asset_externalIds, -- all external ids of the asset, as JSON text
  samsara_time(happenedAtTime) AS happenedAtTime,     -- when the fix was taken
  location['latitude'] AS latitude,                   -- degrees north
  location['longitude'] AS longitude,                 -- degrees east
  location['headingDegrees'] AS headingDegrees,       -- course over ground, degrees
  location['accuracyMeters'] AS accuracyMeters,       -- accuracy of the position, meters
  location['address']['street'] AS address_street,    -- street
  location['address']['streetNumber'] AS address_streetNumber, -- house number
  location['address']['postalCode'] AS address_postalCode, -- postal code
  location['address']['city'] AS address_city,        -- city
  location['address']['neighborhood'] AS address_neighborhood, -- part of the city
  location['address']['state'] AS address_state,      -- state
  location['address']['country'] AS address_country,  -- country
  location['address']['pointOfInterest'] AS address_pointOfInterest, -- what is there
  location['geofence']['id'] AS geofence_id,          -- address of the organisation at this place
  to_json(location['geofence']['externalIds']) AS geofence_externalIds, -- all external ids of that address, as JSON text
  speed['gpsSpeedMetersPerSecond'] AS gpsSpeedMetersPerSecond, -- speed by GPS, meters per second
  speed['ecuSpeedMetersPerSecond'] AS ecuSpeedMetersPerSecond -- speed by the vehicle, meters per second
FROM raw.assets_location_and_speed
