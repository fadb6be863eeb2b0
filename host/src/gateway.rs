//! What happens on a connection finds its route here: connect, message, disconnect.
//!
//! Knows routes and plugins. Does not know sockets, files or how a guest is run.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use arc_swap::ArcSwap;
use tracing::{Level, event, warn};

use crate::backend::Backend;
use crate::capability::Caller;
use crate::connections::Connections;
use crate::event::{Event, Response};
use crate::id::ConnectionId;
use crate::metrics::Metrics;
use crate::runtime::{InvokeError, message_fits};
use crate::telling::Telling;

// What happens on a connection, in its order.
mod guard;
mod connect;
mod message;
mod disconnect;
mod crowd;

// What is told of it.
pub mod access_log;
pub mod context;

// What is served.
mod deployment;
mod history;
mod model;
mod route;
mod route_key;
mod selection;
mod integration;
mod throttles;

// Who has access.
mod access;
mod api_key;
mod authorizer;
mod management;
mod users;

// What is told of an event.
mod event_json;

// What a peer is told of a failure.
mod error_frame;

pub use access::Access;
pub use api_key::{ApiKey, ApiKeyHash, ApiKeySource, ApiKeys, Period, Quota};
pub use authorizer::{Authorizer, By as AuthorizedBy, IdentitySource, Jwt, JwtError, JwtSettings, KeySource};
pub use connect::{Admitted, Refusal, Upgrade};
pub use context::ContextVariable;
pub use crowd::{Broadcast, Listed};
pub use deployment::{Deployment, Stage, Version};
pub use event_json::{AuthorizerEventJson, EventJson};
pub use guard::Guard;
pub use history::{NotKept, Record, RollBack};
pub use integration::{
    Authorities, BadMapping, Http, HttpSettings, Integration, IntegrationResponse, Lambda, LambdaSettings, Mock,
    RequestParameter, ResponseKey, ResponseParameter, ResponseSource, Responses, Source, Target, Template,
    TemplateKind, Transport, UrlTemplate,
};
pub use management::{Caller as ManagementCaller, Callers as ManagementCallers, Exposure, Management, Signatures};
pub use model::{Model, RequestModels};
pub use route::{Ordering, Route, RouteTable};
pub use route_key::{BadRouteKey, RouteKey};
pub use selection::{BadExpression, JsonPath, RouteSelectionExpression};
pub use throttles::{Limit, Throttles};
pub use users::Users;

use history::History;
use throttles::Refused;

pub struct Gateway {
    connections: Arc<Connections>,
    backend: Backend,
    deployment: ArcSwap<Deployment>,
    access: ArcSwap<Access>,
    history: Mutex<History>,
    metrics: Arc<Metrics>,
    refused: Refused,
    /// Of peers that are not let in.
    refusals: Telling,
    /// Of messages that nobody handles.
    telling: Telling,
}

impl Gateway {
    pub fn new(
        connections: Arc<Connections>,
        backend: Backend,
        deployment: Deployment,
        metrics: Arc<Metrics>,
    ) -> Arc<Self> {
        let deployment = Arc::new(deployment);
        let history = Mutex::new(History::new(&deployment));
        let access = ArcSwap::from_pointee(deployment.access().clone());
        let refused = Refused::new(&metrics);
        let (refusals, telling) = (Telling::default(), Telling::default());
        let deployment = deployment.into();
        Arc::new(Self { connections, backend, deployment, access, history, metrics, refused, refusals, telling })
    }

    /// What the next event sees; says its number. Events that run already finish on what they
    /// started with.
    pub fn deploy(&self, deployment: Deployment) -> u64 {
        let deployment = Arc::new(deployment);
        let number = self.history().push(Arc::clone(&deployment), None);
        self.access.store(Arc::new(deployment.access().clone()));
        self.deployment.store(deployment);
        number
    }

    /// Serves an older deployment again; says the number under which it is the latest.
    ///
    /// Who has access stays as the manifest says now: no key that was taken away comes back.
    ///
    /// # Errors
    /// If it is too long ago, or never was.
    pub fn restore(&self, number: u64) -> Result<u64, NotKept> {
        let mut history = self.history();
        let deployment = history.get(number)?;
        let latest = history.push(Arc::clone(&deployment), Some(number));
        self.deployment.store(deployment);
        Ok(latest)
    }

    /// The last deployments, the oldest first; the last of them is served.
    pub fn records(&self) -> Vec<Record> {
        self.history().records()
    }

    fn history(&self) -> MutexGuard<'_, History> {
        self.history.lock().expect("no code panics while holding the history")
    }

    /// Writes what waits to be written to access logs; blocks, at most for a second or so each.
    pub fn close_access_logs(&self) {
        self.history().deployments().for_each(|deployment| deployment.close_access_log());
    }

    pub fn deployment(&self) -> Arc<Deployment> {
        self.deployment.load_full()
    }

    /// Who may call `@connections`.
    pub fn management(&self) -> Arc<Management> {
        Arc::clone(&self.access.load().management)
    }

    fn access(&self) -> Arc<Access> {
        self.access.load_full()
    }

    pub fn connections(&self) -> &Arc<Connections> {
        &self.connections
    }

    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// Whether one more `@connections` call may be answered; if so, it counts.
    pub fn allows_call(&self, stage: &Stage) -> bool {
        let allowed = stage.throttles.call();
        if let Err(limit) = allowed {
            self.refused.count(limit, None);
        }
        allowed.is_ok()
    }

    async fn forget(&self, id: ConnectionId) {
        if let Err(error) = self.backend.drop_row(id).await {
            warn!(connection_id = %id, %error, "the row of a connection that ended is left behind");
        }
    }

    /// Invokes a route's integration and tells the log and the metrics how it went.
    async fn run(&self, stage: &Stage, route: &Route, caller: &Caller, event: &Event) -> Ran {
        let mut invocation = route.integration.invoke(caller, event).await;
        // What goes back to the peer is a message; what stays here may be larger.
        if route.route_response && matches!(event, Event::Message { .. }) {
            let message_bytes = stage.connection.message_bytes;
            invocation.result = invocation.result.and_then(|response| message_fits(response, message_bytes));
        }
        route.metrics.record(&invocation);
        route.metrics.watched.record(route.integration.asked(), &invocation);
        if let Err(error) = &invocation.result {
            report(route, caller, error);
        }
        Ran { result: invocation.result, latency: invocation.total }
    }
}

/// How an integration did.
struct Ran {
    result: Result<Response, InvokeError>,
    latency: Duration,
}

impl From<&Ran> for access_log::Invoked {
    fn from(ran: &Ran) -> Self {
        Self {
            latency: ran.latency,
            status: ran.result.as_ref().ok().map(|response| response.status_code),
            error: ran.result.as_ref().err().map(InvokeError::explain),
        }
    }
}

/// One line for whoever runs the handler: what failed, which version of it, and for which request.
fn report(route: &Route, caller: &Caller, error: &InvokeError) {
    let integration = &route.integration;
    macro_rules! say {
        ($level:expr) => {
            event!(
                $level,
                plugin = %integration.name(),
                version = integration.version().map(tracing::field::display),
                route = %route.key,
                connection_id = %caller.connection.id,
                request_id = %caller.request_id,
                // The last, as it has lines of its own.
                backtrace = error.backtrace().map(tracing::field::display),
                "{}",
                error.explain()
            )
        };
    }
    match error {
        InvokeError::Overloaded(_) | InvokeError::Panicked(_) => say!(Level::ERROR),
        _ => say!(Level::WARN),
    }
}
