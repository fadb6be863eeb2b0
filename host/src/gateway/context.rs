//! The `$context` variables: named properties of an event, as in API Gateway.
//!
//! Mappings, templates and access logs all look variables up here. The outcome of an event is not known here; the
//! access log adds it.

use std::borrow::Cow;

use crate::capability::Caller;
use crate::capability::event_json::user_arn;
use crate::event::{Event, clf_time};

/// One variable, parsed once from its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ContextVariable {
    ApiId,
    /// The entry with this name in the authorizer's context, such as `principalId`.
    Authorizer(Box<str>),
    ConnectedAt,
    ConnectionId,
    DisconnectReason,
    DisconnectStatusCode,
    DomainName,
    EventType,
    MessageId,
    RequestId,
    RequestTime,
    RequestTimeEpoch,
    RouteKey,
    SourceIp,
    Stage,
    UserAgent,
    /// Only for a peer that sent an API key.
    ApiKeyId,
    /// Only for a peer that signed its request; so are `Caller`, `User` and `UserArn`.
    AccountId,
    Caller,
    User,
    UserArn,
    /// Exists in API Gateway but never has a value here; `identity.apiKey` has none because it is a secret.
    Absent,
}

/// The names of the variables that can have a value here, except those that an authorizer defines.
pub const NAMES: [&str; 22] = [
    "apiId",
    "authorizer.principalId",
    "connectedAt",
    "connectionId",
    "disconnectReason",
    "disconnectStatusCode",
    "domainName",
    "eventType",
    "extendedRequestId",
    "identity.accountId",
    "identity.apiKeyId",
    "identity.caller",
    "identity.sourceIp",
    "identity.user",
    "identity.userAgent",
    "identity.userArn",
    "messageId",
    "requestId",
    "requestTime",
    "requestTimeEpoch",
    "routeKey",
    "stage",
];

impl ContextVariable {
    /// Parses a name without its `$context.` prefix; `None` if API Gateway has no such variable.
    pub fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "apiId" => Self::ApiId,
            "connectedAt" => Self::ConnectedAt,
            "connectionId" => Self::ConnectionId,
            "disconnectReason" => Self::DisconnectReason,
            "disconnectStatusCode" => Self::DisconnectStatusCode,
            "domainName" => Self::DomainName,
            "eventType" => Self::EventType,
            "messageId" => Self::MessageId,
            // In a WebSocket event of API Gateway both names have the same value.
            "requestId" | "extendedRequestId" => Self::RequestId,
            "requestTime" => Self::RequestTime,
            "requestTimeEpoch" => Self::RequestTimeEpoch,
            "routeKey" => Self::RouteKey,
            "stage" => Self::Stage,
            "identity.sourceIp" => Self::SourceIp,
            "identity.userAgent" => Self::UserAgent,
            "identity.accountId" => Self::AccountId,
            "identity.apiKeyId" => Self::ApiKeyId,
            "identity.caller" => Self::Caller,
            "identity.user" => Self::User,
            "identity.userArn" => Self::UserArn,
            // The outcome of an event is not known while it is handled; only the access log has these.
            "error.message"
            | "error.messageString"
            | "error.responseType"
            | "error.validationErrorString"
            | "status" => Self::Absent,
            "identity.apiKey"
            | "identity.cognitoAuthenticationProvider"
            | "identity.cognitoAuthenticationType"
            | "identity.cognitoIdentityId"
            | "identity.cognitoIdentityPoolId"
            | "identity.principalOrgId" => Self::Absent,
            _ => match name.strip_prefix("authorizer.") {
                Some(property) if !property.is_empty() => Self::Authorizer(property.into()),
                _ => return None,
            },
        })
    }

    /// Returns the value of the variable for this event; `None` if the event has none.
    pub fn value<'a>(&self, caller: &'a Caller, event: &Event) -> Option<Cow<'a, str>> {
        let connection = &*caller.connection;
        let peer = &connection.peer;
        let text = match self {
            Self::ApiId => &*caller.api.id,
            Self::Authorizer(property) => {
                let (_, value) = peer.authorizer.iter().find(|(name, _)| **name == **property)?;
                value
            }
            Self::ConnectedAt => return Some(connection.connected_at.to_string().into()),
            Self::ConnectionId => connection.id.as_str(),
            Self::DisconnectReason => match event {
                Event::Disconnect(end) => return Some(end.reason.clone().into()),
                _ => return None,
            },
            Self::DisconnectStatusCode => match event {
                Event::Disconnect(end) => return Some(end.status_code.to_string().into()),
                _ => return None,
            },
            Self::DomainName => &peer.domain_name,
            Self::EventType => match event {
                Event::Connect { .. } => "CONNECT",
                Event::Message { .. } => "MESSAGE",
                Event::Disconnect(_) => "DISCONNECT",
            },
            Self::MessageId => match event {
                Event::Message { message_id, .. } => return Some(message_id.to_string().into()),
                _ => return None,
            },
            Self::RequestId => caller.request_id.as_str(),
            Self::RequestTime => return Some(clf_time(caller.request_time).into()),
            Self::RequestTimeEpoch => return Some(caller.request_time.to_string().into()),
            Self::RouteKey => &caller.route_key,
            Self::SourceIp => &peer.source_ip,
            Self::Stage => &caller.api.stage,
            Self::UserAgent => peer.user_agent.as_deref()?,
            Self::ApiKeyId => &peer.api_key.as_ref()?.id,
            Self::AccountId => peer.user.as_ref().map(|_| &*caller.api.account_id)?,
            Self::Caller | Self::User => peer.user.as_deref()?,
            Self::UserArn => return Some(user_arn(&caller.api.account_id, peer.user.as_deref()?).into()),
            Self::Absent => return None,
        };
        Some(Cow::Borrowed(text))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::capability::ApiInfo;
    use crate::connections::{Connection, Peer};
    use crate::event::Disconnect;
    use crate::id::{ConnectionId, RequestId, StageId};

    fn caller() -> Caller {
        let peer = Peer {
            source_ip: "192.0.2.1".to_owned(),
            domain_name: "chat.example".to_owned(),
            authorizer: vec![("principalId".to_owned(), "me".to_owned()), ("room".to_owned(), "1".to_owned())],
            ..Peer::default()
        };
        let id = ConnectionId::parse("L0SM9cOFvHcCIhw=").unwrap();
        Caller {
            api: Arc::new(ApiInfo { id: "chat".to_owned(), stage: "prod".into(), ..ApiInfo::default() }),
            connection: Arc::new(Connection::detached(id, StageId::NONE, 1_707_502_303_419, peer)),
            route_key: "join".into(),
            request_id: RequestId::next(),
            request_time: 1_707_502_303_420,
        }
    }

    fn value(name: &str, event: &Event) -> Option<String> {
        let variable = ContextVariable::parse(name).unwrap_or_else(|| panic!("unknown variable {name}"));
        variable.value(&caller(), event).map(Cow::into_owned)
    }

    #[test]
    fn each_variable_has_the_value_of_the_event() {
        let message = Event::Message { message_id: RequestId::next(), body: String::new().into() };
        for (name, expected) in [
            ("apiId", "chat"),
            ("authorizer.principalId", "me"),
            ("authorizer.room", "1"),
            ("connectedAt", "1707502303419"),
            ("connectionId", "L0SM9cOFvHcCIhw="),
            ("domainName", "chat.example"),
            ("eventType", "MESSAGE"),
            ("identity.sourceIp", "192.0.2.1"),
            ("requestTime", "09/Feb/2024:18:11:43 +0000"),
            ("requestTimeEpoch", "1707502303420"),
            ("routeKey", "join"),
            ("stage", "prod"),
        ] {
            assert_eq!(value(name, &message).as_deref(), Some(expected), "{name}");
        }
        let Event::Message { message_id, .. } = &message else { unreachable!() };
        assert_eq!(value("messageId", &message).as_deref(), Some(message_id.as_str()));
        let caller = caller();
        for name in ["requestId", "extendedRequestId"] {
            let value = ContextVariable::parse(name).unwrap().value(&caller, &message);
            assert_eq!(value.as_deref(), Some(caller.request_id.as_str()));
        }
    }

    #[test]
    fn a_variable_has_no_value_if_the_event_lacks_the_property() {
        let connect = Event::Connect { headers: Vec::new().into(), query_string: Vec::new().into() };
        for name in ["messageId", "identity.userAgent", "identity.user", "authorizer.other", "disconnectReason"] {
            assert_eq!(value(name, &connect), None, "{name}");
        }
        let end = Event::Disconnect(Disconnect { status_code: 1001, reason: "Going away".to_owned() });
        assert_eq!(value("disconnectStatusCode", &end).as_deref(), Some("1001"));
        assert_eq!(value("disconnectReason", &end).as_deref(), Some("Going away"));
        assert_eq!(value("eventType", &connect).as_deref(), Some("CONNECT"));
    }

    #[test]
    fn only_names_of_api_gateway_are_variables() {
        for name in ["", "connectionid", "connectionId.x", "identity", "authorizer", "authorizer.", "httpMethod"] {
            assert_eq!(ContextVariable::parse(name), None, "{name}");
        }
        for name in NAMES {
            assert!(!matches!(ContextVariable::parse(name), None | Some(ContextVariable::Absent)), "{name}");
        }
    }
}
