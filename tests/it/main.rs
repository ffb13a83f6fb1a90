//! Whole-program tests, in one binary: each additional binary would link DataFusion again.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::disallowed_methods,
    clippy::exit,
    clippy::too_many_lines,
    reason = "a test or bench that cannot go on should stop; a table of cases may be long"
)]

mod analyst;
mod architecture;
mod attacks;
mod available;
#[cfg(feature = "ballista")]
mod ballista;
mod bigquery;
mod chaos;
mod check;
mod clean;
mod cold_feeds;
mod command;
mod commits;
mod configuration;
mod cursor_guards;
mod cursors;
mod dashboards;
mod dead_cursors;
mod dead_endpoint;
mod delta;
mod demo;
mod dictionary;
mod documentation;
mod fan_out;
mod faults;
mod first_loads;
mod fixtures;
mod foreign;
mod formats;
mod full_disk;
mod fuzzing;
mod history;
mod hostile;
mod http;
mod joins;
mod keys_and_times;
mod lasting;
mod late;
mod ledger;
mod load_jobs;
mod loading;
mod lock;
mod lsp;
mod marts;
mod models;
mod months;
mod outages;
mod privacy;
mod program;
mod proxy;
mod read_back;
mod report_page;
mod rerun;
mod secrets;
mod shown;
mod signals;
mod support;
mod telemetry;
mod terminal;
mod tls;
mod truth;
mod updates;
mod uploads;
mod values;
mod versions;
mod warehouses;
mod wrong_sql;
