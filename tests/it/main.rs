//! Whole-program tests, in one binary: each further one would link DataFusion again.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test or bench that cannot go on should stop"
)]

mod architecture;
mod bigquery;
mod chaos;
mod check;
mod clean;
mod command;
mod cursors;
mod demo;
mod documentation;
mod faults;
mod fixtures;
mod fuzzing;
mod history;
mod hostile;
mod late;
mod load_jobs;
mod loading;
mod lock;
mod privacy;
mod program;
mod read_back;
mod rerun;
mod signals;
mod support;
mod truth;
mod versions;
mod warehouses;
