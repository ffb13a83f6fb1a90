//! Hours of service: daily logs, violations and clocks.
//!
//! Days are those of the organisation's zone, which has no summer time, so that its offset is constant.

use serde_json::{Value, json};

use super::World;
use super::draw::Draw;
use super::drivers::Driver;
use super::vehicles::Vehicle;
use crate::config::Region;
use crate::time::{DAY, HOUR, MINUTE, Millis, SECOND, day_of, day_start};

/// The longest time between the start of a log's day and its date: noon instead of midnight.
const LATEST_START: Millis = 12 * HOUR;

/// The sums of a log, in the order of [`DailyLog::durations`].
pub(crate) const DURATIONS: [&str; 8] = [
    "activeDurationMs",
    "driveDurationMs",
    "offDutyDurationMs",
    "onDutyDurationMs",
    "personalConveyanceDurationMs",
    "sleeperBerthDurationMs",
    "waitingTimeDurationMs",
    "yardMoveDurationMs",
];

/// A driver's log of one day as it is at the world's present time.
#[derive(Debug, Clone)]
pub(crate) struct DailyLog<'a> {
    pub(crate) driver: &'a Driver,
    pub(crate) start: Millis,
    pub(crate) end: Millis,
    pub(crate) durations: [i64; 8],
    /// With the edits the driver has not accepted yet.
    pub(crate) pending: Option<[i64; 8]>,
    /// Metres: driven, by personal conveyance, by yard moves.
    pub(crate) distances: Option<[i64; 3]>,
    /// When the driver signed it.
    pub(crate) certified: Option<Millis>,
    /// Adverse driving claimed, big day claimed, short haul active. Some have none.
    pub(crate) flags: [Option<bool>; 3],
    pub(crate) shipping: Option<&'static str>,
    pub(crate) trailers: Option<Vec<String>>,
    pub(crate) vehicles: Option<Vec<&'a Vehicle>>,
}

impl DailyLog<'_> {
    /// Its vehicles, with more fields if `expanded`.
    pub(crate) fn vehicles_json(&self, expanded: bool) -> Option<Value> {
        let describe = |vehicle: &&Vehicle| {
            let mut json = vehicle.named().json();
            if let Some(ids) = &vehicle.external_ids {
                json["externalIds"] = json!(ids);
            }
            if expanded {
                json["assetType"] = "vehicle".into();
                for (key, value) in [
                    ("licensePlate", &vehicle.license_plate),
                    ("vehicleVin", &vehicle.vin),
                ] {
                    if let Some(value) = value {
                        json[key] = value.as_str().into();
                    }
                }
            }
            json
        };
        self.vehicles
            .as_ref()
            .map(|vehicles| vehicles.iter().map(describe).collect())
    }
}

/// A breach of the rules.
#[derive(Debug, Clone)]
pub(crate) struct Violation<'a> {
    pub(crate) driver: &'a Driver,
    pub(crate) start: Millis,
    pub(crate) duration: i64,
    pub(crate) kind: &'static str,
    pub(crate) description: &'static str,
    /// The day of the driver's log.
    pub(crate) day: (Millis, Millis),
}

/// What a driver may still do, as of the world's present time. Milliseconds; unknown for some.
#[derive(Debug, Clone)]
pub(crate) struct HosClock<'a> {
    pub(crate) driver: &'a Driver,
    pub(crate) vehicle: Option<&'a Vehicle>,
    /// Empty while the driver's app is not connected.
    pub(crate) status: Option<&'static str>,
    pub(crate) until_break: Option<i64>,
    pub(crate) cycle_remaining: Option<i64>,
    pub(crate) cycle_tomorrow: Option<i64>,
    pub(crate) cycle_started: Option<Millis>,
    pub(crate) drive_remaining: Option<i64>,
    pub(crate) shift_remaining: Option<i64>,
    /// Beyond the cycle, and beyond the shift.
    pub(crate) violations: Option<[i64; 2]>,
}

/// Types and descriptions of violations.
pub(crate) const VIOLATIONS: &[(&str, &str)] = &[
    ("shiftHours", "14 hours since start of work"),
    ("shiftDrivingHours", "11 hours at the wheel"),
    ("restbreakMissed", "Pause manquée (30 min)"),
    ("unsubmittedLogs", "Log not submitted"),
    ("cycleHoursOn", "70 Stunden / 8 Tage"),
];

impl World {
    /// How far the organisation's zone is from UTC.
    pub(crate) fn zone_offset(&self) -> Millis {
        match self.region {
            // America/Phoenix
            Region::Us => -7 * HOUR,
            // Europe/Istanbul
            Region::Eu => 3 * HOUR,
            // America/Regina
            Region::Ca => -6 * HOUR,
        }
    }

    /// The organisation's present date, as a number of days.
    pub(crate) fn today(&self) -> i64 {
        day_of(self.clock.now() + self.zone_offset())
    }

    /// The dates in the organisation's zone whose logs may start in a window.
    fn dates(&self, from: Millis, to: Millis) -> std::ops::RangeInclusive<i64> {
        let (from, to) = self.within_data(from, to);
        day_of(from + self.zone_offset() - LATEST_START)..=day_of(to + self.zone_offset())
    }

    /// The log of a driver for a date in the organisation's zone; `None` where there is none, or none yet.
    pub(crate) fn daily_log<'a>(&'a self, driver: &'a Driver, date: i64) -> Option<DailyLog<'a>> {
        let now = self.clock.now();
        let start = day_start(date) - self.zone_offset() + driver.eld_day_start_hour * HOUR;
        let end = start + DAY;
        let vehicles = self.workday(driver, date);
        if vehicles.is_empty() || !self.span.contains(&start) || start > now {
            return None;
        }
        let mut draw = Draw::new(self.seed, "daily log", &[driver.index, date as u64]);
        let part = |draw: &mut Draw, most: Millis| draw.between(0, most / SECOND) * SECOND;
        let drive = part(&mut draw, 11 * HOUR);
        let on_duty = part(&mut draw, 3 * HOUR);
        let sleeper = part(&mut draw, 8 * HOUR);
        let conveyance = if draw.chance(0.2) {
            part(&mut draw, HOUR)
        } else {
            0
        };
        let yard = if draw.chance(0.3) {
            part(&mut draw, HOUR / 2)
        } else {
            0
        };
        let waiting = if draw.chance(0.2) {
            part(&mut draw, HOUR / 2)
        } else {
            0
        };
        let off_duty = DAY - drive - on_duty - sleeper - conveyance - yard - waiting;
        let whole = [
            drive + on_duty,
            drive,
            off_duty,
            on_duty,
            conveyance,
            sleeper,
            waiting,
            yard,
        ];
        // The log of a day in progress has the values so far.
        let elapsed = (now - start).min(DAY);
        let so_far =
            |amount: i64| (i128::from(amount) * i128::from(elapsed) / i128::from(DAY)) as i64;
        let durations = whole.map(so_far);
        let pending = draw.chance(0.8).then(|| {
            let moved = if draw.chance(0.2) {
                durations[1].min(10 * MINUTE)
            } else {
                0
            };
            let mut pending = durations;
            pending[1] -= moved;
            pending[3] += moved;
            pending
        });
        let flag = |draw: &mut Draw, share| draw.chance(0.9).then(|| draw.chance(share));
        Some(DailyLog {
            driver,
            start,
            end,
            durations,
            pending,
            distances: draw.chance(0.9).then(|| {
                [drive / 1_000 * 21, conveyance / 1_000 * 8, yard / 1_000 * 2].map(so_far)
            }),
            certified: draw
                .chance(0.8)
                .then(|| end + draw.between(0, 36 * HOUR))
                .filter(|at| *at <= now),
            flags: [
                flag(&mut draw, 0.1),
                flag(&mut draw, 0.1),
                flag(&mut draw, 0.2),
            ],
            shipping: draw
                .chance(0.5)
                .then(|| draw.word(&["", "BL 4471, \"fragile\"", "Paletten: 12"])),
            trailers: draw.chance(0.7).then(|| {
                let used = draw.below(3) as usize;
                self.trailers
                    .iter()
                    .take(used)
                    .map(|trailer| trailer.name.clone())
                    .collect()
            }),
            vehicles: draw.chance(0.9).then_some(vehicles),
        })
    }

    /// The violations of a driver that begin in a half-open window and are over by now, oldest first.
    pub(crate) fn violations<'a>(
        &'a self,
        driver: &'a Driver,
        from: Millis,
        to: Millis,
    ) -> Vec<Violation<'a>> {
        let now = self.clock.now();
        let mut violations = Vec::new();
        // A log's day begins up to a day before its events.
        for date in self.dates(from.saturating_sub(DAY), to) {
            let Some(log) = self.daily_log(driver, date) else {
                continue;
            };
            let mut draw = Draw::new(self.seed, "violations", &[driver.index, date as u64]);
            let mut start = log.start;
            for _ in 0..draw.below(3) {
                start += draw.between(MINUTE, 8 * HOUR);
                let duration = draw.between(SECOND, 3 * HOUR);
                let (kind, description) = draw.pick(VIOLATIONS).copied().unwrap_or_default();
                if (from..to).contains(&start) && start + duration <= now {
                    violations.push(Violation {
                        driver,
                        start,
                        duration,
                        kind,
                        description,
                        day: (log.start, log.end),
                    });
                }
            }
        }
        violations
    }

    /// What a driver may still do. It changes from day to day.
    pub(crate) fn hos_clock<'a>(&'a self, driver: &'a Driver) -> HosClock<'a> {
        let now = self.clock.now();
        let mut draw = Draw::new(
            self.seed,
            "hours of service",
            &[driver.index, day_of(now) as u64],
        );
        let known = draw.chance(0.95);
        let left = |draw: &mut Draw, hours: i64| {
            (known && draw.chance(0.95)).then(|| draw.between(0, hours * HOUR))
        };
        HosClock {
            driver,
            vehicle: self.workday(driver, day_of(now)).first().copied(),
            status: draw.chance(0.95).then(|| {
                draw.word(&[
                    "offDuty",
                    "sleeperBed",
                    "driving",
                    "onDuty",
                    "yardMove",
                    "personalConveyance",
                    "",
                ])
            }),
            until_break: left(&mut draw, 8),
            cycle_remaining: left(&mut draw, 70),
            cycle_tomorrow: left(&mut draw, 70),
            cycle_started: draw
                .chance(0.8)
                .then(|| (day_start(day_of(now)) - draw.between(0, 7 * DAY)) / SECOND * SECOND),
            drive_remaining: left(&mut draw, 11),
            shift_remaining: left(&mut draw, 14),
            violations: draw.chance(0.9).then(|| {
                if draw.chance(0.1) {
                    [draw.between(1, HOUR), draw.between(1, HOUR)]
                } else {
                    [0, 0]
                }
            }),
        }
    }
}
