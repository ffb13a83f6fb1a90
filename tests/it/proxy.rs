//! One HTTP configuration for every service: a company's proxy, its certificates, and what never goes through it.

use std::sync::{Arc, Mutex};

use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::json;

use crate::loading::rows;
use crate::program::{Program, simulator};
use crate::support::bigquery_double::BigQueryDouble;
use crate::support::gcs::GcsDouble;
use crate::support::proxy::{Proxy, forward};
use crate::support::wire::Server;

const USER: &str = "canary-proxy-user";
const PASSWORD: &str = "canary-proxy-password";

/// The headers in which Samsara and Google were sent tokens, by host.
type Bearers = Arc<Mutex<Vec<(String, String)>>>;

/// A world behind a proxy: Samsara, Cloud Storage, BigQuery and Google's token server.
struct World {
    proxy: Proxy,
    bearers: Bearers,
    program: Program,
}

/// Its services are at these addresses; one that has none answers 403 and repeats what it was sent.
async fn world(samsara: &str, storage: Option<&str>, bigquery: Option<&str>) -> World {
    let bearers = Bearers::default();
    let log = bearers.clone();
    let [samsara, storage, bigquery] =
        [Some(samsara), storage, bigquery].map(|url| url.map(str::to_string));
    let proxy = Proxy::start(move |host: String, request: Request| {
        let bearer = request
            .headers()
            .get("authorization")
            .map(|value| value.to_str().unwrap().to_string());
        log.lock()
            .unwrap()
            .push((host.clone(), bearer.clone().unwrap_or_default()));
        let base = match host.as_str() {
            "api.eu.samsara.com" => samsara.clone(),
            "storage.googleapis.com" => storage.clone(),
            "bigquery.googleapis.com" => bigquery.clone(),
            _ => None,
        };
        async move {
            match (base, host.as_str()) {
                (Some(base), _) => forward(&base, request).await,
                (None, "accounts.google.com") => token("canary-access-token-of-user"),
                (None, host) if host.ends_with("samsara.com") => {
                    StatusCode::UNAUTHORIZED.into_response()
                }
                (None, _) => {
                    let message = format!("you sent {}", bearer.unwrap_or_default());
                    let error = json!({ "reason": "accessDenied", "message": message });
                    let body =
                        json!({ "error": { "code": 403, "message": message, "errors": [error] } });
                    (StatusCode::FORBIDDEN, body.to_string()).into_response()
                }
            }
        }
    })
    .await;
    let program = Program::new()
        .set(
            "HTTPS_PROXY",
            &format!("http://{USER}:{PASSWORD}@{}", proxy.address()),
        )
        .set("SSL_CERT_FILE", "root.pem")
        .set("GCS_BUCKET_NAME", "proxied-raw")
        .set("GCS_BUCKET_FLATTENED_NAME", "proxied-flat")
        .set("GOOGLE_CLOUD_PROJECT", "test-project")
        .set("DWH_ID", "dwh");
    program.write("root.pem", proxy.root());
    World {
        proxy,
        bearers,
        program,
    }
}

impl World {
    /// The hosts to which tunnels were opened.
    fn tunnels(&self) -> Vec<String> {
        let seen = self.proxy.seen();
        let mut hosts: Vec<_> = seen
            .iter()
            .map(|it| it.line.split(' ').nth(1).unwrap().to_string())
            .collect();
        hosts.sort();
        hosts.dedup();
        hosts
    }

    /// The tokens that a host was sent.
    fn bearers(&self, host: &str) -> Vec<String> {
        let all = self.bearers.lock().unwrap();
        let mut bearers: Vec<_> = all
            .iter()
            .filter(|(to, _)| to == host)
            .map(|(_, bearer)| bearer.clone())
            .collect();
        bearers.sort();
        bearers.dedup();
        bearers
    }
}

fn token(text: &str) -> Response {
    json!({ "access_token": text, "expires_in": 3600, "token_type": "Bearer" })
        .to_string()
        .into_response()
}

fn rsa_key() -> String {
    let made = std::process::Command::new("openssl")
        .args([
            "genpkey",
            "-algorithm",
            "RSA",
            "-pkeyopt",
            "rsa_keygen_bits:2048",
        ])
        .output()
        .expect("openssl, which makes the key of this test");
    String::from_utf8(made.stdout).unwrap()
}

/// A service-account key file.
pub fn key_file(private_key: &str) -> String {
    json!({
        "type": "service_account",
        "project_id": "test-project",
        "private_key_id": "1",
        "private_key": private_key,
        "client_email": "loader@test-project.iam.gserviceaccount.com",
        "token_uri": "https://oauth2.googleapis.com/token",
    })
    .to_string()
}

const TABLE: &[&str] = &["--table", "fleet_vehicles"];

#[tokio::test(flavor = "multi_thread")]
async fn a_run_uses_the_proxy_and_its_certificate() {
    let simulator = simulator(|_| ()).await;
    let storage = Arc::new(GcsDouble::start(&["proxied-raw", "proxied-flat"]));
    let bigquery = BigQueryDouble::start(&["dwh"]);
    let counted = storage.clone();
    bigquery.count_rows(move |uris| uris.iter().map(|uri| rows(&counted, uri)).sum());
    let world = world(&simulator.url(), Some(storage.url()), Some(bigquery.url())).await;
    let key = rsa_key();
    // As some secret stores hand it out.
    world
        .program
        .write("credentials/key.json", key_file(&key.replace('\n', "\\n")));
    let program = world
        .program
        .set("GCP_CREDENTIALS_FILE_NAME", "key.json")
        .set("SAMSARA_API_TOKEN", simulator.token());
    let ran = program.run(&[&["run", "-vv"], TABLE].concat()).await;
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(
        ran.stderr
            .contains("reading from https://api.eu.samsara.com"),
        "{}",
        ran.stderr
    );
    let world = World { program, ..world };
    let expected = [
        "api.eu.samsara.com:443",
        "api.samsara.com:443",
        "bigquery.googleapis.com:443",
        "storage.googleapis.com:443",
    ];
    assert_eq!(world.tunnels(), expected);
    assert!(world.proxy.seen().iter().all(|it| {
        it.head
            .to_lowercase()
            .contains("proxy-authorization: basic ")
    }));
    // Storage and BigQuery are sent tokens of the same kind, signed by the key.
    for host in ["storage.googleapis.com", "bigquery.googleapis.com"] {
        let bearers = world.bearers(host);
        assert!(
            !bearers.is_empty() && bearers.iter().all(|it| it.starts_with("Bearer eyJ")),
            "{host}: {bearers:?}"
        );
    }
    assert_eq!(
        world.bearers("api.eu.samsara.com"),
        [format!("Bearer {}", simulator.token())]
    );
    let files = [std::fs::read_dir(world.program.folder().join("logs"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.extension().is_some_and(|it| it == "jsonl"))
        .unwrap()];
    let said = format!(
        "{}{}",
        ran.stderr,
        std::fs::read_to_string(&files[0]).unwrap()
    );
    for secret in [
        USER,
        PASSWORD,
        simulator.token(),
        key.lines().nth(2).unwrap(),
        "Bearer ey",
    ] {
        assert!(!said.contains(secret), "{secret}: {said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_proxy_s_certificate_nothing_is_sent() {
    let world = world("http://127.0.0.1:9", None, None).await;
    world.program.write("root.pem", "no certificate");
    world
        .program
        .write("credentials/key.json", key_file(&rsa_key()));
    let program = world
        .program
        .set("GCP_CREDENTIALS_FILE_NAME", "key.json")
        .set("SAMSARA_API_TOKEN", "canary-token");
    let ran = program.run(&[&["check"], TABLE].concat()).await;
    let bad = ran
        .stdout
        .lines()
        .filter(|line| line.starts_with("FAIL") && line.contains("SSL_CERT_FILE: "));
    assert!(ran.code == 1 && bad.count() >= 3, "{}", ran.stdout);
    assert!(world.proxy.seen().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn user_logins_are_renewed_through_the_proxy() {
    let simulator = simulator(|_| ()).await;
    let world = world(&simulator.url(), None, None).await;
    let login = json!({
        "type": "authorized_user",
        "client_id": "some-client",
        "client_secret": "canary-client-secret",
        "refresh_token": "1//canary-refresh-token",
    });
    world.program.write("adc.json", login.to_string());
    let program = world
        .program
        .set("GOOGLE_APPLICATION_CREDENTIALS", "adc.json")
        .set("SAMSARA_API_TOKEN", simulator.token())
        .set("RUST_LOG", "trace");
    let ran = program.run(&[&["check"], TABLE].concat()).await;
    let world = World { program, ..world };
    assert!(
        world
            .tunnels()
            .contains(&"accounts.google.com:443".to_string()),
        "{:?}",
        world.tunnels()
    );
    for host in ["storage.googleapis.com", "bigquery.googleapis.com"] {
        assert_eq!(
            world.bearers(host),
            ["Bearer canary-access-token-of-user"],
            "{}",
            ran.stdout
        );
    }
    let echoes = ran
        .stdout
        .lines()
        .filter(|line| line.starts_with("FAIL") && line.contains("you sent Bearer ***"));
    assert!(ran.code == 1 && echoes.count() >= 4, "{}", ran.stdout);
    let said = ran.stdout + &ran.stderr;
    assert!(said.len() > 10_000, "RUST_LOG=trace says nothing");
    assert!(
        !said.contains("canary"),
        "{}",
        said.lines().find(|line| line.contains("canary")).unwrap()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_metadata_server_bypasses_the_proxy() {
    let simulator = simulator(|_| ()).await;
    let metadata = Server::start(axum::Router::new().fallback(|request: Request| async move {
        assert_eq!(request.headers()["metadata-flavor"], "Google");
        token("canary-access-token-of-instance")
    }));
    let world = world(&simulator.url(), None, None).await;
    let proxy = world
        .program
        .set("HTTP_PROXY", &format!("http://{}", world.proxy.address()));
    let program = proxy
        .set(
            "GCE_METADATA_HOST",
            metadata.url().trim_start_matches("http://"),
        )
        .set("SAMSARA_API_TOKEN", simulator.token())
        .set("RUST_LOG", "debug");
    let ran = program.run(&[&["check"], TABLE].concat()).await;
    let world = World { program, ..world };
    for host in ["storage.googleapis.com", "bigquery.googleapis.com"] {
        assert_eq!(
            world.bearers(host),
            ["Bearer canary-access-token-of-instance"],
            "{}",
            ran.stdout
        );
    }
    assert!(
        world
            .proxy
            .seen()
            .iter()
            .all(|it| it.line.starts_with("CONNECT ")),
        "{:?}",
        world.proxy.seen()
    );
    let said = ran.stdout + &ran.stderr;
    assert!(
        !said.contains("canary"),
        "{}",
        said.lines().find(|line| line.contains("canary")).unwrap()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_simulator_on_this_machine_needs_no_proxy_and_is_named() {
    let simulator = simulator(|_| ()).await;
    let world = world("http://127.0.0.1:9", None, None).await;
    let proxy = format!("http://{}", world.proxy.address());
    let mut program = Program::new().set("SAMSARA_API_TOKEN", simulator.token());
    for variable in [
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "ALL_PROXY",
        "http_proxy",
        "https_proxy",
        "all_proxy",
    ] {
        program = program.set(variable, &proxy);
    }
    // An address from `.env` with a token from elsewhere may not be what was meant.
    program.write(".env", format!("SAMSARA_API_URL={}\n", simulator.url()));
    let ran = program.succeed(&[&["run"], TABLE].concat()).await;
    let warning = format!(
        ".env sets SAMSARA_API_URL ({}), which decides where it is sent; check that this is intended",
        simulator.url()
    );
    assert_eq!(
        ran.stderr
            .matches("warning: the API token comes from the environment")
            .count(),
        1,
        "{}",
        ran.stderr
    );
    assert!(ran.stderr.contains(&warning), "{}", ran.stderr);
    assert!(
        ran.stderr
            .contains(&format!("reading from {}\n", simulator.url())),
        "{}",
        ran.stderr
    );
    assert!(world.proxy.seen().is_empty());
    // Both from one place are one decision.
    program.write(".env", format!("ALL_PROXY={proxy}\n"));
    let program = program
        .set("ALL_PROXY", &proxy)
        .set("SAMSARA_API_URL", &simulator.url());
    assert!(
        !program
            .succeed(&[&["run"], TABLE].concat())
            .await
            .stderr
            .contains("warning")
    );
    // Nor does the demo leave this machine, nor would it with a proxy that cannot be one.
    let demo = program.set("HTTP_PROXY", "socks5://nowhere");
    demo.succeed(&["demo", "--vehicles", "1", "--end-date", "2024-01-02"])
        .await;
}
