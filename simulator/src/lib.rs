//! A Samsara API on localhost, for the demo, the tests and the benches.
//!
//! It serves a simulated organisation the way the live API is known to behave: opaque cursors bound to their
//! query, late data, mixed number types, plain-text errors and more. It shares no code with the client, so that
//! the two can disagree, and it knows what every output table should hold ([`World::truth`]).
//!
//! | file | what it is about |
//! |---|---|
//! | `config` | the settings of a simulator |
//! | `faults` | how often what goes wrong |
//! | `server` | from request to answer: token, scope, rate limit, fault, endpoint |
//! | `delivery` | from answer to bytes, complete or damaged |
//! | `endpoints/` | one file per family: parameters checked, records chosen |
//! | `surface/` | endpoints written as text, in `surfaces/`: records, pages and truth by convention |
//! | `paging`, `cursor`, `query` | pages, cursors, parameters and refusals, shared by the endpoints |
//! | `limits`, `request_log`, `replay` | rate limits, log of requests, recorded pages |
//! | `wire/` | the world's records as JSON |
//! | `world/` | who there is, and what happens: drawn from the seed, never stored |
//! | `truth/` | the world's records as rows of the output tables |
//! | `time` | instants, days and how they are written |

#![cfg_attr(
    test,
    allow(
        clippy::disallowed_methods,
        clippy::too_many_lines,
        reason = "a test's tasks end with its runtime, and a table of cases may be long"
    )
)]

mod config;
mod cursor;
mod delivery;
mod endpoints;
mod faults;
mod limits;
mod paging;
mod query;
mod replay;
mod request_log;
mod server;
mod surface;
mod time;
mod truth;
mod wire;
mod world;

#[cfg(test)]
mod tests;

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::serve::ListenerExt;
use chrono::{DateTime, Utc};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub use config::{DEFAULT_TOKEN, FuelWindow, LateData, Region, SimulatorConfig};
pub use faults::Faults;
pub use request_log::LoggedRequest;
pub use truth::Row;
pub use world::World;

use server::Shared;

/// A client that never reads its response must not keep a simulator alive.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(5);

/// Why a simulator could not be made.
#[derive(Debug, thiserror::Error)]
pub enum SimulatorError {
    /// The configuration describes no possible world.
    #[error("simulator configuration: {0}")]
    Config(String),
    /// The faults could not be read.
    #[error("simulator faults: {0}")]
    Faults(String),
    /// The address cannot be listened on.
    #[error("cannot listen on {address}")]
    Listen {
        /// The requested address.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
}

/// A running simulator. It stops when it is dropped.
#[derive(Debug)]
pub struct Simulator {
    address: SocketAddr,
    shared: Arc<Shared>,
    stop: CancellationToken,
    server: Option<JoinHandle<()>>,
}

impl Simulator {
    /// Builds the world and serves it on the current tokio runtime.
    pub async fn start(config: SimulatorConfig) -> Result<Self, SimulatorError> {
        config.check()?;
        let refused = |source| SimulatorError::Listen {
            address: config.listen,
            source,
        };
        let listener = TcpListener::bind(config.listen).await.map_err(refused)?;
        let address = listener.local_addr().map_err(refused)?;
        // Small pages must not wait for more to send.
        let listener = listener.tap_io(|connection| {
            if let Err(error) = connection.set_nodelay(true) {
                tracing::debug!(%error, "the connection keeps its delay");
            }
        });
        let shared = Arc::new(Shared::new(config));
        let app = Router::new()
            .fallback(server::handle)
            .with_state(shared.clone());
        let stop = CancellationToken::new();
        let stopped = stop.clone().cancelled_owned();
        #[expect(
            clippy::disallowed_methods,
            reason = "the simulator owns its server, and stops it on drop"
        )]
        let server = tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, app)
                .with_graceful_shutdown(stopped)
                .await
            {
                tracing::error!(%error, "the simulator stopped");
            }
        });
        Ok(Self {
            address,
            shared,
            stop,
            server: Some(server),
        })
    }

    /// Its address on this machine, as `http://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        let mut address = self.address;
        // Listening everywhere includes here.
        match address.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
            IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
            _ => {}
        }
        format!("http://{address}")
    }

    /// The token it accepts.
    pub fn token(&self) -> &str {
        &self.shared.config.token
    }

    /// All requests, oldest first.
    pub fn requests(&self) -> Vec<LoggedRequest> {
        self.shared.log.all()
    }

    /// How many requests [`Simulator::requests`] has.
    pub fn request_count(&self) -> usize {
        self.shared.log.len()
    }

    /// Clears the log of requests. Their numbers continue.
    pub fn clear_requests(&self) {
        self.shared.log.clear();
    }

    /// The world it serves.
    pub fn world(&self) -> &World {
        &self.shared.world
    }

    /// Sets the world's clock, which determines what has happened, what has arrived and what is in progress.
    pub fn set_now(&self, now: DateTime<Utc>) {
        self.shared.world.clock.set(now.timestamp_millis());
    }

    /// Makes the readings arrive that [`SimulatorConfig::late`] withholds. The world's clock advances by a second.
    pub fn release_late(&self) {
        self.shared.world.clock.release();
    }

    /// Makes every cursor given out so far invalid, as the API does after thirty days.
    pub fn expire_cursors(&self) {
        self.shared.expire_cursors();
    }

    /// Stops listening and waits for responses in progress, but at most a few seconds.
    pub async fn shutdown(mut self) {
        self.stop.cancel();
        let Some(mut server) = self.server.take() else {
            return;
        };
        match tokio::time::timeout(SHUTDOWN_LIMIT, &mut server).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, "the simulator did not stop cleanly"),
            Err(_) => server.abort(),
        }
    }
}

impl Drop for Simulator {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}
