//! What a route does with an event.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::capability::Caller;
use crate::event::{Event, Response};
use crate::metrics::Asked;
use crate::runtime::{Invocation, InvokeError, Plugin};

mod http; // a server that is sent each event
mod lambda; // a function that is called with each event
mod mock; // an answer that stands in the manifest

// What goes out and what comes back.
mod mapping;
mod proxy_response;
mod responses;
mod template;
mod url;

mod authorities; // whom a request over TLS believes
mod client; // how a request over HTTP is sent

pub use authorities::Authorities;
pub use client::{Client, Transport};
pub use http::{Http, HttpSettings};
pub use lambda::{Lambda, LambdaSettings};
pub use mapping::{BadMapping, RequestParameter, Source, Target};
pub use mock::Mock;
pub(in crate::gateway) use proxy_response::{failure as function_failure, kind as json_kind};
pub use responses::{IntegrationResponse, ResponseKey, ResponseParameter, ResponseSource, Responses};
pub use template::{Kind as TemplateKind, Template};
pub use url::UrlTemplate;

/// The set is closed, so a `match` tells of every place that a new one touches.
#[derive(Clone)]
pub enum Integration {
    Component(Arc<Plugin>),
    Http(Arc<Http>),
    Lambda(Arc<Lambda>),
    Mock(Arc<Mock>),
}

impl Integration {
    pub async fn invoke(&self, caller: &Caller, event: &Event) -> Invocation {
        match self {
            Self::Component(plugin) => plugin.invoke(caller, event).await,
            // Boxed: the exchange is large, and an event of a component would carry its size.
            Self::Http(http) => without_sandbox(Box::pin(http.invoke(caller, event))).await,
            Self::Lambda(lambda) => without_sandbox(Box::pin(lambda.invoke(caller, event))).await,
            Self::Mock(mock) => without_sandbox(async { mock.invoke(caller, event) }).await,
        }
    }

    /// Who it asks.
    pub fn asked(&self) -> Asked {
        match self {
            Self::Component(_) | Self::Lambda(_) => Asked::Handler,
            Self::Http(_) => Asked::Server,
            Self::Mock(_) => Asked::Nobody,
        }
    }

    /// As the manifest calls it.
    pub fn name(&self) -> &str {
        match self {
            Self::Component(plugin) => plugin.name(),
            Self::Http(http) => http.name(),
            Self::Lambda(lambda) => lambda.name(),
            Self::Mock(mock) => &mock.name,
        }
    }

    /// Which version of it runs, where it has versions.
    pub fn version(&self) -> Option<String> {
        match self {
            Self::Component(plugin) => Some(plugin.version()),
            Self::Http(_) | Self::Lambda(_) | Self::Mock(_) => None,
        }
    }
}

async fn without_sandbox(answer: impl Future<Output = Result<Response, InvokeError>>) -> Invocation {
    let arrived = Instant::now();
    let result = answer.await;
    Invocation { result, instantiate: Duration::ZERO, total: arrived.elapsed(), memory_bytes: 0 }
}
