//! Proxies and certificates of all HTTP clients.

use std::path::{Path, PathBuf};

use super::{Environment, Secret, env};
use crate::redact;

/// How to reach Samsara, Cloud Storage, BigQuery and the token servers.
///
/// By default there is no proxy, and the certificates are the system's. Values are checked when the first client is
/// created ([`crate::http::builder`]): variables of the environment may be meant for other programs.
#[derive(Debug, Clone, Default)]
pub struct HttpConfig {
    /// The proxy for https, and the variable that names it. Its address may hold a password.
    pub https_proxy: Option<(&'static str, Secret)>,
    /// The proxy for http, likewise.
    pub http_proxy: Option<(&'static str, Secret)>,
    /// Hosts, domains and networks that are reached without a proxy.
    pub no_proxy: Vec<String>,
    /// PEM certificates that are trusted in addition to the system's.
    pub certificates: Option<PathBuf>,
}

impl HttpConfig {
    /// Reads the variables that curl reads too, from the environment or `.env`.
    pub fn resolve(environment: &Environment, directory: &Path) -> Self {
        let proxy = |variable: env::Variable| {
            let address = environment
                .get(variable)
                .or_else(|| environment.get(env::ALL_PROXY))?;
            redact::register_userinfo(address);
            let is_own = environment.get(variable).is_some();
            Some((
                if is_own {
                    variable.name
                } else {
                    env::ALL_PROXY.name
                },
                Secret::unregistered(address),
            ))
        };
        let excluded = environment
            .get(env::NO_PROXY)
            .unwrap_or_default()
            .split(',')
            .map(str::trim)
            .map(without_port);
        // Many write `*.example.com` for curl's `.example.com`.
        let excluded = excluded.map(|host| {
            host.strip_prefix('*')
                .filter(|rest| !rest.is_empty())
                .unwrap_or(host)
        });
        let metadata = [env::GCE_METADATA_HOST, env::GCE_METADATA_IP]
            .map(|variable| environment.get(variable));
        let metadata = metadata.into_iter().flatten().map(without_port);
        Self {
            https_proxy: proxy(env::HTTPS_PROXY),
            http_proxy: proxy(env::HTTP_PROXY),
            no_proxy: excluded
                .chain(metadata)
                .filter(|host| !host.is_empty())
                .map(str::to_string)
                .collect(),
            certificates: environment
                .get(env::SSL_CERT_FILE)
                .map(|path| directory.join(path)),
        }
    }
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port))
            if !name.contains(':') && port.bytes().all(|byte| byte.is_ascii_digit()) =>
        {
            name
        }
        _ => host,
    }
}
