//! Dispatches the events of a connection (connect, message, disconnect) to the routes of its stage.
//!
//! Knows routes and plugins. Does not know sockets, files or how a guest is run.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tracing::{Level, event, warn};

use crate::address::OriginPattern;
use crate::backend::{Backend, Renewal};
use crate::capability::Caller;
use crate::connections::Connections;
use crate::directory::Directory;
use crate::event::{Event, Response};
use crate::id::{ConnectionId, StageId};
use crate::metrics::Metrics;
use crate::rate_limited_log::RateLimitedLog;
use crate::runtime::{InvokeError, check_message_size};

mod access;
pub mod access_log;
mod api_key;
mod authorizer;
mod availability;
mod broadcast;
mod connect;
mod connect_auth;
pub mod context;
mod deployment;
mod disconnect;
mod error_frame;
mod expression;
mod history;
mod integration;
mod management;
mod membership;
mod message;
mod model;
mod monitoring;
mod nodes;
mod revocation;
mod route;
mod route_key;
mod selection;
mod throttles;
mod users;

use availability::Availability;
use history::History;
use revocation::RevokedKeys;
use throttles::ThrottleRejections;

pub use access::Access;
pub use api_key::{ApiKey, ApiKeyHash, ApiKeySource, ApiKeys, Period, Quota};
pub use authorizer::{Authorizer, AuthorizerKind, IdentitySource, Jwt, JwtError, JwtSettings, KeySource};
pub use availability::UnavailablePlugin;
pub use broadcast::{Broadcast, ListedConnection};
pub use connect::{Admitted, Refusal, Upgrade};
pub use connect_auth::ConnectAuth;
pub use context::ContextVariable;
pub use deployment::{Deployment, Stage, Version};
pub use expression::{BadExpression, JsonPath};
pub use history::{DeploymentNotKept, DeploymentRecord, RollBack, RollBackError};
pub use integration::{
    BadMapping, Http, HttpSettings, Integration, IntegrationResponse, Lambda, LambdaSettings, Mock, Probation,
    ProbationLimits, ProbationReport, RequestParameter, ResponseKey, ResponseParameter, ResponseSource, Responses,
    Source, Target, Template, TemplateKind, Transport, Unavailable, UrlTemplate,
};
pub use management::{CallerThrottles, Exposure, Management, ManagementCaller, Signatures};
pub use model::{Model, RequestModels};
pub use monitoring::MetricsHandle;
pub use nodes::{
    AllNodesError, Difference, NodeList, NodeRollBack, NodeStatus, Nodes, NodesRolledBack, OwnNode, RollBackOutcome,
    StoreKind,
};
pub use revocation::{RevocationError, RevokedKey};
pub use route::{Ordering, Route, RouteTable};
pub use route_key::{BadRouteKey, RouteKey};
pub use selection::RouteSelectionExpression;
pub use throttles::{Limit, Throttles};
pub use users::Users;

/// The current deployment, its history, and the state that all deployments share.
pub struct Gateway {
    directory: Arc<Directory>,
    backend: Backend,
    deployment: ArcSwap<Deployment>,
    /// What the manifest admits, without revoked keys.
    access: ArcSwap<Access>,
    /// What the manifest admits.
    manifest_access: Mutex<Arc<Access>>,
    revoked_keys: ArcSwap<RevokedKeys>,
    history: Mutex<History>,
    /// Log of failed reads of the revoked keys.
    revoked_log: RateLimitedLog,
    availability: Availability,
    metrics: Arc<Metrics>,
    throttle_rejections: ThrottleRejections,
    /// Log of rejected handshakes.
    handshake_log: RateLimitedLog,
    /// Log of messages that no handler received.
    message_log: RateLimitedLog,
    /// Log of rows that the store cannot write or delete.
    row_log: RateLimitedLog,
}

impl Gateway {
    pub fn new(
        directory: Arc<Directory>,
        backend: Backend,
        deployment: Deployment,
        access: Access,
        metrics: Arc<Metrics>,
    ) -> Arc<Self> {
        let deployment = Arc::new(deployment);
        let history = Mutex::new(History::new(&deployment));
        let throttle_rejections = ThrottleRejections::new(&metrics);
        let availability = Availability::new(metrics.plugins_unavailable.clone());
        let deployment = deployment.into();
        Arc::new(Self {
            directory,
            backend,
            deployment,
            access: ArcSwap::from_pointee(access.clone()),
            manifest_access: Mutex::new(Arc::new(access)),
            revoked_keys: ArcSwap::default(),
            history,
            revoked_log: RateLimitedLog::default(),
            availability,
            metrics,
            throttle_rejections,
            handshake_log: RateLimitedLog::default(),
            message_log: RateLimitedLog::default(),
            row_log: RateLimitedLog::default(),
        })
    }

    /// Makes a deployment the current one and returns its number.
    ///
    /// Events that are already running finish on the deployment on which they started.
    pub fn deploy(&self, deployment: Deployment) -> u64 {
        self.deploy_because(deployment, None)
    }

    /// As `deploy`, for a reason other than a changed file.
    pub fn deploy_because(&self, deployment: Deployment, reason: Option<String>) -> u64 {
        let deployment = Arc::new(deployment);
        let number = self.history().push(Arc::clone(&deployment), None, reason);
        self.deployment.store(deployment);
        self.availability.deployed();
        number
    }

    /// Makes an older deployment the current one again and returns its new number.
    ///
    /// The access settings are not part of a deployment, so a key that was removed stays invalid.
    ///
    /// # Errors
    /// If no deployment of this number is kept: it is too old or never existed.
    pub fn restore(&self, number: u64) -> Result<u64, DeploymentNotKept> {
        let mut history = self.history();
        let deployment = history.get(number)?;
        let latest = history.push(Arc::clone(&deployment), Some(number), None);
        self.deployment.store(deployment);
        self.availability.deployed();
        Ok(latest)
    }

    /// Returns the last deployments, oldest first; the last one is the current one.
    pub fn records(&self) -> Vec<DeploymentRecord> {
        self.history().records()
    }

    fn history(&self) -> MutexGuard<'_, History> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until the lines of all access logs are written, at most until `deadline`.
    pub fn flush_access_logs(&self, deadline: Instant) {
        self.history().deployments().for_each(|deployment| deployment.flush_access_log(deadline));
    }

    pub fn deployment(&self) -> Arc<Deployment> {
        self.deployment.load_full()
    }

    /// Returns the access rules of `@connections`.
    pub fn management(&self) -> Arc<Management> {
        Arc::clone(&self.access.load().management)
    }

    /// Returns the origins of web pages that may connect; `None`: all.
    pub fn origins(&self) -> Option<Arc<BTreeSet<OriginPattern>>> {
        self.access.load().origins.clone()
    }

    fn access(&self) -> Arc<Access> {
        self.access.load_full()
    }

    /// Replaces the access settings. They apply to every request and handshake whose check has not ended; open
    /// connections stay open.
    pub fn set_access(&self, access: Access) {
        let mut of_manifest = self.manifest_access();
        *of_manifest = Arc::new(access);
        self.apply_access(&of_manifest);
    }

    /// Admits what the manifest admits, without revoked keys. The caller holds the lock of what the manifest admits, so that a
    /// change of either is not lost.
    fn apply_access(&self, of_manifest: &MutexGuard<'_, Arc<Access>>) {
        self.access.store(Arc::new(of_manifest.without(&self.revoked_keys.load())));
    }

    fn manifest_access(&self) -> MutexGuard<'_, Arc<Access>> {
        self.manifest_access.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The connections of all nodes.
    pub fn directory(&self) -> &Arc<Directory> {
        &self.directory
    }

    /// The connections of this process.
    pub fn connections(&self) -> &Arc<Connections> {
        self.directory.connections()
    }

    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// Returns whether the throttles admit one more `@connections` call, and counts the call.
    pub fn allows_call(&self, stage: &Stage) -> bool {
        let allowed = stage.throttles.check_management_call();
        if let Err(limit) = allowed {
            self.throttle_rejections.count(limit, None);
        }
        allowed.is_ok()
    }

    async fn delete_row(&self, stage: StageId, id: ConnectionId) {
        if let Err(error) = self.backend.delete_row(stage, id).await {
            self.row_log.log(|suppressed| {
                warn!(connection_id = %id, %error, suppressed, "cannot delete the row of a connection that ended");
            });
        }
    }

    /// Invokes a route's integration and reports the result to the log and the metrics.
    async fn run(&self, route: &Route, caller: &Caller, event: &Event) -> IntegrationResult {
        if self.backend.lease_may_be_lost() && matches!(self.backend.renew_lease().await, Ok(Renewal::Lost)) {
            caller.connection.give_up();
        }
        // This comes after the lease, which may be a new one.
        if caller.connection.is_given_up() {
            // Another node runs the `$disconnect` of the connection, which is being closed.
            return IntegrationResult { result: Err(InvokeError::Unavailable), latency: Duration::ZERO };
        }
        let mut invocation = route.integration.invoke(caller, event).await;
        // A body that is sent to the peer must fit into a message of its connection; a body that is discarded may be
        // larger.
        if route.route_response && matches!(event, Event::Message { .. }) {
            let message_bytes = caller.connection.message_bytes;
            invocation.result = invocation.result.and_then(|response| check_message_size(response, message_bytes));
        }
        route.metrics.record(&invocation);
        route.metrics.cloudwatch.record(route.integration.call_target(), &invocation);
        if let Err(error) = &invocation.result {
            route.failure_log.log(|suppressed| log_failure(route, caller, error, suppressed));
        }
        IntegrationResult { result: invocation.result, latency: invocation.total }
    }
}

/// Result of one call of an integration, and how long the call took.
struct IntegrationResult {
    result: Result<Response, InvokeError>,
    latency: Duration,
}

impl From<&IntegrationResult> for access_log::IntegrationOutcome {
    fn from(call: &IntegrationResult) -> Self {
        Self {
            latency: call.latency,
            status: call.result.as_ref().ok().map(|response| response.status_code),
            error: call.result.as_ref().err().map(InvokeError::explain),
        }
    }
}

/// Writes one log line for the operator of the handler: what failed, in which version, and for which request.
/// `suppressed` failures of the route before it have no line.
fn log_failure(route: &Route, caller: &Caller, error: &InvokeError, suppressed: Option<u64>) {
    let integration = &route.integration;
    macro_rules! log_at {
        ($level:expr) => {
            event!(
                $level,
                plugin = %integration.name(),
                version = integration.version().map(tracing::field::display),
                route = %route.key,
                connection_id = %caller.connection.id,
                request_id = %caller.request_id,
                suppressed,
                // The backtrace is the last field because it has several lines.
                backtrace = error.backtrace().map(tracing::field::display),
                "{}",
                error.explain()
            )
        };
    }
    match error {
        InvokeError::Overloaded(_) | InvokeError::NoMemory(_) | InvokeError::Panicked(_) => log_at!(Level::ERROR),
        // The reason was logged when the component did not load.
        InvokeError::Unavailable => log_at!(Level::DEBUG),
        _ => log_at!(Level::WARN),
    }
}
