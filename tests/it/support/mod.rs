//! What the integration tests stand on: doubles of the services the program talks to.

#[cfg(test)]
mod bigquery_client;
pub mod bigquery_double;
pub mod bigquery_emulator;
pub mod faults;
pub mod gate;
pub mod gcs;
pub mod proxy;
pub mod wire;
