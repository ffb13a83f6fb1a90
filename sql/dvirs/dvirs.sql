/*---
description = "Driver vehicle inspection reports as they are now, one row per report."
partition_by = "dvirSubmissionTime"
cluster_by = ["vehicle_id"]
unique_key = ["id"]
---*/
SELECT DISTINCT
  id,                                                 -- Samsara's id of the report
  type,                                               -- preTrip, postTrip, mechanic or unspecified
  samsara_time(dvirSubmissionBeginTime) AS dvirSubmissionBeginTime, -- when the inspection began
  samsara_time(dvirSubmissionTime) AS dvirSubmissionTime, -- when the report was submitted
  samsara_time(updatedAtTime) AS updatedAtTime,       -- when it was last changed
  safetyStatus,                                       -- unknown, safe, unsafe or resolved
  odometerMeters,                                     -- odometer of the vehicle, in meters
  formattedAddress,                                   -- where it was submitted
  mechanicNotes,                                      -- what the mechanic wrote
  vehicle['id'] AS vehicle_id,                        -- Samsara's vehicle id
  to_json(vehicle['externalIds']) AS vehicle_externalIds, -- all external ids of the vehicle, as JSON text
  trailer['id'] AS trailer_id,                        -- Samsara's trailer id
  to_json(trailer['externalIds']) AS trailer_externalIds, -- all external ids of the trailer, as JSON text
  authorSignature['signatoryUser']['id'] AS authorSignature_signatoryUser_id, -- who signed as author
  samsara_time(authorSignature['signedAtTime']) AS authorSignature_signedAtTime, -- when
  authorSignature['type'] AS authorSignature_type,    -- driver or mechanic
  secondSignature['signatoryUser']['id'] AS secondSignature_signatoryUser_id, -- who signed second
  samsara_time(secondSignature['signedAtTime']) AS secondSignature_signedAtTime, -- when
  secondSignature['type'] AS secondSignature_type,    -- driver or mechanic
  thirdSignature['signatoryUser']['id'] AS thirdSignature_signatoryUser_id, -- who signed third
  samsara_time(thirdSignature['signedAtTime']) AS thirdSignature_signedAtTime, -- when
  thirdSignature['type'] AS thirdSignature_type,      -- driver or mechanic
  to_json(defectIds) AS defectIds,                    -- the defects that were found, as JSON text; see dvirs_defects
  walkaroundPhotos                                    -- photos with the times at which they were taken, as JSON text; their addresses expire
FROM raw.dvirs
