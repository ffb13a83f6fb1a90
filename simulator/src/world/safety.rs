//! Safety events, and the scores made of them.

use serde_json::{Value, json};

use super::World;
use super::draw::Draw;
use super::drivers::Driver;
use super::vehicles::Vehicle;
use super::vocabulary::PLACES;
use crate::time::{DAY, HOUR, MINUTE, Millis, SECOND, day_start, days_touching};

/// A label of an event's behaviour: key, name, and what kind of harsh event it is in the older terms.
type Label = (&'static str, &'static str, Option<&'static str>);

const LABELS: &[Label] = &[
    ("braking", "Harsh Brake", Some("Harsh Braking")),
    (
        "acceleration",
        "Harsh Acceleration",
        Some("Harsh Acceleration"),
    ),
    ("harshTurn", "Virage brusque", Some("Harsh Turn")),
    ("crash", "Crash", Some("Crash")),
    ("genericTailgating", "Tailgating", None),
    ("rollingStop", "Arrêt glissé", None),
    ("drowsy", "Müdigkeit", None),
];

/// What coaches do with an event after a while.
const OUTCOMES: &[&str] = &["coached", "dismissed", "reviewed", "archived"];

/// A safety event as it looks at the world's present time.
#[derive(Debug, Clone)]
pub(crate) struct SafetyEvent<'a> {
    pub(crate) vehicle: &'a Vehicle,
    pub(crate) time: Millis,
    pub(crate) driver: Option<&'a Driver>,
    pub(crate) latitude: f64,
    pub(crate) longitude: f64,
    /// The largest acceleration, in g.
    pub(crate) acceleration: Option<f64>,
    /// Not mentioned, none, or some.
    pub(crate) labels: Option<Vec<BehaviourLabel>>,
    pub(crate) coaching: Option<&'static str>,
    /// Which of the three recordings exist: forward, inward, tracked inward.
    pub(crate) videos: [bool; 3],
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct BehaviourLabel {
    pub(crate) label: &'static str,
    pub(crate) name: Option<&'static str>,
    pub(crate) source: &'static str,
    harsh: Option<&'static str>,
}

impl SafetyEvent<'_> {
    pub(crate) fn id(&self) -> String {
        format!("{}-{}", self.vehicle.id, self.time)
    }

    /// The address of a recording, if there is one. The live API signs such links again in each response.
    pub(crate) fn video(&self, index: usize) -> Option<String> {
        let view = ["forward", "inward", "tracked-inward"].get(index)?;
        self.videos
            .get(index)?
            .then(|| format!("https://media.example.com/{}/{view}.mp4", self.id()))
    }

    /// What kind of harsh event it is.
    fn harsh(&self) -> Option<&'static str> {
        self.labels.iter().flatten().find_map(|label| label.harsh)
    }
}

/// How safely a vehicle was driven in a window.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct SafetyScore {
    pub(crate) vehicle: u64,
    pub(crate) crashes: i64,
    pub(crate) accelerations: i64,
    pub(crate) brakings: i64,
    pub(crate) turns: i64,
    /// Kind and time.
    pub(crate) harsh: Vec<(&'static str, Millis)>,
    pub(crate) score: i64,
    /// Among the fleet; empty for those that did not drive.
    pub(crate) rank: String,
    pub(crate) over_speed: i64,
    /// Metres.
    pub(crate) distance: i64,
    pub(crate) driven: i64,
}

impl SafetyScore {
    /// Its harsh events, oldest first.
    pub(crate) fn harsh_json(&self) -> Value {
        self.harsh
            .iter()
            .map(|(kind, time)| json!({ "harshEventType": kind, "timestampMs": time, "vehicleId": self.vehicle }))
            .collect()
    }
}

impl World {
    /// The safety events of a vehicle in a half-open window and by now, oldest first.
    pub(crate) fn safety_events<'a>(
        &'a self,
        vehicle: &'a Vehicle,
        from: Millis,
        to: Millis,
    ) -> Vec<SafetyEvent<'a>> {
        let (from, to) = self.within_data(from, to);
        let now = self.clock.now();
        let mut events = Vec::new();
        for day in days_touching(from, to).filter(|day| self.is_active(vehicle, *day)) {
            let mut draw = Draw::new(self.seed, "safety events", &[vehicle.index, day as u64]);
            let count = draw.below(4) as i64;
            let slot = DAY / count.max(1);
            for index in 0..count {
                let offset = draw.between(0, slot - 1);
                let offset = if draw.chance(0.3) {
                    offset / SECOND * SECOND
                } else {
                    offset
                };
                let time = day_start(day) + index * slot + offset;
                let event = self.safety_event(vehicle, time, now, &mut draw);
                if (from..to).contains(&time) && time <= now {
                    events.push(event);
                }
            }
        }
        events
    }

    fn safety_event<'a>(
        &'a self,
        vehicle: &'a Vehicle,
        time: Millis,
        now: Millis,
        draw: &mut Draw,
    ) -> SafetyEvent<'a> {
        let place = draw.pick(PLACES).copied().unwrap_or_default();
        let first = draw.below(LABELS.len() as u64) as usize;
        let count = [0, 1, 1, 1, 2, 3][draw.below(6) as usize];
        let labels = LABELS.iter().cycle().skip(first).take(count);
        let labels: Vec<BehaviourLabel> = labels
            .map(|&(label, name, harsh)| BehaviourLabel {
                label,
                name: draw.chance(0.95).then_some(name),
                source: draw.word(&["automated", "automated", "userGenerated"]),
                harsh,
            })
            .collect();
        let decided = time + draw.between(HOUR, 4 * DAY);
        let outcome = draw.word(OUTCOMES);
        SafetyEvent {
            vehicle,
            time,
            driver: draw.pick(&self.drivers).filter(|_| draw.chance(0.8)),
            latitude: draw.decimal(place.2 - 0.3, place.2 + 0.3, 6),
            longitude: draw.decimal(place.3 - 0.3, place.3 + 0.3, 6),
            acceleration: draw.chance(0.9).then(|| {
                if draw.chance(0.1) {
                    1.0
                } else {
                    draw.decimal(0.2, 2.4, 6)
                }
            }),
            labels: draw.chance(0.95).then_some(labels),
            coaching: draw.chance(0.95).then_some(if decided <= now {
                outcome
            } else {
                "needsReview"
            }),
            videos: [draw.chance(0.7), draw.chance(0.4), draw.chance(0.2)],
        }
    }

    /// The score of a vehicle between two instants, both inclusive.
    pub(crate) fn safety_score(&self, vehicle: &Vehicle, from: Millis, to: Millis) -> SafetyScore {
        let until = to.saturating_add(1);
        let events = self.safety_events(vehicle, from, until);
        let harsh: Vec<(&str, Millis)> = events
            .iter()
            .filter_map(|event| event.harsh().map(|kind| (kind, event.time)))
            .collect();
        let count = |kind: &str| harsh.iter().filter(|(other, _)| *other == kind).count() as i64;
        let (mut driven, mut distance) = (0, 0.0);
        for trip in self.trips_overlapping(vehicle, from, to) {
            let Some(end) = trip.end else { continue };
            let part = (end.min(until) - trip.start.max(from)).max(0);
            driven += part;
            distance += trip.distance * part as f64 / (end - trip.start).max(1) as f64;
        }
        // The same for a day whether its end is given as its last millisecond or as the next midnight.
        let minute = (until + MINUTE / 2).div_euclid(MINUTE);
        let mut draw = Draw::new(
            self.seed,
            "safety score",
            &[vehicle.index, from as u64, minute as u64],
        );
        let over_speed = driven / 1_000 * draw.between(0, 60);
        let rank = draw.between(1, self.vehicles.len() as i64);
        SafetyScore {
            vehicle: vehicle.id,
            crashes: count("Crash"),
            accelerations: count("Harsh Acceleration"),
            brakings: count("Harsh Braking"),
            turns: count("Harsh Turn"),
            score: (100 - 9 * harsh.len() as i64 - over_speed / (20 * MINUTE)).max(0),
            rank: if driven > 0 {
                rank.to_string()
            } else {
                String::new()
            },
            over_speed,
            distance: distance as i64,
            driven,
            harsh,
        }
    }
}
