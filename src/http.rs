//! The HTTP clients of this program, for Samsara, Cloud Storage, BigQuery and the token servers.
//!
//! - Proxies are those of the configuration. They are never used for this machine and the metadata server.
//! - Certificates are those of the system and of `SSL_CERT_FILE`.
//! - Redirects are not followed: a token is sent to the host that was configured and to no other.

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use object_store::ClientOptions;
use object_store::client::{ClientConfigKey, HttpClient, HttpConnector, SpawnService};
use reqwest::{Certificate, ClientBuilder, NoProxy, Proxy, Url, redirect};
use tokio::runtime::Handle;

use crate::config::{HttpConfig, Secret};
use crate::redact;

/// Hosts that are never reached through a proxy: this machine, and the metadata server by its names and addresses.
///
/// <https://cloud.google.com/compute/docs/metadata/querying-metadata>
const NEVER_PROXIED: &str = "localhost,127.0.0.0/8,::1,0.0.0.0,169.254.0.0/16,fd20:ce::254,metadata.google.internal,metadata";

/// How long one request to a bucket may take. object_store's default.
const BUCKET_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a connection to a bucket may take. object_store's default.
const BUCKET_CONNECT: Duration = Duration::from_secs(5);

/// The HTTP configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// A proxy's address is wrong.
    #[error("{variable}: {reason}; write http://host:port")]
    Proxy {
        /// The variable that holds it.
        variable: &'static str,
        /// What is wrong, without the address, which may contain a password.
        reason: &'static str,
    },
    /// The certificates cannot be used.
    #[error("SSL_CERT_FILE: {path}: {error}")]
    Certificates {
        /// Path of the certificate file.
        path: String,
        /// Why they cannot be used.
        #[source]
        error: CertificateError,
    },
    /// The client cannot be created.
    #[error("cannot set up HTTP: {0}")]
    Client(#[source] ConnectionError),
}

/// A file of certificates that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// The file cannot be read.
    #[error("{}", redact::foreign(.0))]
    Read(#[source] std::io::Error),
    /// The file is not PEM.
    #[error("not a file of PEM certificates")]
    NotPem(#[source] reqwest::Error),
    /// The file is PEM, but without certificates.
    #[error("it holds no PEM certificate")]
    Empty,
}

/// A connection that failed. The message names the causes on one line, without the address, which contains ids of the
/// fleet.
#[derive(Debug, Clone)]
pub struct ConnectionError(Arc<reqwest::Error>);

impl From<reqwest::Error> for ConnectionError {
    fn from(error: reqwest::Error) -> Self {
        Self(Arc::new(error.without_url()))
    }
}

impl fmt::Display for ConnectionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = self.0.to_string();
        let mut cause = self.0.source();
        while let Some(error) = cause {
            text.push_str(": ");
            text.push_str(&error.to_string());
            cause = error.source();
        }
        f.write_str(&redact::foreign(text))
    }
}

impl Error for ConnectionError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&*self.0)
    }
}

/// A builder of clients with the settings described in this module.
pub fn builder(config: &HttpConfig) -> Result<ClientBuilder, HttpError> {
    let mut builder = reqwest::Client::builder()
        .user_agent(concat!("samsara-etl/", env!("CARGO_PKG_VERSION")))
        .redirect(redirect::Policy::none())
        .referer(false)
        // reqwest would read the environment itself, and does not know `.env`.
        .no_proxy();
    let direct = [NEVER_PROXIED, &config.no_proxy.join(",")].join(",");
    for (proxy, is_secure) in [(&config.https_proxy, true), (&config.http_proxy, false)] {
        if let Some((variable, address)) = proxy {
            let proxy = parse_proxy(variable, address)?;
            let proxy = if is_secure {
                Proxy::https(proxy)
            } else {
                Proxy::http(proxy)
            };
            let proxy = proxy.map_err(|_| HttpError::Proxy {
                variable,
                reason: "not the address of a proxy",
            })?;
            builder = builder.proxy(proxy.no_proxy(NoProxy::from_string(&direct)));
        }
    }
    if let Some(path) = &config.certificates {
        let wrong = |error| HttpError::Certificates {
            path: path.display().to_string(),
            error,
        };
        let text = std::fs::read(path).map_err(|error| wrong(CertificateError::Read(error)))?;
        let certificates = Certificate::from_pem_bundle(&text)
            .map_err(|error| wrong(CertificateError::NotPem(error)))?;
        if certificates.is_empty() {
            return Err(wrong(CertificateError::Empty));
        }
        builder = certificates
            .into_iter()
            .fold(builder, ClientBuilder::add_root_certificate);
    }
    Ok(builder)
}

/// As [`builder`], for requests to this address only. Without TLS there are no certificates to check, and to read those of
/// the system takes longer than anything else that is set up.
pub fn builder_for(config: &HttpConfig, address: &str) -> Result<ClientBuilder, HttpError> {
    let builder = builder(config)?;
    Ok(match is_without_tls(config, address) {
        true => builder.tls_built_in_root_certs(false),
        false => builder,
    })
}

fn is_without_tls(config: &HttpConfig, address: &str) -> bool {
    let is_plain = |address: &str| Url::parse(address).is_ok_and(|it| it.scheme() == "http");
    let proxies = [&config.https_proxy, &config.http_proxy];
    let mut proxies = proxies.into_iter().flatten();
    is_plain(address)
        && proxies.all(|(variable, proxy)| {
            parse_proxy(variable, proxy).is_ok_and(|it| it.scheme() == "http")
        })
}

/// Makes the client of a builder.
pub fn build(builder: ClientBuilder) -> Result<reqwest::Client, HttpError> {
    builder
        .build()
        .map_err(|error| HttpError::Client(error.into()))
}

/// As curl reads it: without a scheme it is an http proxy.
fn parse_proxy(variable: &'static str, address: &Secret) -> Result<Url, HttpError> {
    let wrong = |reason| HttpError::Proxy { variable, reason };
    let text = address.expose();
    let text = if text.contains("://") {
        text.to_string()
    } else {
        format!("http://{text}")
    };
    let url = Url::parse(&text).map_err(|_| wrong("not the address of a proxy"))?;
    match url.scheme() {
        "http" | "https" if url.has_host() => Ok(url),
        "socks4" | "socks4a" | "socks5" | "socks5h" => {
            Err(wrong("SOCKS proxies are not supported"))
        }
        _ => Err(wrong("not the address of a proxy")),
    }
}

/// Makes `object_store` use this module's HTTP clients, on a separate runtime.
#[derive(Debug)]
pub struct Connector {
    config: HttpConfig,
    io: Handle,
}

impl Connector {
    /// Requests run on `io`.
    pub fn new(config: &HttpConfig, io: &Handle) -> Self {
        Self {
            config: config.clone(),
            io: io.clone(),
        }
    }
}

impl HttpConnector for Connector {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let generic = |error: HttpError| object_store::Error::Generic {
            store: "HTTP",
            source: error.into(),
        };
        // The metadata server and emulators have no TLS; everything else must use it.
        let allows_http = options
            .get_config_value(&ClientConfigKey::AllowHttp)
            .as_deref()
            == Some("true");
        // `ClientOptions` makes its metadata client give up after a second: without a server, nothing answers.
        let connect = match options
            .get_config_value(&ClientConfigKey::ConnectTimeout)
            .as_deref()
        {
            Some("1s") => Duration::from_secs(1),
            _ => BUCKET_CONNECT,
        };
        let builder = builder(&self.config).map_err(generic)?;
        // A compressed object would not have its declared length; and HTTP/1 is faster for objects.
        let builder = builder
            .no_gzip()
            .http1_only()
            .timeout(BUCKET_TIMEOUT)
            .connect_timeout(connect);
        let client = build(builder.https_only(!allows_http)).map_err(generic)?;
        Ok(HttpClient::new(SpawnService::new(client, self.io.clone())))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use axum::Router;
    use axum::extract::Request;

    use super::*;
    use crate::config::{Environment, HttpConfig};

    fn config(pairs: &[(&str, &str)]) -> HttpConfig {
        HttpConfig::resolve(
            &Environment::from_pairs(pairs.iter().copied()),
            std::path::Path::new("/data"),
        )
    }

    /// A server that records the requested addresses.
    async fn serve(answer: fn(&str) -> (u16, &'static str)) -> (Arc<Mutex<Vec<String>>>, String) {
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let log = asked.clone();
        let router = Router::new().fallback(move |request: Request| async move {
            log.lock().unwrap().push(request.uri().to_string());
            let (status, location) = answer(request.uri().path());
            (
                axum::http::StatusCode::from_u16(status).unwrap(),
                [("Location", location)],
            )
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let host = listener.local_addr().unwrap().to_string();
        tokio::spawn(async move { axum::serve(listener, router).await });
        (asked, host)
    }

    #[test]
    fn certificates_are_read_where_there_may_be_tls() {
        let proxy = |address: &'static str| config(&[("HTTPS_PROXY", address)]);
        for (config, address, without) in [
            (config(&[]), "http://127.0.0.1:8080/x", true),
            (config(&[]), "HTTP://localhost", true),
            (config(&[]), "https://api.samsara.com", false),
            (config(&[]), "127.0.0.1:8080", false),
            (config(&[]), "", false),
            (proxy("proxy:3128"), "http://host", true),
            (proxy("http://proxy:3128"), "http://host", true),
            (proxy("http://proxy:3128"), "https://host", false),
            (proxy("https://proxy:3128"), "http://host", false),
        ] {
            assert_eq!(is_without_tls(&config, address), without, "{address}");
        }
    }

    #[tokio::test]
    async fn local_hosts_bypass_the_proxy() {
        let (proxied, proxy) = serve(|_| (200, "")).await;
        let (direct, host) = serve(|_| (200, "")).await;
        let port = host.split(':').next_back().unwrap();
        for variable in ["HTTP_PROXY", "http_proxy", "ALL_PROXY"] {
            let config = config(&[
                (variable, &proxy),
                ("GCE_METADATA_HOST", "meta.example:8080"),
            ]);
            let client = build(builder(&config).unwrap()).unwrap();
            for address in [
                format!("http://localhost:{port}/"),
                format!("http://127.0.0.1:{port}/"),
            ] {
                assert!(client.get(address).send().await.is_ok());
            }
            // Nothing listens there on this machine: what counts is that the proxy was not used.
            for address in [
                "169.254.169.254",
                "metadata.google.internal",
                "[::1]:9",
                "meta.example:8080",
            ] {
                let _ = client
                    .get(format!("http://{address}/"))
                    .timeout(Duration::from_millis(300))
                    .send()
                    .await;
            }
            assert_eq!(*proxied.lock().unwrap(), Vec::<String>::new(), "{variable}");
            let sent = client.get("http://elsewhere.example/x").send().await;
            assert!(
                sent.is_ok()
                    && proxied
                        .lock()
                        .unwrap()
                        .drain(..)
                        .eq(["http://elsewhere.example/x"]),
                "{variable}"
            );
        }
        assert_eq!(direct.lock().unwrap().len(), 6);
        // As everywhere, hosts in NO_PROXY are requested directly.
        let config = config(&[("HTTP_PROXY", &proxy), ("no_proxy", "elsewhere.example")]);
        let client = build(builder(&config).unwrap()).unwrap();
        let _ = client
            .get("http://elsewhere.example/x")
            .timeout(Duration::from_millis(300))
            .send()
            .await;
        assert!(proxied.lock().unwrap().is_empty());
    }

    #[tokio::test]
    async fn no_redirect_is_followed() {
        let (asked, host) = serve(|_| (307, "/elsewhere")).await;
        let client = build(builder(&HttpConfig::default()).unwrap()).unwrap();
        let answer = client
            .get(format!("http://{host}/here"))
            .bearer_auth("t")
            .send()
            .await
            .unwrap();
        assert_eq!(
            (answer.status().as_u16(), &asked.lock().unwrap()[..]),
            (307, &["/here".to_string()][..])
        );
    }

    #[test]
    fn what_cannot_be_used_is_named_without_its_password() {
        let folder = tempfile::tempdir().unwrap();
        let empty = folder.path().join("empty.pem");
        std::fs::write(&empty, "nothing").unwrap();
        let cases = [
            (
                "HTTPS_PROXY",
                "socks5://u:canary-of-proxy@host:1",
                "HTTPS_PROXY: SOCKS proxies are not supported",
            ),
            (
                "HTTP_PROXY",
                "http://u:canary-of-proxy@ho st",
                "HTTP_PROXY: not the address of a proxy",
            ),
            (
                "all_proxy",
                "ftp://u:canary-of-proxy@host",
                "ALL_PROXY: not the address of a proxy",
            ),
            (
                "SSL_CERT_FILE",
                "/not/there.pem",
                "SSL_CERT_FILE: /not/there.pem: No such file",
            ),
            (
                "SSL_CERT_FILE",
                empty.to_str().unwrap(),
                "it holds no PEM certificate",
            ),
        ];
        for (name, value, part) in cases {
            let config = config(&[(name, value)]);
            let error = builder(&config).unwrap_err().to_string();
            assert!(error.contains(part) && !error.contains("canary"), "{error}");
            assert!(!format!("{config:?}").contains("canary"));
        }
    }
}
