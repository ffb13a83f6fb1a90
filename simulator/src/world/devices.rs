//! Devices: the gateways of vehicles, trailers and equipment, cameras and tags; and their health.

use super::World;
use super::draw::Draw;
use super::parts::{Named, TagRef};
use super::vehicles::{LETTERS, Vehicle};
use super::vocabulary::PLACES;
use crate::time::{DAY, HOUR, Millis, day_of, day_start};

const CAMERAS: &[&str] = &["CM31", "CM32", "CM33", "CM34"];
const NETWORKS: &[&str] = &["Réseau Fictif", "Example Mobile"];
const SIGNALS: &[&str] = &["1/4", "2/4", "3/4", "4/4", "unknown"];
const BATTERIES: &[&str] = &["ok", "ok", "low", "critical", "unknown"];

/// So much before the last midnight of the world's clock.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Ago(Millis);

impl Ago {
    fn draw(draw: &mut Draw, most: Millis) -> Self {
        Self(draw.between(1, most))
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Device {
    pub(crate) serial: String,
    pub(crate) model: &'static str,
    /// What it is installed on.
    pub(crate) asset: Named,
    pub(crate) tags: Vec<TagRef>,
    pub(crate) last_connected: Option<Ago>,
    pub(crate) location: Option<Spot>,
    pub(crate) health: Option<Health>,
}

/// Where a device was last.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Spot {
    /// One of the organisation's addresses.
    pub(crate) address: Option<u64>,
    pub(crate) latitude: f64,
    pub(crate) longitude: f64,
}

/// How a device is.
#[derive(Debug, Clone)]
pub(crate) struct Health {
    pub(crate) status: &'static str,
    pub(crate) action: &'static str,
    /// Why, and since when; the first is the main reason. Some have none.
    pub(crate) reasons: Option<Vec<(&'static str, Ago)>>,
    pub(crate) details: Option<Details>,
}

/// What only one kind of device tells.
#[derive(Debug, Clone)]
pub(crate) enum Details {
    Gateway(GatewayHealth),
    Camera(CameraHealth),
    CameraConnector(CameraHealth),
    AssetTag {
        check_in: Ago,
        battery: &'static str,
    },
}

#[derive(Debug, Clone)]
pub(crate) struct GatewayHealth {
    pub(crate) check_in: Ago,
    pub(crate) battery_state: Option<&'static str>,
    pub(crate) battery_temperature: Option<f64>,
    pub(crate) battery_volts: Option<f64>,
    pub(crate) vehicle_volts: Option<f64>,
    /// Mobile network and signal.
    pub(crate) cell: Option<(&'static str, &'static str)>,
}

#[derive(Debug, Clone)]
pub(crate) struct CameraHealth {
    pub(crate) gateway_connected: Option<Ago>,
    /// Percent.
    pub(crate) uptime: f64,
    pub(crate) gateway: Option<String>,
}

/// Status, reason, and what to do about it.
type Trouble = (&'static str, &'static str, &'static str);

const GATEWAY_TROUBLES: &[Trouble] = &[
    (
        "needsAttention",
        "missingVin",
        "recommendedActionVgMissingVin",
    ),
    (
        "needsAttention",
        "noGpsSignal",
        "recommendedActionAgNoGpsSignal",
    ),
    (
        "needsAttention",
        "vgUnplugged",
        "recommendedActionVgVgUnplugged",
    ),
    (
        "needsReplacement",
        "needsReplacement",
        "recommendedActionVgNeedsReplacement",
    ),
    (
        "dataPending",
        "newlyInstalledDevice",
        "recommendedActionGatewayNewlyInstalledDevice",
    ),
];
const CAMERA_TROUBLES: &[Trouble] = &[
    (
        "needsAttention",
        "cameraMisaligned",
        "recommendedActionCmCameraMisaligned",
    ),
    (
        "needsAttention",
        "irregularRecording",
        "recommendedActionCmIrregularRecording",
    ),
    (
        "needsAttention",
        "inwardCameraObstruction",
        "recommendedActionCmInwardCameraObstruction",
    ),
];
const TAG_TROUBLES: &[Trouble] = &[(
    "needsAttention",
    "lowDeviceBattery",
    "recommendedActionBLELowBattery",
)];

impl Health {
    fn draw(draw: &mut Draw, troubles: &[Trouble], details: Option<Details>) -> Self {
        let trouble = draw.pick(troubles).filter(|_| draw.chance(0.5));
        let (status, reason, action) =
            trouble
                .copied()
                .unwrap_or(("healthy", "healthy", "recommendedActionHealthy"));
        let mut reasons = vec![(reason, Ago::draw(draw, 60 * DAY))];
        let other = draw
            .pick(troubles)
            .map(|(_, reason, _)| *reason)
            .filter(|other| *other != reason);
        if trouble.is_some() {
            reasons.extend(other.map(|other| (other, Ago::draw(draw, 9 * DAY))));
        }
        Self {
            status,
            action,
            reasons: draw.chance(0.9).then_some(reasons),
            details,
        }
    }
}

impl Device {
    fn build(
        draw: &mut Draw,
        serial: String,
        model: &'static str,
        asset: Named,
        tags: &[TagRef],
    ) -> Self {
        let index = draw.below(PLACES.len() as u64);
        let (_, _, latitude, longitude) = PLACES.get(index as usize).copied().unwrap_or_default();
        let spot = Spot {
            address: draw.chance(0.4).then(|| super::place_id(index)),
            latitude: draw.decimal(latitude - 0.1, latitude + 0.1, 6),
            longitude: draw.decimal(longitude - 0.1, longitude + 0.1, 6),
        };
        // One device in ten has been silent for long.
        let most = if draw.chance(0.1) {
            230 * DAY
        } else {
            12 * HOUR
        };
        Self {
            serial,
            model,
            asset,
            tags: tags.to_vec(),
            last_connected: draw.chance(0.95).then(|| Ago::draw(draw, most)),
            location: draw.chance(0.8).then_some(spot),
            health: None,
        }
    }

    fn gateway(
        draw: &mut Draw,
        serial: String,
        model: &'static str,
        asset: Named,
        tags: &[TagRef],
    ) -> Self {
        let details = GatewayHealth {
            check_in: Ago::draw(draw, 12 * HOUR),
            battery_state: draw.chance(0.5).then(|| draw.word(BATTERIES)),
            battery_temperature: draw.chance(0.5).then(|| draw.decimal(-5.0, 45.0, 1)),
            battery_volts: draw.chance(0.5).then(|| draw.decimal(3.0, 4.0, 2)),
            vehicle_volts: draw.chance(0.7).then(|| draw.decimal(11.0, 28.0, 1)),
            cell: draw
                .chance(0.8)
                .then(|| (draw.word(NETWORKS), draw.word(SIGNALS))),
        };
        let details = draw.chance(0.9).then_some(Details::Gateway(details));
        let health = draw
            .chance(0.9)
            .then(|| Health::draw(draw, GATEWAY_TROUBLES, details));
        Self {
            health,
            ..Self::build(draw, serial, model, asset, tags)
        }
    }

    fn camera(draw: &mut Draw, serial: String, vehicle: &Vehicle) -> Self {
        let connector = vehicle.index.is_multiple_of(5);
        let details = CameraHealth {
            gateway_connected: draw.chance(0.9).then(|| Ago::draw(draw, DAY)),
            uptime: if draw.chance(0.4) {
                100.0
            } else {
                draw.decimal(40.0, 100.0, 1)
            },
            gateway: vehicle
                .gateway
                .as_ref()
                .map(|gateway| gateway.dashed_serial()),
        };
        let details = if connector {
            Details::CameraConnector(details)
        } else {
            Details::Camera(details)
        };
        let health = Health::draw(draw, CAMERA_TROUBLES, Some(details));
        let model = if connector {
            "CC11"
        } else {
            draw.word(CAMERAS)
        };
        let tags = vehicle.tags.as_deref().unwrap_or_default();
        Self {
            health: Some(health),
            ..Self::build(draw, serial, model, vehicle.named(), tags)
        }
    }

    fn asset_tag(draw: &mut Draw, asset: Named, tags: &[TagRef]) -> Self {
        let details = Details::AssetTag {
            check_in: Ago::draw(draw, DAY),
            battery: draw.word(BATTERIES),
        };
        let health = Health::draw(draw, TAG_TROUBLES, Some(details));
        let serial = format!("AT11-{}", draw.code(LETTERS, 6));
        Self {
            health: Some(health),
            ..Self::build(draw, serial, "AT11", asset, tags)
        }
    }

    /// All devices of a fleet. A vehicle with a camera has two.
    pub(crate) fn all(
        seed: u64,
        vehicles: &[Vehicle],
        trailers: &[super::Trailer],
        equipment: &[super::Equipment],
    ) -> Vec<Self> {
        let mut devices = Vec::new();
        for vehicle in vehicles {
            let mut draw = Draw::new(seed, "vehicle devices", &[vehicle.index]);
            let tags = vehicle.tags.as_deref().unwrap_or_default();
            devices.extend(vehicle.gateway.as_ref().map(|gateway| {
                Self::gateway(
                    &mut draw,
                    gateway.dashed_serial(),
                    gateway.model,
                    vehicle.named(),
                    tags,
                )
            }));
            devices.extend(
                vehicle
                    .camera_serial
                    .clone()
                    .map(|serial| Self::camera(&mut draw, serial, vehicle)),
            );
        }
        for trailer in trailers {
            let mut draw = Draw::new(seed, "trailer device", &[trailer.index]);
            devices.push(match &trailer.gateway {
                Some(gateway) => Self::gateway(
                    &mut draw,
                    gateway.dashed_serial(),
                    gateway.model,
                    trailer.named(),
                    &trailer.tags,
                ),
                None => Self::asset_tag(&mut draw, trailer.named(), &trailer.tags),
            });
        }
        for machine in equipment {
            let mut draw = Draw::new(seed, "equipment device", &[machine.id]);
            let tags = machine.tags.as_deref().unwrap_or_default();
            devices.extend(machine.gateway.as_ref().map(|gateway| {
                Self::gateway(
                    &mut draw,
                    gateway.dashed_serial(),
                    gateway.model,
                    machine.named(),
                    tags,
                )
            }));
        }
        devices
    }
}

impl World {
    /// The instant this long before the last midnight.
    pub(crate) fn instant(&self, ago: Ago) -> Millis {
        day_start(day_of(self.clock.now())) - ago.0
    }
}
