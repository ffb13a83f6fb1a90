//! The client library as the tests of the doubles use it.

use std::sync::Arc;

use async_trait::async_trait;
use gcp_bigquery_client::{Client, auth::Authenticator, client_builder::ClientBuilder, error::BQError};

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
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let mut builder = ClientBuilder::new();
    builder.with_v2_base_url(format!("{url}/bigquery/v2")).with_client(http);
    builder.build_from_authenticator(Arc::new(NoToken)).await.unwrap()
}
