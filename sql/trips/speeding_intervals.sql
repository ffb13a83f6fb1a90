/*---
description = "Speeding during trips, one row per interval."
partition_by = "tripStartTime"
cluster_by = ["asset_id"]
unique_key = ["asset_id", "tripStartTime", "startTime"]
---*/
SELECT DISTINCT
  asset_id,                                           -- Samsara's asset id; joins assets.id
  samsara_time(tripStartTime) AS tripStartTime,       -- when the trip began; joins speeding_intervals_trips.tripStartTime
  samsara_time(item['startTime']) AS startTime,       -- when the speeding began
  samsara_time(item['endTime']) AS endTime,           -- when it ended
  item['severityLevel'] AS severityLevel,             -- light, moderate, heavy or severe
  item['isDismissed'] AS isDismissed,                 -- whether someone has dismissed it
  item['maxSpeedKilometersPerHour'] AS maxSpeedKilometersPerHour, -- highest speed, kilometers per hour
  item['postedSpeedLimitKilometersPerHour'] AS postedSpeedLimitKilometersPerHour, -- speed limit, kilometers per hour
  item['location']['latitude'] AS latitude,           -- degrees north
  item['location']['longitude'] AS longitude,         -- degrees east
  item['location']['headingDegrees'] AS headingDegrees, -- course over ground, degrees
  item['location']['accuracyMeters'] AS accuracyMeters, -- accuracy of the position, meters
  item['location']['address']['street'] AS address_street, -- street
  item['location']['address']['streetNumber'] AS address_streetNumber, -- house number
  item['location']['address']['postalCode'] AS address_postalCode, -- postal code
  item['location']['address']['city'] AS address_city, -- city
  item['location']['address']['neighborhood'] AS address_neighborhood, -- part of the city
  item['location']['address']['state'] AS address_state, -- state
  item['location']['address']['country'] AS address_country, -- country
  item['location']['address']['pointOfInterest'] AS address_pointOfInterest -- what is there
FROM (
  SELECT asset['id'] AS asset_id, tripStartTime, unnest(intervals) AS item
  FROM raw.speeding_intervals
)
