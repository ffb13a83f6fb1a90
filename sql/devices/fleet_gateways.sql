/*---
description = "One row per gateway, as of the last snapshot."
unique_key = ["serial"]
---*/
SELECT DISTINCT
  serial,                                             -- serial number of the gateway
  model,                                              -- its model, such as VG34
  asset['id'] AS asset_id,                            -- asset that it is installed in
  to_json(asset['externalIds']) AS asset_externalIds, -- all external ids of the asset, as JSON text
  connectionStatus['healthStatus'] AS connectionStatus_healthStatus, -- health of the connection
  samsara_time(connectionStatus['lastConnected']) AS connectionStatus_lastConnected, -- when it was last connected
  dataUsageLast30Days['cellularDataUsageBytes'] AS dataUsageLast30Days_cellularDataUsageBytes, -- mobile data of the last 30 days, bytes
  dataUsageLast30Days['hotspotUsageBytes'] AS dataUsageLast30Days_hotspotUsageBytes -- its hotspot's part, bytes
FROM raw.fleet_gateways
