//! Alert configurations and their incidents.

use serde_json::{Value, json};

use super::World;
use super::draw::Draw;
use super::parts::{Attribute, ExternalIds, TagRef, number};
use super::tags::Tag;
use crate::time::{DAY, HOUR, MINUTE, Millis, SECOND, day_start};

/// What sets an alert off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trigger {
    Speed,
    GeofenceEntry,
    ReeferTemperature,
}

impl Trigger {
    const ALL: [Trigger; 3] = [
        Trigger::Speed,
        Trigger::GeofenceEntry,
        Trigger::ReeferTemperature,
    ];

    fn id(self) -> i64 {
        match self {
            Trigger::Speed => 1000,
            Trigger::GeofenceEntry => 5018,
            Trigger::ReeferTemperature => 1005,
        }
    }

    fn description(self) -> &'static str {
        match self {
            Trigger::Speed => "Vitesse du véhicule",
            Trigger::GeofenceEntry => "Entrée dans une zone",
            Trigger::ReeferTemperature => "Kühltemperatur",
        }
    }

    fn parameters(self, draw: &mut Draw) -> Value {
        match self {
            Trigger::Speed => json!({ "speed": {
                "speedKilometersPerHour": draw.between(70, 130),
                "minDurationMilliseconds": 30_000,
                "operation": "GREATER",
            }}),
            Trigger::GeofenceEntry => {
                json!({ "geofenceEntry": { "location": { "addressIds": [] } } })
            }
            Trigger::ReeferTemperature => json!({ "reeferTemperature": {
                "temperatureCelcius": number(draw.decimal(-20.0, 8.0, 1)),
                "cargoIsFull": draw.chance(0.5),
            }}),
        }
    }
}

/// The condition. Parts that stay JSON in the tables are JSON here.
#[derive(Debug, Clone)]
pub(crate) struct Configuration {
    pub(crate) index: u64,
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) enabled: bool,
    pub(crate) created: Millis,
    pub(crate) modified: Millis,
    pub(crate) external_ids: Option<ExternalIds>,
    pub(crate) scope: Value,
    pub(crate) triggers: Value,
    pub(crate) actions: Value,
    pub(crate) operational: Option<Value>,
    trigger: Trigger,
}

/// An incident of a configuration, as it is at the world's present time.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Incident {
    pub(crate) configuration: String,
    pub(crate) happened: Millis,
    pub(crate) updated: Millis,
    pub(crate) resolved: Option<Millis>,
    pub(crate) url: String,
    pub(crate) conditions: Value,
}

fn tags_json(tags: Option<&[TagRef]>) -> Value {
    tags.unwrap_or_default().iter().map(TagRef::json).collect()
}

/// The scope of a configuration: missing parts are empty or left out.
fn scope(everywhere: bool, watched: &[TagRef], draw: &mut Draw) -> Value {
    let mut scope =
        json!({ "all": everywhere, "assets": [], "drivers": [], "tags": tags_json(Some(watched)) });
    if draw.chance(0.4) {
        let asset = draw.between(281_474_990_000_000, 281_474_990_001_000);
        scope["assets"] = json!([{ "assetId": asset.to_string(), "assetType": draw.word(&["trailer", "vehicle"]) }]);
    }
    if draw.chance(0.3) {
        scope["drivers"] = json!([{ "driverId": draw.between(1, 9_999).to_string() }]);
    }
    if draw.chance(0.5) {
        scope["widgets"] = json!([{ "widgetId": draw.between(1, 999).to_string() }]);
    }
    scope
}

impl Configuration {
    pub(crate) fn build(seed: u64, index: u64, tags: &[Tag], before: Millis) -> Self {
        let mut draw = Draw::new(seed, "alert configuration", &[index]);
        let trigger = Trigger::ALL[index as usize % Trigger::ALL.len()];
        let everywhere = draw.chance(0.4);
        let watched = if everywhere {
            Vec::new()
        } else {
            Tag::some_of(tags, &mut draw)
        };
        let created = (before - draw.between(10 * DAY, 900 * DAY)) / SECOND * SECOND;
        Self {
            index,
            id: draw.uuid(),
            name: format!("{} {}", trigger.description(), index + 1),
            enabled: index % 6 != 5,
            created,
            modified: created + draw.between(0, 9 * DAY),
            external_ids: draw
                .chance(0.6)
                .then(|| ExternalIds::from([("règle.n°".to_owned(), format!("R-{index}"))])),
            scope: scope(
                everywhere,
                &watched,
                &mut Draw::new(seed, "alert scope", &[index]),
            ),
            triggers: json!([{ "triggerTypeId": trigger.id(), "triggerParams": trigger.parameters(&mut draw) }]),
            actions: json!([{
                "actionTypeId": 1,
                "actionParams": { "recipients": [{ "type": "user", "userId": "61", "notificationTypes": ["email"] }] },
            }]),
            operational: draw.chance(0.5).then(|| {
                json!({ "timeRangeType": "activeBetween", "timeRanges": [{
                    "daysOfWeek": ["MONDAY", "SUNDAY"],
                    "startTime": "05:30",
                    "endTime": "21:15",
                    "timezone": "Europe/Paris",
                }]})
            }),
            trigger,
        }
    }
}

impl World {
    /// The incidents of one configuration that happened on a day and by now, oldest first.
    pub(crate) fn incidents(&self, configuration: &Configuration, day: i64) -> Vec<Incident> {
        let now = self.clock.now();
        let mut draw = Draw::new(self.seed, "incidents", &[configuration.index, day as u64]);
        let count = if configuration.enabled {
            draw.below(4) as i64
        } else {
            0
        };
        let slot = DAY / count.max(1);
        let mut incidents = Vec::new();
        for index in 0..count {
            let offset = draw.between(0, slot - 1);
            let happened = day_start(day)
                + index * slot
                + if draw.chance(0.5) {
                    offset / SECOND * SECOND
                } else {
                    offset
                };
            let resolved = draw
                .chance(0.7)
                .then(|| happened + draw.between(MINUTE, 30 * HOUR));
            let Some(conditions) = self.conditions(configuration.trigger, &mut draw) else {
                continue;
            };
            if !self.span.contains(&happened) || happened > now {
                continue;
            }
            let resolved = resolved.filter(|resolved| *resolved <= now);
            incidents.push(Incident {
                configuration: configuration.id.clone(),
                happened,
                updated: resolved.map_or(happened, |resolved| resolved + SECOND / 4),
                resolved,
                url: format!(
                    "https://cloud.example.com/o/61/incidents/{}/{happened}",
                    configuration.id
                ),
                conditions,
            });
        }
        incidents
    }

    /// The condition that was met, with the vehicle and its driver nested as deep as the API nests them; `None` without
    /// a fleet.
    fn conditions(&self, trigger: Trigger, draw: &mut Draw) -> Option<Value> {
        let vehicle = draw.pick(&self.vehicles)?;
        let mut watched = vehicle.named().json();
        watched["externalIds"] = json!(vehicle.external_ids.clone().unwrap_or_default());
        watched["tags"] = tags_json(vehicle.tags.as_deref());
        watched["assetType"] = "vehicle".into();
        let mut details = match trigger {
            Trigger::Speed => json!({
                "currentSpeedKilometersPerHour": draw.between(80, 150),
                "thresholdSpeedKilometersPerHour": number(draw.decimal(70.0, 130.0, 1)),
                "minDurationMilliseconds": 30_000,
                "operation": "GREATER",
                "vehicle": watched,
            }),
            Trigger::GeofenceEntry => json!({
                "address": super::place(draw.below(4)).json(),
                "vehicle": watched,
            }),
            Trigger::ReeferTemperature => {
                let trailer = draw
                    .pick(&self.trailers)
                    .map(|trailer| trailer.named().json());
                json!({ "reeferTemperatureCelcius": number(draw.decimal(-25.0, 12.0, 1)), "trailer": trailer, "vehicle": watched })
            }
        };
        if let Some(driver) = draw
            .pick(&self.drivers)
            .filter(|_| draw.clone().chance(0.7))
        {
            let mut named = driver.driver.json();
            named["externalIds"] = json!(driver.external_ids.clone().unwrap_or_default());
            named["tags"] = tags_json(driver.tags.as_deref());
            named["attributes"] = driver
                .attributes
                .iter()
                .flatten()
                .map(Attribute::json)
                .collect();
            details["driver"] = named;
        }
        let key = match trigger {
            Trigger::Speed => "speed",
            Trigger::GeofenceEntry => "geofenceEntry",
            Trigger::ReeferTemperature => "reeferTemperature",
        };
        let mut condition =
            json!({ "description": trigger.description(), "details": { key: details } });
        if draw.chance(0.8) {
            condition["triggerId"] = trigger.id().into();
        }
        Some(json!([condition]))
    }
}
