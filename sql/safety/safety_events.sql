/*---
description = "Safety events as they are now, one row per event."
partition_by = "startTime"
cluster_by = ["asset_id"]
unique_key = ["id"]
---*/
SELECT DISTINCT
  id,                                                 -- Samsara's id of the event
  samsara_time(startMs) AS startTime,                 -- when it began
  samsara_time(endMs) AS endTime,                     -- when it ended
  samsara_time(createdAtTime) AS createdAtTime,       -- when it was made in Samsara
  samsara_time(updatedAtTime) AS updatedAtTime,       -- when it was last changed
  updatedByUserId,                                    -- who changed it; joins fleet_users.id
  eventState,                                         -- needsReview, reviewed, needsCoaching, coached, dismissed and others
  assignedCoach,                                      -- the coach, a user; joins fleet_users.id
  maxAccelerationGForce,                              -- greatest acceleration, in g
  inboxEventUrl,                                      -- page of the event
  incidentReportUrl,                                  -- page of the report
  samsara_time(tripStartTime) AS tripStartTime,       -- when the trip began in which it happened
  samsara_time(tripEndTime) AS tripEndTime,           -- when that trip ended
  asset['id'] AS asset_id,                            -- Samsara's asset id; joins assets.id
  asset['name'] AS asset_name,                        -- its name
  asset['type'] AS asset_type,                        -- type of the asset, such as vehicle or trailer
  asset['vin'] AS asset_vin,                          -- its VIN
  to_json(asset['externalIds']) AS asset_externalIds, -- all external ids of the asset, as JSON text
  asset['tags'] AS asset_tags,                        -- tags of the asset, as JSON text
  asset['attributes'] AS asset_attributes,            -- attributes of the asset, as JSON text
  driver['id'] AS driver_id,                          -- Samsara's driver id
  driver['name'] AS driver_name,                      -- full name
  to_json(driver['externalIds']) AS driver_externalIds, -- all external ids of the driver, as JSON text
  driver['tags'] AS driver_tags,                      -- tags of the driver, as JSON text
  driver['attributes'] AS driver_attributes,          -- attributes of the driver, as JSON text
  location['latitude'] AS latitude,                   -- latitude in degrees
  location['longitude'] AS longitude,                 -- longitude in degrees
  location['headingDegrees'] AS headingDegrees,       -- heading in degrees
  location['accuracyMeters'] AS accuracyMeters,       -- radius within which it was, in meters
  location['address']['street'] AS address_street,    -- address: street
  location['address']['streetNumber'] AS address_streetNumber, -- address: number
  location['address']['postalCode'] AS address_postalCode, -- address: postal code
  location['address']['city'] AS address_city,        -- address: city
  location['address']['neighborhood'] AS address_neighborhood, -- address: part of the city
  location['address']['state'] AS address_state,      -- address: state
  location['address']['country'] AS address_country,  -- address: country
  location['address']['pointOfInterest'] AS address_pointOfInterest, -- address: place that is known by a name
  location['geofence']['id'] AS geofence_id,          -- the address whose geofence it was in; joins addresses.id
  to_json(location['geofence']['externalIds']) AS geofence_externalIds, -- all external ids of that, as JSON text
  speedingMetadata['maxSpeedKilometersPerHour'] AS speedingMetadata_maxSpeedKilometersPerHour, -- greatest speed, in km/h
  speedingMetadata['postedSpeedLimitKilometersPerHour'] AS speedingMetadata_postedSpeedLimitKilometersPerHour, -- speed limit, in km/h
  dismissalReason['code'] AS dismissalReason_code,    -- why it was dismissed: incorrect, minorEvent or other
  dismissalReason['comment'] AS dismissalReason_comment, -- in words
  detectedStreams                                     -- camera streams on which it was seen, as JSON text; their addresses expire
FROM raw.safety_events
