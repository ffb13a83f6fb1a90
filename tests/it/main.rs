//! Whole-program tests, in one binary: each further one would link DataFusion again.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test or bench that cannot go on should stop"
)]

mod analyst;
mod architecture;
mod bigquery;
mod chaos;
mod check;
mod clean;
mod cold_feeds;
mod command;
mod cursor_guards;
mod cursors;
mod dead_cursors;
mod dead_endpoint;
mod demo;
mod documentation;
mod fan_out;
mod faults;
mod first_loads;
mod fixtures;
mod full_disk;
mod fuzzing;
mod history;
mod hostile;
mod http;
mod joins;
mod lasting;
mod late;
mod ledger;
mod load_jobs;
mod loading;
mod lock;
mod privacy;
mod program;
mod read_back;
mod rerun;
mod signals;
mod support;
mod tls;
mod truth;
mod uploads;
mod versions;
mod warehouses;
