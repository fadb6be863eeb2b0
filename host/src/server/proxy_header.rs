//! The header of the PROXY protocol, with which a proxy begins each connection to report its client.
//!
//! Versions 1 and 2 as the specification of HAProxy has them. Reads exactly the header, and nothing behind it.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::io::{AsyncRead, AsyncReadExt as _};

use crate::limits::{PROXY_HEADER_V1_BYTES_MAX, PROXY_HEADER_V2_BYTES_MAX};

/// The first bytes of a header of version 2.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
const V2_FIXED_BYTES: usize = 16;

#[derive(Debug, thiserror::Error)]
pub enum ProxyHeaderError {
    #[error("it does not begin with a header of the PROXY protocol")]
    Missing,
    #[error("its header of the PROXY protocol is not valid: {0}")]
    Invalid(&'static str),
    #[error("its header of the PROXY protocol could not be read: {0}")]
    Io(#[from] io::Error),
}

/// Reads the header and returns the address of the client. Returns `None` if the proxy reports none: the connection is
/// its own, such as a health check, or its client has no IP address.
///
/// # Cancel safety
/// Not cancel safe: what was read is lost.
pub async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Result<Option<SocketAddr>, ProxyHeaderError> {
    // Every header of either version is longer than that.
    let mut start = [0; SIGNATURE.len()];
    read_while_it_matches(stream, &mut start).await?;
    if start == SIGNATURE { read_v2(stream).await } else { read_v1(stream, &start).await }
}

/// Fills `start`, and fails at the first byte that no header has there. So a client that sends no header and waits for
/// a response gets the end of its connection at once.
async fn read_while_it_matches(
    stream: &mut (impl AsyncRead + Unpin),
    start: &mut [u8; SIGNATURE.len()],
) -> Result<(), ProxyHeaderError> {
    const V1: &[u8] = b"PROXY ";
    let mut count = 0;
    while count < start.len() {
        match stream.read(&mut start[count..]).await? {
            0 => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
            read => count += read,
        }
        let found = &start[..count];
        if !(SIGNATURE.starts_with(found) || V1.starts_with(&found[..count.min(V1.len())])) {
            return Err(ProxyHeaderError::Missing);
        }
    }
    Ok(())
}

/// Reads the rest of `PROXY TCP4 192.0.2.1 198.51.100.1 56324 443\r\n`.
async fn read_v1(stream: &mut (impl AsyncRead + Unpin), start: &[u8]) -> Result<Option<SocketAddr>, ProxyHeaderError> {
    let mut line = start.to_vec();
    // One byte at a time, because the request is directly behind the line.
    while !line.ends_with(b"\r\n") {
        if line.len() == PROXY_HEADER_V1_BYTES_MAX {
            return Err(ProxyHeaderError::Invalid("its line is too long"));
        }
        line.push(stream.read_u8().await?);
    }
    let text = str::from_utf8(&line[..line.len() - 2]).map_err(|_| ProxyHeaderError::Invalid("it is not ASCII"))?;
    parse_v1(text)
        .ok_or(ProxyHeaderError::Invalid("its line has another form than \"PROXY TCP4 CLIENT HERE PORT PORT\""))
}

/// Parses the line without its end. The inner `None`: the proxy reports no client.
fn parse_v1(line: &str) -> Option<Option<SocketAddr>> {
    let mut words = line.strip_prefix("PROXY ")?.split(' ');
    let family = words.next()?;
    if family == "UNKNOWN" {
        // According to the specification, the rest of the line is ignored.
        return Some(None);
    }
    let mut address = || -> Option<IpAddr> {
        let text = words.next()?;
        match family {
            "TCP4" => text.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
            "TCP6" => text.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
            _ => None,
        }
    };
    let (client, _here) = (address()?, address()?);
    let mut port = || {
        let text = words.next()?;
        text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse::<u16>().ok()).flatten()
    };
    let (client_port, _port) = (port()?, port()?);
    words.next().is_none().then(|| Some(SocketAddr::new(client, client_port)))
}

async fn read_v2(stream: &mut (impl AsyncRead + Unpin)) -> Result<Option<SocketAddr>, ProxyHeaderError> {
    let [version_and_command, family] = [stream.read_u8().await?, stream.read_u8().await?];
    let length = usize::from(stream.read_u16().await?);
    if V2_FIXED_BYTES + length > PROXY_HEADER_V2_BYTES_MAX {
        return Err(ProxyHeaderError::Invalid("it is too long"));
    }
    let mut rest = vec![0; length];
    stream.read_exact(&mut rest).await?;
    match version_and_command {
        // LOCAL: the proxy itself has opened the connection.
        0x20 => return Ok(None),
        0x21 => {}
        _ => return Err(ProxyHeaderError::Invalid("it has an unknown version or command")),
    }
    let too_short = || ProxyHeaderError::Invalid("its addresses are too short");
    let (client, port) = match family {
        // TCP over IPv4 and over IPv6: two addresses, two ports, and extensions.
        0x11 => {
            let (addresses, _) = rest.split_first_chunk::<12>().ok_or_else(too_short)?;
            let [a, b, c, d, _, _, _, _, high, low, ..] = *addresses;
            (IpAddr::from([a, b, c, d]), u16::from_be_bytes([high, low]))
        }
        0x21 => {
            let (client, others) = rest.split_first_chunk::<16>().ok_or_else(too_short)?;
            let (ports, _) = others.get(16..).and_then(<[u8]>::split_first_chunk::<4>).ok_or_else(too_short)?;
            (IpAddr::from(*client), u16::from_be_bytes([ports[0], ports[1]]))
        }
        // No address, or that of a Unix socket.
        0x00 | 0x31 | 0x32 => return Ok(None),
        _ => return Err(ProxyHeaderError::Invalid("its client has not come by TCP")),
    };
    Ok(Some(SocketAddr::new(client, port)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads a header; returns the client or the error, and what is left behind the header.
    async fn examine(bytes: &[u8]) -> (Result<Option<String>, String>, usize) {
        let mut stream = bytes;
        let read = super::read(&mut stream).await;
        let read = read.map(|client| client.map(|client| client.to_string())).map_err(|error| error.to_string());
        (read, stream.len())
    }

    async fn client(bytes: &[u8]) -> Option<String> {
        let with_request = [bytes, b"GET"].concat();
        let (read, left) = examine(&with_request).await;
        assert_eq!(left, 3, "the request is left: {bytes:?}");
        read.unwrap()
    }

    async fn error(bytes: &[u8]) -> String {
        examine(bytes).await.0.unwrap_err()
    }

    fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
        [&SIGNATURE[..], &[command, family], &length, rest].concat()
    }

    /// The addresses of the specification's examples.
    const IPV4: [u8; 12] = [192, 0, 2, 1, 198, 51, 100, 1, 0xdc, 0x04, 0x01, 0xbb];

    #[tokio::test]
    async fn a_line_of_version_1_has_the_address_of_the_client() {
        for (line, expected) in [
            ("PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n", Some("255.255.255.255:65535")),
            ("PROXY TCP6 2001:db8::1 ::1 56324 443\r\n", Some("[2001:db8::1]:56324")),
            ("PROXY UNKNOWN\r\n", None),
            ("PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n", None),
        ] {
            assert_eq!(client(line.as_bytes()).await.as_deref(), expected, "{line}");
        }
    }

    #[tokio::test]
    async fn a_line_that_is_not_of_version_1_is_an_error() {
        for line in [
            "PROXY TCP4 192.0.2.1 198.51.100.1 56324\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.1 56324 443 1\r\n",
            "PROXY TCP4 192.0.2.1  198.51.100.1 56324 443\r\n",
            "PROXY TCP4 192.0.2.256 198.51.100.1 56324 443\r\n",
            "PROXY TCP4 2001:db8::1 ::1 56324 443\r\n",
            "PROXY TCP6 192.0.2.1 198.51.100.1 56324 443\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.1 65536 443\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.1 +1 443\r\n",
            "PROXY UDP4 192.0.2.1 198.51.100.1 1 443\r\n",
            "PROXY TCP4 192.0.2.\u{fc} 198.51.100.1 1 443\r\n",
        ] {
            assert!(error(line.as_bytes()).await.contains("has another form"), "{line}");
        }
        let rest = |length| format!("PROXY UNKNOWN {}\r\n", "x".repeat(length - 16));
        assert_eq!(client(rest(PROXY_HEADER_V1_BYTES_MAX).as_bytes()).await, None);
        assert!(error(rest(PROXY_HEADER_V1_BYTES_MAX + 1).as_bytes()).await.contains("too long"));
        assert!(error(b"PROXY TCP4 192.0.2.1").await.contains("could not be read"));
    }

    #[tokio::test]
    async fn a_header_of_version_2_has_the_address_of_the_client() {
        let with_extension = [&IPV4[..], &[0x04, 0, 3, 1, 2, 3]].concat();
        for bytes in [&IPV4[..], &with_extension] {
            assert_eq!(client(&v2(0x21, 0x11, bytes)).await.as_deref(), Some("192.0.2.1:56324"));
        }
        let ipv6 = ["2001:db8::1", "::1"].map(|text| text.parse::<Ipv6Addr>().unwrap().octets()).concat();
        let ipv6 = [&ipv6[..], &[0xdc, 0x04, 0x01, 0xbb]].concat();
        assert_eq!(client(&v2(0x21, 0x21, &ipv6)).await.as_deref(), Some("[2001:db8::1]:56324"));
        assert_eq!(client(&v2(0x20, 0x00, &[])).await, None, "LOCAL");
        assert_eq!(client(&v2(0x20, 0x11, &IPV4)).await, None, "LOCAL with addresses");
        assert_eq!(client(&v2(0x21, 0x00, &[])).await, None, "no address");
        assert_eq!(client(&v2(0x21, 0x31, &[0; 216])).await, None, "a Unix socket");
    }

    #[tokio::test]
    async fn what_is_not_of_version_2_is_an_error() {
        assert!(error(&v2(0x11, 0x11, &IPV4)).await.contains("unknown version"));
        assert!(error(&v2(0x22, 0x11, &IPV4)).await.contains("unknown version"));
        assert!(error(&v2(0x21, 0x12, &IPV4)).await.contains("not come by TCP"));
        assert!(error(&v2(0x21, 0x11, &IPV4[..11])).await.contains("too short"));
        assert!(error(&v2(0x21, 0x21, &[0; 35])).await.contains("too short"));
        assert!(error(&v2(0x21, 0x11, &IPV4)[..20]).await.contains("could not be read"));
        let longest = [&IPV4[..], &[0; PROXY_HEADER_V2_BYTES_MAX - V2_FIXED_BYTES - IPV4.len()]].concat();
        assert!(client(&v2(0x21, 0x11, &longest)).await.is_some());
        assert!(error(&v2(0x21, 0x11, &[&longest[..], &[0]].concat())).await.contains("too long"));
    }

    #[tokio::test]
    async fn what_is_no_header_is_refused_at_its_first_different_byte() {
        for bytes in [&b"G"[..], b"GET / HTTP/1.1\r\n", b"PROXX", b"\r\n\r\n\0\r\nQUIX", b"\x16\x03\x01"] {
            assert!(error(bytes).await.contains("does not begin with"), "{bytes:?}");
        }
    }
}
