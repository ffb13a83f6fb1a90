/*---
description = "Defects of vehicles and trailers, one row per defect."
partition_by = "createdAtTime"
cluster_by = ["vehicle_id"]
unique_key = ["id"]
---*/
SELECT DISTINCT
  id,                                                 -- Samsara's defect id
  samsara_time(createdAtTime) AS createdAtTime,       -- when it was reported
  defectType,                                         -- what is defective, such as Air Compressor
  comment,                                            -- what the driver wrote
  isResolved,                                         -- whether it is resolved
  samsara_time(resolvedAtTime) AS resolvedAtTime,     -- when it was resolved
  resolvedBy['id'] AS resolvedBy_id,                  -- who resolved it
  resolvedBy['name'] AS resolvedBy_name,              -- full name
  resolvedBy['type'] AS resolvedBy_type,              -- driver or mechanic
  mechanicNotes,                                      -- what the mechanic wrote
  samsara_time(mechanicNotesUpdatedAtTime) AS mechanicNotesUpdatedAtTime, -- when that was last changed
  trailer['id'] AS trailer_id,                        -- Samsara's trailer id
  trailer['name'] AS trailer_name,                    -- its name
  vehicle['id'] AS vehicle_id,                        -- Samsara's vehicle id
  vehicle['name'] AS vehicle_name,                    -- its name
  to_json(vehicle['ExternalIds']) AS vehicle_externalIds -- all external ids of the vehicle, as JSON text
FROM raw.fleet_defects
