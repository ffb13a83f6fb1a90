//! Trailers, equipment, and the v1 list of both.

use serde_json::{Map, Value};

use super::filters::TagFilter;
use crate::paging::{Call, Empty, Paging};
use crate::query::Refusal;
use crate::world::{Equipment, Trailer};

/// Records on a page.
const PAGE: usize = 512;

pub(super) fn trailers(call: &Call<'_>) -> Result<Value, Refusal> {
    let size = call.page_size(PAGE, true)?;
    let tags = TagFilter::of(call);
    let trailers: Vec<&Trailer> = call
        .world
        .trailers
        .iter()
        .filter(|trailer| tags.lets(&trailer.tags))
        .collect();
    let page = call.list_page(Paging::AFTER, &trailers, size, |trailer| {
        call.wire.trailer(trailer)
    })?;
    Ok(call.envelope(page, Empty::List))
}

pub(super) fn equipment(call: &Call<'_>) -> Result<Value, Refusal> {
    let size = call.page_size(PAGE, true)?;
    let tags = TagFilter::of(call);
    let tagged = |equipment: &&Equipment| tags.lets(equipment.tags.as_deref().unwrap_or_default());
    let equipment: Vec<&Equipment> = call.world.equipment.iter().filter(tagged).collect();
    let page = call.list_page(Paging::AFTER, &equipment, size, |equipment| {
        call.wire.equipment(equipment)
    })?;
    Ok(call.envelope(page, Empty::List))
}

/// Everything in one response, under a name of its own. Parameters are ignored.
pub(super) fn assets(call: &Call<'_>) -> Result<Value, Refusal> {
    let mut envelope = Map::new();
    envelope.insert(
        "assets".to_owned(),
        call.world
            .assets()
            .map(|asset| call.wire.asset(&asset))
            .collect(),
    );
    call.wire.strange_envelope(&mut envelope);
    Ok(envelope.into())
}
