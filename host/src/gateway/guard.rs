//! What stands before `$connect`: the authorizer of its route, and the API key.

use std::sync::Arc;

use tracing::warn;

use crate::connections::{HeldApiKey, Peer};
use crate::event::{Event, now};
use crate::gateway::api_key::{ApiKeySource, ApiKeys};
use crate::gateway::authorizer::{Asked, Asking, Authorizer, Granted, NotGranted};
use crate::gateway::{Gateway, Stage};

/// What a route asks of whoever wants to come in.
#[derive(Clone, Default)]
pub struct Guard {
    pub authorizer: Option<Arc<Authorizer>>,
    pub api_key_required: bool,
}

/// What an authorizer came to, as the access log tells it.
#[derive(Clone, Debug)]
pub struct Authorized {
    pub latency: std::time::Duration,
    pub status: u16,
    pub error: Option<String>,
}

impl Gateway {
    /// Who the peer of an upgrade request is, once every guard has let it pass. `authorized` is what
    /// the authorizer came to, where one was asked.
    pub(super) async fn pass(
        &self,
        stage: &Stage,
        guard: &Guard,
        asking: Asking<'_>,
        authorized: &mut Option<Authorized>,
    ) -> Result<Peer, NotGranted> {
        let access = self.access();
        let granted = match &guard.authorizer {
            Some(authorizer) => {
                let Asked { result, latency } = authorizer.ask(asking, &access.users).await;
                let status = result.as_ref().err().map_or(200, NotGranted::status);
                let error = result.as_ref().err().map(ToString::to_string);
                *authorized = Some(Authorized { latency, status, error });
                result?
            }
            None => Granted::default(),
        };
        let api_key = match guard.api_key_required {
            true => Some(self.api_key(stage, &access.api_keys, asking.event, &granted).await?),
            false => None,
        };
        let Granted { authorizer, user, .. } = granted;
        Ok(Peer { authorizer, user, api_key, ..asking.caller.connection.peer.clone() })
    }

    /// The key that the peer comes with, where it may; counts against what it may.
    async fn api_key(
        &self,
        stage: &Stage,
        keys: &ApiKeys,
        event: &Event,
        granted: &Granted,
    ) -> Result<HeldApiKey, NotGranted> {
        let sent = match keys.source {
            ApiKeySource::Header => x_api_key(event),
            ApiKeySource::Authorizer => granted.usage_identifier_key.as_deref(),
        };
        let sent = sent.filter(|key| !key.is_empty()).ok_or(NotGranted::ApiKey(match keys.source {
            ApiKeySource::Header => "it has no API key: the header x-api-key is not there or empty",
            ApiKeySource::Authorizer => "it has no API key: the authorizer named none as usageIdentifierKey",
        }))?;
        let unknown = NotGranted::ApiKey("its API key is none of [api_keys], or none of this stage");
        let key = keys.find(sent, &stage.api.stage).ok_or(unknown)?;
        if key.throttle.as_ref().is_some_and(|throttle| !throttle.allows()) {
            return Err(NotGranted::OverUsed(Arc::clone(&key.id), "throttle"));
        }
        match key.count(&self.backend, now()).await? {
            true => Ok(HeldApiKey::new(&key.id, sent)),
            false => Err(NotGranted::OverUsed(Arc::clone(&key.id), "quota")),
        }
    }

    /// Says why a peer is not let in: an authorizer's own failure always, what a peer can cause now and then.
    pub(super) fn tell_of_refusal(&self, guard: &Guard, asking: Asking<'_>, refused: &NotGranted) {
        let caller = asking.caller;
        let (request_id, source_ip) = (caller.request_id, &*caller.connection.peer.source_ip);
        let authorizer = guard.authorizer.as_ref().map(|authorizer| &*authorizer.name);
        let status = refused.status();
        if let NotGranted::Failed(error) = refused {
            let backtrace = error.backtrace().map(tracing::field::display);
            warn!(authorizer, status, source_ip, %request_id, backtrace, "a peer is not let in: {refused}");
        } else {
            self.refusals.tell(|untold| {
                warn!(authorizer, status, source_ip, %request_id, untold, "a peer is not let in: {refused}");
            });
        }
    }
}

/// The header of an upgrade request.
fn x_api_key(event: &Event) -> Option<&str> {
    let Event::Connect { headers, .. } = event else { return None };
    let sent = headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("x-api-key"));
    sent.map(|(_, value)| value.trim())
}
