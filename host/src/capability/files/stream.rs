//! The streams of files: they wrap wasmtime's, so that these read and write on the threads of the plugin.

use std::sync::Arc;

use bytes::Bytes;
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream, InputStream, OutputStream, Pollable, StreamResult};

use crate::blocking_threads::BlockingThreads;
use crate::capability::descriptors::DescriptorCharge;

/// A file that is read.
pub struct GuestInput {
    file: DynInputStream,
    threads: Arc<BlockingThreads>,
    /// The stream keeps its file open after the guest has dropped the handle of the file.
    _charge: Option<Arc<DescriptorCharge>>,
}

impl GuestInput {
    pub fn new(file: DynInputStream, threads: Arc<BlockingThreads>, charge: Option<Arc<DescriptorCharge>>) -> Self {
        Self { file, threads, _charge: charge }
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for GuestInput {
    async fn ready(&mut self) {
        self.threads.run_within(self.file.ready()).await;
    }
}

#[wasmtime_wasi::async_trait]
impl InputStream for GuestInput {
    fn read(&mut self, size: usize) -> StreamResult<Bytes> {
        // While all threads are in use, nothing is ready to be read.
        let Some(mut permit) = self.threads.try_permit() else { return Ok(Bytes::new()) };
        let read = permit.enter(|| self.file.read(size));
        // An empty result may mean that reading has begun.
        if !matches!(&read, Ok(bytes) if bytes.is_empty()) {
            permit.release();
        }
        read
    }

    async fn blocking_read(&mut self, size: usize) -> StreamResult<Bytes> {
        self.threads.run_within(self.file.blocking_read(size)).await
    }

    async fn cancel(&mut self) {
        // Begins nothing.
        self.file.cancel().await;
    }
}

/// A file that is written.
pub struct GuestOutput {
    file: DynOutputStream,
    threads: Arc<BlockingThreads>,
    /// What the guest has written while all threads were in use.
    waiting: Option<Bytes>,
    _charge: Option<Arc<DescriptorCharge>>,
}

impl GuestOutput {
    pub fn new(file: DynOutputStream, threads: Arc<BlockingThreads>, charge: Option<Arc<DescriptorCharge>>) -> Self {
        Self { file, threads, waiting: None, _charge: charge }
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for GuestOutput {
    async fn ready(&mut self) {
        let Self { file, threads, waiting, .. } = self;
        let write = async {
            if let Some(bytes) = waiting.take() {
                // An error is reported by the next call.
                let _ = file.write(bytes);
            }
            file.ready().await;
        };
        threads.run_within(write).await;
    }
}

#[wasmtime_wasi::async_trait]
impl OutputStream for GuestOutput {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        if self.waiting.is_some() {
            return Err(wasmtime_wasi::p2::StreamError::trap("write not permitted: check_write not called first"));
        }
        match self.threads.try_permit() {
            // Dropping the permit returns it when the write has got a thread.
            Some(mut permit) => permit.enter(|| self.file.write(bytes)),
            None => {
                self.waiting = Some(bytes);
                Ok(())
            }
        }
    }

    fn flush(&mut self) -> StreamResult<()> {
        self.file.flush()
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        if self.waiting.is_some() { Ok(0) } else { self.file.check_write() }
    }

    async fn blocking_write_and_flush(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.ready().await;
        self.threads.run_within(self.file.blocking_write_and_flush(bytes)).await
    }

    async fn cancel(&mut self) {
        if self.waiting.is_some() {
            self.ready().await;
        }
        self.file.cancel().await;
    }
}
