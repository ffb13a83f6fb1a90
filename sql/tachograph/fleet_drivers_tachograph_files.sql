/*---
description = "Files read from the cards of drivers, one row per file."
partition_by = "createdAtTime"
cluster_by = ["driver_id"]
unique_key = ["id"]
---*/
SELECT DISTINCT
  driver_id,                                          -- Samsara's driver id
  driver_name,                                        -- full name
  file['id'] AS id,                                   -- Samsara's id of the file
  samsara_time(file['createdAtTime']) AS createdAtTime, -- when it was made
  file['cardNumber'] AS cardNumber,                   -- number of the card
  file['url'] AS url                                  -- where it can be had; the address expires after an hour
FROM (
  SELECT driver['id'] AS driver_id, driver['name'] AS driver_name, unnest(files) AS file
  FROM raw.fleet_drivers_tachograph_files
)
WHERE file IS NOT NULL
