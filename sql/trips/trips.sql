/*---
description = "Trips of assets of all types, one row per trip."
partition_by = "tripStartTime"
cluster_by = ["asset_id"]
unique_key = ["asset_id", "tripStartTime"]
---*/
SELECT DISTINCT
  asset['id'] AS asset_id,                            -- Samsara's asset id; joins assets.id
  asset['name'] AS asset_name,                        -- its name
  asset['type'] AS asset_type,                        -- type of the asset, such as vehicle or trailer
  asset['vin'] AS asset_vin,                          -- its VIN
  samsara_time(tripStartTime) AS tripStartTime,       -- when the trip began
  samsara_time(tripEndTime) AS tripEndTime,           -- when it ended; empty while it lasts
  completionStatus,                                   -- inProgress or completed
  startLocation['latitude'] AS startLocation_latitude, -- degrees north
  startLocation['longitude'] AS startLocation_longitude, -- degrees east
  startLocation['headingDegrees'] AS startLocation_headingDegrees, -- course over ground, degrees
  startLocation['accuracyMeters'] AS startLocation_accuracyMeters, -- accuracy of the position, meters
  startLocation['address']['street'] AS startLocation_address_street, -- street
  startLocation['address']['streetNumber'] AS startLocation_address_streetNumber, -- house number
  startLocation['address']['postalCode'] AS startLocation_address_postalCode, -- postal code
  startLocation['address']['city'] AS startLocation_address_city, -- city
  startLocation['address']['neighborhood'] AS startLocation_address_neighborhood, -- part of the city
  startLocation['address']['state'] AS startLocation_address_state, -- state
  startLocation['address']['country'] AS startLocation_address_country, -- country
  startLocation['address']['pointOfInterest'] AS startLocation_address_pointOfInterest, -- what is there
  startLocation['geofence']['id'] AS startLocation_geofence_id, -- address of the organisation at this place
  to_json(startLocation['geofence']['externalIds']) AS startLocation_geofence_externalIds, -- all external ids of that address, as JSON text
  endLocation['latitude'] AS endLocation_latitude,    -- degrees north
  endLocation['longitude'] AS endLocation_longitude,  -- degrees east
  endLocation['headingDegrees'] AS endLocation_headingDegrees, -- course over ground, degrees
  endLocation['accuracyMeters'] AS endLocation_accuracyMeters, -- accuracy of the position, meters
  endLocation['address']['street'] AS endLocation_address_street, -- street
  endLocation['address']['streetNumber'] AS endLocation_address_streetNumber, -- house number
  endLocation['address']['postalCode'] AS endLocation_address_postalCode, -- postal code
  endLocation['address']['city'] AS endLocation_address_city, -- city
  endLocation['address']['neighborhood'] AS endLocation_address_neighborhood, -- part of the city
  endLocation['address']['state'] AS endLocation_address_state, -- state
  endLocation['address']['country'] AS endLocation_address_country, -- country
  endLocation['address']['pointOfInterest'] AS endLocation_address_pointOfInterest, -- what is there
  endLocation['geofence']['id'] AS endLocation_geofence_id, -- address of the organisation at this place
  to_json(endLocation['geofence']['externalIds']) AS endLocation_geofence_externalIds, -- all external ids of that address, as JSON text
  samsara_time(createdAtTime) AS createdAtTime,       -- when the trip was made in Samsara
  samsara_time(updatedAtTime) AS updatedAtTime        -- when it was last changed
FROM raw.trips
