//! `current-connection` and `connections`: the connection of the event, and access to all other connections.

use crate::backend::BackendError;
use crate::bindings::jackfield::gateway as wit;
use crate::bindings::jackfield::gateway::connections::{CloseFrame as WitCloseFrame, ConnectionError, ConnectionInfo};
use crate::bindings::jackfield::gateway::types::{ConnectionContext, Identity, PayloadResult};
use crate::capability::event_json::{AuthorizerEventJson, EventJson};
use crate::capability::{Capabilities, GrantedInterface};
use crate::connections::{CloseFrame, Peer, Post, PostError};
use crate::event::{Event, Field};
use crate::id::ConnectionId;
use crate::limits::TURN_POSTS;
use crate::payload::Payload;
use crate::world::World;

impl wit::types::Host for Capabilities {}

impl wit::current_connection::Host for Capabilities {
    fn context(&mut self) -> wasmtime::Result<ConnectionContext> {
        self.count_host_call_or_trap()?;
        let (api, peer) = (&self.caller.api, &self.caller.connection.peer);
        Ok(ConnectionContext {
            api_id: api.id.clone(),
            stage: (*api.stage).to_owned(),
            domain_name: peer.domain_name.clone(),
            identity: identity(peer),
            authorizer: authorizer_context(peer),
            stage_variables: api.stage_variables.clone(),
        })
    }

    fn event(&mut self) -> wasmtime::Result<String> {
        self.count_host_call_or_trap()?;
        let Self { scope, caller, event, .. } = self;
        let no_event = || wasmtime::format_err!("current-connection.event: no event is being handled");
        let event = event.as_ref().ok_or_else(no_event)?;
        let json = match (scope.world, event) {
            (World::RequestAuthorizer, Event::Connect { headers, query_string }) => {
                serde_json::to_string(&AuthorizerEventJson { caller, headers, query_string })
            }
            _ => serde_json::to_string(&EventJson { caller, event }),
        };
        Ok(json.expect("every part of an event can be written as JSON"))
    }
}

/// Returns the context that the authorizer granted. For a peer that signed its request it begins with `principalId`,
/// the user of the access key.
fn authorizer_context(peer: &Peer) -> Vec<Field> {
    let principal = peer.user.iter().map(|user| ("principalId".to_owned(), user.clone()));
    principal.chain(peer.authorizer.iter().cloned()).collect()
}

impl wit::connections::Host for Capabilities {
    async fn post_to_connection(
        &mut self,
        id: String,
        data: PayloadResult,
    ) -> wasmtime::Result<Result<(), ConnectionError>> {
        if let Err(denied) = self.check_granted() {
            return Ok(Err(denied));
        }
        Ok(self.post(&id, Payload::from(data)).await)
    }

    async fn post_to_connections(
        &mut self,
        ids: Vec<String>,
        data: PayloadResult,
    ) -> wasmtime::Result<Vec<Result<(), ConnectionError>>> {
        let post = match self.check_granted().and_then(|()| self.share(data.into())) {
            Ok(post) => post,
            Err(error) => return Ok(vec![Err(error); ids.len()]),
        };
        let too_large = post.payload().len() > self.scope.services.message_bytes;
        // Each post is a host call, and those beyond the limit fail.
        let counted: Vec<_> = ids.iter().map_while(|id| self.count_host_calls(1).then(|| parse_id(id))).collect();
        let valid: Vec<_> = counted.iter().filter_map(|id| id.as_ref().ok().copied()).collect();
        let stage = self.caller.api.stage_id;
        let mut posted = self.scope.services.directory.post_to_many(stage, &valid, post).await.into_iter();
        let result = |id: Result<ConnectionId, ConnectionError>| {
            let posted = id.and_then(|_| Ok(posted.next().unwrap_or(Err(PostError::Gone))?));
            gone_or_too_large(posted, too_large)
        };
        let mut results: Vec<_> = counted.into_iter().map(result).collect();
        results.resize(ids.len(), Err(limit_exceeded(too_large)));
        Ok(results)
    }

    async fn post_to_matching(
        &mut self,
        name: String,
        value: String,
        data: PayloadResult,
        except: Option<String>,
    ) -> wasmtime::Result<Result<u32, ConnectionError>> {
        if let Err(denied) = self.check_granted() {
            return Ok(Err(denied));
        }
        let payload = Payload::from(data);
        let too_large = payload.len() > self.scope.services.message_bytes;
        let nothing_queued = if too_large { Err(ConnectionError::PayloadTooLarge) } else { Ok(0) };
        if !self.count_host_calls(1) {
            return Ok(Err(ConnectionError::LimitExceeded));
        }
        let ids = match self.store().matching(name, value).await {
            Ok(ids) => ids,
            Err(BackendError::Unavailable(error)) => return Err(wasmtime::format_err!("the store failed: {error}")),
            // No row can have that name or value, so there is no match.
            Err(_) => return Ok(nothing_queued),
        };
        // The call itself was counted as the first turn.
        let turns = ids.len().div_ceil(TURN_POSTS);
        if !self.count_host_calls(turns.saturating_sub(1)) {
            return Ok(Err(ConnectionError::LimitExceeded));
        }
        let post = match self.share(payload) {
            Ok(post) => post,
            Err(error) => return Ok(Err(error)),
        };
        let others: Vec<_> = ids.into_iter().filter(|id| except.as_deref() != Some(id.as_str())).collect();
        let posted = self.scope.services.directory.post_to_many(self.caller.api.stage_id, &others, post).await;
        let queued = posted.iter().filter(|posted| posted.is_ok()).count() as u32;
        Ok(if queued == 0 { nothing_queued } else { Ok(queued) })
    }

    async fn get_connection(&mut self, id: String) -> wasmtime::Result<Result<ConnectionInfo, ConnectionError>> {
        if let Err(denied) = self.check_granted() {
            return Ok(Err(denied));
        }
        if !self.count_host_calls(1) {
            return Ok(Err(ConnectionError::LimitExceeded));
        }
        let id = match parse_id(&id) {
            Ok(id) => id,
            Err(gone) => return Ok(Err(gone)),
        };
        let info = self.scope.services.directory.info(self.caller.api.stage_id, &id).await;
        Ok(info.map_err(ConnectionError::from).map(|info| ConnectionInfo {
            connected_at: info.connected_at,
            last_active_at: info.last_active_at,
            identity: Identity { source_ip: info.source_ip, user_agent: info.user_agent },
        }))
    }

    async fn delete_connection(
        &mut self,
        id: String,
        frame: Option<WitCloseFrame>,
    ) -> wasmtime::Result<Result<(), ConnectionError>> {
        if let Err(denied) = self.check_granted() {
            return Ok(Err(denied));
        }
        if !self.count_host_calls(1) {
            return Ok(Err(ConnectionError::LimitExceeded));
        }
        let frame = match frame {
            Some(frame) => CloseFrame::checked(frame.code, &frame.reason).map_err(wasmtime::Error::msg)?,
            None => CloseFrame::new(1000, ""),
        };
        let id = match parse_id(&id) {
            Ok(id) => id,
            Err(gone) => return Ok(Err(gone)),
        };
        let closed = self.scope.services.directory.close(self.caller.api.stage_id, &id, frame).await;
        Ok(closed.map_err(ConnectionError::from))
    }
}

impl Capabilities {
    /// Every function of `connections` checks this first.
    fn check_granted(&self) -> Result<(), ConnectionError> {
        if self.scope.grants.connections {
            return Ok(());
        }
        self.log_denied(GrantedInterface::Connections);
        Err(ConnectionError::Forbidden)
    }

    /// Prepares a payload that many connections get.
    fn share(&self, payload: Payload) -> Result<Post, ConnectionError> {
        Ok(self.scope.services.directory.connections().share(payload)?)
    }

    /// Posts to one connection, which measures the payload by its own largest message.
    async fn post(&mut self, id: &str, post: impl Into<Post>) -> Result<(), ConnectionError> {
        let post = post.into();
        let too_large = post.payload().len() > self.scope.services.message_bytes;
        if !self.count_host_calls(1) {
            return Err(limit_exceeded(too_large));
        }
        let posted = match parse_id(id) {
            Ok(id) => self.scope.services.directory.post(self.caller.api.stage_id, &id, post).await.map_err(Into::into),
            Err(gone) => Err(gone),
        };
        gone_or_too_large(posted, too_large)
    }
}

/// Returns the error of a call beyond the limit of host calls. A payload that is too large is one first.
fn limit_exceeded(too_large: bool) -> ConnectionError {
    if too_large { ConnectionError::PayloadTooLarge } else { ConnectionError::LimitExceeded }
}

/// A payload that no connection of the manifest as it is now would take is too large, even if the connection is gone.
fn gone_or_too_large(posted: Result<(), ConnectionError>, too_large: bool) -> Result<(), ConnectionError> {
    match posted {
        Err(ConnectionError::Gone) if too_large => Err(ConnectionError::PayloadTooLarge),
        posted => posted,
    }
}

/// Parses a connection id. An invalid id is reported as one of a connection that is gone.
fn parse_id(id: &str) -> Result<ConnectionId, ConnectionError> {
    ConnectionId::parse(id).map_err(|_| ConnectionError::Gone)
}

fn identity(peer: &Peer) -> Identity {
    Identity { source_ip: peer.source_ip.clone(), user_agent: peer.user_agent.clone() }
}

impl From<PostError> for ConnectionError {
    fn from(error: PostError) -> Self {
        match error {
            PostError::Gone => Self::Gone,
            PostError::LimitExceeded | PostError::OverBudget | PostError::Unanswered => Self::LimitExceeded,
            PostError::TooLarge(_) => Self::PayloadTooLarge,
        }
    }
}

impl From<PayloadResult> for Payload {
    fn from(payload: PayloadResult) -> Self {
        match payload {
            PayloadResult::Text(text) => Self::Text(text.into()),
            PayloadResult::Binary(bytes) => Self::Binary(bytes.into()),
        }
    }
}
