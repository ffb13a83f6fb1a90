//! Alert configurations and their incidents.

use serde_json::Value;

use super::stream;
use crate::paging::{Call, Empty, Paging};
use crate::query::Refusal;
use crate::time::day_of;
use crate::world::{Configuration, Incident};

/// Records on a page.
const CONFIGURATIONS_PAGE: usize = 10;
const INCIDENTS_PAGE: usize = 20;

/// Configurations one call may name.
const MOST_IDS: usize = 50;

pub(super) fn configurations(call: &Call<'_>) -> Result<Value, Refusal> {
    let enabled = match call.query.first("status") {
        None | Some("all") => None,
        Some("enabled") => Some(true),
        Some("disabled") => Some(false),
        Some(_) => return Err(Refusal::bad("status must be all, enabled or disabled.")),
    };
    let ids: Vec<&str> = call.query.all("ids").collect();
    let with_external_ids = call.query.first("includeExternalIds") == Some("true");
    let configurations: Vec<&Configuration> = call
        .world
        .configurations
        .iter()
        .filter(|configuration| enabled.is_none_or(|enabled| configuration.enabled == enabled))
        .filter(|configuration| ids.is_empty() || ids.contains(&configuration.id.as_str()))
        .collect();
    let size = call.page_size(CONFIGURATIONS_PAGE, false)?;
    let page = call.list_page(Paging::AFTER, &configurations, size, |configuration| {
        call.wire.configuration(configuration, with_external_ids)
    })?;
    Ok(call.envelope(page, Empty::Null))
}

pub(super) fn incidents(call: &Call<'_>) -> Result<Value, Refusal> {
    let ids: Vec<&str> = call.query.all("configurationIds").collect();
    match ids.len() {
        0 => return Err(Refusal::bad("configurationIds is required.")),
        count if count > MOST_IDS => {
            return Err(Refusal::bad(format!(
                "configurationIds takes up to {MOST_IDS} values, not {count}."
            )));
        }
        _ => {}
    }
    if let Some(joined) = ids.iter().find(|id| id.contains(',')) {
        return Err(Refusal::bad(format!("Invalid configuration id: {joined}.")));
    }
    let watched: Vec<&Configuration> = call
        .world
        .configurations
        .iter()
        .filter(|watched| ids.contains(&watched.id.as_str()))
        .collect();
    let (from, to) = (
        call.query.time("startTime")?,
        call.query.optional_time("endTime")?,
    );
    let size = call.page_size(INCIDENTS_PAGE, false)?;
    let page = stream::page(call, Paging::AFTER, Some(from), to, size, |day| {
        // Found by time of last change, which is up to 30 hours after the incident.
        let mut incidents: Vec<Incident> = watched
            .iter()
            .flat_map(|watched| {
                (day - 2..=day).flat_map(move |day| call.world.incidents(watched, day))
            })
            .filter(|incident| day_of(incident.updated) == day)
            .collect();
        incidents.sort_by_key(|incident| incident.updated);
        incidents
            .into_iter()
            .map(|incident| (incident.updated, call.wire.incident(&incident)))
            .collect()
    })?;
    Ok(call.envelope(page, Empty::Null))
}
