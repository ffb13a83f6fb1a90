//! What the integration tests share: doubles of the services the program talks to, and runs of the program.

#[cfg(test)]
mod bigquery_client;
pub mod bigquery_double;
pub mod bigquery_emulator;
pub mod collector;
pub mod dice;
pub mod faults;
pub mod gate;
pub mod gcs;
pub mod proxy;
pub mod runs;
pub mod wire;
