/*---
description = "What cameras and sensors have detected, one row per detection."
partition_by = "createdAtTime"
cluster_by = ["asset_id"]
unique_key = ["id"]
---*/
SELECT DISTINCT
  id,                                                 -- Samsara's id of the detection
  samsara_time(createdAtTime) AS createdAtTime,       -- when it was made
  samsara_time(updatedAtTime) AS updatedAtTime,       -- when it was last changed
  triggerDetectionLabel,                              -- what was detected, such as acceleration or crash
  inCabAlertPlayed,                                   -- whether the driver was told by a sound
  asset['id'] AS asset_id,                            -- Samsara's asset id; joins assets.id
  asset['name'] AS asset_name,                        -- its name
  asset['tags'] AS asset_tags,                        -- tags of the asset, as JSON text
  asset['attributes'] AS asset_attributes,            -- attributes of the asset, as JSON text
  driver['id'] AS driver_id,                          -- Samsara's driver id
  driver['name'] AS driver_name,                      -- full name
  to_json(driver['externalIds']) AS driver_externalIds, -- all external ids of the driver, as JSON text
  driver['tags'] AS driver_tags,                      -- tags of the driver, as JSON text
  driver['attributes'] AS driver_attributes           -- attributes of the driver, as JSON text
FROM raw.detections
