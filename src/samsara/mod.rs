//! The Samsara API: a request becomes a stream of pages.
//!
//! This module does everything that the API demands of a client: token, regional host, retries with back-off,
//! documented rate limits, `Retry-After`, the two kinds of pagination, and error bodies that are not always JSON.

mod client;
mod error;
mod limit;
mod page;
mod request;
mod retry;
mod watch;

pub use client::{Client, Pager};
pub use error::{Cause, SamsaraError};
pub use page::{Page, split_page};
pub use request::{Request, Window};
pub use retry::{LONGEST_RETRY_AFTER, retry_after};
pub use watch::Watch;
