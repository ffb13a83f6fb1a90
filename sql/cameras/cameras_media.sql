/*---
description = "Pictures and videos of cameras, one row per file."
partition_by = "startTime"
cluster_by = ["vehicle_id"]
---*/
SELECT DISTINCT
  vehicleId AS vehicle_id,                            -- Samsara's vehicle id
  samsara_time(startTime) AS startTime,               -- when the recording began
  samsara_time(endTime) AS endTime,                   -- when it ended; of a picture, when it was taken
  input,                                              -- camera: dashcamRoadFacing, dashcamDriverFacing or an input of a camera connector
  cameraRole,                                         -- where the camera looks
  auxCamSerial,                                       -- serial number of the camera, where it is one of several that are connected
  mediaType,                                          -- image, videoHighRes, videoLowRes or hyperlapse
  triggerReason,                                      -- why it was recorded, such as safetyEvent, tripStartStill or videoRetrieval
  samsara_time(availableAtTime) AS availableAtTime,   -- when the file was available
  urlInfo['url'] AS url,                              -- address of the file at the time of the download; it expires
  samsara_time(urlInfo['urlExpiryTime']) AS urlExpiryTime -- when the address expires
FROM raw.cameras_media
