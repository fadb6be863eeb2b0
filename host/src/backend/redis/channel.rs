//! Messages between nodes, by publish and subscribe: each node has one channel, named by its number.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use redis::RedisError;
use tokio::sync::mpsc;
use tracing::warn;

use super::super::BackendError;
use super::RETRY_INTERVAL;
use super::client::Client;
use super::nodes::Node;
use crate::id::NodeId;

/// Messages that wait to be handled. When they are as many, the connection is not read; Redis closes one that it cannot
/// write to for long (`client-output-buffer-limit pubsub`).
const RECEIVED_MAX: usize = 4096;

/// How often a subscription without messages is checked. A connection whose other end is gone is noticed only by this.
const CHECK_INTERVAL: Duration = Duration::from_secs(2);

/// The messages of this node, and a way to send to others.
#[derive(Clone)]
pub struct Channel {
    client: Client,
    node: Node,
}

impl Channel {
    /// Subscribes to the messages for this node. They arrive in the order in which each other node has sent them, at most
    /// once: those of a time without a connection are lost.
    ///
    /// # Errors
    /// If Redis does not answer.
    pub async fn open(client: Client, node: Node) -> anyhow::Result<(Self, mpsc::Receiver<Vec<u8>>)> {
        let channel = Self { client, node };
        let subscription = channel.subscribe().await?;
        let (sender, receiver) = mpsc::channel(RECEIVED_MAX);
        tokio::spawn(channel.clone().receive(subscription, sender));
        Ok((channel, receiver))
    }

    pub fn node(&self) -> NodeId {
        self.node.id()
    }

    async fn subscribe(&self) -> Result<redis::aio::PubSub, RedisError> {
        let mut subscription = self.client.subscription().await?;
        subscription.subscribe(self.name(self.node.id())).await?;
        Ok(subscription)
    }

    async fn receive(self, mut subscription: redis::aio::PubSub, sender: mpsc::Sender<Vec<u8>>) {
        loop {
            let (mut sink, mut messages) = subscription.split();
            loop {
                let message = tokio::select! {
                    message = tokio::time::timeout(CHECK_INTERVAL, messages.next()) => message,
                    () = self.node.renumbered() => break,
                };
                match message {
                    Ok(Some(message)) => {
                        if sender.send(message.get_payload_bytes().to_vec()).await.is_err() {
                            return;
                        }
                    }
                    Ok(None) => break,
                    Err(_) => {
                        if sender.is_closed() {
                            return;
                        }
                        // Messages are read meanwhile by the stream itself, so they are not lost.
                        let ping = tokio::time::timeout(CHECK_INTERVAL, sink.ping::<redis::Value>());
                        if !matches!(ping.await, Ok(Ok(_))) {
                            break;
                        }
                    }
                }
            }
            warn!("the subscription to messages of other nodes has ended; posts to connections of this node fail");
            subscription = loop {
                tokio::time::sleep(RETRY_INTERVAL).await;
                if sender.is_closed() {
                    return;
                }
                if let Ok(subscription) = self.subscribe().await {
                    break subscription;
                }
            };
        }
    }

    /// Sends messages, one after the other. Returns for each of them whether a node has received it.
    pub async fn send(&self, messages: &[(NodeId, Arc<[u8]>)]) -> Result<Vec<bool>, BackendError> {
        let mut pipe = redis::pipe();
        for (node, message) in messages {
            pipe.cmd("PUBLISH").arg(self.name(*node)).arg(&**message);
        }
        let receivers: Vec<u64> = self.client.pipeline(&pipe).await?;
        Ok(receivers.into_iter().map(|count| count > 0).collect())
    }

    /// Whether no node holds this number. False if that is not known.
    pub async fn is_gone(&self, node: NodeId) -> Result<bool, BackendError> {
        self.node.is_gone(node).await
    }

    fn name(&self, node: NodeId) -> String {
        self.client.key("nodes", &format!("channel:{}", node.0))
    }
}
