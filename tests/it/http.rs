//! What the client of the API does on the wire.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{ConnectInfo, Request as Asked};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use samsara_etl::catalog::Pagination;
use samsara_etl::config::{HttpConfig, RetryConfig, SamsaraConfig, Secret};
use samsara_etl::events::{Event, Observer};
use samsara_etl::samsara::{AttemptError, Client, Page, Request, SamsaraError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::until;
use crate::support::wire::{Connection, Server};

const WHOLE: &str =
    r#"{"data":[{"id":"1","name":"A"}],"pagination":{"endCursor":"","hasNextPage":false}}"#;
/// The same, compressed.
const GZIPPED: [u8; 97] = [
    31, 139, 8, 0, 0, 0, 0, 0, 2, 3, 171, 86, 74, 73, 44, 73, 84, 178, 138, 174, 86, 202, 76, 81,
    178, 82, 50, 84, 210, 81, 202, 75, 204, 77, 5, 50, 29, 149, 106, 99, 117, 148, 10, 18, 211, 51,
    243, 18, 75, 50, 243, 243, 148, 172, 170, 149, 82, 243, 82, 156, 75, 139, 138, 243, 139, 128,
    242, 64, 149, 25, 137, 197, 126, 169, 21, 37, 1, 137, 233, 64, 13, 105, 137, 57, 197, 169, 181,
    181, 0, 9, 130, 190, 155, 82, 0, 0, 0,
];

/// The requests that were put off: which try, how long, why.
#[derive(Default)]
struct Delays(Mutex<Vec<(u32, Duration, String)>>);

impl Observer for Delays {
    fn observe(&self, event: &Event) {
        if let Event::RequestDelayed {
            attempt,
            wait,
            reason,
            ..
        } = event
        {
            self.0
                .lock()
                .unwrap()
                .push((*attempt, *wait, reason.clone()));
        }
    }
}

impl Delays {
    fn all(&self) -> Vec<(u32, Duration, String)> {
        self.0.lock().unwrap().clone()
    }
}

/// A server whose responses depend on the number of the request, and a client of it that retries without pauses.
struct Api {
    server: Server,
    asked: Arc<Mutex<Vec<(Instant, HeaderMap)>>>,
    delays: Arc<Delays>,
    retry: RetryConfig,
}

impl Api {
    fn new(answer: impl Fn(u64, &Connection) -> Response + Send + Sync + 'static) -> Self {
        let (asked, answer) = (Arc::new(Mutex::new(Vec::new())), Arc::new(answer));
        let log = asked.clone();
        let handler = move |ConnectInfo(connection): ConnectInfo<Connection>, request: Asked| {
            let number = {
                let mut log = log.lock().unwrap();
                log.push((Instant::now(), request.headers().clone()));
                log.len() as u64
            };
            let answer = answer(number, &connection);
            async move { answer }
        };
        let server = Server::start(Router::new().fallback(handler));
        Self {
            server,
            asked,
            delays: Arc::default(),
            retry: impatient(),
        }
    }

    async fn page(&self) -> Result<Option<Page>, SamsaraError> {
        page(self.server.url(), self.retry, self.delays.clone()).await
    }

    fn asked(&self) -> Vec<(Instant, HeaderMap)> {
        self.asked.lock().unwrap().clone()
    }
}

fn impatient() -> RetryConfig {
    let quick = Duration::from_millis(1);
    RetryConfig {
        base: quick,
        cap: quick,
        ..RetryConfig::default()
    }
}

async fn page(
    url: &str,
    retry: RetryConfig,
    delays: Arc<Delays>,
) -> Result<Option<Page>, SamsaraError> {
    let url = Some(url.parse().unwrap());
    let http = HttpConfig::default();
    let config = SamsaraConfig {
        token: Some(Secret::new("t")),
        url,
        rate_share: 1.0,
        retry,
        http,
    };
    let client = Client::connect(&config, delays).await.unwrap();
    let request = Request {
        path: "/fleet/vehicles".into(),
        endpoint: "/fleet/vehicles".into(),
        query: "limit=512".into(),
        pagination: Pagination::After,
        records: vec!["data".into()],
        page_echoes: Vec::new(),
        omit: Vec::new(),
        rate: 1000.0,
        scope: None,
        endless: false,
    };
    client.pages(request, None).next().await
}

fn page_of(result: Result<Option<Page>, SamsaraError>) -> String {
    String::from_utf8(result.unwrap().unwrap().records.to_vec()).unwrap()
}

#[tokio::test]
async fn gzip_is_asked_for_and_read() {
    let api =
        Api::new(|_, _| ([(header::CONTENT_ENCODING, "gzip")], GZIPPED.to_vec()).into_response());
    assert_eq!(page_of(api.page().await), r#"[{"id":"1","name":"A"}]"#);
    let headers = &api.asked()[0].1;
    assert!(
        headers[header::ACCEPT_ENCODING]
            .to_str()
            .unwrap()
            .contains("gzip"),
        "{headers:?}"
    );
    assert_eq!(headers[header::AUTHORIZATION], "Bearer t");
}

#[tokio::test]
async fn broken_bodies_are_retried() {
    let api = Api::new(|number, _| match number {
        1 => ([(header::CONTENT_ENCODING, "gzip")], GZIPPED[..60].to_vec()).into_response(),
        2 => ([(header::CONTENT_ENCODING, "gzip")], WHOLE).into_response(),
        _ => ([(header::CONTENT_ENCODING, "gzip")], GZIPPED.to_vec()).into_response(),
    });
    assert_eq!(page_of(api.page().await), r#"[{"id":"1","name":"A"}]"#);
    assert_eq!(api.delays.all().len(), 2);
}

#[tokio::test]
async fn transient_answers_are_retried_and_logged() {
    const STATUSES: [u16; 9] = [408, 425, 429, 500, 502, 503, 504, 520, 599];
    let api = Api::new(|number, _| match STATUSES.get(number as usize - 1) {
        Some(status) => {
            let body = format!(r#"{{"message":"busy","requestId":"r-{number}"}}"#);
            (StatusCode::from_u16(*status).unwrap(), body).into_response()
        }
        None => WHOLE.into_response(),
    });
    let api = Api {
        retry: RetryConfig {
            attempts: 20,
            ..api.retry
        },
        ..api
    };
    assert_eq!(page_of(api.page().await), r#"[{"id":"1","name":"A"}]"#);
    let told: Vec<_> = api
        .delays
        .all()
        .into_iter()
        .map(|(attempt, _, reason)| (attempt, reason))
        .collect();
    let expected = STATUSES
        .iter()
        .zip(1..)
        .map(|(status, number)| (number, format!("{status}, request r-{number}")));
    assert_eq!(told, expected.collect::<Vec<_>>());
}

#[tokio::test]
async fn a_connection_that_breaks_is_tried_again() {
    let api = Api::new(|number, connection| {
        if number < 3 {
            connection.cut();
        }
        WHOLE.into_response()
    });
    assert_eq!(page_of(api.page().await), r#"[{"id":"1","name":"A"}]"#);
    assert_eq!(api.delays.all().len(), 2);
}

#[tokio::test]
async fn exhausted_retries_name_the_request() {
    let api = Api::new(|number, _| {
        (
            StatusCode::SERVICE_UNAVAILABLE,
            [("Request-Id", format!("r-{number}"))],
            "upstream connect error",
        )
            .into_response()
    });
    let api = Api {
        retry: RetryConfig {
            attempts: 4,
            ..api.retry
        },
        ..api
    };
    let error = api.page().await.unwrap_err();
    assert!(
        matches!(
            error,
            SamsaraError::Unavailable {
                attempts: 4,
                error: AttemptError::Server { .. },
                ..
            }
        ),
        "{error:?}"
    );
    assert!(
        error.to_string().contains("failed 4 times")
            && error.to_string().contains("503, request r-4"),
        "{error}"
    );
    assert_eq!((api.asked().len(), api.delays.all().len()), (4, 3));
}

#[tokio::test]
async fn retry_after_is_waited_for() {
    let api = Api::new(|number, _| match number {
        1 => (
            StatusCode::TOO_MANY_REQUESTS,
            [(header::RETRY_AFTER, "0.2035")],
        )
            .into_response(),
        _ => WHOLE.into_response(),
    });
    page_of(api.page().await);
    let (told, asked) = (api.delays.all(), api.asked());
    assert!(told[0].1 >= Duration::from_micros(203_500), "{told:?}");
    assert!(
        asked[1].0 - asked[0].0 >= told[0].1,
        "{told:?}: it was not waited for"
    );
}

#[tokio::test]
async fn a_pause_may_be_named_as_a_date() {
    let until = chrono::Utc::now() + chrono::TimeDelta::seconds(200);
    let date = until.format("%a, %d %b %Y %H:%M:%S GMT").to_string();
    let api = Api::new(move |_, _| {
        (
            StatusCode::SERVICE_UNAVAILABLE,
            [(header::RETRY_AFTER, date.clone())],
        )
            .into_response()
    });
    let told = async {
        while api.delays.all().is_empty() {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        result = api.page() => panic!("it did not wait: {result:?}"),
        () = told => {}
    }
    let wait = api.delays.all()[0].1;
    assert!(
        wait > Duration::from_secs(100) && wait <= Duration::from_secs(201),
        "{wait:?}"
    );
}

#[tokio::test]
async fn silent_servers_time_out() {
    // It never answers at all.
    let silent = Silent::start(b"");
    // It begins to, and then says no more.
    let stuck = Silent::start(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n{");
    let (long, short) = (Duration::from_secs(3600), Duration::from_millis(200));
    for (server, silence, whole) in [
        (&silent, short, long),
        (&stuck, short, long),
        (&silent, long, short),
    ] {
        let before = server.connections.load(Ordering::SeqCst);
        let retry = RetryConfig {
            attempts: 2,
            silence,
            whole,
            ..impatient()
        };
        let error = page(&server.url, retry, Arc::default()).await.unwrap_err();
        assert!(
            matches!(
                error,
                SamsaraError::Unavailable {
                    attempts: 2,
                    error: AttemptError::Connection(_),
                    ..
                }
            ),
            "{error:?}"
        );
        assert!(error.to_string().contains("timed out"), "{error}");
        // A busy server accepts them later than they time out.
        until(|| server.connections.load(Ordering::SeqCst) == before + 2).await;
    }
}

/// Accepts connections, sends the beginning of a response, and then nothing.
struct Silent {
    url: String,
    connections: Arc<AtomicU64>,
}

impl Silent {
    fn start(beginning: &'static [u8]) -> Self {
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let connections = Arc::new(AtomicU64::new(0));
        let count = connections.clone();
        tokio::spawn(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            let mut kept = Vec::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                // The client may have given up.
                let _ = stream.read(&mut [0; 1024]).await;
                let _ = stream.write_all(beginning).await;
                kept.push(stream);
            }
        });
        Self { url, connections }
    }
}

#[tokio::test]
async fn requests_share_connections() {
    let seen: Arc<Mutex<Vec<Connection>>> = Arc::default();
    let log = seen.clone();
    let api = Api::new(move |number, connection| {
        log.lock().unwrap().push(connection.clone());
        match number {
            1..=4 => (StatusCode::SERVICE_UNAVAILABLE, "busy").into_response(),
            _ => WHOLE.into_response(),
        }
    });
    page_of(api.page().await);
    let seen = seen.lock().unwrap();
    assert!(
        seen.len() == 5 && seen.iter().all(|connection| connection.is(&seen[0])),
        "{} connections",
        seen.len()
    );
}

#[tokio::test]
async fn oversized_bodies_are_refused() {
    let mut api =
        Api::new(|_, _| ([(header::CONTENT_ENCODING, "gzip")], GZIPPED.to_vec()).into_response());
    // It is what comes out of the compression that counts.
    api.retry.largest = WHOLE.len();
    assert!(api.page().await.is_ok());
    api.retry.largest = WHOLE.len() - 1;
    let error = api.page().await.unwrap_err();
    assert!(
        error.asks_for_less() && error.to_string().contains("more than 81 bytes"),
        "{error}"
    );
    assert_eq!(api.asked().len(), 2, "it is not asked for again");
}

#[tokio::test]
async fn a_401_of_a_good_token_is_a_scope() {
    // The second request is the one to `/me`.
    let api = Api::new(|number, _| match number {
        1 => (
            StatusCode::UNAUTHORIZED,
            r#"{"message":"invalid token","requestId":"r-1"}"#,
        )
            .into_response(),
        _ => "{}".into_response(),
    });
    let error = api.page().await.unwrap_err();
    assert!(
        matches!(error, SamsaraError::NotPermitted { status: 401, .. }) && !error.ends_run(),
        "{error}"
    );
    assert!(error.to_string().contains("r-1"), "{error}");
    let api = Api::new(|_, _| StatusCode::UNAUTHORIZED.into_response());
    let error = api.page().await.unwrap_err();
    assert!(
        matches!(error, SamsaraError::TokenRefused { .. }) && error.ends_run(),
        "{error}"
    );
}

#[tokio::test]
async fn a_broken_200_tells_its_request_id() {
    let api =
        Api::new(|number, _| ([("Request-Id", format!("r-{number}"))], "<html>").into_response());
    let api = Api {
        retry: RetryConfig {
            attempts: 2,
            ..api.retry
        },
        ..api
    };
    let error = api.page().await.unwrap_err().to_string();
    assert!(
        error.contains("200, request r-2 with a body that is not one JSON document"),
        "{error}"
    );
    assert!(
        api.delays.all()[0].2.contains("request r-1"),
        "{:?}",
        api.delays.all()
    );
}

/// Number of connections to this port of the loopback interface that were not accepted yet.
#[cfg(target_os = "linux")]
fn unaccepted(port: u16) -> u64 {
    let sockets = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let mut sockets = sockets
        .lines()
        .map(|line| line.split_ascii_whitespace().collect::<Vec<_>>());
    let address = format!("0100007F:{port:04X}");
    // State 0A is a listener: what it has received are connections.
    let listener = sockets
        .find(|socket| socket[1] == address && socket[3] == "0A")
        .unwrap();
    u64::from_str_radix(listener[4].split_once(':').unwrap().1, 16).unwrap()
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn byte_order_marks_are_handled() {
    let api = Api::new(|_, _| "\u{feff}{\"data\":[{\"id\":\"1\"}]}".into_response());
    assert_eq!(
        &api.page().await.unwrap().unwrap().records[..],
        br#"[{"id":"1"}]"#
    );
    let wide: Vec<u8> = "\u{feff}{}"
        .encode_utf16()
        .flat_map(u16::to_le_bytes)
        .collect();
    let api = Api::new(move |_, _| wide.clone().into_response());
    let error = api.page().await.unwrap_err().to_string();
    assert!(
        error.contains("not one JSON document: it is UTF-16, not UTF-8"),
        "{error}"
    );
}

#[tokio::test]
async fn unreachable_servers_time_out() {
    // Nobody accepts, and the queue is as short as possible: once it is full (Linux adds one to what is requested), the
    // system leaves connections unanswered.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let mut waiting = Vec::new();
    for connections in 1..=2 {
        waiting.push(tokio::net::TcpStream::connect(address).await.unwrap());
        while unaccepted(address.port()) < connections {
            tokio::task::yield_now().await;
        }
    }
    let retry = RetryConfig {
        attempts: 2,
        connect: Duration::from_millis(50),
        ..impatient()
    };
    let error = page(&format!("http://{address}"), retry, Arc::default())
        .await
        .unwrap_err();
    assert!(
        matches!(
            error,
            SamsaraError::Unavailable {
                attempts: 2,
                error: AttemptError::Connection(_),
                ..
            }
        ),
        "{error:?}"
    );
    assert!(
        error
            .to_string()
            .contains("tcp connect error: deadline has elapsed"),
        "{error}"
    );
}
