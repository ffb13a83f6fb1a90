/*---
description = "Accessories that are connected to gateways, one row per accessory, as of the last snapshot."
cluster_by = ["gateway_serial"]
---*/
SELECT DISTINCT
  gateway_serial,                                     -- serial of the gateway; joins fleet_gateways.serial
  item['serial'] AS serial,                           -- serial number of the accessory
  item['model'] AS model                              -- its model
FROM (
  SELECT serial AS gateway_serial, unnest(accessoryDevices) AS item
  FROM raw.fleet_gateways
)
