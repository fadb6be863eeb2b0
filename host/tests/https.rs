//! Integrations over TLS: which server certificates are trusted, and what is reported about the others.
//!
//! Each test makes its own certificate authorities, which sign the certificates of its servers.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use axum::serve::Listener;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio_rustls::server::TlsStream;

use crate::backend::Backend;
use crate::harness::{Server, Site};

/// A certificate authority.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// Writes the certificate of the authority as PEM, as an operator has it.
    fn write(&self, path: &Path) {
        fs::write(path, self.0.pem()).unwrap();
    }

    /// Starts a server on loopback whose certificate, signed by this authority, is for `name`.
    async fn backend(&self, name: &str) -> Backend {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new([name.to_owned()]).unwrap().signed_by(&key, &self.0).unwrap();
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
        let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        Backend::serve_on(tcp.local_addr().unwrap(), Tls { tcp, acceptor: TlsAcceptor::from(Arc::new(config)) })
    }
}

struct Tls {
    tcp: TcpListener,
    acceptor: TlsAcceptor,
}

impl Listener for Tls {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let (stream, address) = self.tcp.accept().await.unwrap();
            // A client that does not trust the certificate closes the connection.
            if let Ok(stream) = self.acceptor.accept(stream).await {
                return (stream, address);
            }
        }
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.tcp.local_addr()
    }
}

/// There is no `$connect` route, so that the servers get nothing but messages.
fn manifest(backend: &Backend, keys: &str) -> String {
    let port = backend.address.port();
    format!(
        "[integrations.back]\ntype = \"http\"\nurl = \"https://localhost:{port}/messages\"\n{keys}\n\
         [integrations.function]\ntype = \"lambda\"\nurl = \"https://localhost:{port}/function\"\nproxy = false\n\
         responses = {{ \"$default\" = {{}} }}\n{keys}\n\
         [routes]\n\"$default\" = {{ integration = \"back\", route_response = true }}\n\
         function = {{ integration = \"function\", route_response = true }}\n"
    )
}

const MESSAGE_TO_FUNCTION: &str = r#"{"action":"function"}"#;

/// Checks that no message was sent to the server, that the peer stays connected, and that the log says why and what to
/// do.
async fn assert_not_trusted(server: &Server, backend: &Backend, why: &str) {
    let mut peer = server.connect("").await;
    for message in ["hello", MESSAGE_TO_FUNCTION] {
        let frame = peer.ask(message).await;
        assert!(frame.starts_with(r#"{"message": "Internal server error", "connectionId":""#), "{frame}");
    }
    let advice = "the server's certificate is not trusted; name a certificate authority of your own with ca_file";
    for plugin in ["plugin=back", "plugin=function"] {
        server.log.wait_for_line(&["WARN", plugin, advice, why]).await;
    }
    assert!(backend.take_requests().is_empty(), "a server that is not trusted got a message");
}

#[tokio::test]
async fn a_certificate_of_a_private_authority_is_not_trusted_and_the_log_says_what_to_do() {
    let backend = Authority::new("own").backend("localhost").await;
    let server = Site::new(&manifest(&backend, "")).serve();
    assert_not_trusted(&server, &backend, "UnknownIssuer").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_private_authority_is_trusted_if_the_manifest_names_it() {
    let authority = Authority::new("own");
    let backend = authority.backend("localhost").await;
    let site = Site::new(&manifest(&backend, "ca_file = \"ca.pem\""));
    authority.write(&site.path().join("ca.pem"));
    let (code, _, stderr) = site.run(&["check"]);
    assert_eq!((code, &*stderr), (0, ""));
    let (code, stdout, stderr) = site.run(&["invoke", "$default", "--body", "hello"]);
    assert!(code == 0 && stdout.contains("hello"), "{stdout}{stderr}");
    assert_eq!(backend.only_request().await.body, "hello");

    let server = site.serve();
    let mut peer = server.connect("").await;
    assert_eq!(peer.ask("größer").await, "größer");
    assert_eq!(backend.only_request().await.uri, "/messages");
    assert_eq!(peer.ask(MESSAGE_TO_FUNCTION).await, MESSAGE_TO_FUNCTION);
    assert_eq!(backend.only_request().await.uri, "/function");
}

#[tokio::test]
async fn a_certificate_for_another_host_is_not_trusted() {
    let authority = Authority::new("own");
    let backend = authority.backend("other.example").await;
    let site = Site::new(&manifest(&backend, "ca_file = \"ca.pem\""));
    authority.write(&site.path().join("ca.pem"));
    assert_not_trusted(&site.serve(), &backend, "localhost").await;
}

#[tokio::test]
async fn a_saved_ca_file_is_used_at_once_and_an_invalid_one_changes_nothing() {
    let (old, new) = (Authority::new("old"), Authority::new("new"));
    let backend = new.backend("localhost").await;
    let site = Site::new(&manifest(&backend, "ca_file = \"ca.pem\""));
    let file = site.path().join("ca.pem");
    old.write(&file);
    let server = site.serve();
    assert_not_trusted(&server, &backend, "UnknownIssuer").await;
    let mut peer = server.connect("").await;

    new.write(&file);
    server.log.wait_for_line(&["live", "ca_files=ca.pem", "deployment=2"]).await;
    assert_eq!(peer.ask("hello").await, "hello", "on the connection that was open");

    fs::write(&file, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").unwrap();
    let error = ["ERROR", "jackfield.toml:4: [integrations.back] ca.pem: cannot parse its certificate 1: "];
    server.log.wait_for_line(&[&error[..], &["the old version keeps serving"]].concat()).await;
    assert_eq!(peer.ask("still here").await, "still here");
    new.write(&file);
    server.log.wait_for_line(&["the models and authorities match the served version again"]).await;
}

#[tokio::test]
async fn a_missing_or_empty_ca_file_is_reported_with_its_line() {
    let backend = Authority::new("own").backend("localhost").await;
    let site = Site::new(&manifest(&backend, "ca_file = \"ca.pem\""));
    for (content, problem) in [
        (None, "file not found; create it, or name another file"),
        (Some(""), "found no certificate, expected a PEM block that begins with -----BEGIN CERTIFICATE-----"),
    ] {
        content.iter().for_each(|content| fs::write(site.path().join("ca.pem"), content).unwrap());
        for verb in ["check", "serve"] {
            let (code, stdout, stderr) = site.run(&[verb]);
            let expected = format!("jackfield.toml:4: [integrations.back] ca.pem: {problem}");
            assert!(code == 1 && stdout.is_empty() && stderr.contains(&expected), "{verb}: {stderr}");
            assert_eq!(stderr.matches(problem).count(), 1, "one file is reported once: {stderr}");
        }
    }
    assert!(backend.take_requests().is_empty(), "check and serve send nothing");
}
