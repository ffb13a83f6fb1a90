//! What people did to safety events.

use super::World;
use super::draw::Draw;
use super::drivers;
use super::vocabulary::{AUDIT_TYPES, BEHAVIOURS};
use crate::time::{DAY, HOUR, Millis, SECOND, day_start};

/// One change to one safety event.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct AuditLog {
    pub(crate) id: String,
    pub(crate) time: Millis,
    pub(crate) kind: &'static str,
    pub(crate) event_id: String,
    pub(crate) event_uuid: Option<String>,
    pub(crate) event_time: Millis,
    pub(crate) driver: Option<u64>,
    pub(crate) vehicle: u64,
    /// Type and name of the labels after the change; some kinds of change have none.
    pub(crate) behaviours: Option<Vec<(&'static str, &'static str)>>,
}

impl World {
    /// The changes made on a day and by now, oldest first.
    pub(crate) fn audit_logs(&self, day: i64) -> Vec<AuditLog> {
        let now = self.clock.now();
        let mut draw = Draw::new(self.seed, "audit", &[day as u64]);
        let count = draw.between(0, 3 + self.vehicles.len() as i64 / 20);
        let slot = DAY / count.max(1);
        let mut logs = Vec::new();
        for index in 0..count {
            let offset = draw.between(0, slot - 1);
            let time = day_start(day)
                + index * slot
                + if draw.chance(0.5) {
                    offset / SECOND * SECOND
                } else {
                    offset
                };
            let Some(vehicle) = draw.pick(&self.vehicles).map(|vehicle| vehicle.id) else {
                continue;
            };
            let event_time = time - draw.between(HOUR / 4, 3 * DAY);
            let kind = draw.word(AUDIT_TYPES);
            let labels = draw.below(3) as usize;
            let first = draw.below(BEHAVIOURS.len() as u64) as usize;
            let log = AuditLog {
                id: format!("{}-{vehicle}-{event_time}", time / SECOND),
                time,
                kind,
                event_id: format!("{vehicle}-{event_time}"),
                event_uuid: draw.chance(0.8).then(|| draw.uuid()),
                event_time,
                driver: draw.chance(0.8).then(|| {
                    drivers::id(draw.below(drivers::counts(self.vehicles.len() as u32).0))
                }),
                vehicle,
                behaviours: (kind != "CoachingStateActivityType").then(|| {
                    BEHAVIOURS
                        .iter()
                        .cycle()
                        .skip(first)
                        .take(labels)
                        .copied()
                        .collect()
                }),
            };
            if self.span.contains(&time) && time <= now {
                logs.push(log);
            }
        }
        logs
    }
}
