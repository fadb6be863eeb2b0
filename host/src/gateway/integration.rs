//! What a route does with an event.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::capability::Caller;
use crate::event::{Event, Response};
use crate::metrics::CallTarget;
use crate::runtime::{Invocation, InvokeError, Plugin};

mod client;
mod http;
mod lambda;
mod mapping;
mod mock;
mod probation;
mod proxy_response;
mod responses;
mod template;
mod unavailable;
mod url;

pub use client::{Client, Transport};
pub use http::{Http, HttpSettings};
pub use lambda::{Lambda, LambdaSettings};
pub use mapping::{BadMapping, RequestParameter, Source, Target};
pub use mock::Mock;
pub use probation::{Probation, ProbationLimits, ProbationReport};
pub(in crate::gateway) use proxy_response::{function_failure, json_kind};
pub use responses::{IntegrationResponse, ResponseKey, ResponseParameter, ResponseSource, Responses};
pub use template::{Kind as TemplateKind, Template};
pub use unavailable::Unavailable;
pub use url::UrlTemplate;

use probation::Admission;

/// What serves a route. An enum, so that the compiler finds every `match` that a new kind has to change.
#[derive(Clone)]
pub enum Integration {
    Component(Arc<Plugin>),
    /// A new version of a component, whose first events are counted.
    OnProbation(Arc<Probation>),
    Http(Arc<Http>),
    Lambda(Arc<Lambda>),
    Mock(Arc<Mock>),
    /// A component that has not loaded.
    Unavailable(Arc<Unavailable>),
}

impl Integration {
    pub async fn invoke(&self, caller: &Caller, event: &Event) -> Invocation {
        let (plugin, probation) = match self {
            Self::Component(plugin) => (plugin, None),
            Self::OnProbation(probation) => (probation.plugin(), Some(probation)),
            // Boxed because these futures are large, and an event of a component would otherwise carry their size.
            Self::Http(http) => return without_sandbox(Box::pin(http.invoke(caller, event))).await,
            Self::Lambda(lambda) => return without_sandbox(Box::pin(lambda.invoke(caller, event))).await,
            Self::Mock(mock) => return without_sandbox(async { mock.invoke(caller, event) }).await,
            Self::Unavailable(_) => return unavailable(),
        };
        let admission = probation.map_or(Some(Admission::Uncounted), |probation| probation.admit(event));
        let Some(admission) = admission else { return unavailable() };
        let invocation = plugin.invoke(caller, event).await;
        admission.count(caller, &invocation);
        invocation
    }

    /// Returns what an invocation calls, as the metrics distinguish it.
    pub fn call_target(&self) -> CallTarget {
        match self {
            Self::Component(_) | Self::OnProbation(_) | Self::Lambda(_) => CallTarget::Handler,
            Self::Http(_) => CallTarget::HttpServer,
            Self::Mock(_) | Self::Unavailable(_) => CallTarget::None,
        }
    }

    /// Its name in the manifest.
    pub fn name(&self) -> &str {
        match self {
            Self::Component(plugin) => plugin.name(),
            Self::OnProbation(probation) => probation.plugin().name(),
            Self::Http(http) => http.name(),
            Self::Lambda(lambda) => lambda.name(),
            Self::Mock(mock) => &mock.name,
            Self::Unavailable(unavailable) => &unavailable.name,
        }
    }

    /// Returns the version of the component that runs; `None` for the kinds that have no versions.
    pub fn version(&self) -> Option<String> {
        match self {
            Self::Component(plugin) => Some(plugin.version()),
            Self::OnProbation(probation) => Some(probation.plugin().version()),
            Self::Http(_) | Self::Lambda(_) | Self::Mock(_) | Self::Unavailable(_) => None,
        }
    }
}

/// Awaits an integration that runs no guest, and measures how long it takes.
async fn without_sandbox(response: impl Future<Output = Result<Response, InvokeError>>) -> Invocation {
    let started = Instant::now();
    let result = response.await;
    Invocation { result, instantiate: Duration::ZERO, total: started.elapsed(), memory_bytes: 0 }
}

/// Returns the result of an event for which no handler may run.
fn unavailable() -> Invocation {
    let (instantiate, total) = (Duration::ZERO, Duration::ZERO);
    Invocation { result: Err(InvokeError::Unavailable), instantiate, total, memory_bytes: 0 }
}
