/*---
description = "Defects of vehicles and trailers as they are now, one row per defect."
partition_by = "createdAtTime"
cluster_by = ["vehicle_id"]
unique_key = ["id"]
---*/
SELECT DISTINCT
  id,                                                 -- Samsara's id of the defect
  dvirId AS dvir_id,                                  -- the report that found it; joins dvirs.id
  defectTypeId AS defect_type_id,                     -- its type; joins defect_types.id
  samsara_time(createdAtTime) AS createdAtTime,       -- when it was reported
  samsara_time(updatedAtTime) AS updatedAtTime,       -- when it was last changed
  comment,                                            -- what the driver wrote
  defectSafetyStatus,                                 -- whether it is safe to drive with it
  isResolved,                                         -- whether it is resolved
  samsara_time(resolvedAtTime) AS resolvedAtTime,     -- when it was resolved
  resolvedBy['id'] AS resolvedBy_id,                  -- who resolved it
  resolvedBy['name'] AS resolvedBy_name,              -- full name
  resolvedBy['type'] AS resolvedBy_type,              -- driver or mechanic
  mechanicNotes,                                      -- what the mechanic wrote
  vehicle['id'] AS vehicle_id,                        -- Samsara's vehicle id
  to_json(vehicle['externalIds']) AS vehicle_externalIds, -- all external ids of the vehicle, as JSON text
  trailer['id'] AS trailer_id,                        -- Samsara's trailer id
  to_json(trailer['externalIds']) AS trailer_externalIds, -- all external ids of the trailer, as JSON text
  defectPhotos                                        -- photos with the times at which they were taken, as JSON text; their addresses expire
FROM raw.defects
