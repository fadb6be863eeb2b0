//! Signs requests as the AWS SDKs do (signature version 4), and sends them.

use std::time::{Duration, SystemTime};

use ring::{digest, hmac};

use crate::harness::{HttpResponse, Server};

pub const KEY: &str = "AKIDEXAMPLE";
pub const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";

/// An access key, its secret, and the time at which requests are signed. The headers `host` and `x-amz-date` are
/// signed.
#[derive(Clone)]
pub struct Signer {
    pub key: &'static str,
    pub secret: &'static str,
    pub at: SystemTime,
}

impl Default for Signer {
    fn default() -> Self {
        Self { key: KEY, secret: SECRET, at: SystemTime::now() }
    }
}

/// A request in the form that the SDKs use, with a path such as `/dev/@connections/ID%3D`.
pub struct Request<'a> {
    pub method: &'a str,
    pub path: &'a str,
    pub body: &'a str,
    /// Further headers, which are signed too. Their names are in lower case.
    pub headers: &'a [(&'a str, &'a str)],
}

impl Signer {
    pub fn seconds_ago(seconds: u64) -> Self {
        Self { at: SystemTime::now() - Duration::from_secs(seconds), ..Self::default() }
    }

    pub fn seconds_ahead(seconds: u64) -> Self {
        Self { at: SystemTime::now() + Duration::from_secs(seconds), ..Self::default() }
    }

    /// Returns the time in the form `20260102T030405Z`.
    fn timestamp(&self) -> String {
        humantime::format_rfc3339_seconds(self.at).to_string().replace(['-', ':'], "")
    }

    fn scope(&self) -> String {
        format!("{}/eu-west-1/execute-api/aws4_request", &self.timestamp()[..8])
    }

    /// Computes the signature of a canonical request.
    fn signature(&self, canonical: &str) -> String {
        let scope = self.scope();
        let text = format!("AWS4-HMAC-SHA256\n{}\n{scope}\n{}", self.timestamp(), sha256(canonical.as_bytes()));
        let mac = |key: &[u8], text: &str| hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes());
        let first = format!("AWS4{}", self.secret).into_bytes();
        let key = scope.split('/').fold(first, |key, part| mac(&key, part).as_ref().to_vec());
        hex(mac(&key, &text).as_ref())
    }

    /// Returns the head of a signed request, up to its body.
    pub fn head(&self, request: &Request<'_>) -> String {
        let Request { method, path, body, headers } = request;
        let timestamp = self.timestamp();
        let mut signed: Vec<(&str, &str)> = headers.to_vec();
        signed.extend([("host", "localhost"), ("x-amz-date", &timestamp)]);
        signed.sort_unstable();
        let names = signed.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(";");
        let lines: String = signed.iter().map(|(name, value)| format!("{name}:{value}\n")).collect();
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let hash = sha256(body.as_bytes());
        let canonical = format!("{method}\n{}\n{query}\n{lines}\n{names}\n{hash}", encode_path(path));
        let mark = if query.is_empty() { "" } else { "?" };
        let sent: String = signed.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        format!(
            "{method} {path}{mark}{query} HTTP/1.1\r\n{sent}Connection: close\r\nContent-Length: {}\r\n\
             Authorization: AWS4-HMAC-SHA256 Credential={}/{}, SignedHeaders={names}, Signature={}\r\n\r\n",
            body.len(),
            self.key,
            self.scope(),
            self.signature(&canonical)
        )
    }

    /// Returns a presigned path, for a request without a body. `expires` is in seconds.
    pub fn presigned(&self, method: &str, path: &str, expires: Option<u64>) -> String {
        let expires = expires.map(|seconds| format!("&X-Amz-Expires={seconds}")).unwrap_or_default();
        let credential = format!("{}/{}", self.key, self.scope()).replace('/', "%2F");
        let query = format!(
            "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential={credential}&X-Amz-Date={}{expires}&\
             X-Amz-SignedHeaders=host",
            self.timestamp()
        );
        let canonical = format!("{method}\n{}\n{query}\nhost:localhost\n\nhost\n{}", encode_path(path), sha256(b""));
        format!("{path}?{query}&X-Amz-Signature={}", self.signature(&canonical))
    }

    /// Signs a request and sends it.
    pub async fn send(&self, server: &Server, method: &str, path: &str, body: &str) -> HttpResponse {
        let head = self.head(&Request { method, path, body, headers: &[] });
        server.http(&format!("{head}{body}")).await
    }
}

/// Percent-encodes the path a second time, as the SDKs do before they sign it.
fn encode_path(path: &str) -> String {
    path.replace('%', "%25").replace('@', "%40").replace('=', "%3D")
}

fn sha256(bytes: &[u8]) -> String {
    hex(digest::digest(&digest::SHA256, bytes).as_ref())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
