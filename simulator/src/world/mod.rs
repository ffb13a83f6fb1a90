//! The world behind the API: an organisation and everything that happens to it.
//!
//! Entities (vehicles, drivers, trailers, tags, alert configurations) are built once. Events are never stored: each day
//! of each entity is drawn from (seed, entity, day) when it is requested, so memory stays flat, and an event is the
//! same in every window that contains it.

mod addresses;
mod alerts;
mod assignments;
mod audit;
mod clock;
mod contacts;
mod devices;
mod documents;
pub(crate) mod draw;
mod drivers;
mod efficiency;
mod equipment;
mod fault_codes;
mod fuel;
mod hos;
mod idling;
mod parts;
mod readings;
mod safety;
mod schedule;
mod stat_types;
mod tags;
mod trailers;
mod trips;
mod vehicles;
mod vocabulary;
mod workdays;

use std::ops::Range;

use chrono::{DateTime, Utc};

pub(crate) use addresses::{Address, Fence};
pub(crate) use alerts::{Configuration, Incident};
pub(crate) use assignments::Assignment;
pub(crate) use audit::AuditLog;
use clock::Clock;
pub(crate) use contacts::Contact;
pub(crate) use devices::{Ago, CameraHealth, Details, Device, GatewayHealth, Health};
pub(crate) use documents::{Document, DocumentType};
pub(crate) use drivers::{Driver, RuleSet};
pub(crate) use efficiency::{Efficiency, MEASURES};
pub(crate) use equipment::{Asset, Equipment};
pub(crate) use fault_codes::{
    ControlUnit, Diagnosis, FaultReading, HeavyCode, LightCode, Lights, MONITORS, MakerCode,
};
pub(crate) use fuel::FuelReport;
pub(crate) use hos::{DURATIONS, DailyLog, HosClock, VIOLATIONS, Violation};
pub(crate) use idling::Idling;
pub(crate) use parts::{Attribute, ExternalIds, Named, TagRef, number};
pub(crate) use readings::{Fix, Point, Reading};
pub(crate) use safety::{BehaviourLabel, SafetyEvent, SafetyScore};
pub(crate) use stat_types::{Shape, StatType};
pub(crate) use tags::Tag;
pub(crate) use trailers::{Alarm, Change, Series, TimedChange, Trailer};
pub(crate) use trips::{Stop, Trip};
pub(crate) use vehicles::{Gateway, Vehicle};

use super::config::{Region, SimulatorConfig};
use super::time::Millis;
use vocabulary::PLACES;

const FIRST_PLACE: u64 = 22_501;
const FIRST_MACHINE: u64 = 71_003;

/// Id of the organisation's address at a position.
pub(crate) fn place_id(index: u64) -> u64 {
    FIRST_PLACE + index * 3
}

/// The organisation's address at a position.
pub(crate) fn place(index: u64) -> Named {
    let name = PLACES.get(index as usize).map_or("", |(name, ..)| name);
    Named::new(place_id(index), name)
}

/// The simulated organisation: what its API serves, and what an ETL should make of it.
#[derive(Debug)]
pub struct World {
    pub(crate) seed: u64,
    pub(crate) region: Region,
    /// The instants between which things happen.
    pub(crate) span: Range<Millis>,
    pub(crate) clock: Clock,
    pub(crate) vehicles: Vec<Vehicle>,
    pub(crate) drivers: Vec<Driver>,
    pub(crate) trailers: Vec<Trailer>,
    pub(crate) tags: Vec<Tag>,
    pub(crate) configurations: Vec<Configuration>,
    pub(crate) equipment: Vec<Equipment>,
    pub(crate) contacts: Vec<Contact>,
    pub(crate) addresses: Vec<Address>,
    pub(crate) devices: Vec<Device>,
    pub(crate) document_types: Vec<DocumentType>,
}

impl World {
    /// The world of a configuration. No server is needed to ask it for the truth.
    pub fn new(config: &SimulatorConfig) -> Self {
        let span = config.data_from.timestamp_millis()..config.data_to.timestamp_millis();
        let (seed, fleet) = (config.seed, u64::from(config.vehicles));
        let mut tags = Tag::tree(seed, config.vehicles);
        let vehicles: Vec<Vehicle> = (0..fleet)
            .map(|index| Vehicle::build(seed, index, &tags, span.start))
            .collect();
        let (active, deactivated) = drivers::counts(config.vehicles);
        let drivers: Vec<Driver> = (0..active + deactivated)
            .map(|index| {
                let assigned = vehicles
                    .get(index as usize)
                    .filter(|vehicle| vehicle.driver.is_some());
                Driver::build(
                    seed,
                    index,
                    index < active,
                    assigned.map(Vehicle::named),
                    &tags,
                    span.start,
                )
            })
            .collect();
        let trailers: Vec<Trailer> = (0..fleet / 3 + 4)
            .map(|index| Trailer::build(seed, index, &tags, &vehicles))
            .collect();
        let equipment: Vec<Equipment> = (0..fleet / 4 + 4)
            .map(|index| Equipment::build(seed, index, &tags))
            .collect();
        let contacts: Vec<Contact> = (0..fleet / 10 + 6)
            .map(|index| Contact::build(seed, index))
            .collect();
        let addresses = Address::all(seed, &tags, &contacts, span.start);
        let configurations = (0..fleet / 2 + 8)
            .map(|index| Configuration::build(seed, index, &tags, span.start))
            .collect();
        enrol(seed, &mut tags, &vehicles, &drivers, &trailers, &addresses);
        Self {
            devices: Device::all(seed, &vehicles, &trailers, &equipment),
            document_types: DocumentType::all(seed),
            seed,
            region: config.region,
            span,
            clock: Clock::new(config),
            vehicles,
            drivers,
            trailers,
            tags,
            configurations,
            equipment,
            contacts,
            addresses,
        }
    }

    /// What time it is in the world.
    pub fn now(&self) -> DateTime<Utc> {
        DateTime::from_timestamp_millis(self.clock.now()).unwrap_or_default()
    }

    /// The part of a window in which things happen.
    pub(crate) fn within_data(&self, from: Millis, to: Millis) -> (Millis, Millis) {
        (
            from.clamp(self.span.start, self.span.end),
            to.clamp(self.span.start, self.span.end),
        )
    }
}

/// Enters every tagged entity in the tag's own lists.
fn enrol(
    seed: u64,
    tags: &mut [Tag],
    vehicles: &[Vehicle],
    drivers: &[Driver],
    trailers: &[Trailer],
    addresses: &[Address],
) {
    for vehicle in vehicles {
        let carried = vehicle.tags.as_deref().unwrap_or_default();
        tags::join(tags, carried, &vehicle.named(), |tag| &mut tag.vehicles);
        for sensor in &vehicle.sensors {
            // Sensors have a tag even if their vehicle has none.
            let mut draw = draw::Draw::new(seed, "sensor", &[vehicle.index]);
            let own: Vec<TagRef> = draw
                .pick(&tags[..tags.len().saturating_sub(1)])
                .map(Tag::reference)
                .into_iter()
                .collect();
            let carried = if carried.is_empty() { &own } else { carried };
            tags::join(tags, carried, &sensor.sensor, |tag| &mut tag.sensors);
        }
    }
    for driver in drivers {
        tags::join(
            tags,
            driver.tags.as_deref().unwrap_or_default(),
            &driver.driver,
            |tag| &mut tag.drivers,
        );
    }
    for trailer in trailers {
        tags::join(tags, &trailer.tags, &trailer.named(), |tag| &mut tag.assets);
    }
    for address in addresses {
        tags::join(tags, &address.tags, &address.place, |tag| {
            &mut tag.addresses
        });
    }
    for index in 0..vehicles.len() as u64 / 5 + 4 {
        let machine = Named::new(FIRST_MACHINE + index * 7, &format!("Presse {}", index + 1));
        let carried = Tag::some_of(tags, &mut draw::Draw::new(seed, "machine", &[index]));
        tags::join(tags, &carried, &machine, |tag| &mut tag.machines);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::{DAY, HOUR, day_of};

    fn world() -> World {
        World::new(&SimulatorConfig::default())
    }

    fn stat(name: &str) -> &'static StatType {
        StatType::named(name).expect("a known statistic")
    }

    #[test]
    fn a_reading_is_the_same_in_every_window() {
        let world = world();
        let start = world.span.start + 40 * DAY;
        for name in [
            "gps",
            "engineRpm",
            "faultCodes",
            "auxInput1",
            "fuelConsumedMilliliters",
        ] {
            for vehicle in &world.vehicles {
                let whole = world.readings(vehicle, stat(name), start, start + 3 * DAY);
                let pieces: Vec<Reading> = (0..24)
                    .flat_map(|part| {
                        let from = start + part * 3 * HOUR;
                        world.readings(vehicle, stat(name), from, from + 3 * HOUR)
                    })
                    .collect();
                assert_eq!(whole, pieces, "{name} of {}", vehicle.name);
            }
        }
    }

    #[test]
    fn what_happens_is_the_same_in_every_window() {
        let world = world();
        let start = world.span.start + 40 * DAY;
        let windows: Vec<(Millis, Millis)> = (0..30)
            .map(|part| (start + part * 5 * HOUR, start + (part + 1) * 5 * HOUR))
            .collect();
        let whole = (start, start + 150 * HOUR);
        let same = |what: &dyn Fn(Millis, Millis) -> Vec<Millis>| {
            let pieces: Vec<Millis> = windows
                .iter()
                .flat_map(|window| what(window.0, window.1))
                .collect();
            assert_eq!(what(whole.0, whole.1), pieces);
            pieces.len()
        };
        let mut found = [0; 4];
        for vehicle in &world.vehicles {
            found[0] += same(&|from, to| {
                world
                    .idling(vehicle, from, to)
                    .iter()
                    .map(|one| one.start)
                    .collect()
            });
            found[1] += same(&|from, to| {
                world
                    .safety_events(vehicle, from, to)
                    .iter()
                    .map(|one| one.time)
                    .collect()
            });
            found[2] += same(&|from, to| {
                world
                    .assignments_starting(vehicle, from, to)
                    .iter()
                    .map(|one| one.start)
                    .collect()
            });
        }
        for driver in &world.drivers {
            found[3] += same(&|from, to| {
                world
                    .violations(driver, from, to)
                    .iter()
                    .map(|one| one.start)
                    .collect()
            });
        }
        assert!(found.iter().all(|count| *count > 0), "{found:?}");
    }

    #[test]
    fn a_daily_log_accounts_for_the_whole_day() {
        let world = world();
        let date = day_of(world.span.start) + 40;
        let logs: Vec<DailyLog<'_>> = world
            .drivers
            .iter()
            .filter_map(|driver| world.daily_log(driver, date))
            .collect();
        assert!(!logs.is_empty());
        for log in logs {
            let [active, drive, off, on, conveyance, sleeper, waiting, yard] = log.durations;
            assert_eq!(
                drive + off + on + conveyance + sleeper + waiting + yard,
                DAY
            );
            assert_eq!(active, drive + on);
        }
    }

    #[test]
    fn stretches_of_idling_never_overlap() {
        let world = world();
        for vehicle in &world.vehicles {
            let stretches = world.idling(vehicle, world.span.start, world.span.start + 200 * DAY);
            for pair in stretches.windows(2) {
                assert!(pair[0].end < pair[1].start, "{pair:?}");
            }
        }
    }

    #[test]
    fn trips_of_a_vehicle_never_overlap_and_some_cross_midnight() {
        let world = world();
        let mut crossing = 0;
        for vehicle in &world.vehicles {
            let trips =
                world.trips_starting(vehicle, world.span.start, world.span.start + 200 * DAY);
            for pair in trips.windows(2) {
                assert!(
                    pair[0].end.is_some_and(|end| end < pair[1].start),
                    "{pair:?}"
                );
            }
            crossing += trips
                .iter()
                .filter(|trip| trip.end.is_some_and(|end| day_of(end) > day_of(trip.start)))
                .count();
        }
        assert!(crossing > 10);
    }

    #[test]
    fn every_kind_of_thing_occurs_in_a_small_fleet() {
        let world = world();
        assert!(
            world
                .vehicles
                .iter()
                .any(|vehicle| vehicle.gateway.is_none())
        );
        assert!(world.drivers.iter().any(|driver| !driver.active));
        assert!(
            world
                .trailers
                .iter()
                .any(|trailer| trailer.reefer.is_some())
        );
        assert!(
            world
                .tags
                .iter()
                .any(|tag| tag.vehicles.as_ref().is_some_and(|list| !list.is_empty()))
        );
        assert!(
            world
                .tags
                .iter()
                .any(|tag| tag.vehicles.as_ref().is_some_and(Vec::is_empty))
        );
        assert!(world.tags.iter().any(|tag| tag.vehicles.is_none()));
        let days = day_of(world.span.start)..day_of(world.span.start) + 30;
        assert!(days.clone().any(|day| !world.audit_logs(day).is_empty()));
        assert!(
            days.clone()
                .any(|day| !world.incidents(&world.configurations[0], day).is_empty())
        );
        let used = |vehicle: &Vehicle| {
            days.clone()
                .filter(|day| world.is_active(vehicle, *day))
                .count()
        };
        assert!(
            world
                .vehicles
                .iter()
                .map(used)
                .any(|count| (5..30).contains(&count))
        );
    }

    #[test]
    fn an_empty_fleet_is_a_world_too() {
        let world = World::new(&SimulatorConfig {
            vehicles: 0,
            ..Default::default()
        });
        let day = day_of(world.span.start);
        assert!(
            world.audit_logs(day).is_empty()
                && world.incidents(&world.configurations[0], day).is_empty()
        );
    }

    #[test]
    fn readings_arrive_late_but_arrive() {
        let config = SimulatorConfig::default();
        let world = World::new(&config);
        let (from, to) = (world.span.start + 10 * DAY, world.span.start + 40 * DAY);
        let count = |world: &World| -> usize {
            world
                .vehicles
                .iter()
                .map(|vehicle| world.readings(vehicle, stat("gps"), from, to).len())
                .sum()
        };
        let all = count(&world);
        world.clock.set(to);
        let by_then = count(&world);
        assert!(by_then <= all);
        // Requested day by day at each day's end, some readings are missing.
        let punctual: usize = (0..30)
            .map(|day| {
                world.clock.set(from + (day + 1) * DAY);
                let window = (from + day * DAY, from + (day + 1) * DAY);
                world
                    .vehicles
                    .iter()
                    .map(|vehicle| {
                        world
                            .readings(vehicle, stat("gps"), window.0, window.1)
                            .len()
                    })
                    .sum::<usize>()
            })
            .sum();
        assert!(punctual < all, "{punctual} of {all}");
        // The feed sees them all, whenever they arrive.
        world.clock.set(config.data_to.timestamp_millis());
        let fed: usize = (0..32)
            .map(|day| {
                let after = from - 1 + day * DAY;
                world
                    .vehicles
                    .iter()
                    .flat_map(|vehicle| world.arrivals(vehicle, stat("gps"), after, after + DAY))
                    .filter(|reading| (from..to).contains(&reading.time))
                    .count()
            })
            .sum();
        assert_eq!(fed, all);
    }
}
