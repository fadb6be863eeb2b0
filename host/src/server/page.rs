//! The page that `GET /` returns: all of its readers share the same bytes.

use std::fs::File;
use std::io::{self, ErrorKind, Read as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use rustix::fs::{Mode, OFlags};
use tokio::time::timeout;
use tracing::warn;

use crate::blocking_threads::BlockingThreads;
use crate::limits::{PAGE_BYTES_MAX, RESPONSE_WRITE_TIMEOUT};
use crate::rate_limited_log::RateLimitedLog;
use crate::server::response;

/// An HTML file, which is read for each request, because it may have changed.
pub struct Page {
    path: PathBuf,
    /// What was read last.
    served: Arc<Mutex<Bytes>>,
    /// One thread, so that the file is in memory twice at most: what was read last, and what is being read. A file system
    /// that does not answer blocks no other thread.
    reader: BlockingThreads,
}

impl Page {
    pub fn new(path: PathBuf) -> Self {
        Self { path, served: Arc::default(), reader: BlockingThreads::new("page", 1) }
    }

    /// Returns the page, or 404 if it cannot be read.
    pub async fn respond(&self, fault_log: &RateLimitedLog) -> Response {
        let late = || io::Error::new(ErrorKind::TimedOut, "the file system does not answer");
        let read = timeout(RESPONSE_WRITE_TIMEOUT, self.read()).await.unwrap_or_else(|_| Err(late()));
        match read {
            Ok(html) => {
                let headers = [(header::CONTENT_TYPE, "text/html; charset=utf-8"), (header::CACHE_CONTROL, "no-cache")];
                (headers, html).into_response()
            }
            Err(error) => {
                fault_log.log(|suppressed| {
                    let path = self.path.display();
                    warn!(%path, %error, suppressed, "cannot read the page ([server] page)");
                });
                response::message(StatusCode::NOT_FOUND, "Not Found")
            }
        }
    }

    async fn read(&self) -> io::Result<Bytes> {
        let (path, served) = (self.path.clone(), Arc::clone(&self.served));
        let read = move || {
            let bytes = read_file(&path)?;
            let mut served = served.lock().unwrap_or_else(PoisonError::into_inner);
            // Readers of an unchanged page share its bytes.
            if *served != bytes {
                *served = bytes.into();
            }
            Ok(served.clone())
        };
        self.reader.run(read).await.flatten()
    }
}

/// Blocks on the file system.
fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    // Opening a FIFO does not wait for a writer.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty())?);
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::new(ErrorKind::InvalidInput, "not a file"));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(metadata.len().min(PAGE_BYTES_MAX)).unwrap_or_default());
    file.take(PAGE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > PAGE_BYTES_MAX {
        let text = format!("more than the limit of {PAGE_BYTES_MAX} bytes");
        return Err(io::Error::new(ErrorKind::FileTooLarge, text));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[tokio::test]
    async fn readers_of_an_unchanged_page_share_its_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("page.html");
        fs::write(&path, "first").unwrap();
        let page = Page::new(path.clone());
        let (one, two) = (page.read().await.unwrap(), page.read().await.unwrap());
        assert_eq!((&one[..], one.as_ptr()), (&b"first"[..], two.as_ptr()));
        fs::write(&path, "other").unwrap();
        assert_eq!(page.read().await.unwrap(), "other");
        assert_eq!(one, "first");
    }

    #[tokio::test]
    async fn a_page_has_16_mib_and_no_more() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("page.html");
        let page = Page::new(path.clone());
        let file = File::create(&path).unwrap();
        file.set_len(PAGE_BYTES_MAX).unwrap();
        assert_eq!(page.read().await.unwrap().len() as u64, PAGE_BYTES_MAX);
        file.set_len(PAGE_BYTES_MAX + 1).unwrap();
        assert_eq!(page.read().await.unwrap_err().kind(), ErrorKind::FileTooLarge);
    }

    #[tokio::test]
    async fn a_page_that_is_no_file_is_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let fifo = folder.path().join("page.html");
        assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
        for path in [fifo, folder.path().to_owned(), "/dev/zero".into()] {
            assert_eq!(Page::new(path).read().await.unwrap_err().kind(), ErrorKind::InvalidInput);
        }
    }
}
