/*---
description = "Health of each device that reports it, as of the last snapshot. An asset may carry several devices."
unique_key = ["serial"]
---*/
SELECT DISTINCT
  asset['id'] AS asset_id,                            -- vehicle, trailer or equipment that carries the device
  asset['name'] AS asset_name,                        -- its name
  health['healthStatus'] AS health_healthStatus,      -- overall state: healthy, needsAttention …
  health['primaryHealthReason'] AS health_primaryHealthReason, -- main reason of that state
  samsara_time(health['primaryHealthReasonStartTime']) AS health_primaryHealthReasonStartTime, -- since when
  health['recommendedAction'] AS health_recommendedAction, -- what to do
  samsara_time(health['healthDetails']['cameraDetails']['gatewayLastConnectedTime']) AS health_healthDetails_cameraDetails_gatewayLastConnectedTime, -- camera: when its gateway was last connected
  health['healthDetails']['cameraDetails']['lastFiftyHoursUptimePercentage'] AS health_healthDetails_cameraDetails_lastFiftyHoursUptimePercentage, -- camera: percent of the last fifty hours of trips that were recorded
  health['healthDetails']['cameraDetails']['vehicleGatewaySerial'] AS health_healthDetails_cameraDetails_vehicleGatewaySerial, -- camera: serial of its gateway
  samsara_time(health['healthDetails']['cameraConnectorDetails']['gatewayLastConnectedTime']) AS health_healthDetails_cameraConnectorDetails_gatewayLastConnectedTime, -- camera connector: when its gateway was last connected
  health['healthDetails']['cameraConnectorDetails']['lastFiftyHoursUptimePercentage'] AS health_healthDetails_cameraConnectorDetails_lastFiftyHoursUptimePercentage, -- camera connector: percent of the last fifty hours of trips that were recorded
  health['healthDetails']['cameraConnectorDetails']['vehicleGatewaySerial'] AS health_healthDetails_cameraConnectorDetails_vehicleGatewaySerial, -- camera connector: serial of its gateway
  samsara_time(health['healthDetails']['gatewayDetails']['lastCheckInTime']) AS health_healthDetails_gatewayDetails_lastCheckInTime, -- gateway: last check-in
  health['healthDetails']['gatewayDetails']['gatewayBatteryState'] AS health_healthDetails_gatewayDetails_gatewayBatteryState, -- gateway: state of its battery
  health['healthDetails']['gatewayDetails']['gatewayBatteryTemp'] AS health_healthDetails_gatewayDetails_gatewayBatteryTemp, -- gateway: temperature of its battery, degrees Celsius
  health['healthDetails']['gatewayDetails']['gatewayBatteryVolts'] AS health_healthDetails_gatewayDetails_gatewayBatteryVolts, -- gateway: voltage of its battery
  health['healthDetails']['gatewayDetails']['vehicleBatteryVolts'] AS health_healthDetails_gatewayDetails_vehicleBatteryVolts, -- gateway: voltage of the vehicle's battery
  health['healthDetails']['gatewayDetails']['cellConnectivity']['operator'] AS health_healthDetails_gatewayDetails_cellConnectivity_operator, -- gateway: mobile network
  health['healthDetails']['gatewayDetails']['cellConnectivity']['signalBar'] AS health_healthDetails_gatewayDetails_cellConnectivity_signalBar, -- gateway: signal strength in quarters
  samsara_time(health['healthDetails']['bleAssetTagDetails']['lastCheckInTime']) AS health_healthDetails_bleAssetTagDetails_lastCheckInTime, -- Bluetooth tag: last check-in
  health['healthDetails']['bleAssetTagDetails']['batteryState'] AS health_healthDetails_bleAssetTagDetails_batteryState, -- Bluetooth tag: state of its battery
  serial                                              -- serial of the device
FROM raw.fleet_devices
WHERE health IS NOT NULL
