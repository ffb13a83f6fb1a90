/*---
description = "Inspections of vehicles and trailers (DVIRs), one row per inspection, on the day of its start, or else of its end."
partition_by = "inspectionTime"
cluster_by = ["vehicle_id"]
unique_key = ["id"]
---*/
SELECT DISTINCT
  id,                                                 -- Samsara's id of the inspection
  type,                                               -- preTrip, postTrip, mechanic or unspecified
  -- The field that decides the day of the inspection.
  coalesce(samsara_time(startTime), samsara_time(endTime)) AS inspectionTime, -- when it began, or else when it ended
  samsara_time(startTime) AS startTime,               -- when it began
  samsara_time(endTime) AS endTime,                   -- when it ended
  safetyStatus,                                       -- safe, unsafe or resolved
  licensePlate,                                       -- licence plate of the vehicle
  location,                                           -- where it was made, free text
  odometerMeters,                                     -- odometer of the vehicle, meters
  mechanicNotes,                                      -- what the mechanic wrote
  trailerName,                                        -- name of the trailer, as the driver gave it
  trailer['id'] AS trailer_id,                        -- Samsara's trailer id; joins fleet_trailers.trailer_id
  trailer['name'] AS trailer_name,                    -- its name
  vehicle['id'] AS vehicle_id,                        -- Samsara's vehicle id
  vehicle['name'] AS vehicle_name,                    -- its name
  authorSignature['signatoryUser']['id'] AS authorSignature_signatoryUser_id, -- who made the inspection
  authorSignature['signatoryUser']['name'] AS authorSignature_signatoryUser_name, -- full name
  samsara_time(authorSignature['signedAtTime']) AS authorSignature_signedAtTime, -- when it was signed
  authorSignature['type'] AS authorSignature_type, -- driver or mechanic
  secondSignature['signatoryUser']['id'] AS secondSignature_signatoryUser_id, -- who signed second
  secondSignature['signatoryUser']['name'] AS secondSignature_signatoryUser_name, -- full name
  samsara_time(secondSignature['signedAtTime']) AS secondSignature_signedAtTime, -- when it was signed
  secondSignature['type'] AS secondSignature_type, -- driver or mechanic
  thirdSignature['signatoryUser']['id'] AS thirdSignature_signatoryUser_id, -- who signed third
  thirdSignature['signatoryUser']['name'] AS thirdSignature_signatoryUser_name, -- full name
  samsara_time(thirdSignature['signedAtTime']) AS thirdSignature_signedAtTime, -- when it was signed
  thirdSignature['type'] AS thirdSignature_type, -- driver or mechanic
  to_json(vehicle['ExternalIds']) AS vehicle_externalIds -- all external ids of the vehicle, as JSON text
FROM raw.fleet_dvirs
