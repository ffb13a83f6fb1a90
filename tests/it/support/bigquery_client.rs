//! The client library as the tests of the doubles use it.

use std::sync::Arc;

use async_trait::async_trait;
use gcp_bigquery_client::{
    Client, auth::Authenticator, client_builder::ClientBuilder, error::BQError,
};

#[derive(Clone)]
struct NoToken;

#[async_trait]
impl Authenticator for NoToken {
    async fn access_token(&self) -> Result<String, BQError> {
        Ok("none".to_owned())
    }
}

/// A client without credentials for the emulator or double at that address.
pub async fn connect(url: &str) -> Client {
    // A connection for each call: the emulator closes idle ones just when they are used again, and this client, unlike
    // the program's, does not retry.
    let http = reqwest::Client::builder()
        .no_proxy()
        .pool_max_idle_per_host(0)
        .build()
        .unwrap();
    let mut builder = ClientBuilder::new();
    builder
        .with_v2_base_url(format!("{url}/bigquery/v2"))
        .with_client(http);
    builder
        .build_from_authenticator(Arc::new(NoToken))
        .await
        .unwrap()
}
