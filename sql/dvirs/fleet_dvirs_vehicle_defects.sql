/*---
description = "Defects of vehicles that inspections found, one row per inspection and defect."
partition_by = "inspectionTime"
cluster_by = ["dvir_id"]
unique_key = ["dvir_id", "id"]
---*/
SELECT DISTINCT
  dvir_id,                                            -- the inspection; joins fleet_dvirs.id
  inspectionTime,                                     -- when it began, or else when it ended; joins fleet_dvirs.inspectionTime
  defect['id'] AS id,                                 -- Samsara's defect id; joins fleet_defects.id
  samsara_time(defect['createdAtTime']) AS createdAtTime, -- when it was reported
  defect['defectType'] AS defectType,                 -- what is defective, such as Air Compressor
  defect['comment'] AS comment,                       -- what the driver wrote
  defect['isResolved'] AS isResolved,                 -- whether it is resolved
  samsara_time(defect['resolvedAtTime']) AS resolvedAtTime, -- when it was resolved
  defect['resolvedBy']['id'] AS resolvedBy_id,        -- who resolved it
  defect['resolvedBy']['name'] AS resolvedBy_name,    -- full name
  defect['resolvedBy']['type'] AS resolvedBy_type,    -- driver or mechanic
  defect['mechanicNotes'] AS mechanicNotes,           -- what the mechanic wrote
  samsara_time(defect['mechanicNotesUpdatedAtTime']) AS mechanicNotesUpdatedAtTime, -- when that was last changed
  defect['trailer']['id'] AS trailer_id,              -- Samsara's trailer id
  defect['trailer']['name'] AS trailer_name,          -- its name
  defect['vehicle']['id'] AS vehicle_id,              -- Samsara's vehicle id
  defect['vehicle']['name'] AS vehicle_name,          -- its name
  to_json(defect['vehicle']['ExternalIds']) AS vehicle_externalIds -- all external ids of the vehicle, as JSON text
FROM (
  SELECT
    id AS dvir_id,
    coalesce(samsara_time(startTime), samsara_time(endTime)) AS inspectionTime,
    unnest(vehicleDefects) AS defect
  FROM raw.fleet_dvirs
)
WHERE defect IS NOT NULL
