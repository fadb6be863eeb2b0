//! Integrations over TLS: whom they believe, and what is told of whom they do not.
//!
//! The servers have certificates of authorities that were made here, a moment ago.

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
use crate::harness::{Server, Site, eventually};

/// Somebody who signs certificates.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// Writes what an operator has of it.
    fn write(&self, path: &Path) {
        fs::write(path, self.0.pem()).unwrap();
    }

    /// A server on loopback, of which it says that it is `name`.
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
        Backend::on(tcp.local_addr().unwrap(), Tls { tcp, acceptor: TlsAcceptor::from(Arc::new(config)) })
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
            // Whoever does not believe the certificate hangs up.
            if let Ok(stream) = self.acceptor.accept(stream).await {
                return (stream, address);
            }
        }
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.tcp.local_addr()
    }
}

/// `$connect` is a mock's, so that only messages go out.
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

const MESSAGE_OF_FUNCTION: &str = r#"{"action":"function"}"#;

/// Nobody got what a peer sent, its connection stays, and the log says why and what to do.
async fn assert_distrusted(server: &Server, backend: &Backend, why: &str) {
    let mut peer = server.connect("").await;
    for message in ["hello", MESSAGE_OF_FUNCTION] {
        let frame = peer.ask(message).await;
        assert!(frame.starts_with(r#"{"message": "Internal server error", "connectionId":""#), "{frame}");
    }
    let advice = "the server's certificate is not trusted; an authority of your own is named by ca_file";
    for plugin in ["plugin=back", "plugin=function"] {
        server.log.line_with(&["WARN", plugin, advice, why]).await;
    }
    assert!(backend.take().is_empty(), "somebody who is not believed was sent a message");
}

#[tokio::test]
async fn a_certificate_that_no_public_authority_signed_is_not_believed_and_the_log_says_what_to_do() {
    let backend = Authority::new("own").backend("localhost").await;
    let server = Site::new(&manifest(&backend, "")).serve();
    assert_distrusted(&server, &backend, "UnknownIssuer").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_authority_of_the_operators_own_is_believed_where_the_manifest_names_it() {
    let authority = Authority::new("own");
    let backend = authority.backend("localhost").await;
    let site = Site::new(&manifest(&backend, "ca_file = \"ca.pem\""));
    authority.write(&site.path().join("ca.pem"));
    let (code, _, stderr) = site.run(&["check"]);
    assert_eq!((code, &*stderr), (0, ""));
    let (code, stdout, stderr) = site.run(&["invoke", "$default", "--body", "hello"]);
    assert!(code == 0 && stdout.contains("hello"), "{stdout}{stderr}");
    assert_eq!(backend.one().await.body, "hello");

    let server = site.serve();
    let mut peer = server.connect("").await;
    assert_eq!(peer.ask("größer").await, "größer");
    assert_eq!(backend.one().await.uri, "/messages");
    assert_eq!(peer.ask(MESSAGE_OF_FUNCTION).await, MESSAGE_OF_FUNCTION);
    assert_eq!(backend.one().await.uri, "/function");
}

#[tokio::test]
async fn an_authority_speaks_for_those_whom_it_names_and_no_others() {
    let authority = Authority::new("own");
    let backend = authority.backend("other.example").await;
    let site = Site::new(&manifest(&backend, "ca_file = \"ca.pem\""));
    authority.write(&site.path().join("ca.pem"));
    assert_distrusted(&site.serve(), &backend, "localhost").await;
}

#[tokio::test]
async fn another_authority_is_believed_from_the_save_on_and_a_file_that_is_none_changes_nothing() {
    let (old, new) = (Authority::new("old"), Authority::new("new"));
    let backend = new.backend("localhost").await;
    let site = Site::new(&manifest(&backend, "ca_file = \"ca.pem\""));
    let file = site.path().join("ca.pem");
    old.write(&file);
    let server = site.serve();
    assert_distrusted(&server, &backend, "UnknownIssuer").await;
    let mut peer = server.connect("").await;

    new.write(&file);
    server.log.line_with(&["live", "ca_files=ca.pem", "deployment=2"]).await;
    assert_eq!(peer.ask("hello").await, "hello", "on the connection that was open");

    fs::write(&file, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").unwrap();
    let told = ["ERROR", "jackfield.toml:4: [integrations.back] ca.pem: its certificate 1 cannot be read: "];
    server.log.line_with(&[&told[..], &["the old version keeps serving"]].concat()).await;
    assert_eq!(peer.ask("still here").await, "still here");
    new.write(&file);
    server.log.line_with(&["the models and authorities are again as they are served"]).await;
}

#[tokio::test]
async fn a_file_of_authorities_that_is_not_there_or_empty_is_told_with_its_line() {
    let backend = Authority::new("own").backend("localhost").await;
    let site = Site::new(&manifest(&backend, "ca_file = \"ca.pem\""));
    for (content, told) in [
        (None, "it is not there; put it there, or name another file"),
        (Some(""), "found no certificate, expected -----BEGIN CERTIFICATE----- and what follows"),
    ] {
        content.iter().for_each(|content| fs::write(site.path().join("ca.pem"), content).unwrap());
        for verb in ["check", "serve"] {
            let (code, stdout, stderr) = site.run(&[verb]);
            let expected = format!("jackfield.toml:4: [integrations.back] ca.pem: {told}");
            assert!(code == 1 && stdout.is_empty() && stderr.contains(&expected), "{verb}: {stderr}");
            assert_eq!(stderr.matches(told).count(), 1, "one file is told once: {stderr}");
        }
    }
    eventually("nothing was sent", || async { backend.take().is_empty() }).await;
}
