//! Where the keys of an issuer are: at a URL, or in a file.

use std::fmt;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{ACCEPT, USER_AGENT};
use http::{Request, StatusCode, Uri};

use crate::gateway::authorizer::jwt::KeySource;
use crate::gateway::integration::{Client, Transport};
use crate::limits::JWKS_BYTES_MAX;

pub enum Source {
    Url(Uri, Box<Client>),
    File(PathBuf),
}

/// What was found.
pub enum Got {
    Unchanged,
    Text(Bytes, Option<Stamp>),
}

/// What tells that a file has not changed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    modified: Option<SystemTime>,
    bytes: u64,
}

impl Source {
    /// `timeout` is for one request.
    pub fn new(source: KeySource, transport: Transport, timeout: Duration) -> Self {
        match source {
            KeySource::Url(uri) => Self::Url(uri, Client::new(transport, timeout, JWKS_BYTES_MAX).into()),
            KeySource::File(path) => Self::File(path),
        }
    }

    /// What stands there, unless it is a file with this stamp.
    pub async fn read(&self, stamp: Option<Stamp>) -> Result<Got, String> {
        match self {
            Self::Url(uri, client) => fetch(uri, client).await.map(|text| Got::Text(text, None)),
            Self::File(path) => {
                let path = path.clone();
                let read = tokio::task::spawn_blocking(move || read(&path, stamp)).await;
                read.unwrap_or_else(|error| Err(error.to_string()))
            }
        }
    }
}

async fn fetch(uri: &Uri, client: &Client) -> Result<Bytes, String> {
    let request = Request::get(uri)
        .header(ACCEPT, "application/json")
        .header(USER_AGENT, concat!("jackfield/", env!("CARGO_PKG_VERSION")))
        .body(Bytes::new());
    let request = request.expect("its parts are good");
    let response = client.send(request).await.map_err(|error| error.explain())?;
    match response.status() {
        StatusCode::OK => Ok(response.into_body()),
        status if status.is_redirection() => Err(format!("it answered {status}, and redirects are not followed")),
        status => Err(format!("it answered {status}")),
    }
}

/// Blocks.
fn read(path: &Path, known: Option<Stamp>) -> Result<Got, String> {
    let explain = |error: std::io::Error| error.to_string();
    let metadata = std::fs::metadata(path).map_err(explain)?;
    if !metadata.is_file() {
        return Err("it is no file".to_owned());
    }
    let stamp = Stamp { modified: metadata.modified().ok(), bytes: metadata.len() };
    if known == Some(stamp) {
        return Ok(Got::Unchanged);
    }
    let mut text = Vec::new();
    let file = File::open(path).map_err(explain)?;
    file.take(JWKS_BYTES_MAX as u64 + 1).read_to_end(&mut text).map_err(explain)?;
    if text.len() > JWKS_BYTES_MAX {
        return Err(format!("it has more than {JWKS_BYTES_MAX} bytes"));
    }
    Ok(Got::Text(text.into(), Some(stamp)))
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Url(uri, _) => uri.fmt(f),
            Self::File(path) => path.display().fmt(f),
        }
    }
}
