//! Devices and their health.

use serde_json::{Value, json};

use super::{Record, Wire, tags};
use crate::time::wire_time;
use crate::world::{CameraHealth, Details, Device, GatewayHealth, Health, World, number};

/// What to return of devices besides their identity.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DeviceParts {
    pub(crate) health: bool,
    pub(crate) tags: bool,
}

impl Wire {
    pub(crate) fn device(self, world: &World, device: &Device, parts: DeviceParts) -> Value {
        let health = device
            .health
            .as_ref()
            .filter(|_| parts.health)
            .map(|health| self.health(world, health));
        let location = device.location.map(|spot| {
            let record = Record::new()
                .put("latitude", number(spot.latitude))
                .put("longitude", number(spot.longitude));
            // A number, unlike other ids of addresses.
            self.strange_part(record.put_some("id", spot.address))
                .done()
        });
        let record = Record::new()
            .put("serial", device.serial.as_str())
            .put("model", device.model)
            .put("asset", device.asset.json())
            .put_some(
                "lastConnectedTime",
                device
                    .last_connected
                    .map(|ago| wire_time(world.instant(ago))),
            )
            .put_some("lastKnownLocation", location)
            .put_some("health", health)
            .put_some("tags", tags(Some(&device.tags)).filter(|_| parts.tags));
        self.strange_record(record).done()
    }

    fn health(self, world: &World, health: &Health) -> Value {
        let main = health.reasons.iter().flatten().next();
        let reasons = health.reasons.as_ref().map(|reasons| -> Value {
            reasons
                .iter()
                .map(|(reason, since)| {
                    json!({ "healthReasonCode": reason, "startTime": wire_time(world.instant(*since)) })
                })
                .collect()
        });
        let record = Record::new()
            .put("healthStatus", health.status)
            .put("recommendedAction", health.action)
            .put_some("primaryHealthReason", main.map(|(reason, _)| *reason))
            .put_some(
                "primaryHealthReasonStartTime",
                main.map(|(_, since)| wire_time(world.instant(*since))),
            )
            .put_some("healthReasons", reasons)
            .put_some(
                "healthDetails",
                health
                    .details
                    .as_ref()
                    .map(|details| details_json(world, details)),
            );
        self.strange_part(record).done()
    }
}

fn details_json(world: &World, details: &Details) -> Value {
    match details {
        Details::Gateway(gateway) => json!({ "gatewayDetails": gateway_details(world, gateway) }),
        Details::Camera(camera) => json!({ "cameraDetails": camera_details(world, camera) }),
        Details::CameraConnector(camera) => {
            json!({ "cameraConnectorDetails": camera_details(world, camera) })
        }
        Details::AssetTag { check_in, battery } => json!({ "bleAssetTagDetails": {
            "lastCheckInTime": wire_time(world.instant(*check_in)),
            "batteryState": battery,
        }}),
    }
}

fn gateway_details(world: &World, gateway: &GatewayHealth) -> Value {
    let cell = gateway
        .cell
        .map(|(operator, signal)| json!({ "operator": operator, "signalBar": signal }));
    let record = Record::new()
        .put(
            "lastCheckInTime",
            wire_time(world.instant(gateway.check_in)),
        )
        .put_some("gatewayBatteryState", gateway.battery_state)
        .put_some(
            "gatewayBatteryTemp",
            gateway.battery_temperature.map(number),
        )
        .put_some("gatewayBatteryVolts", gateway.battery_volts.map(number))
        .put_some("vehicleBatteryVolts", gateway.vehicle_volts.map(number))
        .put_some("cellConnectivity", cell);
    record.done()
}

fn camera_details(world: &World, camera: &CameraHealth) -> Value {
    let record = Record::new()
        .put("lastFiftyHoursUptimePercentage", number(camera.uptime))
        .put_some(
            "gatewayLastConnectedTime",
            camera
                .gateway_connected
                .map(|ago| wire_time(world.instant(ago))),
        )
        .put_some("vehicleGatewaySerial", camera.gateway.as_deref());
    record.done()
}
