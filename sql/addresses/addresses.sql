/*---
description = "One row per address (geofence) of the organisation, as of the last snapshot."
unique_key = ["id"]
---*/
SELECT DISTINCT
  id,                                                 -- Samsara's address id
  name,                                               -- its name
  formattedAddress,                                   -- postal address, free text
  latitude,                                           -- degrees north of the centre
  longitude,                                          -- degrees east of the centre
  geofence['circle']['latitude'] AS geofence_circle_latitude, -- degrees north of the circle, if the fence is one
  geofence['circle']['longitude'] AS geofence_circle_longitude, -- degrees east of the circle
  geofence['circle']['radiusMeters'] AS geofence_circle_radiusMeters, -- radius of the circle in metres
  geofence['polygon']['vertices'] AS geofence_polygon_vertices, -- corners of the polygon, if the fence is one, as JSON text
  geofence['settings']['showAddresses'] AS geofence_settings_showAddresses, -- whether reports show street addresses instead of the fence's name
  addressTypes,                                       -- what the place is for, as JSON text
  contacts,                                           -- contacts at the address, as JSON text
  notes,                                              -- free text
  tags,                                               -- tags of the address, as JSON text
  to_json(externalIds) AS externalIds,                -- all external ids, as JSON text
  samsara_time(createdAtTime) AS createdAtTime        -- when the address was created
FROM raw.addresses
