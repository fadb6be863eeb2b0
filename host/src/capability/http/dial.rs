//! From a destination to a stream: look up, check the addresses, connect to one of them, TLS.
//!
//! Knows names, addresses and certificates. Does not know HTTP, guests or manifests.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use super::address::is_public;
use super::destination::{Destination, Host, Reach};
use crate::capability::Scheme;
use crate::limits::{HTTP_ADDRESSES_MAX, HTTP_LOOK_UPS_MAX};

/// What became of a connection attempt.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    #[error("the name was not looked up in time")]
    LookUpTimedOut,
    #[error("the name has no address")]
    NoAddress(#[source] Option<io::Error>),
    #[error("the name has no public address")]
    NotPublic,
    #[error("no address answered in time")]
    TimedOut,
    #[error("no address could be reached")]
    Unreachable(#[source] io::Error),
    #[error("the TLS handshake failed")]
    Tls(#[source] io::Error),
}

pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Opens the connections of one plugin.
pub struct Dialer {
    look_ups: Arc<Semaphore>,
}

impl Dialer {
    pub fn new() -> Self {
        Self { look_ups: Arc::new(Semaphore::new(HTTP_LOOK_UPS_MAX)) }
    }

    /// Opens a stream to an address of `destination` that is within `reach`, all in `limit`.
    ///
    /// The name is looked up once: what was checked is what is dialled, so that a name which
    /// answers differently the next time gains nothing.
    /// # Cancel safety
    /// Dropping the future closes what was opened; a look-up under way goes on unheard.
    pub async fn dial(
        &self,
        destination: &Destination,
        reach: Reach,
        limit: Duration,
    ) -> Result<Box<dyn Stream>, DialError> {
        let deadline = Instant::now() + limit;
        let found = timeout_at(deadline, self.look_up(destination)).await.map_err(|_| DialError::LookUpTimedOut)?;
        let addresses = within(reach, found.map_err(|error| DialError::NoAddress(Some(error)))?)?;
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
        let permit = Arc::clone(&self.look_ups).acquire_owned().await.expect("nothing closes the semaphore");
        let look_up = tokio::task::spawn_blocking(move || {
            let addresses = name.to_socket_addrs().map(Iterator::collect);
            drop(permit);
            addresses
        });
        look_up.await.unwrap_or_else(|error| Err(io::Error::other(error)))
    }
}

/// The addresses that may be dialled, at least one.
fn within(reach: Reach, mut addresses: Vec<SocketAddr>) -> Result<Vec<SocketAddr>, DialError> {
    if addresses.is_empty() {
        return Err(DialError::NoAddress(None));
    }
    if reach == Reach::Public {
        addresses.retain(|address| is_public(address.ip()));
    }
    if addresses.is_empty() {
        return Err(DialError::NotPublic);
    }
    addresses.truncate(HTTP_ADDRESSES_MAX);
    Ok(addresses)
}

/// Tries the addresses in their order. What is left of the time is shared among those that are
/// left, so that one that never answers does not use it up.
async fn connect(addresses: &[SocketAddr], deadline: Instant) -> Result<TcpStream, DialError> {
    let mut failure = DialError::NoAddress(None);
    for (address, left) in addresses.iter().zip((1..=addresses.len() as u32).rev()) {
        let share = deadline.saturating_duration_since(Instant::now()) / left;
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
) -> Result<impl Stream + use<>, DialError> {
    let name = match host {
        Host::Address(address) => ServerName::from(*address),
        Host::Name(name) => ServerName::try_from(name.clone())
            .map_err(|error| DialError::Tls(io::Error::new(io::ErrorKind::InvalidInput, error)))?,
    };
    let handshake = TlsConnector::from(Arc::clone(config)).connect(name, stream);
    timeout_at(deadline, handshake).await.map_err(|_| DialError::TimedOut)?.map_err(DialError::Tls)
}

/// Trusts the authorities that Mozilla trusts, whatever this machine trusts.
static PUBLIC_AUTHORITIES: LazyLock<Arc<ClientConfig>> =
    LazyLock::new(|| client_config(webpki_roots::TLS_SERVER_ROOTS.iter().cloned().collect()));

fn client_config(authorities: RootCertStore) -> Arc<ClientConfig> {
    let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("ring has what TLS 1.2 and 1.3 need")
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

    /// A certificate for `localhost` that signs itself and is good until 2124, and its key, made
    /// for this test alone.
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

    /// Accepts one TLS connection; tells the name and the protocol that the client asked for.
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
    fn addresses_that_are_not_public_are_left_out() {
        let mixed = addresses(&["127.0.0.1", "1.1.1.1", "::1", "2606:4700::1111"]);
        assert_eq!(within(Reach::Public, mixed.clone()).unwrap(), addresses(&["1.1.1.1", "2606:4700::1111"]));
        assert_eq!(within(Reach::Anywhere, mixed.clone()).unwrap(), mixed);
        let inside = within(Reach::Public, addresses(&["10.0.0.1", "fd00:ec2::254"]));
        assert!(matches!(inside, Err(DialError::NotPublic)), "{inside:?}");
        assert!(matches!(within(Reach::Anywhere, Vec::new()), Err(DialError::NoAddress(None))));
    }

    #[tokio::test]
    async fn the_next_address_is_tried_when_one_refuses() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let open = listener.local_addr().unwrap();
        // Nobody listens on the port of another loopback address.
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
    async fn a_name_is_looked_up_and_its_loopback_addresses_refused_unless_reach_is_anywhere() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let localhost = http(Host::Name("localhost".to_owned()), listener.local_addr().unwrap().port());
        let dialer = Dialer::new();
        assert!(matches!(dialer.dial(&localhost, Reach::Public, LONG).await, Err(DialError::NotPublic)));
        assert!(dialer.dial(&localhost, Reach::Anywhere, LONG).await.is_ok());
    }

    #[tokio::test]
    async fn a_number_that_the_resolver_takes_for_an_address_is_checked_as_that_address() {
        for spelling in ["2130706433", "127.1", "0x7f000001"] {
            let destination = Destination::of(&format!("http://{spelling}").parse().unwrap()).unwrap();
            let refused = Dialer::new().dial(&destination, Reach::Public, LONG).await;
            assert!(matches!(refused, Err(DialError::NotPublic | DialError::NoAddress(_))), "{spelling}");
        }
    }

    #[tokio::test]
    async fn a_look_up_that_finds_no_free_thread_times_out() {
        let dialer = Dialer { look_ups: Arc::new(Semaphore::new(0)) };
        let localhost = http(Host::Name("localhost".to_owned()), 80);
        let late = dialer.dial(&localhost, Reach::Anywhere, Duration::from_millis(20)).await;
        assert!(matches!(late, Err(DialError::LookUpTimedOut)));
    }

    #[tokio::test]
    async fn tls_names_the_host_and_asks_for_http_1_1() {
        let (address, server) = tls_server().await;
        let mut trusted = RootCertStore::empty();
        trusted.add(CertificateDer::from(STANDARD.decode(CERTIFICATE).unwrap())).unwrap();
        let tcp = TcpStream::connect(address).await.unwrap();
        let host = Host::Name("localhost".to_owned());
        tls(tcp, &host, &client_config(trusted), Instant::now() + LONG).await.map(drop).unwrap();
        assert_eq!(server.await.unwrap(), Some(("localhost".to_owned(), b"http/1.1".to_vec())));
    }

    #[tokio::test]
    async fn a_certificate_that_no_public_authority_signed_is_refused() {
        let (address, server) = tls_server().await;
        let destination =
            Destination { scheme: Scheme::Https, host: Host::Name("localhost".to_owned()), port: address.port() };
        let Err(DialError::Tls(error)) = Dialer::new().dial(&destination, Reach::Anywhere, LONG).await else {
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
        let late = Dialer::new().dial(&destination, Reach::Anywhere, Duration::from_millis(50)).await;
        assert!(matches!(late, Err(DialError::TimedOut)));
    }
}
