//! Opens a stream to a destination: looks up the name, checks the addresses, connects to one of them, starts TLS.
//!
//! Knows names, addresses and certificates. Does not know HTTP, guests or manifests.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use super::address::is_public;
use super::destination::{AddressScope, Destination, Host};
use crate::blocking_threads::BlockingThreads;
use crate::capability::Scheme;
use crate::limits::{DNS_LOOKUPS_MAX, HTTP_ADDRESSES_MAX};

/// Why a connection could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    #[error("the name lookup timed out")]
    LookupTimedOut,
    #[error("the name has no address")]
    NoAddress(#[source] Option<io::Error>),
    #[error("the name has no public address")]
    NotPublic,
    #[error("the connection attempt timed out")]
    TimedOut,
    #[error("no address could be reached")]
    Unreachable(#[source] io::Error),
    #[error("the TLS handshake failed")]
    Tls(#[source] io::Error),
}

pub trait ByteStream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> ByteStream for T {}

/// Opens the connections of one plugin.
pub struct Dialer {
    /// A resolver that does not answer blocks these threads, and no others.
    lookups: BlockingThreads,
}

impl Dialer {
    pub fn new() -> Self {
        Self { lookups: BlockingThreads::new("lookups", DNS_LOOKUPS_MAX) }
    }

    /// Opens a stream to an address of `destination` that is within `scope`, and takes at most `limit` in all.
    ///
    /// The name is looked up once, and the host connects only to addresses that were checked. A name server that
    /// returns another address the next time cannot avoid the check.
    ///
    /// # Cancel safety
    /// Dropping the future closes the connection. A lookup that has started continues, and its result is dropped.
    pub async fn dial(
        &self,
        destination: &Destination,
        scope: AddressScope,
        limit: Duration,
    ) -> Result<Box<dyn ByteStream>, DialError> {
        let deadline = Instant::now() + limit;
        let found = timeout_at(deadline, self.look_up(destination)).await.map_err(|_| DialError::LookupTimedOut)?;
        let addresses = within_scope(scope, found.map_err(|error| DialError::NoAddress(Some(error)))?)?;
        let tcp = connect(&addresses, deadline).await?;
        match destination.scheme {
            Scheme::Http => Ok(Box::new(tcp)),
            Scheme::Https => Ok(Box::new(tls(tcp, &destination.host, &PUBLIC_AUTHORITIES, deadline).await?)),
        }
    }

    async fn look_up(&self, destination: &Destination) -> io::Result<Vec<SocketAddr>> {
        let name = match &destination.host {
            Host::Address(address) => return Ok(vec![SocketAddr::new(*address, destination.port)]),
            Host::Name(name) => (name.clone(), destination.port),
        };
        self.lookups.run(move || name.to_socket_addrs().map(Iterator::collect)).await.flatten()
    }
}

/// Returns the addresses within `scope`, at least one.
fn within_scope(scope: AddressScope, mut addresses: Vec<SocketAddr>) -> Result<Vec<SocketAddr>, DialError> {
    if addresses.is_empty() {
        return Err(DialError::NoAddress(None));
    }
    if scope == AddressScope::Public {
        addresses.retain(|address| is_public(address.ip()));
    }
    if addresses.is_empty() {
        return Err(DialError::NotPublic);
    }
    addresses.truncate(HTTP_ADDRESSES_MAX);
    Ok(addresses)
}

/// Connects to the first address that accepts, in the given order. The remaining time is divided among the remaining
/// addresses, so that an address that never answers does not use all of it.
async fn connect(addresses: &[SocketAddr], deadline: Instant) -> Result<TcpStream, DialError> {
    let mut failure = DialError::NoAddress(None);
    for (address, remaining) in addresses.iter().zip((1..=addresses.len() as u32).rev()) {
        let share = deadline.saturating_duration_since(Instant::now()) / remaining;
        failure = match timeout(share, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                stream.set_nodelay(true).map_err(DialError::Unreachable)?;
                return Ok(stream);
            }
            Ok(Err(error)) => DialError::Unreachable(error),
            Err(_) => DialError::TimedOut,
        };
    }
    Err(failure)
}

async fn tls(
    stream: TcpStream,
    host: &Host,
    config: &Arc<ClientConfig>,
    deadline: Instant,
) -> Result<impl ByteStream + use<>, DialError> {
    let name = match host {
        Host::Address(address) => ServerName::from(*address),
        Host::Name(name) => ServerName::try_from(name.clone())
            .map_err(|error| DialError::Tls(io::Error::new(io::ErrorKind::InvalidInput, error)))?,
    };
    let handshake = TlsConnector::from(Arc::clone(config)).connect(name, stream);
    timeout_at(deadline, handshake).await.map_err(|_| DialError::TimedOut)?.map_err(DialError::Tls)
}

/// Trusts the authorities that Mozilla trusts, and not those of this machine.
static PUBLIC_AUTHORITIES: LazyLock<Arc<ClientConfig>> =
    LazyLock::new(|| client_config(webpki_roots::TLS_SERVER_ROOTS.iter().cloned().collect()));

fn client_config(authorities: RootCertStore) -> Arc<ClientConfig> {
    let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("ring supports TLS 1.2 and 1.3")
        .with_root_certificates(authorities)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Arc::new(config)
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use tokio::net::TcpListener;
    use tokio::task::JoinHandle;
    use tokio_rustls::TlsAcceptor;
    use tokio_rustls::rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
    use tokio_rustls::rustls::{self, ServerConfig};

    use super::*;

    const LONG: Duration = Duration::from_secs(5);

    /// A self-signed certificate for `localhost`, valid until 2124, and its key. Both exist only for this test.
    const CERTIFICATE: &str = "\
        MIIBPzCB5aADAgECAgEBMAoGCCqGSM49BAMCMBQxEjAQBgNVBAMMCWxvY2FsaG9zdDAgFw0yNDAxMDEwMDAwMDBaGA8yMTI0MDEw\
        MTAwMDAwMFowFDESMBAGA1UEAwwJbG9jYWxob3N0MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE7BVPZniNNJbmJ1LaQ7vhhJTe\
        DPLChgUGSNMEBJz4kn+Eql5JUx3ZzmYrj/H7gSLncoHm3bHCby3YTMzlOUE9QaMmMCQwFAYDVR0RBA0wC4IJbG9jYWxob3N0MAwG\
        A1UdEwEB/wQCMAAwCgYIKoZIzj0EAwIDSQAwRgIhAKiT6xnjW5tvpXFEi+9moQ2qPDZ32qnMKz5b8zGxSUEDAiEAosA4T6rg4jeU\
        LoZKQswsW0t7GS0iG//oEvtwtqwBtFo=";
    const KEY: &str = "\
        MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgKDkC6/gKNyAb24bzIwAZQLpHLUQJ/I44sLtGwA9TD+ahRANCAATs\
        FU9meI00luYnUtpDu+GElN4M8sKGBQZI0wQEnPiSf4SqXklTHdnOZiuP8fuBIudygebdscJvLdhMzOU5QT1B";

    fn addresses(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| SocketAddr::new(text.parse().unwrap(), 80)).collect()
    }

    fn http(host: Host, port: u16) -> Destination {
        Destination { scheme: Scheme::Http, host, port }
    }

    /// Accepts one TLS connection; returns the server name and the protocol that the client requested.
    async fn tls_server() -> (SocketAddr, JoinHandle<Option<(String, Vec<u8>)>>) {
        let certificate = CertificateDer::from(STANDARD.decode(CERTIFICATE).unwrap());
        let key = PrivatePkcs8KeyDer::from(STANDARD.decode(KEY).unwrap());
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key.into())
            .unwrap();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            let stream = TlsAcceptor::from(Arc::new(config)).accept(stream).await.ok()?;
            let session = stream.get_ref().1;
            Some((session.server_name()?.to_owned(), session.alpn_protocol()?.to_owned()))
        });
        (address, server)
    }

    #[test]
    fn addresses_that_are_not_public_are_removed() {
        let mixed = addresses(&["127.0.0.1", "1.1.1.1", "::1", "2606:4700::1111"]);
        assert_eq!(
            within_scope(AddressScope::Public, mixed.clone()).unwrap(),
            addresses(&["1.1.1.1", "2606:4700::1111"])
        );
        assert_eq!(within_scope(AddressScope::Any, mixed.clone()).unwrap(), mixed);
        let inside = within_scope(AddressScope::Public, addresses(&["10.0.0.1", "fd00:ec2::254"]));
        assert!(matches!(inside, Err(DialError::NotPublic)), "{inside:?}");
        assert!(matches!(within_scope(AddressScope::Any, Vec::new()), Err(DialError::NoAddress(None))));
    }

    #[tokio::test]
    async fn the_next_address_is_tried_after_one_refuses() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let open = listener.local_addr().unwrap();
        // Nothing listens on the same port of another loopback address.
        let refusing = SocketAddr::new(IpAddr::from([127, 0, 0, 2]), open.port());
        let stream = connect(&[refusing, open], Instant::now() + LONG).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), open);
        let refused = connect(&[refusing], Instant::now() + LONG).await;
        assert!(
            matches!(&refused, Err(DialError::Unreachable(error))
            if error.kind() == io::ErrorKind::ConnectionRefused),
            "{refused:?}"
        );
    }

    #[tokio::test]
    async fn the_loopback_addresses_of_a_name_are_rejected_unless_the_scope_is_any() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let localhost = http(Host::Name("localhost".to_owned()), listener.local_addr().unwrap().port());
        let dialer = Dialer::new();
        assert!(matches!(dialer.dial(&localhost, AddressScope::Public, LONG).await, Err(DialError::NotPublic)));
        assert!(dialer.dial(&localhost, AddressScope::Any, LONG).await.is_ok());
    }

    #[tokio::test]
    async fn a_number_that_the_resolver_reads_as_an_address_is_checked_as_that_address() {
        for spelling in ["2130706433", "127.1", "0x7f000001"] {
            let destination = Destination::from_uri(&format!("http://{spelling}").parse().unwrap()).unwrap();
            let refused = Dialer::new().dial(&destination, AddressScope::Public, LONG).await;
            assert!(matches!(refused, Err(DialError::NotPublic | DialError::NoAddress(_))), "{spelling}");
        }
    }

    #[tokio::test]
    async fn a_lookup_that_gets_no_free_thread_times_out() {
        // A resolver that does not answer blocks the only thread of one plugin.
        let dialer = Dialer { lookups: BlockingThreads::new("lookups", 1) };
        let (answer, answered) = std::sync::mpsc::channel::<()>();
        let silent = dialer.lookups.run(move || answered.recv());
        assert!(timeout(Duration::from_millis(20), silent).await.is_err());
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let localhost = http(Host::Name("localhost".to_owned()), listener.local_addr().unwrap().port());
        let late = dialer.dial(&localhost, AddressScope::Any, Duration::from_millis(20)).await;
        assert!(matches!(late, Err(DialError::LookupTimedOut)));
        // Other plugins and reloads have threads of their own.
        assert!(Dialer::new().dial(&localhost, AddressScope::Any, LONG).await.is_ok());
        timeout(LONG, tokio::task::spawn_blocking(|| ())).await.unwrap().unwrap();
        drop(answer);
        assert!(dialer.dial(&localhost, AddressScope::Any, LONG).await.is_ok());
    }

    #[tokio::test]
    async fn tls_sends_the_name_of_the_host_and_requests_http_1_1() {
        let (address, server) = tls_server().await;
        let mut trusted = RootCertStore::empty();
        trusted.add(CertificateDer::from(STANDARD.decode(CERTIFICATE).unwrap())).unwrap();
        let tcp = TcpStream::connect(address).await.unwrap();
        let host = Host::Name("localhost".to_owned());
        tls(tcp, &host, &client_config(trusted), Instant::now() + LONG).await.map(drop).unwrap();
        assert_eq!(server.await.unwrap(), Some(("localhost".to_owned(), b"http/1.1".to_vec())));
    }

    #[tokio::test]
    async fn a_certificate_that_no_public_authority_signed_is_rejected() {
        let (address, server) = tls_server().await;
        let destination =
            Destination { scheme: Scheme::Https, host: Host::Name("localhost".to_owned()), port: address.port() };
        let Err(DialError::Tls(error)) = Dialer::new().dial(&destination, AddressScope::Any, LONG).await else {
            panic!("the handshake did not fail");
        };
        let cause = error.get_ref().and_then(|cause| cause.downcast_ref::<rustls::Error>());
        assert!(matches!(cause, Some(rustls::Error::InvalidCertificate(_))), "{cause:?}");
        assert_eq!(server.await.unwrap(), None);
    }

    #[tokio::test]
    async fn a_handshake_that_does_not_end_times_out() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let destination =
            Destination { scheme: Scheme::Https, host: Host::Address(address.ip()), port: address.port() };
        let late = Dialer::new().dial(&destination, AddressScope::Any, Duration::from_millis(50)).await;
        assert!(matches!(late, Err(DialError::TimedOut)));
    }
}
