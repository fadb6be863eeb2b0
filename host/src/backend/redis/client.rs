//! The connection to the store: one, over which all calls are pipelined.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context as _, ensure};
use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::{Cmd, FromRedisValue, InfoDict, RedisError, ScriptInvocation};
use tokio::sync::Notify;
use tracing::{info, warn};

use super::super::BackendError;
use super::{CALL_TIMEOUT, CONNECT_TIMEOUT, RETRY_INTERVAL, RedisOptions};

#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

struct Inner {
    client: redis::Client,
    manager: ConnectionManager,
    prefix: String,
    is_down: AtomicBool,
    /// Wakes the task that asks whether the store answers again.
    failed: Notify,
}

impl Client {
    /// Connects, and checks that the store keeps what is written to it.
    ///
    /// # Errors
    /// If there is no answer, if the password is wrong, or if the store evicts keys when its memory is full.
    pub async fn connect(options: &RedisOptions) -> anyhow::Result<Self> {
        let client = redis::Client::open(options.url.as_str()).context("the URL of the store is invalid")?;
        let config = ConnectionManagerConfig::new()
            .set_response_timeout(Some(CALL_TIMEOUT))
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_number_of_retries(0);
        let manager =
            ConnectionManager::new_with_config(client.clone(), config).await.context("cannot connect to the store")?;
        let inner = Inner {
            client,
            manager,
            prefix: options.prefix.clone(),
            is_down: AtomicBool::new(false),
            failed: Notify::new(),
        };
        let client = Self { inner: Arc::new(inner) };
        client.check_eviction().await?;
        client.watch();
        Ok(client)
    }

    /// Rows and buckets must not vanish when the memory of the store is full.
    async fn check_eviction(&self) -> anyhow::Result<()> {
        let info: InfoDict = redis::cmd("INFO").arg("memory").query_async(&mut self.inner.manager.clone()).await?;
        let policy: String = info.get("maxmemory_policy").unwrap_or_else(|| "noeviction".to_owned());
        ensure!(
            policy == "noeviction",
            "the store has maxmemory-policy {policy}, which removes rows and keys when its memory is full; set it to \
             noeviction"
        );
        Ok(())
    }

    /// Asks a store that did not answer until it answers, while this client exists.
    fn watch(&self) {
        let inner = Arc::downgrade(&self.inner);
        tokio::spawn(async move {
            while let Some(inner) = inner.upgrade() {
                if !inner.is_down.load(Ordering::Acquire) {
                    // Not for ever: the task must notice that it is the last one that has the client.
                    let _ = tokio::time::timeout(RETRY_INTERVAL, inner.failed.notified()).await;
                    continue;
                }
                let answer: Result<String, RedisError> =
                    redis::cmd("PING").query_async(&mut inner.manager.clone()).await;
                if answer.is_ok() {
                    inner.is_down.store(false, Ordering::Release);
                    info!("the store answers again");
                } else {
                    drop(inner);
                    tokio::time::sleep(RETRY_INTERVAL).await;
                }
            }
        });
    }

    /// The name of a key. `tag` is what all keys of one script have in common.
    pub fn key(&self, tag: &str, name: &str) -> String {
        format!("{}:{{{tag}}}:{name}", self.inner.prefix)
    }

    /// Runs a script. While the store does not answer, returns `Unavailable` at once.
    pub async fn invoke<T: FromRedisValue>(&self, call: &ScriptInvocation<'_>) -> Result<T, BackendError> {
        self.check()?;
        let answer = call.invoke_async(&mut self.inner.manager.clone()).await;
        answer.map_err(|error| self.failed(&error))
    }

    /// Runs a command in the same way.
    pub async fn query<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, BackendError> {
        self.check()?;
        let answer = command.query_async(&mut self.inner.manager.clone()).await;
        answer.map_err(|error| self.failed(&error))
    }

    /// Runs several commands, one after the other.
    pub async fn pipeline<T: FromRedisValue>(&self, commands: &redis::Pipeline) -> Result<T, BackendError> {
        self.check()?;
        let answer = commands.query_async(&mut self.inner.manager.clone()).await;
        answer.map_err(|error| self.failed(&error))
    }

    /// Opens another connection, for messages of other nodes.
    pub async fn subscription(&self) -> Result<redis::aio::PubSub, RedisError> {
        let timeout = || RedisError::from((redis::ErrorKind::Io, "no answer in time"));
        tokio::time::timeout(CONNECT_TIMEOUT, self.inner.client.get_async_pubsub()).await.map_err(|_| timeout())?
    }

    /// Whether the last call got no answer and the store has not answered since.
    pub fn is_down(&self) -> bool {
        self.inner.is_down.load(Ordering::Acquire)
    }

    /// Returns an error while the store does not answer.
    pub fn check(&self) -> Result<(), BackendError> {
        if self.is_down() {
            return Err(BackendError::Unavailable("Redis does not answer".to_owned()));
        }
        Ok(())
    }

    fn failed(&self, error: &RedisError) -> BackendError {
        let is_gone = error.is_io_error() || error.is_timeout() || error.is_connection_dropped();
        if is_gone && !self.inner.is_down.swap(true, Ordering::AcqRel) {
            warn!("the store does not answer: {error}");
            self.inner.failed.notify_one();
        }
        BackendError::Unavailable(error.to_string())
    }
}
