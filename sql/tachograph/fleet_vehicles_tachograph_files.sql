/*---
description = "Files read from the tachographs of vehicles, one row per file."
partition_by = "createdAtTime"
cluster_by = ["vehicle_id"]
unique_key = ["id"]
---*/
SELECT DISTINCT
  vehicle_id,                                         -- Samsara's vehicle id
  vehicle_name,                                       -- its name
  vehicle_externalIds,                                -- all external ids of the vehicle, as JSON text
  file['id'] AS id,                                   -- Samsara's id of the file
  samsara_time(file['createdAtTime']) AS createdAtTime, -- when it was made
  file['vehicleIdentificationNumber'] AS vehicleIdentificationNumber, -- VIN that the file names
  file['url'] AS url                                  -- where it can be had; the address expires after an hour
FROM (
  SELECT vehicle['id'] AS vehicle_id, vehicle['name'] AS vehicle_name, to_json(vehicle['ExternalIds']) AS vehicle_externalIds, unnest(files) AS file
  FROM raw.fleet_vehicles_tachograph_files
)
WHERE file IS NOT NULL
