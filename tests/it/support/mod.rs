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
pub mod sources;
pub mod wire;

/// Waits until a condition holds, for half a minute at most.
pub async fn until(mut happened: impl FnMut() -> bool) {
    for _ in 0..3000 {
        if happened() {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("it did not happen within half a minute");
}
