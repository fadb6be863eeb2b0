//! One connection to the store among those that a client opens one after the other.
//!
//! A network that forgets a connection, such as a firewall that was started again, ends it for neither side. The calls over
//! it time out, and the client opens another one.

use std::time::Duration;

use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::{InfoDict, RedisError};
use tokio::time::timeout;

use super::{CALL_TIMEOUT, CONNECT_TIMEOUT};

/// How many questions of a link may stay without an answer before there is another link.
pub const UNANSWERED_MAX: u32 = 2;

/// How long opening a link may take, with all its calls.
const OPEN_TIMEOUT: Duration = CONNECT_TIMEOUT.saturating_add(CALL_TIMEOUT);

/// Names the connection of a link: the process of the store, and the number that it has given to the connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkId {
    process: String,
    number: u64,
}

pub async fn open(client: &redis::Client) -> Result<ConnectionManager, RedisError> {
    let config = ConnectionManagerConfig::new()
        .set_response_timeout(Some(CALL_TIMEOUT))
        .set_connection_timeout(Some(CONNECT_TIMEOUT))
        .set_number_of_retries(0);
    ConnectionManager::new_with_config(client.clone(), config).await
}

/// Asks the store for the id of the link. `None` if there is no answer or if the user may not ask this.
pub async fn id(link: &ConnectionManager) -> Option<LinkId> {
    let mut both = redis::pipe();
    both.cmd("CLIENT").arg("ID").cmd("INFO").arg("server");
    let (number, info): (u64, InfoDict) = both.query_async(&mut link.clone()).await.ok()?;
    Some(LinkId { process: info.get("run_id")?, number })
}

/// Opens a link in place of one that does not answer. What was sent over the old one and has not arrived never arrives: it
/// would come after what is sent over the new one.
pub async fn replace(client: &redis::Client, old: Option<&LinkId>) -> Option<(ConnectionManager, Option<LinkId>)> {
    let opening = async {
        let link = open(client).await.ok()?;
        let id = id(&link).await;
        if let (Some(old), Some(new)) = (old, &id)
            && old.process == new.process
        {
            let mut kill = redis::cmd("CLIENT");
            kill.arg("KILL").arg("ID").arg(old.number);
            let _ = kill.query_async::<u64>(&mut link.clone()).await;
        }
        Some((link, id))
    };
    timeout(OPEN_TIMEOUT, opening).await.ok()?
}
