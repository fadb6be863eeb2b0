//! The `$context` variables: what API Gateway tells of one event under a name.
//!
//! The one place where they are looked up: mapping, templates and access logs ask here. What came of
//! an event is not known here: a log adds that itself.

use std::borrow::Cow;

use crate::capability::Caller;
use crate::event::{Event, clf_time};
use crate::gateway::event_json::user_arn;

/// One variable, made of its name once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ContextVariable {
    ApiId,
    /// What the authorizer put under this name; `principalId` is one of them.
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
    /// Of a peer that came with an API key.
    ApiKeyId,
    /// Of a peer that signed, as the three after it.
    AccountId,
    Caller,
    User,
    UserArn,
    /// API Gateway has it, and no event here ever does; `identity.apiKey` is a secret.
    Absent,
}

/// The names that have a value here. What an authorizer says has names of its own.
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
    /// The variable that is called `name`, without its `$context.`; `None` where API Gateway has none.
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
            // API Gateway gives a WebSocket event one id under both names.
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
            // What comes of an event is not known while it is handled; an access log knows it.
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

    /// What it stands for in this event; `None` where the event has no such thing.
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
    use crate::id::{ConnectionId, RequestId};

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
            connection: Arc::new(Connection::left_behind(id, "prod".into(), 1_707_502_303_419, peer)),
            route_key: "join".into(),
            request_id: RequestId::next(),
            request_time: 1_707_502_303_420,
        }
    }

    fn value(name: &str, event: &Event) -> Option<String> {
        let variable = ContextVariable::parse(name).unwrap_or_else(|| panic!("{name} is not known"));
        variable.value(&caller(), event).map(Cow::into_owned)
    }

    #[test]
    fn a_variable_is_what_the_event_has_under_its_name() {
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
            let told = ContextVariable::parse(name).unwrap().value(&caller, &message);
            assert_eq!(told.as_deref(), Some(caller.request_id.as_str()));
        }
    }

    #[test]
    fn what_an_event_does_not_have_is_no_value() {
        let connect = Event::Connect { headers: Vec::new(), query_string: Vec::new() };
        for name in ["messageId", "identity.userAgent", "identity.user", "authorizer.other", "disconnectReason"] {
            assert_eq!(value(name, &connect), None, "{name}");
        }
        let end = Event::Disconnect(Disconnect { status_code: 1001, reason: "Going away".to_owned() });
        assert_eq!(value("disconnectStatusCode", &end).as_deref(), Some("1001"));
        assert_eq!(value("disconnectReason", &end).as_deref(), Some("Going away"));
        assert_eq!(value("eventType", &connect).as_deref(), Some("CONNECT"));
    }

    #[test]
    fn only_names_that_api_gateway_has_are_variables() {
        for name in ["", "connectionid", "connectionId.x", "identity", "authorizer", "authorizer.", "httpMethod"] {
            assert_eq!(ContextVariable::parse(name), None, "{name}");
        }
        for name in NAMES {
            assert!(!matches!(ContextVariable::parse(name), None | Some(ContextVariable::Absent)), "{name}");
        }
    }
}
