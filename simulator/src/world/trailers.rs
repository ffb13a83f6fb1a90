//! Trailers, and what their refrigeration units report.

use super::draw::Draw;
use super::parts::{self, ExternalIds, Named, TagRef};
use super::tags::Tag;
use super::vehicles::{Gateway, LETTERS, Vehicle};
use super::vocabulary::{ASSET_GATEWAYS, REEFER_ALARMS, REEFER_MAKERS, REEFER_POWER};
use super::{World, schedule};
use crate::time::{Millis, days_touching};

const FIRST_TRAILER: u64 = 281_474_990_000_000;

#[derive(Debug, Clone)]
pub(crate) struct Trailer {
    pub(crate) index: u64,
    pub(crate) id: u64,
    pub(crate) name: String,
    /// Maker of the refrigeration unit, if it has one.
    pub(crate) reefer: Option<&'static str>,
    pub(crate) tags: Vec<TagRef>,
    pub(crate) gateway: Option<Gateway>,
    pub(crate) serial: Option<String>,
    pub(crate) license_plate: Option<String>,
    pub(crate) notes: Option<&'static str>,
    pub(crate) mobile: Option<bool>,
    pub(crate) external_ids: Option<ExternalIds>,
    pub(crate) engine_hours: Option<i64>,
    /// The vehicle it is associated with.
    pub(crate) vehicle: Option<u64>,
}

impl Trailer {
    pub(crate) fn build(seed: u64, index: u64, tags: &[Tag], vehicles: &[Vehicle]) -> Self {
        let mut draw = Draw::new(seed, "trailer", &[index]);
        let mut more = Draw::new(seed, "trailer details", &[index]);
        let gateway = more
            .chance(0.7)
            .then(|| Gateway::draw(&mut more, ASSET_GATEWAYS));
        let serial = more.chance(0.8).then(|| more.code(LETTERS, 17));
        Self {
            index,
            id: FIRST_TRAILER + index * 53 + draw.below(40),
            name: format!("Remorque {}", 500 + index),
            reefer: (index % 4 != 3).then(|| draw.word(REEFER_MAKERS)),
            tags: Tag::some_of(tags, &mut draw),
            external_ids: parts::asset_ids(gateway.as_ref(), serial.as_ref(), &mut more),
            license_plate: more.chance(0.7).then(|| more.code(LETTERS, 7)),
            notes: more
                .chance(0.6)
                .then(|| more.word(&["", "Hayon à vérifier", "Plane geflickt ✔"])),
            mobile: more.chance(0.8).then(|| more.chance(0.7)),
            engine_hours: more.chance(0.5).then(|| more.between(0, 21_000)),
            vehicle: more
                .pick(vehicles)
                .map(|vehicle| vehicle.id)
                .filter(|_| more.chance(0.3)),
            gateway,
            serial,
        }
    }

    pub(crate) fn named(&self) -> Named {
        Named::new(self.id, &self.name)
    }
}

/// The reports of a refrigeration unit, by the name of its list in the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Series {
    AmbientAirTemperature,
    DischargeAirTemperature,
    ReturnAirTemperature,
    SetPoint,
    EngineHours,
    FuelPercentage,
    PowerStatus,
    ReeferAlarms,
}

impl Series {
    pub(crate) const ALL: [Series; 8] = [
        Series::AmbientAirTemperature,
        Series::DischargeAirTemperature,
        Series::ReturnAirTemperature,
        Series::SetPoint,
        Series::EngineHours,
        Series::FuelPercentage,
        Series::PowerStatus,
        Series::ReeferAlarms,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Series::AmbientAirTemperature => "ambientAirTemperature",
            Series::DischargeAirTemperature => "dischargeAirTemperature",
            Series::ReturnAirTemperature => "returnAirTemperature",
            Series::SetPoint => "setPoint",
            Series::EngineHours => "engineHours",
            Series::FuelPercentage => "fuelPercentage",
            Series::PowerStatus => "powerStatus",
            Series::ReeferAlarms => "reeferAlarms",
        }
    }

    /// Fewest and most changes a day.
    fn per_day(self) -> (i64, i64) {
        match self {
            Series::AmbientAirTemperature
            | Series::DischargeAirTemperature
            | Series::ReturnAirTemperature => (6, 16),
            Series::SetPoint | Series::ReeferAlarms => (0, 2),
            Series::EngineHours => (1, 3),
            Series::FuelPercentage | Series::PowerStatus => (1, 4),
        }
    }

    fn value(self, time: Millis, draw: &mut Draw) -> Change {
        let temperature =
            |draw: &mut Draw, low, high| Change::Temperature(Some(draw.between(low, high) * 50));
        match self {
            // A sensor that fails reports a change without a value.
            Series::AmbientAirTemperature if draw.chance(0.02) => Change::Temperature(None),
            Series::AmbientAirTemperature => temperature(draw, -200, 700),
            Series::DischargeAirTemperature => temperature(draw, -500, 200),
            Series::ReturnAirTemperature => temperature(draw, -480, 240),
            Series::SetPoint => temperature(draw, -400, 100),
            // A counter: about six hours a day since 2020.
            Series::EngineHours => Change::Hours((time - 1_577_836_800_000) / (4 * 3_600_000)),
            Series::FuelPercentage => Change::Percent(draw.between(2, 100)),
            Series::PowerStatus => Change::Power(draw.word(REEFER_POWER)),
            Series::ReeferAlarms => {
                let first = draw.below(REEFER_ALARMS.len() as u64) as usize;
                let alarms = REEFER_ALARMS
                    .iter()
                    .cycle()
                    .skip(first)
                    .take(draw.below(4) as usize);
                Change::Alarms(alarms.map(|alarm| Alarm::build(*alarm, draw)).collect())
            }
        }
    }
}

/// A new value of one series.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Change {
    /// Thousandths of a degree Celsius.
    Temperature(Option<i64>),
    Hours(i64),
    Percent(i64),
    Power(&'static str),
    Alarms(Vec<Alarm>),
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Alarm {
    /// Some have none.
    pub(crate) code: Option<i64>,
    pub(crate) description: &'static str,
    pub(crate) action: Option<&'static str>,
    pub(crate) severity: i64,
}

impl Alarm {
    fn build(
        (code, description, action): (i64, &'static str, &'static str),
        draw: &mut Draw,
    ) -> Self {
        let action = (!action.is_empty() || draw.chance(0.5)).then_some(action);
        let severity = draw.between(1, 3);
        Self {
            code: (severity < 3 || draw.chance(0.8)).then_some(code),
            description,
            action,
            severity,
        }
    }
}

/// A change and its time.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct TimedChange {
    pub(crate) time: Millis,
    pub(crate) change: Change,
}

impl World {
    /// The reports of a trailer's unit in a half-open window that have arrived by now, oldest first.
    pub(crate) fn reefer_changes(
        &self,
        trailer: &Trailer,
        series: Series,
        from: Millis,
        to: Millis,
    ) -> Vec<TimedChange> {
        let (from, to) = self.within_data(from, to);
        let now = self.clock.now();
        let mut changes = Vec::new();
        if trailer.reefer.is_none() {
            return changes;
        }
        for day in days_touching(from, to) {
            let mut activity = Draw::new(self.seed, "reefer day", &[trailer.index, day as u64]);
            if activity.chance(0.2) {
                continue;
            }
            let gap = schedule::Gap::draw(&mut activity, day);
            let mut draw = Draw::new(self.seed, series.name(), &[trailer.index, day as u64]);
            let (fewest, most) = series.per_day();
            for time in schedule::times(&mut draw, day, fewest, most) {
                let change = series.value(time, &mut draw);
                let copies = if draw.chance(0.02) { 2 } else { 1 };
                let arrived = self
                    .clock
                    .arrival(time, gap.arrival(time))
                    .is_some_and(|arrival| arrival <= now);
                if arrived && (from..to).contains(&time) {
                    changes.extend(std::iter::repeat_n(TimedChange { time, change }, copies));
                }
            }
        }
        changes
    }
}
