//! Reads the keys of an issuer from a URL or a file.

use std::fmt;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, USER_AGENT};
use http::{Request, StatusCode, Uri};

use crate::file_state::FileState;
use crate::gateway::authorizer::jwt::KeySource;
use crate::gateway::integration::{Client, Transport};
use crate::limits::JWKS_BYTES_MAX;

pub enum KeyReader {
    Url(Uri, Box<Client>),
    File(PathBuf),
}

pub enum ReadResult {
    /// The file has the state of the last read.
    Unchanged,
    /// The document; for a file, with its state.
    Text(Bytes, Option<FileState>),
}

impl KeyReader {
    /// `timeout` limits one request.
    pub fn new(source: KeySource, transport: Transport, timeout: Duration) -> Self {
        match source {
            KeySource::Url(uri) => Self::Url(uri, Client::new(transport, timeout, JWKS_BYTES_MAX).into()),
            KeySource::File(path) => Self::File(path),
        }
    }

    /// Reads the document, unless it is a file that still has this state.
    pub async fn read(&self, known: Option<FileState>) -> Result<ReadResult, String> {
        match self {
            Self::Url(uri, client) => fetch(uri, client).await.map(|text| ReadResult::Text(text, None)),
            Self::File(path) => {
                let path = path.clone();
                let result = tokio::task::spawn_blocking(move || read_file(&path, known)).await;
                result.unwrap_or_else(|error| Err(error.to_string()))
            }
        }
    }
}

async fn fetch(uri: &Uri, client: &Client) -> Result<Bytes, String> {
    let request = Request::get(uri)
        .header(ACCEPT, "application/json")
        .header(USER_AGENT, concat!("jackfield/", env!("CARGO_PKG_VERSION")))
        .body(Bytes::new());
    let request = request.expect("the URI and the headers are valid");
    let response = client.send(request).await.map_err(|error| error.explain())?;
    match response.status() {
        StatusCode::OK => Ok(response.into_body()),
        status if status.is_redirection() => {
            Err(format!("the server answered {status}, and redirects are not followed"))
        }
        status => Err(format!("the server answered {status}")),
    }
}

/// Blocks on the file system.
fn read_file(path: &Path, known: Option<FileState>) -> Result<ReadResult, String> {
    let explain = |error: std::io::Error| error.to_string();
    let metadata = std::fs::metadata(path).map_err(explain)?;
    if !metadata.is_file() {
        return Err("it is not a file".to_owned());
    }
    let state = FileState::from_metadata(&metadata).map_err(explain)?;
    if known == Some(state) {
        return Ok(ReadResult::Unchanged);
    }
    let mut text = Vec::new();
    let file = File::open(path).map_err(explain)?;
    file.take(JWKS_BYTES_MAX as u64 + 1).read_to_end(&mut text).map_err(explain)?;
    if text.len() > JWKS_BYTES_MAX {
        return Err(format!("it is larger than {JWKS_BYTES_MAX} bytes"));
    }
    Ok(ReadResult::Text(text.into(), Some(state)))
}

impl fmt::Display for KeyReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Url(uri, _) => uri.fmt(f),
            Self::File(path) => path.display().fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, FileTimes};
    use std::time::SystemTime;

    use super::*;

    #[cfg(unix)]
    #[test]
    fn a_file_with_other_content_of_the_same_size_and_time_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys.json");
        let time = FileTimes::new().set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000));
        let write = |content: &str| {
            fs::write(&path, content).unwrap();
            File::options().append(true).open(&path).unwrap().set_times(time).unwrap();
        };
        write("one");
        let Ok(ReadResult::Text(text, state)) = read_file(&path, None) else { panic!("it is read") };
        assert_eq!(&text[..], b"one");
        assert!(matches!(read_file(&path, state), Ok(ReadResult::Unchanged)));
        // The clock of the file system may be too coarse to distinguish two changes.
        while FileState::from_metadata(&fs::metadata(&path).unwrap()).ok() == state {
            write("two");
        }
        let Ok(ReadResult::Text(text, _)) = read_file(&path, state) else { panic!("it is read again") };
        assert_eq!(&text[..], b"two");
    }
}
