//! Records found group by group (a vehicle's, a driver's), and paged in that order.

use serde_json::Value;

use crate::cursor::Position;
use crate::paging::{Call, Found, Next, Page, Paging};
use crate::query::Refusal;

/// One page of a paginated read over groups. `of_group` returns the records of one. A position is the group and the
/// number of its records that were served.
pub(super) fn page<T>(
    call: &Call<'_>,
    groups: &[T],
    size: usize,
    of_group: impl Fn(&T) -> Vec<Value>,
) -> Result<Page, Refusal> {
    let start = || Ok(Position::default());
    call.page(Paging::AFTER, start, |position| {
        let first = usize::try_from(position.since).unwrap_or(usize::MAX);
        let mut behind = usize::try_from(position.offset).unwrap_or(usize::MAX);
        let mut records = Vec::new();
        for (index, group) in groups.iter().enumerate().skip(first) {
            let mut own = of_group(group).into_iter().skip(behind);
            let room = size - records.len();
            records.extend(own.by_ref().take(room));
            let left = own.len();
            if left > 0 {
                let offset = (behind + room) as i64;
                let next = Position {
                    since: index as i64,
                    offset,
                    ..Position::default()
                };
                return Ok(Found {
                    records,
                    next: Next::More(next),
                });
            }
            behind = 0;
        }
        Ok(Found {
            records,
            next: Next::End,
        })
    })
}
