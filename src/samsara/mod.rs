//! The Samsara API: a request becomes a stream of pages.
//!
//! Handles all that the API requires of its clients: the token, the region's host, retries with back-off, documented
//! rates, `Retry-After`, the two ways of paging, and error bodies that are not always JSON.

mod client;
mod error;
mod limit;
mod omit;
mod page;
mod pager;
mod request;
mod retry;
mod watch;

pub use client::Client;
pub use error::{AttemptError, BodyError, SamsaraError};
pub use page::{Page, PageError, split_page};
pub use pager::Pager;
pub use request::{ParentRow, Request, Window};
pub use retry::{LONGEST_RETRY_AFTER, retry_after};
pub use watch::Watch;
