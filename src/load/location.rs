//! Where bucket and dataset are: BigQuery loads only from a bucket of its own location.
//!
//! `object_store` does not provide a bucket's location, so Cloud Storage's JSON API is asked once, with the same
//! credentials. A token that may not see the bucket's metadata does not stop the run: the load job then says so.

use std::time::Duration;

use serde::Deserialize;
use tokio::runtime::Handle;

use crate::config::{CredentialsError, GoogleAccess};
use crate::http::{ConnectionError, HttpError};
use crate::load::error::LoadError;
use crate::{google, http, redact};

const API: &str = "https://storage.googleapis.com";

#[derive(Deserialize)]
struct BucketResource {
    location: String,
}

/// Refuses a bucket from which the dataset cannot be loaded.
pub(super) async fn check(
    target: &str,
    dataset: Option<&str>,
    bucket: &str,
    access: &GoogleAccess,
) -> Result<(), LoadError> {
    let Some(dataset) = dataset else {
        return Ok(());
    };
    match bucket_location(bucket, access).await {
        Ok(found) if !can_load(dataset, &found) => Err(LoadError::Location {
            target: target.into(),
            dataset: dataset.into(),
            bucket: bucket.into(),
            found,
        }),
        Ok(_) => Ok(()),
        Err(error) => {
            tracing::debug!(bucket, %error, "location of the bucket unknown");
            Ok(())
        }
    }
}

/// Why the location of a bucket is not known.
#[derive(Debug, thiserror::Error)]
enum LookupError {
    #[error(transparent)]
    Http(#[from] HttpError),
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    #[error("no access token: {}", redact::foreign(.0))]
    Token(#[from] object_store::Error),
    #[error(transparent)]
    Connection(#[from] ConnectionError),
}

async fn bucket_location(bucket: &str, access: &GoogleAccess) -> Result<String, LookupError> {
    let base = access.storage_emulator.as_deref().unwrap_or(API);
    let client = http::builder_for(&access.http, base)?;
    let client = http::build(client.timeout(Duration::from_secs(10)))?;
    let mut request = client.get(format!("{base}/storage/v1/b/{bucket}?fields=location"));
    if access.storage_emulator.is_none() {
        let provider = google::provider(access, &Handle::current())?;
        let credential = provider.get_credential().await?;
        request = request.bearer_auth(&credential.bearer);
    }
    let answer = request
        .send()
        .await
        .and_then(reqwest::Response::error_for_status)
        .map_err(ConnectionError::from)?;
    let resource: BucketResource = answer.json().await.map_err(ConnectionError::from)?;
    Ok(resource.location)
}

/// Google's rule: the US multi-region loads from anywhere, another multi-region from the regions within it, a region
/// from itself and from the multi- and dual-regions around it.
fn can_load(dataset: &str, bucket: &str) -> bool {
    let (dataset, bucket) = (dataset.to_ascii_uppercase(), bucket.to_ascii_uppercase());
    let continent = |location: &str| match location {
        at if at.starts_with("EU") => "EUROPE",
        at if at.starts_with("US") || at.starts_with("NAM") => "US",
        at if at.starts_with("ASIA") => "ASIA",
        _ => "",
    };
    let is_region = |location: &str| location.contains('-');
    if dataset == bucket || dataset == "US" {
        return true;
    }
    let together = continent(&dataset) == continent(&bucket) && !continent(&dataset).is_empty();
    together && !(is_region(&dataset) && is_region(&bucket))
}

#[cfg(test)]
mod tests {
    use super::can_load;

    #[test]
    fn bucket_locations_are_compared() {
        for (dataset, bucket) in [
            ("EU", "eu"),
            ("EU", "EUROPE-WEST1"),
            ("EU", "EUR4"),
            ("US", "ASIA-EAST1"),
            ("europe-west1", "EU"),
            ("us-central1", "US-CENTRAL1"),
            ("us-central1", "NAM4"),
        ] {
            assert!(can_load(dataset, bucket), "{dataset} from {bucket}");
        }
        for (dataset, bucket) in [
            ("EU", "US"),
            ("europe-west1", "EUROPE-WEST2"),
            ("us-central1", "EU"),
            ("me-west1", "ME-CENTRAL1"),
        ] {
            assert!(!can_load(dataset, bucket), "{dataset} from {bucket}");
        }
    }
}
