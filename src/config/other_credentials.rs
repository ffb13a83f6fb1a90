//! Kinds of Google credentials that are not supported, and what to use in their place.
//!
//! `object_store` 0.13 reads service-account keys and users' logins, and asks the metadata server; it knows no others.

/// What to do with a file of credentials whose `type` is `kind`, which is not supported.
pub fn way_out(kind: &str) -> &'static str {
    match kind {
        "impersonated_service_account" => {
            "log in without --impersonate-service-account (`gcloud auth application-default login`) and give the user \
             the roles of the account, or use a key of the account (GCP_CREDENTIALS_FILE_NAME)"
        }
        "external_account" | "external_account_authorized_user" => {
            "workload identity federation is not supported: use a service-account key (GCP_CREDENTIALS_FILE_NAME), or \
             run where a metadata server gives tokens (Compute Engine, GKE, Cloud Run)"
        }
        _ => {
            "use a service-account key (GCP_CREDENTIALS_FILE_NAME), or `gcloud auth application-default login`"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::way_out;

    #[test]
    fn each_kind_of_credentials_has_its_way_out() {
        for (kind, part) in [
            (
                "impersonated_service_account",
                "without --impersonate-service-account",
            ),
            ("external_account", "workload identity federation"),
            (
                "external_account_authorized_user",
                "workload identity federation",
            ),
            (
                "gdch_service_account",
                "gcloud auth application-default login",
            ),
        ] {
            assert!(way_out(kind).contains(part), "{kind}");
        }
    }
}
