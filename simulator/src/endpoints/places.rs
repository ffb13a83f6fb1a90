//! Addresses and contacts.

use serde_json::Value;

use super::filters::TagFilter;
use crate::paging::{Call, Empty, Paging};
use crate::query::Refusal;
use crate::world::Address;

/// Records on a page.
const PAGE: usize = 512;

pub(super) fn addresses(call: &Call<'_>) -> Result<Value, Refusal> {
    let size = call.page_size(PAGE, true)?;
    let tags = TagFilter::of(call);
    let created = call.query.optional_time("createdAfterTime")?;
    let addresses: Vec<&Address> = call
        .world
        .addresses
        .iter()
        // Unlike elsewhere, the instant itself counts in.
        .filter(|address| created.is_none_or(|after| address.created >= after))
        .filter(|address| tags.lets(&address.tags))
        .collect();
    let page = call.list_page(Paging::AFTER, &addresses, size, |address| {
        call.wire.address(address)
    })?;
    Ok(call.envelope(page, Empty::List))
}

pub(super) fn contacts(call: &Call<'_>) -> Result<Value, Refusal> {
    let size = call.page_size(PAGE, true)?;
    let page = call.list_page(Paging::AFTER, &call.world.contacts, size, |contact| {
        call.wire.contact(contact)
    })?;
    Ok(call.envelope(page, Empty::List))
}
