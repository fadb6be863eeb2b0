//! The variables of an access log line: properties of the event, and properties of its outcome.

use crate::gateway::context::{self, ContextVariable};

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Variable {
    /// Known when the event arrives.
    Event(ContextVariable),
    /// Known when the event has been handled.
    Outcome(OutcomeVariable),
}

/// A variable that describes the outcome of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutcomeVariable {
    /// The error message that the peer received.
    ErrorMessage,
    /// The same message in quotes.
    ErrorMessageString,
    ErrorResponseType,
    ErrorValidationErrorString,
    AuthorizerError,
    AuthorizerLatency,
    AuthorizerStatus,
    IntegrationError,
    IntegrationLatency,
    /// Status that the handler returned.
    IntegrationStatus,
    /// Status of the service that runs the handler: 200 if the handler could be called.
    ServiceStatus,
    Status,
    /// Exists only on AWS (WAF, ids of AWS endpoints and the like) and never has a value here.
    Unsupported,
}

const OUTCOME_VARIABLES: [(&str, OutcomeVariable); 26] = [
    ("authenticate.error", OutcomeVariable::Unsupported),
    ("authenticate.latency", OutcomeVariable::Unsupported),
    ("authenticate.status", OutcomeVariable::Unsupported),
    ("authorize.error", OutcomeVariable::Unsupported),
    ("authorize.latency", OutcomeVariable::Unsupported),
    ("authorize.status", OutcomeVariable::Unsupported),
    ("authorizer.error", OutcomeVariable::AuthorizerError),
    ("authorizer.integrationLatency", OutcomeVariable::AuthorizerLatency),
    ("authorizer.integrationStatus", OutcomeVariable::AuthorizerStatus),
    ("authorizer.latency", OutcomeVariable::AuthorizerLatency),
    ("authorizer.requestId", OutcomeVariable::Unsupported),
    ("authorizer.status", OutcomeVariable::AuthorizerStatus),
    ("error.message", OutcomeVariable::ErrorMessage),
    ("error.messageString", OutcomeVariable::ErrorMessageString),
    ("error.responseType", OutcomeVariable::ErrorResponseType),
    ("error.validationErrorString", OutcomeVariable::ErrorValidationErrorString),
    ("integration.error", OutcomeVariable::IntegrationError),
    ("integration.integrationStatus", OutcomeVariable::IntegrationStatus),
    ("integration.latency", OutcomeVariable::IntegrationLatency),
    ("integration.requestId", OutcomeVariable::Unsupported),
    ("integration.status", OutcomeVariable::ServiceStatus),
    ("integrationLatency", OutcomeVariable::IntegrationLatency),
    ("status", OutcomeVariable::Status),
    ("waf.error", OutcomeVariable::Unsupported),
    ("waf.latency", OutcomeVariable::Unsupported),
    ("waf.status", OutcomeVariable::Unsupported),
];

impl Variable {
    /// Parses a name without its `$context.` prefix; `None` if the name is unknown.
    pub fn parse(name: &str) -> Option<Self> {
        match OUTCOME_VARIABLES.iter().find(|(known, _)| *known == name) {
            Some((_, variable)) => Some(Self::Outcome(*variable)),
            None => ContextVariable::parse(name).map(Self::Event),
        }
    }

    /// Returns the known name that is most similar to a misspelled one; up to a third of the letters may differ.
    pub fn nearest(name: &str) -> Option<&'static str> {
        let distance = |known: &str| strsim::damerau_levenshtein(&name.to_lowercase(), &known.to_lowercase());
        let names = OUTCOME_VARIABLES.iter().map(|(known, _)| *known).chain(context::NAMES);
        let (distance, nearest) = names.map(|known| (distance(known), known)).min()?;
        (distance <= (name.len() / 3).max(1)).then_some(nearest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Variables that the API Gateway Developer Guide documents for mapping templates and for access logs.
    const DOCUMENTED: &str = "apiId authorizer.principalId authorizer.property connectedAt connectionId domainName \
        error.messageString error.validationErrorString eventType extendedRequestId identity.accountId identity.apiKey \
        identity.apiKeyId identity.caller identity.cognitoAuthenticationProvider identity.cognitoAuthenticationType \
        identity.cognitoIdentityId identity.cognitoIdentityPoolId identity.sourceIp identity.user identity.userAgent \
        identity.userArn messageId requestId requestTime requestTimeEpoch routeKey stage status";
    /// Variables that the Developer Guide documents for access logs only.
    const DOCUMENTED_FOR_LOGS: &str = "authenticate.error authenticate.latency authenticate.status authorize.error \
        authorize.latency authorize.status authorizer.error authorizer.integrationLatency authorizer.integrationStatus \
        authorizer.latency authorizer.requestId authorizer.status error.message error.responseType \
        identity.principalOrgId integration.error integration.integrationStatus integration.latency \
        integration.requestId integration.status integrationLatency waf.error waf.latency waf.status";

    #[test]
    fn each_variable_that_api_gateway_documents_is_known() {
        for name in DOCUMENTED.split(' ').chain(DOCUMENTED_FOR_LOGS.split(' ')) {
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
