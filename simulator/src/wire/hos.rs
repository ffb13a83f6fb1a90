//! Hours of service.

use serde_json::{Value, json};

use super::{Record, Wire, external_ids};
use crate::time::wire_time;
use crate::world::{DURATIONS, DailyLog, HosClock, RuleSet, Violation};

impl Wire {
    pub(crate) fn hos_clock(self, clock: &HosClock<'_>) -> Value {
        let single = |name: &str, left: Option<i64>| {
            left.map(|left| self.strange_part(Record::new().put(name, left)).done())
        };
        let cycle = Record::new()
            .put_some("cycleRemainingDurationMs", clock.cycle_remaining)
            .put_some("cycleTomorrowDurationMs", clock.cycle_tomorrow)
            .put_some("cycleStartedAtTime", clock.cycle_started.map(wire_time));
        let clocks = Record::new()
            .put("cycle", cycle.done())
            .put_some(
                "break",
                single("timeUntilBreakDurationMs", clock.until_break),
            )
            .put_some(
                "drive",
                single("driveRemainingDurationMs", clock.drive_remaining),
            )
            .put_some(
                "shift",
                single("shiftRemainingDurationMs", clock.shift_remaining),
            );
        let violations = clock.violations.map(
            |[cycle, shift]| json!({ "cycleViolationDurationMs": cycle, "shiftDrivingViolationDurationMs": shift }),
        );
        let record = Record::new()
            .put("driver", self.reference(&clock.driver.driver, None, ""))
            .put("clocks", clocks.done())
            .put_some(
                "currentDutyStatus",
                clock
                    .status
                    .map(|status| json!({ "hosStatusType": status })),
            )
            .put_some(
                "currentVehicle",
                clock
                    .vehicle
                    .map(|vehicle| self.vehicle_reference(vehicle, "ExternalIds")),
            )
            .put_some("violations", violations);
        self.strange_record(record).done()
    }

    /// A log; its vehicles have more fields if `expanded`.
    pub(crate) fn daily_log(self, log: &DailyLog<'_>, expanded: bool) -> Value {
        let driver = log.driver;
        let rule_sets = driver.rule_sets.as_ref().map(|rule_sets| {
            let rule_sets: Value = rule_sets.iter().map(RuleSet::json).collect();
            json!({ "rulesets": rule_sets })
        });
        let about = Record::new()
            .put("id", driver.driver.id.as_str())
            .put("name", driver.driver.name.as_str())
            .put("timezone", driver.time_zone)
            .put_some("eldSettings", rule_sets)
            .put_some("externalIds", external_ids(driver.external_ids.as_ref()));
        let distances = log.distances.map(|[drive, conveyance, yard]| {
            let record = Record::new()
                .put("driveDistanceMeters", drive)
                .put("personalConveyanceDistanceMeters", conveyance)
                .put("yardMoveDistanceMeters", yard);
            self.strange_part(record).done()
        });
        let record = Record::new()
            .put("driver", self.strange_part(about).done())
            .put("startTime", wire_time(log.start))
            .put("endTime", wire_time(log.end))
            .put("dutyStatusDurations", durations(log.durations))
            .put("logMetaData", self.log_metadata(log, expanded))
            .put_some("pendingDutyStatusDurations", log.pending.map(durations))
            .put_some("distanceTraveled", distances);
        self.strange_record(record).done()
    }

    fn log_metadata(self, log: &DailyLog<'_>, expanded: bool) -> Value {
        let [adverse, big_day, short_haul] = log.flags;
        let carrier = log.driver.carrier.as_ref();
        // One that was never signed has an empty time or none.
        let unsigned = log.driver.index.is_multiple_of(2).then(String::new);
        let record = Record::new()
            .put("isCertified", log.certified.is_some())
            .put_some("certifiedAtTime", log.certified.map(wire_time).or(unsigned))
            .put_some("adverseDrivingClaimed", adverse)
            .put_some("bigDayClaimed", big_day)
            .put_some("isUsShortHaulActive", short_haul)
            .put_some("shippingDocs", log.shipping)
            .put_some("trailerNames", log.trailers.as_deref())
            .put_some("carrierName", carrier.map(|carrier| carrier.name))
            .put_some(
                "carrierFormattedAddress",
                carrier.map(|carrier| carrier.main_office),
            )
            .put_some(
                "carrierUsDotNumber",
                carrier.and_then(|carrier| carrier.dot_number),
            )
            .put_some(
                "homeTerminalName",
                carrier.map(|carrier| carrier.home_terminal),
            )
            .put_some(
                "homeTerminalFormattedAddress",
                carrier.map(|carrier| carrier.home_terminal_address),
            )
            .put_some("vehicles", log.vehicles_json(expanded));
        self.strange_part(record).done()
    }

    /// The violations of one driver: one record, whatever their number.
    pub(crate) fn violations(self, violations: &[Violation<'_>]) -> Value {
        let violations: Vec<Value> = violations
            .iter()
            .map(|violation| {
                let (start, end) = violation.day;
                let record = Record::new()
                    .put("driver", self.driver_reference(violation.driver))
                    .put("violationStartTime", wire_time(violation.start))
                    .put("durationMs", violation.duration)
                    .put("type", violation.kind)
                    .put("description", violation.description)
                    .put(
                        "day",
                        json!({ "startTime": wire_time(start), "endTime": wire_time(end) }),
                    );
                self.strange_part(record).done()
            })
            .collect();
        self.strange_record(Record::new().put("violations", violations))
            .done()
    }
}

fn durations(durations: [i64; DURATIONS.len()]) -> Value {
    DURATIONS
        .iter()
        .zip(durations)
        .fold(Record::new(), |record, (name, duration)| {
            record.put(name, duration)
        })
        .done()
}
