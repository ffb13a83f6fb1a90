//! A company's proxy: accepts `CONNECT`, intercepts TLS with a certificate of its own, and forwards what it reads.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::Response;
use axum::serve::Listener;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::PrivatePkcs8KeyDer;
use tokio_rustls::server::TlsStream;

/// The hosts that the program asks, for which the proxy has a certificate.
const HOSTS: [&str; 6] = [
    "api.samsara.com",
    "api.eu.samsara.com",
    "api.ca.samsara.com",
    "storage.googleapis.com",
    "bigquery.googleapis.com",
    "accounts.google.com",
];

/// The running proxy; dropping it stops it.
pub struct Proxy {
    address: SocketAddr,
    root: String,
    seen: Arc<Mutex<Vec<Seen>>>,
    server: tokio::task::JoinHandle<io::Result<()>>,
}

/// What came to the proxy on one connection.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The first line, as `CONNECT host:443 HTTP/1.1`.
    pub line: String,
    /// The whole head.
    pub head: String,
}

impl Proxy {
    /// Requests inside of TLS are answered by `answer`, which gets the host.
    pub async fn start<F>(
        answer: impl Fn(String, Request) -> F + Clone + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Response> + Send + 'static,
    {
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed(HOSTS.map(str::to_string)).unwrap();
        let key = PrivatePkcs8KeyDer::from(signing_key.serialize_der()).into();
        let config = ServerConfig::builder().with_no_client_auth();
        let config = config
            .with_single_cert(vec![cert.der().clone()], key)
            .unwrap();
        let tcp = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let (address, seen) = (tcp.local_addr().unwrap(), Arc::default());
        let listener = Tunnels {
            tcp,
            acceptor: TlsAcceptor::from(Arc::new(config)),
            seen: Arc::clone(&seen),
        };
        let router = Router::new().fallback(move |request: Request| {
            let host = request.headers()["host"].to_str().unwrap().to_string();
            answer(host, request)
        });
        let server = tokio::spawn(async move { axum::serve(listener, router).await });
        Self {
            address,
            root: cert.pem(),
            seen,
            server,
        }
    }

    /// `host:port`.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// The certificate that clients have to trust, as PEM.
    pub fn root(&self) -> &str {
        &self.root
    }

    /// What came so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.server.abort();
    }
}

struct Tunnels {
    tcp: TcpListener,
    acceptor: TlsAcceptor,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Tunnels {
    /// Opens one tunnel; none if nobody wants one.
    async fn open(&self, mut stream: TcpStream) -> Option<TlsStream<TcpStream>> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.ok()?);
        }
        let head = String::from_utf8(head).ok()?;
        let line = head.lines().next()?.to_string();
        let is_tunnel = line.starts_with("CONNECT ");
        self.seen.lock().unwrap().push(Seen { line, head });
        if !is_tunnel {
            stream
                .write_all(b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\n\r\n")
                .await
                .ok()?;
            return None;
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.ok()?;
        self.acceptor.accept(stream).await.ok()
    }
}

impl Listener for Tunnels {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, SocketAddr) {
        loop {
            let Ok((stream, address)) = self.tcp.accept().await else {
                continue;
            };
            if let Some(stream) = self.open(stream).await {
                return (stream, address);
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.tcp.local_addr()
    }
}

/// Asks `base` what the request asks for, and gives its answer.
pub async fn forward(base: &str, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let target = parts
        .uri
        .path_and_query()
        .map_or("/", |target| target.as_str());
    let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
    let client = reqwest::Client::builder()
        .no_proxy()
        .no_gzip()
        .build()
        .unwrap();
    let mut headers = parts.headers;
    headers.remove("host");
    let answer = client
        .request(parts.method, format!("{base}{target}"))
        .headers(headers)
        .body(body)
        .send()
        .await;
    let answer = answer.unwrap();
    let mut response =
        Response::builder().status(StatusCode::from_u16(answer.status().as_u16()).unwrap());
    for (name, value) in answer
        .headers()
        .iter()
        .filter(|(name, _)| *name != "transfer-encoding")
    {
        response = response.header(name, value);
    }
    response
        .body(axum::body::Body::from(answer.bytes().await.unwrap()))
        .unwrap()
}
