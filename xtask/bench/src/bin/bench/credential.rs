//! The credentials of clients: a ticket, a token, a signature, an API key.
//!
//! The private key that signed the token was deleted, so no other token can be signed with it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ring::{digest, hmac};

/// The path and query of handshakes that call a handler, which stores the room in the row of the connection.
const ROOM_PATH: &str = "/dev?room=hall";

/// The key with which the authorizer `ticket` verifies tickets.
pub const TICKET_KEY: &str = "a key of the bench alone, and long enough";
/// A name and the expiry time, which is in the year 2100.
const TICKET: &str = "bench.4102444800";

/// The issuer and the audience of the token, and the JWK set with the key that verifies it.
pub const ISSUER: &str = "https://issuer.example";
pub const AUDIENCE: &str = "bench";
pub const KEYS: &str = include_str!("keys.json");
/// A token with RS256, which API Gateway accepts. It expires in the year 2100.
const TOKEN: &str = include_str!("token.jwt");

/// An access key that only the servers of the bench accept.
pub const ACCESS_KEY: &str = "BENCH";
pub const SECRET: &str = "a secret of the bench alone";
const API_KEY: &str = "an-api-key-of-the-bench-alone";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Credential {
    None,
    /// In the query, for the authorizer `ticket`.
    Ticket,
    Token,
    /// SigV4 in a header. All handshakes of a run have the same signature, because a run takes less than the five
    /// minutes for which it is valid.
    Signature,
    ApiKey,
}

impl Credential {
    /// Returns the path and query of the handshake.
    pub fn path(self) -> String {
        match self {
            Self::Ticket => format!("{ROOM_PATH}&ticket={TICKET}.{}", hex(&mac(TICKET_KEY.as_bytes(), TICKET))),
            _ => ROOM_PATH.into(),
        }
    }

    /// Returns the headers of a handshake with the server on this port.
    pub fn headers(self, port: u16) -> Vec<String> {
        match self {
            Self::None | Self::Ticket => Vec::new(),
            Self::Token => vec![format!("Authorization: Bearer {}", TOKEN.trim_end())],
            Self::ApiKey => vec![format!("x-api-key: {API_KEY}")],
            Self::Signature => {
                let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                let (path, query) = ROOM_PATH.split_once('?').unwrap_or((ROOM_PATH, ""));
                let signed = SignedRequest { host: &format!("127.0.0.1:{port}"), path, query, time: &timestamp(since) };
                let authorization = signed.authorization("execute-api", (ACCESS_KEY, SECRET));
                vec![format!("X-Amz-Date: {}", signed.time), format!("Authorization: {authorization}")]
            }
        }
    }
}

/// Returns the SHA-256 of the API key in the format of the manifest.
pub fn api_key_hash() -> String {
    format!("sha256:{}", hash(API_KEY))
}

/// The parts of a GET request that are signed.
struct SignedRequest<'a> {
    host: &'a str,
    path: &'a str,
    query: &'a str,
    /// In the format of `X-Amz-Date`.
    time: &'a str,
}

impl SignedRequest<'_> {
    fn authorization(&self, service: &str, (id, secret): (&str, &str)) -> String {
        const REGION: &str = "us-east-1";
        const HEADERS: &str = "host;x-amz-date";
        let Self { host, path, query, time } = self;
        let request = format!("GET\n{path}\n{query}\nhost:{host}\nx-amz-date:{time}\n\n{HEADERS}\n{}", hash(""));
        let (date, _) = time.split_once('T').unwrap_or((time, ""));
        let scope = format!("{date}/{REGION}/{service}/aws4_request");
        let text = format!("AWS4-HMAC-SHA256\n{time}\n{scope}\n{}", hash(&request));
        let first = format!("AWS4{secret}").into_bytes();
        let key = [date, REGION, service, "aws4_request"].iter().fold(first, |key, part| mac(&key, part));
        let signature = hex(&mac(&key, &text));
        format!("AWS4-HMAC-SHA256 Credential={id}/{scope}, SignedHeaders={HEADERS}, Signature={signature}")
    }
}

fn mac(key: &[u8], text: &str) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes()).as_ref().to_vec()
}

fn hash(text: &str) -> String {
    hex(digest::digest(&digest::SHA256, text.as_bytes()).as_ref())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Formats the time since 1970 as `20150830T123600Z`.
fn timestamp(since: Duration) -> String {
    let seconds = since.as_secs();
    let (year, month, day) = date(seconds / 86_400);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{year:04}{month:02}{day:02}T{hour:02}{minute:02}{second:02}Z")
}

/// Returns the year, month and day that is `days` days after 1970-01-01.
fn date(mut days: u64) -> (u64, usize, u64) {
    let leap = |year: u64| u64::from(year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400)));
    let mut year = 1970;
    while days >= 365 + leap(year) {
        days -= 365 + leap(year);
        year += 1;
    }
    let lengths = [31, 28 + leap(year), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 0;
    while days >= lengths[month] {
        days -= lengths[month];
        month += 1;
    }
    (year, month + 1, days + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_of_the_example_of_aws_is_reproduced() {
        let signed = SignedRequest { host: "example.amazonaws.com", path: "/", query: "", time: "20150830T123600Z" };
        let authorization =
            signed.authorization("service", ("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"));
        assert_eq!(
            authorization,
            "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, \
             SignedHeaders=host;x-amz-date, \
             Signature=5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"
        );
    }

    #[test]
    fn a_timestamp_is_in_utc_and_has_leap_days() {
        let format = |seconds| timestamp(Duration::from_secs(seconds));
        assert_eq!(format(0), "19700101T000000Z");
        assert_eq!(format(951_782_400), "20000229T000000Z");
        assert_eq!(format(1_440_938_160), "20150830T123600Z");
        assert_eq!(format(4_102_444_799), "20991231T235959Z");
    }

    #[test]
    fn each_header_is_one_line() {
        for credential in [Credential::Token, Credential::Signature, Credential::ApiKey] {
            for header in credential.headers(80) {
                assert!(header.contains(": ") && !header.contains(['\r', '\n']), "{header}");
            }
        }
    }
}
