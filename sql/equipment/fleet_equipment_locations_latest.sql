/*---
description = "Last known positions of equipment, one row per piece of equipment, as of the last snapshot."
unique_key = ["equipment_id"]
---*/
SELECT DISTINCT
  id AS equipment_id,                                 -- Samsara's equipment id
  name AS equipment_name,                             -- its name
  samsara_time(location['time']) AS time,             -- when the fix was taken
  location['latitude'] AS latitude,                   -- degrees north
  location['longitude'] AS longitude,                 -- degrees east
  location['heading'] AS heading,                     -- course over ground, degrees
  location['speed'] AS speed                          -- speed, miles per hour
FROM raw.fleet_equipment_locations_latest
