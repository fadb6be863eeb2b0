//! The connection to the store: one, over which all calls are pipelined.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use anyhow::bail;
use arc_swap::ArcSwap;
use redis::aio::ConnectionManager;
use redis::{Cmd, FromRedisValue, InfoDict, RedisError, ScriptInvocation};
use tokio::sync::Notify;
use tracing::{info, warn};

use super::super::BackendError;
use super::explain::{explain, explain_no_connection};
use super::suitable::{check_info, check_refused, check_rights};
use super::{CONNECT_TIMEOUT, RETRY_INTERVAL, RedisOptions, link};
use crate::rate_limited_log::RateLimitedLog;

#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

struct Inner {
    client: redis::Client,
    /// Connects again after an error, but not if there is none and no answer; then it is replaced.
    manager: ArcSwap<ConnectionManager>,
    options: RedisOptions,
    is_down: AtomicBool,
    /// How often it has stopped to answer.
    outages: AtomicU64,
    /// Wakes the task that asks whether the store answers again.
    failed: Notify,
}

impl Client {
    /// Connects, and checks that the server can be the store of nodes.
    ///
    /// # Errors
    /// What was found, and what to do: there is no answer, the certificate is not trusted, the password is wrong, the user has
    /// too few rights, or the server may forget what is written to it.
    pub async fn connect(options: &RedisOptions) -> anyhow::Result<Self> {
        let client = options.client()?;
        let place = options.place();
        let manager = match link::open(&client).await {
            Ok(manager) => manager,
            Err(error) => {
                bail!("cannot connect to the store {place}: {}", explain_no_connection(&error, options).await)
            }
        };
        if let Err(why) = check(&manager, options).await {
            bail!("the store {place} cannot be used: {why}");
        }
        let (is_down, outages, failed) = (AtomicBool::new(false), AtomicU64::new(0), Notify::new());
        let inner = Inner {
            client,
            manager: ArcSwap::from_pointee(manager),
            options: options.clone(),
            is_down,
            outages,
            failed,
        };
        let client = Self { inner: Arc::new(inner) };
        client.watch();
        Ok(client)
    }

    /// Asks a store that did not answer until it answers, while this client exists.
    fn watch(&self) {
        let inner = Arc::downgrade(&self.inner);
        let (log, mut logged) = (RateLimitedLog::default(), String::new());
        tokio::spawn(async move {
            let (mut id, mut unanswered, mut is_known) = (None, 0, false);
            while let Some(inner) = inner.upgrade() {
                if !is_known {
                    id = link::id(&inner.manager()).await;
                    is_known = true;
                }
                if !inner.is_down.load(Ordering::Acquire) {
                    // Not for ever: the task must notice that it is the last one that has the client.
                    let _ = tokio::time::timeout(RETRY_INTERVAL, inner.failed.notified()).await;
                    continue;
                }
                let answer: Result<String, RedisError> = redis::cmd("PING").query_async(&mut inner.manager()).await;
                unanswered = if matches!(&answer, Err(error) if error.is_timeout()) { unanswered + 1 } else { 0 };
                let is_replaced = unanswered >= link::UNANSWERED_MAX
                    && match link::replace(&inner.client, id.as_ref()).await {
                        Some((manager, new)) => {
                            inner.manager.store(Arc::new(manager));
                            id = new;
                            true
                        }
                        None => false,
                    };
                let Some(error) = answer.err().filter(|_| !is_replaced) else {
                    unanswered = 0;
                    // The manager may have connected again.
                    is_known = is_replaced;
                    inner.is_down.store(false, Ordering::Release);
                    info!("the store answers again");
                    logged.clear();
                    continue;
                };
                // The first error was that the connection has ended. This one says why there is no other, such as a
                // certificate that has expired.
                let why = explain(&error, &inner.options);
                if why != logged {
                    log.log(|suppressed| warn!(suppressed, "the store does not answer yet: {why}"));
                    logged = why;
                }
                drop(inner);
                tokio::time::sleep(RETRY_INTERVAL).await;
            }
        });
    }

    /// The name of a key. `tag` is what all keys of one script have in common.
    pub fn key(&self, tag: &str, name: &str) -> String {
        key(&self.inner.options.prefix, tag, name)
    }

    /// Runs a script. While the store does not answer, returns `Unavailable` at once.
    pub async fn invoke<T: FromRedisValue>(&self, call: &ScriptInvocation<'_>) -> Result<T, BackendError> {
        self.check()?;
        let answer = call.invoke_async(&mut self.inner.manager()).await;
        answer.map_err(|error| self.failed(&error))
    }

    /// Runs a command in the same way.
    pub async fn query<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, BackendError> {
        self.check()?;
        let answer = command.query_async(&mut self.inner.manager()).await;
        answer.map_err(|error| self.failed(&error))
    }

    /// Runs several commands, one after the other.
    pub async fn pipeline<T: FromRedisValue>(&self, commands: &redis::Pipeline) -> Result<T, BackendError> {
        self.check()?;
        let answer = commands.query_async(&mut self.inner.manager()).await;
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

    /// How often the store has stopped to answer since the start.
    pub fn outages(&self) -> u64 {
        self.inner.outages.load(Ordering::Relaxed)
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
            self.inner.outages.fetch_add(1, Ordering::Relaxed);
            warn!("the store does not answer: {error}");
            self.inner.failed.notify_one();
        }
        BackendError::Unavailable(error.to_string())
    }
}

fn key(prefix: &str, tag: &str, name: &str) -> String {
    format!("{prefix}:{{{tag}}}:{name}")
}

/// Checks what the server is and what the user may do there.
async fn check(manager: &ConnectionManager, options: &RedisOptions) -> Result<(), String> {
    let failed = |error: RedisError| explain(&error, options);
    let info: InfoDict = redis::cmd("INFO").query_async(&mut manager.clone()).await.map_err(failed)?;
    check_info(&info)?;
    let rights = check_rights(&key(&options.prefix, "nodes", "epochs"));
    let refused: Vec<String> = rights.invoke_async(&mut manager.clone()).await.map_err(failed)?;
    check_refused(&refused, options)
}

impl Inner {
    fn manager(&self) -> ConnectionManager {
        (**self.manager.load()).clone()
    }
}
