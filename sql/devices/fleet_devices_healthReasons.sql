/*---
description = "One row per device and reason for its state of health, as of the last snapshot. Devices without reasons have no row."
---*/
SELECT DISTINCT
  asset_id,                                           -- vehicle, trailer or equipment that carries the device
  asset_name,                                         -- its name
  reason['healthReasonCode'] AS healthReasonCode,     -- the reason
  samsara_time(reason['startTime']) AS startTime,     -- since when
  serial                                              -- serial of the device
FROM (
  SELECT asset['id'] AS asset_id, asset['name'] AS asset_name, serial, unnest(health['healthReasons']) AS reason
  FROM raw.fleet_devices
)
