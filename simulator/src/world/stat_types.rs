//! The vehicle statistics the world knows, as a table.

use super::vehicles::{Energy, Vehicle};

/// What a reading of a statistic looks like.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Shape {
    Gps,
    FaultCodes,
    /// A whole number between two bounds.
    Whole(i64, i64),
    /// A whole number that only grows, by this much an hour.
    Counter(i64),
    /// A number with two decimals between two bounds.
    Decimal(f64, f64),
    /// A number with one decimal that only grows, by this much per hour.
    DecimalCounter(f64),
    /// One of some words.
    Word(&'static [&'static str]),
    /// On or off, with the name of what is wired.
    Auxiliary,
    Immobilizer,
    Card,
    /// Lights on the dashboard; the API sends them but documents no fields.
    TellTales,
}

/// Which vehicles have a statistic.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum CarriedBy {
    All,
    /// Those with a combustion engine.
    Engines,
    /// Those with a traction battery.
    Batteries,
    /// One vehicle in so many.
    OneIn(u64),
}

/// A statistic by the name used in requests.
#[derive(Debug, PartialEq)]
pub(crate) struct StatType {
    pub(crate) name: &'static str,
    pub(crate) shape: Shape,
    pub(crate) carried: CarriedBy,
    /// Fewest and most readings on an active day.
    pub(crate) per_day: (i64, i64),
}

impl StatType {
    pub(crate) fn named(name: &str) -> Option<&'static StatType> {
        STAT_TYPES.iter().find(|stat| stat.name == name)
    }

    /// Whether a vehicle ever reports it.
    pub(crate) fn carried_by(&self, vehicle: &Vehicle) -> bool {
        vehicle.gateway.is_some()
            && match self.carried {
                CarriedBy::All => true,
                CarriedBy::Engines => vehicle.energy != Energy::Electric,
                CarriedBy::Batteries => vehicle.energy != Energy::Fuel,
                CarriedBy::OneIn(share) => vehicle.index.is_multiple_of(share),
            }
    }
}

const fn stat(
    name: &'static str,
    shape: Shape,
    carried: CarriedBy,
    per_day: (i64, i64),
) -> StatType {
    StatType {
        name,
        shape,
        carried,
        per_day,
    }
}

/// A numeric sensor of a combustion engine.
const fn engine(name: &'static str, low: i64, high: i64) -> StatType {
    stat(name, Shape::Whole(low, high), CarriedBy::Engines, (4, 20))
}

/// A numeric sensor of a traction battery.
const fn battery(name: &'static str, low: i64, high: i64) -> StatType {
    stat(name, Shape::Whole(low, high), CarriedBy::Batteries, (4, 20))
}

/// A counter.
const fn counter(name: &'static str, carried: CarriedBy, an_hour: i64) -> StatType {
    stat(name, Shape::Counter(an_hour), carried, (4, 20))
}

/// A spreader on a winter service vehicle.
const fn spreader(name: &'static str, shape: Shape) -> StatType {
    stat(name, shape, CarriedBy::OneIn(5), (0, 6))
}

/// A wired auxiliary input.
const fn input(name: &'static str, share: u64) -> StatType {
    stat(name, Shape::Auxiliary, CarriedBy::OneIn(share), (0, 5))
}

const ON_OFF: &[&str] = &["On", "Off"];

/// All statistics the endpoints take.
pub(crate) static STAT_TYPES: &[StatType] = &[
    stat("gps", Shape::Gps, CarriedBy::All, (8, 40)),
    stat(
        "engineRpm",
        Shape::Whole(550, 3_200),
        CarriedBy::Engines,
        (8, 40),
    ),
    stat("faultCodes", Shape::FaultCodes, CarriedBy::Engines, (0, 3)),
    stat(
        "engineStates",
        Shape::Word(&["Off", "On", "Idle"]),
        CarriedBy::All,
        (4, 16),
    ),
    stat(
        "fuelPercents",
        Shape::Whole(3, 100),
        CarriedBy::Engines,
        (4, 20),
    ),
    engine("ambientAirTemperatureMilliC", -15_000, 38_000),
    engine("barometricPressurePa", 88_000, 103_000),
    engine("batteryMilliVolts", 11_800, 28_400),
    engine("defLevelMilliPercent", 1_000, 100_000),
    engine("engineCoolantTemperatureMilliC", 10_000, 99_000),
    engine("engineLoadPercent", 0, 100),
    engine("engineOilPressureKPa", 90, 480),
    engine("intakeManifoldTemperatureMilliC", 5_000, 70_000),
    counter("fuelConsumedMilliliters", CarriedBy::Engines, 4_200),
    counter("gpsOdometerMeters", CarriedBy::All, 21_000),
    counter("idlingDurationMilliseconds", CarriedBy::Engines, 310_000),
    counter("obdEngineSeconds", CarriedBy::Engines, 1_100),
    counter("obdOdometerMeters", CarriedBy::Engines, 20_500),
    counter("syntheticEngineSeconds", CarriedBy::Engines, 1_080),
    stat(
        "ecuSpeedMph",
        Shape::Decimal(0.0, 68.0),
        CarriedBy::Engines,
        (8, 40),
    ),
    stat(
        "gpsDistanceMeters",
        Shape::DecimalCounter(20_900.0),
        CarriedBy::All,
        (4, 20),
    ),
    battery("evStateOfChargeMilliPercent", 4_000, 100_000),
    battery("evChargingStatus", 0, 4),
    battery("evChargingVoltageMilliVolt", 0, 800_000),
    battery("evChargingCurrentMilliAmp", 0, 300_000),
    battery("evBatteryVoltageMilliVolt", 320_000, 800_000),
    battery("evBatteryCurrentMilliAmp", -200_000, 250_000),
    battery("evBatteryStateOfHealthMilliPercent", 80_000, 100_000),
    battery("evAverageBatteryTemperatureMilliCelsius", -5_000, 45_000),
    counter(
        "evChargingEnergyMicroWh",
        CarriedBy::Batteries,
        5_000_000_000,
    ),
    counter(
        "evConsumedEnergyMicroWh",
        CarriedBy::Batteries,
        4_800_000_000,
    ),
    counter(
        "evRegeneratedEnergyMicroWh",
        CarriedBy::Batteries,
        700_000_000,
    ),
    counter("evDistanceDrivenMeters", CarriedBy::Batteries, 14_000),
    spreader("spreaderLiquidRate", Shape::Whole(0, 120)),
    spreader("spreaderGranularRate", Shape::Whole(0, 400)),
    spreader("spreaderPrewetRate", Shape::Whole(0, 60)),
    spreader("spreaderAirTemp", Shape::Whole(-12, 6)),
    spreader("spreaderRoadTemp", Shape::Whole(-10, 8)),
    spreader("spreaderOnState", Shape::Word(ON_OFF)),
    spreader("spreaderActive", Shape::Word(ON_OFF)),
    spreader("spreaderBlastState", Shape::Word(ON_OFF)),
    spreader("spreaderPlowStatus", Shape::Word(&["Up", "Down"])),
    spreader("spreaderGranularName", Shape::Word(&["Sel gemme", "Sand"])),
    spreader("spreaderPrewetName", Shape::Word(&["CaCl₂", ""])),
    spreader("spreaderLiquidName", Shape::Word(&["Saumure", "MgCl₂"])),
    stat(
        "seatbeltDriver",
        Shape::Word(&["Buckled", "Unbuckled"]),
        CarriedBy::Engines,
        (2, 10),
    ),
    stat(
        "ecuDoorStatus",
        Shape::Word(&["Closed", "Open", "Unknown"]),
        CarriedBy::OneIn(3),
        (2, 10),
    ),
    stat(
        "engineImmobilizer",
        Shape::Immobilizer,
        CarriedBy::OneIn(4),
        (0, 2),
    ),
    stat("nfcCardScans", Shape::Card, CarriedBy::OneIn(3), (0, 3)),
    input("auxInput1", 2),
    input("auxInput2", 3),
    input("auxInput3", 4),
    input("auxInput4", 5),
    input("auxInput5", 5),
    input("auxInput6", 7),
    input("auxInput7", 7),
    input("auxInput8", 8),
    input("auxInput9", 9),
    input("auxInput10", 9),
    input("auxInput11", 11),
    input("auxInput12", 12),
    input("auxInput13", 13),
    stat("tellTales", Shape::TellTales, CarriedBy::OneIn(4), (0, 2)),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_found() {
        for (index, stat) in STAT_TYPES.iter().enumerate() {
            assert_eq!(
                STAT_TYPES.iter().position(|other| other.name == stat.name),
                Some(index),
                "{}",
                stat.name
            );
            assert!(std::ptr::eq(
                StatType::named(stat.name).expect("a known name"),
                stat
            ));
        }
        assert_eq!(STAT_TYPES.len(), 63);
        assert!(StatType::named("engineHours").is_none());
    }
}
