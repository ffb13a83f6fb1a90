//! Documents and their types.

use serde_json::Value;

use super::{filters, stream};
use crate::paging::{Call, Empty, Paging};
use crate::query::Refusal;

/// Records on a page.
const TYPES_PAGE: usize = 3;
const PAGE: usize = 10;

pub(super) fn types(call: &Call<'_>) -> Result<Value, Refusal> {
    let size = call.page_size(TYPES_PAGE, false)?;
    let page = call.list_page(Paging::AFTER, &call.world.document_types, size, |form| {
        call.wire.document_type(form)
    })?;
    Ok(call.envelope(page, Empty::List))
}

pub(super) fn documents(call: &Call<'_>) -> Result<Value, Refusal> {
    let (from, to) = filters::window(call)?;
    let by_change = match call.query.first("queryBy") {
        None | Some("created") => false,
        Some("updated") => true,
        Some(_) => return Err(Refusal::bad("queryBy must be created or updated.")),
    };
    let form = call.query.first("documentTypeId");
    let size = call.page_size(PAGE, false)?;
    let page = stream::page(call, Paging::AFTER, Some(from), Some(to), size, |day| {
        let documents = if by_change {
            call.world.documents_changed(day)
        } else {
            call.world.documents(day)
        };
        documents
            .iter()
            .filter(|document| form.is_none_or(|form| document.form.id == form))
            .map(|document| {
                let time = if by_change {
                    document.changed()
                } else {
                    document.created
                };
                (time, call.wire.document(document))
            })
            .collect()
    })?;
    Ok(call.envelope(page, Empty::Null))
}
