//! The store over TLS: which certificates are trusted, and what is reported about the others.

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd};
use tempfile::TempDir;
use tokio::net::TcpSocket;

use super::connect;
use crate::harness::{HOSTILE, HOSTILE_GRANTS, Server, Site, component, eventually, manifest};
use crate::redis_server::Redis;

/// A port that no other process gets, and on which a server of this test can listen again and again.
pub struct Port {
    pub number: u16,
    _socket: TcpSocket,
}

impl Port {
    pub fn new() -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        // Redis sets this option too, so that it can bind the address as long as this socket does not listen.
        socket.set_reuseaddr(true).unwrap();
        socket.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        Self { number: socket.local_addr().unwrap().port(), _socket: socket }
    }
}

/// An authority, with the files of what it has issued.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: TempDir,
}

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("ca.pem"), issuer.pem()).unwrap();
        Self { issuer, folder }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Issues a certificate for a host. Its files are `NAME.pem` and `NAME.key`.
    fn issue(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> (PathBuf, PathBuf) {
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let (path, key_path) = (self.file(&format!("{name}.pem")), self.file(&format!("{name}.key")));
        fs::write(&path, certificate.pem()).unwrap();
        fs::write(&key_path, key.serialize_pem()).unwrap();
        (path, key_path)
    }

    /// Starts a Redis with a certificate of this authority for `localhost`.
    async fn redis(&self, port: &Port, arguments: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Redis {
        let (certificate, key) = self.issue("localhost", change);
        let (port, ca) = (port.number.to_string(), self.file("ca.pem"));
        let mut all = vec!["--tls-port", &port, "--tls-cert-file", text(&certificate), "--tls-key-file", text(&key)];
        all.extend(["--tls-ca-cert-file", text(&ca)]);
        all.extend(arguments);
        Redis::start_with(&all).await
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

const NO_CLIENTS: &[&str] = &["--tls-auth-clients", "no"];

fn site(url: &str, keys: &str) -> Site {
    let section = format!("[backend]\nurl = \"{url}\"\nlease = \"4s\"\n{keys}");
    Site::new(&manifest(&component(HOSTILE), &section, HOSTILE_GRANTS))
}

fn with_ca(port: &Port, host: &str, ca: &Path) -> Site {
    site(&format!("rediss://{host}:{}", port.number), &format!("ca_file = {ca:?}"))
}

/// Returns the error of a server that does not start.
fn error_of(site: &Site) -> String {
    let (code, _, error) = site.run(&["serve", "--listen", "127.0.0.1:0"]);
    assert_eq!(code, 1, "{error}");
    error
}

fn assert_words(error: &str, words: &[&str]) {
    assert!(words.iter().all(|word| error.contains(word)), "{error}");
}

#[tokio::test]
async fn nodes_share_a_redis_over_tls_also_after_it_was_away() {
    let (authority, port) = (Authority::new("own"), Port::new());
    let mut redis = authority.redis(&port, NO_CLIENTS, |_| {}).await;
    let start = || -> Server { with_ca(&port, "localhost", &authority.file("ca.pem")).serve() };
    let (one, other) = (start(), start());
    let (mut first, first_id) = connect(&one).await;
    let (mut second, second_id) = connect(&other).await;
    assert_eq!(first.ask(&format!("post {second_id} over TLS")).await, "posted");
    assert_eq!(second.text().await, "over TLS");
    assert_eq!(second.ask(&format!("add-to {first_id} room=lobby")).await, "changed");
    assert_eq!(second.ask("query room=lobby").await, "1 rows, 0 of them twice");
    redis.kill();
    eventually("the store is away", || async { one.try_connect("", &[]).await.err() == Some(503) }).await;
    redis.restart().await;
    eventually("a post reaches the other node", || async { one.post(&second_id, "again").await.status == 200 }).await;
    assert_eq!(second.text().await, "again");
    eventually("the row is found again", || async {
        let Ok(mut peer) = other.try_connect("", &[]).await else { return false };
        peer.ask("query room=lobby").await == "1 rows, 0 of them twice"
    })
    .await;
}

#[tokio::test]
async fn a_certificate_of_another_authority_is_not_trusted() {
    let (authority, port) = (Authority::new("own"), Port::new());
    let _redis = authority.redis(&port, NO_CLIENTS, |_| {}).await;
    // The same name does not make it the same authority.
    for name in ["own", "stranger"] {
        let stranger = Authority::new(name);
        let error = error_of(&with_ca(&port, "localhost", &stranger.file("ca.pem")));
        assert_words(&error, &["cannot connect to the store rediss://localhost:", "no authority in ca_file"]);
    }
    let error = error_of(&site(&format!("rediss://localhost:{}", port.number), ""));
    assert_words(&error, &["no authority of Mozilla's list has issued its certificate", "in ca_file"]);
}

#[tokio::test]
async fn a_certificate_for_another_host_is_not_trusted() {
    let (authority, port) = (Authority::new("own"), Port::new());
    let _redis = authority.redis(&port, NO_CLIENTS, |_| {}).await;
    let error = error_of(&with_ca(&port, "127.0.0.1", &authority.file("ca.pem")));
    assert_words(&error, &["its certificate is for", "localhost", "expected 127.0.0.1; write a host in url"]);
}

#[tokio::test]
async fn a_certificate_that_has_expired_is_not_trusted() {
    let (authority, port) = (Authority::new("own"), Port::new());
    let expired = |params: &mut CertificateParams| params.not_after = date_time_ymd(2020, 1, 1);
    let _redis = authority.redis(&port, NO_CLIENTS, expired).await;
    let error = error_of(&with_ca(&port, "localhost", &authority.file("ca.pem")));
    assert_words(&error, &["its certificate has expired"]);
}

#[tokio::test]
async fn a_port_with_the_other_protocol_is_named() {
    let (authority, tls, plain) = (Authority::new("own"), Port::new(), Port::new());
    let port = plain.number.to_string();
    let arguments = [NO_CLIENTS, &["--port", &port]].concat();
    let _redis = authority.redis(&tls, &arguments, |_| {}).await;
    let error = error_of(&with_ca(&plain, "localhost", &authority.file("ca.pem")));
    assert_words(&error, &["found no TLS at this port", "or write redis://"]);
    let error = error_of(&site(&format!("redis://localhost:{}", tls.number), ""));
    assert_words(&error, &["the answer is not one of Redis", "write rediss://"]);
}

#[tokio::test]
async fn a_redis_that_asks_for_a_certificate_gets_the_one_of_the_manifest() {
    let (authority, port) = (Authority::new("own"), Port::new());
    let _redis = authority.redis(&port, &[], |_| {}).await;
    let ca = authority.file("ca.pem");
    let error = error_of(&with_ca(&port, "localhost", &ca));
    assert_words(&error, &["it asks for a certificate of this process", "set certificate_file and key_file"]);

    let with_client = |(certificate, key): (PathBuf, PathBuf)| {
        let keys = format!("ca_file = {ca:?}\ncertificate_file = {certificate:?}\nkey_file = {key:?}");
        site(&format!("rediss://localhost:{}", port.number), &keys)
    };
    let error = error_of(&with_client((authority.file("node.pem"), authority.file("node.key"))));
    assert_words(&error, &["certificate_file: ", "node.pem: No such file"]);
    let stranger = Authority::new("stranger");
    let error = error_of(&with_client(stranger.issue("node", |_| {})));
    assert_words(&error, &["it ended the connection", "an authority of the store has issued certificate_file"]);
    let (certificate, _) = authority.issue("node", |_| {});
    let error = error_of(&with_client((certificate, stranger.file("node.key"))));
    assert_words(&error, &["key_file: ", "node.key: found the key of another certificate"]);

    let node = with_client(authority.issue("node", |_| {})).serve();
    let (mut peer, id) = connect(&node).await;
    assert_eq!(peer.ask(&format!("add-to {id} room=lobby")).await, "changed");
}

#[tokio::test]
async fn check_reads_the_files_of_the_store() {
    let site = site("rediss://localhost", "ca_file = \"ca.pem\"");
    let (code, _, error) = site.run(&["check"]);
    assert_eq!(code, 1);
    assert_words(&error, &["[backend] ca_file: ", "ca.pem: No such file"]);
    fs::write(site.path().join("ca.pem"), Authority::new("stranger").issuer.pem()).unwrap();
    let (code, _, error) = site.run(&["check"]);
    assert_eq!(code, 0, "{error}");
}
