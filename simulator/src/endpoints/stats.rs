//! Vehicle statistics: `/history` by reading time, `/feed` by arrival. Decorations are not served.

use serde_json::Value;

use crate::cursor::Position;
use crate::paging::{Call, Empty, Found, Next, Paging};
use crate::query::Refusal;
use crate::world::{Reading, StatType, Vehicle};

/// Vehicles on a page. The API chooses the size itself; here it is small, so that there are several pages.
const PAGE: usize = 4;

/// The documentation says three; four pass.
const MOST_TYPES: usize = 4;

/// The requested statistics, in the order of the request.
fn types(call: &Call<'_>) -> Result<Vec<&'static StatType>, Refusal> {
    let mut types: Vec<&StatType> = Vec::new();
    for name in call.query.list("types") {
        // An unknown name hides that there are too many.
        let stat = StatType::named(name)
            .ok_or_else(|| Refusal::bad(format!("Invalid stat type: {name}.")))?;
        if !types.contains(&stat) {
            types.push(stat);
        }
    }
    // The inputs 3 to 10 count as one.
    let grouped = |stat: &StatType| {
        stat.name
            .strip_prefix("auxInput")
            .and_then(|n| n.parse().ok())
            .is_some_and(|n: u8| (3..=10).contains(&n))
    };
    let count = types.iter().filter(|stat| !grouped(stat)).count()
        + usize::from(types.iter().any(|s| grouped(s)));
    match count {
        0 => Err(Refusal::bad("types is required.")),
        count if count > MOST_TYPES => Err(Refusal::bad(format!(
            "Request is restricted to {MOST_TYPES} types."
        ))),
        _ => Ok(types),
    }
}

/// The requested vehicles: all, unless ids or tags are given.
fn vehicles<'a>(call: &Call<'a>) -> Result<Vec<&'a Vehicle>, Refusal> {
    let tags = call.query.list("tagIds");
    let mut ids = Vec::new();
    for id in call.query.list("vehicleIds") {
        ids.push(
            id.parse::<u64>()
                .map_err(|_| Refusal::bad(format!("Invalid vehicle id: {id}.")))?,
        );
    }
    let tagged = |vehicle: &Vehicle| {
        vehicle
            .tags
            .iter()
            .flatten()
            .any(|carried| tags.contains(&carried.tag.id.as_str()))
    };
    let wanted = |vehicle: &&Vehicle| {
        (ids.is_empty() || ids.contains(&vehicle.id)) && (tags.is_empty() || tagged(vehicle))
    };
    Ok(call.world.vehicles.iter().filter(wanted).collect())
}

/// Reads the vehicles from a position until a page is full, skipping those without readings. Returns the records and
/// the number of vehicles passed.
fn fill_page(
    call: &Call<'_>,
    vehicles: &[&Vehicle],
    types: &[&StatType],
    from: i64,
    size: usize,
    read: impl Fn(&Vehicle, &StatType) -> Vec<Reading>,
) -> (Vec<Value>, usize) {
    let mut behind = usize::try_from(from)
        .unwrap_or(usize::MAX)
        .min(vehicles.len());
    let mut records = Vec::new();
    while behind < vehicles.len() && records.len() < size {
        let vehicle = vehicles[behind];
        behind += 1;
        let series: Vec<(&StatType, Vec<Reading>)> = types
            .iter()
            .map(|stat| (*stat, read(vehicle, stat)))
            .collect();
        if series.iter().all(|(_, readings)| readings.is_empty()) {
            continue;
        }
        // A statistic without readings is left out for some vehicles and empty for others.
        let mention_empty = vehicle.index % 2 == 1;
        let series = series
            .into_iter()
            .filter(|(_, readings)| mention_empty || !readings.is_empty())
            .map(|(stat, readings)| {
                (
                    stat.name,
                    readings.iter().map(|one| call.wire.reading(one)).collect(),
                )
            })
            .collect();
        records.push(call.wire.vehicle_stats(vehicle, series));
    }
    (records, behind)
}

pub(super) fn history(call: &Call<'_>) -> Result<Value, Refusal> {
    let types = types(call)?;
    let vehicles = vehicles(call)?;
    let (from, to) = (call.query.time("startTime")?, call.query.time("endTime")?);
    if to < from {
        return Err(Refusal::bad("endTime is before startTime."));
    }
    let size = call.page_size(PAGE, true)?;
    let read = |vehicle: &Vehicle, stat: &StatType| {
        let mut readings = call.world.readings(vehicle, stat, from, to);
        if call.point_before_window && !readings.is_empty() {
            let before = call
                .world
                .last_known(vehicle, stat, from, call.world.clock.now());
            readings.splice(0..0, before);
        }
        readings
    };
    let page = call.page(
        Paging::AFTER,
        || Ok(Position::default()),
        |position| {
            let (records, behind) = fill_page(call, &vehicles, &types, position.offset, size, read);
            let next = Position {
                offset: behind as i64,
                ..Position::default()
            };
            Ok(Found {
                records,
                next: if behind < vehicles.len() {
                    Next::More(next)
                } else {
                    Next::End
                },
            })
        },
    )?;
    Ok(call.envelope(page, Empty::List))
}

/// The first request returns the last known reading of each vehicle, later ones what arrived since. A read of the
/// vehicles keeps the instant at which it began; what arrives meanwhile is in the next one.
pub(super) fn feed(call: &Call<'_>) -> Result<Value, Refusal> {
    /// In place of the instant since which arrivals are returned: there is none yet.
    const COLD: i64 = i64::MIN;

    let types = types(call)?;
    let vehicles = vehicles(call)?;
    let size = call.page_size(PAGE, true)?;
    let now = call.world.clock.now();
    let page = call.page(
        Paging::AFTER,
        || {
            Ok(Position {
                since: COLD,
                until: now,
                ..Position::default()
            })
        },
        |position| {
            // At the start of a later read the present becomes its end.
            let until = if position.offset == 0 && position.since != COLD {
                now
            } else {
                position.until
            };
            let read = |vehicle: &Vehicle, stat: &StatType| match position.since {
                COLD => call
                    .world
                    .last_known(vehicle, stat, until.saturating_add(1), until)
                    .into_iter()
                    .collect(),
                since => call.world.arrivals(vehicle, stat, since, until),
            };
            let (records, behind) = fill_page(call, &vehicles, &types, position.offset, size, read);
            let next = if behind < vehicles.len() {
                Next::More(Position {
                    since: position.since,
                    until,
                    offset: behind as i64,
                    ..Position::default()
                })
            } else if position.since != COLD && position.offset == 0 && records.is_empty() {
                // Nothing new: the cursor stays what it is.
                Next::Later(position)
            } else {
                Next::Later(Position {
                    since: until,
                    until,
                    ..Position::default()
                })
            };
            Ok(Found { records, next })
        },
    )?;
    Ok(call.envelope(page, Empty::List))
}
