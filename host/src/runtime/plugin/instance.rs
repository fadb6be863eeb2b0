//! An instance of a component: what a call into it takes and returns, as types of the contract.

use tokio::sync::OwnedSemaphorePermit;
use wasmtime::Store;
use wasmtime::component::Func;

use crate::bindings::exports::jackfield::gateway::authorizer as wit_authorizer;
use crate::bindings::jackfield::gateway::types as wit;
use crate::capability::Caller;
use crate::event::{Decision, Event, Field, Grant, Response};
use crate::payload::Payload;
use crate::runtime::state::HostState;
use crate::runtime::trusted::{self, HandlerParameters, HandlerResults};
use crate::world::World;

type AuthorizerParameters<'a> = (wit::RequestContext<'a>, wit::ConnectEvent<'a>);
type AuthorizerResults = (Result<wit_authorizer::Decision, wit::Failure>,);

/// A guest that has been started.
pub(in crate::runtime) struct Instance {
    pub(super) store: Store<HostState>,
    pub(super) function: Func,
    pub(super) events: usize,
    /// The pool slots of an instance that is kept for later events, and the permit to keep it. This field comes after
    /// `store`, so that they are released after the store is dropped.
    pub(super) slots: Option<(OwnedSemaphorePermit, OwnedSemaphorePermit)>,
}

impl Instance {
    /// Returns the bytes that are charged for the instance.
    pub(in crate::runtime) fn memory_bytes(&self) -> usize {
        self.store.data().capabilities.memory.charged()
    }

    /// Calls `handle`. The instance must belong to a plugin of the world of route handlers.
    pub(super) async fn handle(
        &mut self,
        caller: &Caller,
        event: &Event,
    ) -> wasmtime::Result<Result<wit::Response, wit::Failure>> {
        let (headers, query_string);
        let event = match event {
            Event::Connect { headers: all_headers, query_string: parameters } => {
                (headers, query_string) = (borrow_fields(all_headers), borrow_fields(parameters));
                wit::Event::Connect(wit::ConnectEvent { headers: &headers, query_string: &query_string })
            }
            Event::Message { message_id, body } => {
                wit::Event::Message(wit::MessageEvent { message_id: message_id.as_str(), body: body.into() })
            }
            Event::Disconnect(end) => {
                wit::Event::Disconnect(wit::DisconnectEvent { status_code: end.status_code, reason: &end.reason })
            }
        };
        let handle = trusted::typed_handler(self.function);
        let (result,) = handle.call_async(&mut self.store, (request_context(caller), event)).await?;
        Ok(result)
    }

    pub(super) async fn authorize(
        &mut self,
        caller: &Caller,
        headers: &[Field],
        query_string: &[Field],
    ) -> wasmtime::Result<Result<wit_authorizer::Decision, wit::Failure>> {
        let (headers, query_string) = (borrow_fields(headers), borrow_fields(query_string));
        let request = wit::ConnectEvent { headers: &headers, query_string: &query_string };
        // The type is checked again for each upgrade, which costs 0.2 us. Only handlers are called often enough to
        // skip the check, as `trusted` does.
        let authorize = self.function.typed::<AuthorizerParameters<'_>, AuthorizerResults>(&self.store)?;
        let (decision,) = authorize.call_async(&mut self.store, (request_context(caller), request)).await?;
        Ok(decision)
    }
}

/// Checks the type of the function that a world exports.
pub(super) fn check_type(function: Func, store: &Store<HostState>, world: World) -> wasmtime::Result<()> {
    match world {
        World::RouteHandler => function.typed::<HandlerParameters<'_>, HandlerResults>(store).map(|_| ()),
        World::RequestAuthorizer => function.typed::<AuthorizerParameters<'_>, AuthorizerResults>(store).map(|_| ()),
    }
}

fn request_context(caller: &Caller) -> wit::RequestContext<'_> {
    wit::RequestContext {
        connection_id: caller.connection.id.as_str(),
        route_key: &caller.route_key,
        request_id: caller.request_id.as_str(),
        request_time: caller.request_time,
        connected_at: caller.connection.connected_at,
    }
}

fn borrow_fields(fields: &[Field]) -> Vec<(&str, &str)> {
    fields.iter().map(|(name, value)| (&**name, &**value)).collect()
}

impl<'a> From<&'a Payload> for wit::PayloadParam<'a> {
    fn from(payload: &'a Payload) -> Self {
        match payload {
            Payload::Text(text) => Self::Text(text),
            Payload::Binary(bytes) => Self::Binary(bytes),
        }
    }
}

impl From<wit::Response> for Response {
    fn from(response: wit::Response) -> Self {
        Self { status_code: response.status_code, headers: response.headers, body: response.body.map(Into::into) }
    }
}

impl From<wit_authorizer::Decision> for Decision {
    fn from(decision: wit_authorizer::Decision) -> Self {
        match decision {
            wit_authorizer::Decision::Allow(grant) => {
                Self::Allow(Grant { principal_id: grant.principal_id, context: grant.context })
            }
            wit_authorizer::Decision::Deny => Self::Deny,
            wit_authorizer::Decision::Unauthorized => Self::Unauthorized,
        }
    }
}
