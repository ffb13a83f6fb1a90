//! Devices. Health and tags are returned on request only.

use serde_json::Value;

use super::filters::TagFilter;
use crate::paging::{Call, Empty, Paging};
use crate::query::Refusal;
use crate::wire::DeviceParts;
use crate::world::Device;

/// Records on a page, and the largest `limit`.
const PAGE: usize = 100;

const STATUSES: &[&str] = &[
    "healthy",
    "needsAttention",
    "needsReplacement",
    "dataPending",
];

pub(super) fn devices(call: &Call<'_>) -> Result<Value, Refusal> {
    let size = call.limited_page_size(PAGE, PAGE as i64)?;
    let flag = |name| Ok::<_, Refusal>(call.query.flag(name)?.unwrap_or(false));
    let parts = DeviceParts {
        health: flag("includeHealth")?,
        tags: flag("includeTags")?,
    };
    let (models, statuses) = (call.query.list("models"), call.query.list("healthStatuses"));
    if let Some(status) = statuses.iter().find(|status| !STATUSES.contains(status)) {
        return Err(Refusal::bad(format!("Invalid health status: {status}.")));
    }
    let tags = TagFilter::of(call);
    let devices: Vec<&Device> = call
        .world
        .devices
        .iter()
        .filter(|device| models.is_empty() || models.contains(&device.model))
        .filter(|device| {
            let status = device.health.as_ref().map(|health| health.status);
            statuses.is_empty() || status.is_some_and(|status| statuses.contains(&status))
        })
        .filter(|device| tags.lets(&device.tags))
        .collect();
    let page = call.list_page(Paging::AFTER, &devices, size, |device| {
        call.wire.device(call.world, device, parts)
    })?;
    Ok(call.envelope(page, Empty::List))
}
