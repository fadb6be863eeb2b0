//! What a line can tell: the event as handlers are told it, and what came of it.

use crate::gateway::context::{self, ContextVariable};

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Variable {
    /// What is known before anything is done.
    Event(ContextVariable),
    Outcome(Told),
}

/// What came of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// The words that the peer was told.
    ErrorMessage,
    /// The same in quotes.
    ErrorMessageString,
    ErrorResponseType,
    ErrorValidationErrorString,
    AuthorizerError,
    AuthorizerLatency,
    AuthorizerStatus,
    IntegrationError,
    IntegrationLatency,
    /// What the handler answered.
    IntegrationStatus,
    /// What the service that runs the handler answered: 200 where the handler could be called.
    ServiceStatus,
    Status,
    /// What only AWS has: WAF, the ids of its own endpoints, and the like.
    Nothing,
}

const TOLD: [(&str, Told); 26] = [
    ("authenticate.error", Told::Nothing),
    ("authenticate.latency", Told::Nothing),
    ("authenticate.status", Told::Nothing),
    ("authorize.error", Told::Nothing),
    ("authorize.latency", Told::Nothing),
    ("authorize.status", Told::Nothing),
    ("authorizer.error", Told::AuthorizerError),
    ("authorizer.integrationLatency", Told::AuthorizerLatency),
    ("authorizer.integrationStatus", Told::AuthorizerStatus),
    ("authorizer.latency", Told::AuthorizerLatency),
    ("authorizer.requestId", Told::Nothing),
    ("authorizer.status", Told::AuthorizerStatus),
    ("error.message", Told::ErrorMessage),
    ("error.messageString", Told::ErrorMessageString),
    ("error.responseType", Told::ErrorResponseType),
    ("error.validationErrorString", Told::ErrorValidationErrorString),
    ("integration.error", Told::IntegrationError),
    ("integration.integrationStatus", Told::IntegrationStatus),
    ("integration.latency", Told::IntegrationLatency),
    ("integration.requestId", Told::Nothing),
    ("integration.status", Told::ServiceStatus),
    ("integrationLatency", Told::IntegrationLatency),
    ("status", Told::Status),
    ("waf.error", Told::Nothing),
    ("waf.latency", Told::Nothing),
    ("waf.status", Told::Nothing),
];

impl Variable {
    /// `name` is what follows `$context.`.
    pub fn parse(name: &str) -> Option<Self> {
        match TOLD.iter().find(|(known, _)| *known == name) {
            Some((_, told)) => Some(Self::Outcome(*told)),
            None => ContextVariable::parse(name).map(Self::Event),
        }
    }

    /// The known name that this one was probably meant to be: a third of its letters may be wrong.
    pub fn nearest(name: &str) -> Option<&'static str> {
        let distance = |known: &str| strsim::damerau_levenshtein(&name.to_lowercase(), &known.to_lowercase());
        let names = TOLD.iter().map(|(known, _)| *known).chain(context::NAMES);
        let (distance, nearest) = names.map(|known| (distance(known), known)).min()?;
        (distance <= (name.len() / 3).max(1)).then_some(nearest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of the Developer Guide: what mapping templates and access logs have, and what the latter have beside it.
    const DOCUMENTED: &str = "apiId authorizer.principalId authorizer.property connectedAt connectionId domainName \
        error.messageString error.validationErrorString eventType extendedRequestId identity.accountId identity.apiKey \
        identity.apiKeyId identity.caller identity.cognitoAuthenticationProvider identity.cognitoAuthenticationType \
        identity.cognitoIdentityId identity.cognitoIdentityPoolId identity.sourceIp identity.user identity.userAgent \
        identity.userArn messageId requestId requestTime requestTimeEpoch routeKey stage status";
    const DOCUMENTED_OF_LOGS: &str = "authenticate.error authenticate.latency authenticate.status authorize.error \
        authorize.latency authorize.status authorizer.error authorizer.integrationLatency authorizer.integrationStatus \
        authorizer.latency authorizer.requestId authorizer.status error.message error.responseType \
        identity.principalOrgId integration.error integration.integrationStatus integration.latency \
        integration.requestId integration.status integrationLatency waf.error waf.latency waf.status";

    #[test]
    fn each_variable_that_api_gateway_documents_is_known() {
        for name in DOCUMENTED.split(' ').chain(DOCUMENTED_OF_LOGS.split(' ')) {
            assert!(Variable::parse(name).is_some(), "{name}");
        }
        for name in DOCUMENTED.split(' ') {
            assert!(ContextVariable::parse(name).is_some(), "{name}, in templates and mappings");
        }
        for name in ["", "requestid", "identity", "identity.ip", "integration", "authorizer.", "waf"] {
            assert!(Variable::parse(name).is_none(), "{name}");
        }
    }
}
