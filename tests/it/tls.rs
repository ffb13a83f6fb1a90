//! Which protocol is spoken where both sides may choose: over TLS.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::Request;
use axum::http::Version;
use axum::serve::Listener;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::PrivatePkcs8KeyDer;
use tokio_rustls::server::TlsStream;

use crate::program::Program;

/// A server that offers these protocols, and its certificate.
struct Tls {
    listener: TcpListener,
    acceptor: TlsAcceptor,
    connections: Arc<Mutex<u64>>,
}

impl Listener for Tls {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, SocketAddr) {
        loop {
            let Ok((stream, address)) = self.listener.accept().await else {
                continue;
            };
            if let Ok(stream) = self.acceptor.accept(stream).await {
                *self.connections.lock().unwrap() += 1;
                return (stream, address);
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// Runs the program, list by list, on a server that offers `protocols`; gives the versions of its requests, and counts connections.
async fn spoken(protocols: &[&str]) -> (Vec<Version>, u64) {
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed(["localhost".to_string()]).unwrap();
    let key = PrivatePkcs8KeyDer::from(signing_key.serialize_der()).into();
    let config = ServerConfig::builder().with_no_client_auth();
    let mut config = config
        .with_single_cert(vec![cert.der().clone()], key)
        .unwrap();
    config.alpn_protocols = protocols
        .iter()
        .map(|protocol| protocol.as_bytes().to_vec())
        .collect();
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let url = format!(
        "https://localhost:{}",
        listener.local_addr().unwrap().port()
    );
    let connections = Arc::new(Mutex::new(0));
    let tls = Tls {
        listener,
        acceptor: TlsAcceptor::from(Arc::new(config)),
        connections: connections.clone(),
    };
    let versions: Arc<Mutex<Vec<Version>>> = Arc::default();
    let log = versions.clone();
    let router = Router::new().fallback(move |request: Request| async move {
        log.lock().unwrap().push(request.version());
        r#"{"data":[],"pagination":{"endCursor":"","hasNextPage":false}}"#
    });
    let server = tokio::spawn(async move { axum::serve(tls, router).await });

    let program = Program::new()
        .set("SAMSARA_API_URL", &url)
        .set("SAMSARA_API_TOKEN", "t");
    program.write("root.pem", cert.pem());
    let root = program.folder().join("root.pem").display().to_string();
    let program = program.set("SSL_CERT_FILE", &root);
    let lists = ["addresses", "fleet_drivers", "fleet_vehicles"];
    program
        .succeed(
            &[
                &["run", "--max_workers", "1"][..],
                &lists.map(|list| ["--table", list]).concat(),
            ]
            .concat(),
        )
        .await;
    server.abort();
    let versions = versions.lock().unwrap().clone();
    let connections = *connections.lock().unwrap();
    assert!(versions.len() >= lists.len(), "{versions:?}");
    (versions, connections)
}

#[tokio::test(flavor = "multi_thread")]
async fn http_2_uses_one_connection() {
    let (versions, connections) = spoken(&["h2", "http/1.1"]).await;
    assert!(
        versions.iter().all(|version| *version == Version::HTTP_2),
        "{versions:?}"
    );
    assert_eq!(connections, 1);
    let (versions, _) = spoken(&["http/1.1"]).await;
    assert!(
        versions.iter().all(|version| *version == Version::HTTP_11),
        "{versions:?}"
    );
}
