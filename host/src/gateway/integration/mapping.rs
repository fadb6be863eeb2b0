//! Request parameters: which values of an event an integration's request receives, and where.
//!
//! Pure: parsed once, when the manifest is read. Does not know how a request is sent.

use std::borrow::Cow;

use http::HeaderName;
use http::header::{
    CONNECTION, CONTENT_LENGTH, EXPECT, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRAILER, TRANSFER_ENCODING,
    UPGRADE,
};

use crate::capability::Caller;
use crate::event::{Event, Field};
use crate::gateway::JsonPath;
use crate::gateway::context::{self, ContextVariable};
use crate::gateway::expression::{Place, Reader, Variable};
use crate::payload::Payload;

/// Maps one value of an event to a place in the request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestParameter {
    pub to: Target,
    pub from: Source,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    Header(HeaderName),
    QueryString(Box<str>),
    /// A path parameter, written as `{name}` in the URL.
    Path(Box<str>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A header of `$connect`: all values of the name, or only the last.
    Header {
        name: Box<str>,
        all: bool,
    },
    QueryString {
        name: Box<str>,
        all: bool,
    },
    Body(JsonPath),
    StageVariable(Box<str>),
    Context(ContextVariable),
    Literal(Box<str>),
}

/// Why a text is not a mapping: what was found (`None`: the whole text), what was expected, and advice, which may
/// be empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadMapping {
    pub found: Option<String>,
    pub expected: String,
    pub advice: String,
}

const TARGETS: &str =
    "integration.request.header.NAME, integration.request.querystring.NAME or integration.request.path.NAME";
const SOURCES: &str = "route.request.querystring.NAME, route.request.header.NAME, \
    route.request.multivaluequerystring.NAME, route.request.multivalueheader.NAME, route.request.body.PATH, \
    stageVariables.NAME, context.NAME or 'literal text'";

impl Target {
    pub fn parse(text: &str) -> Result<Self, BadMapping> {
        let wrong = || bad(TARGETS, "");
        let (part, name) =
            text.strip_prefix("integration.request.").and_then(|rest| rest.split_once('.')).ok_or_else(wrong)?;
        check_name(name)?;
        match part {
            "header" => {
                let header = HeaderName::from_bytes(name.as_bytes()).map_err(|_| bad("a header name", ""))?;
                if is_connection_specific(&header) {
                    return Err(bad("a header that is not connection-specific", "leave it out"));
                }
                Ok(Self::Header(header))
            }
            "querystring" => Ok(Self::QueryString(name.into())),
            "path" => Ok(Self::Path(name.into())),
            _ => Err(wrong()),
        }
    }
}

/// Returns whether a header describes one connection instead of the request. Such headers are neither mapped nor
/// forwarded.
pub fn is_connection_specific(name: &HeaderName) -> bool {
    const CONNECTION_SPECIFIC: [HeaderName; 9] = [
        CONNECTION,
        CONTENT_LENGTH,
        EXPECT,
        PROXY_AUTHENTICATE,
        PROXY_AUTHORIZATION,
        TE,
        TRAILER,
        TRANSFER_ENCODING,
        UPGRADE,
    ];
    CONNECTION_SPECIFIC.contains(name) || matches!(name.as_str(), "keep-alive" | "proxy-connection")
}

impl Source {
    pub fn parse(text: &str) -> Result<Self, BadMapping> {
        if let Some(literal) = text.strip_prefix('\'') {
            let literal = literal.strip_suffix('\'').ok_or_else(|| bad("text between two single quotes", ""))?;
            return Ok(Self::Literal(literal.into()));
        }
        if let Some(rest) = text.strip_prefix('$') {
            return Err(bad(SOURCES, format!("leave out the $: \"{rest}\"")));
        }
        let mut reader = Reader::new(text, Place::Whole);
        let is_request = reader.take("route.");
        let variable = reader.variable().map_err(|error| BadMapping {
            found: Some(format!("{} after route.request.body", error.found)),
            expected: error.expected,
            advice: String::new(),
        })?;
        match variable {
            Some(Variable::RequestBody(path)) if is_request => match reader.rest() {
                "" => Ok(Self::Body(path)),
                _ => {
                    let error = reader.bad("a step of the path: .name, ['name'] or [0]");
                    let found = Some(format!("{} after route.request.body", error.found));
                    Err(BadMapping { found, expected: error.expected, advice: String::new() })
                }
            },
            Some(Variable::RequestParameter { part, name }) if is_request => Self::parameter(part, name, text),
            Some(Variable::Stage(name)) if !is_request => {
                check_name(&name)?;
                Ok(Self::StageVariable(name.into()))
            }
            Some(Variable::Context(name)) if !is_request => {
                ContextVariable::parse(&name).map(Self::Context).ok_or_else(|| unknown_context_variable(&name))
            }
            _ => Err(unknown_source(text)),
        }
    }

    fn parameter(part: &str, name: &str, text: &str) -> Result<Self, BadMapping> {
        check_name(name)?;
        let name = name.into();
        match part {
            "header" => Ok(Self::Header { name, all: false }),
            "multivalueheader" => Ok(Self::Header { name, all: true }),
            "querystring" => Ok(Self::QueryString { name, all: false }),
            "multivaluequerystring" => Ok(Self::QueryString { name, all: true }),
            _ => Err(unknown_source(text)),
        }
    }

    /// Returns the values of this source in the event; empty if the event has none.
    pub fn values<'a>(&'a self, caller: &'a Caller, event: &'a Event) -> Vec<Cow<'a, str>> {
        match (self, event) {
            (Self::Header { name, all }, Event::Connect { headers, .. }) => {
                fields(headers, *all, |header| header.eq_ignore_ascii_case(name))
            }
            (Self::QueryString { name, all }, Event::Connect { query_string, .. }) => {
                fields(query_string, *all, |parameter| *parameter == **name)
            }
            (Self::Body(path), Event::Message { body: Payload::Text(text), .. }) => {
                if path.is_whole() {
                    vec![Cow::Borrowed(text)]
                } else {
                    path.text(text).into_iter().collect()
                }
            }
            // A message has no headers, and an upgrade request has no body.
            (Self::Header { .. } | Self::QueryString { .. } | Self::Body(_), _) => Vec::new(),
            (Self::StageVariable(name), _) => stage_variable(caller, name).map(Cow::Borrowed).into_iter().collect(),
            (Self::Context(variable), _) => variable.value(caller, event).into_iter().collect(),
            (Self::Literal(text), _) => vec![Cow::Borrowed(text)],
        }
    }

    /// Returns whether only the event of `$connect` can have values for this source.
    pub fn is_connect_only(&self) -> bool {
        matches!(self, Self::Header { .. } | Self::QueryString { .. })
    }
}

pub fn stage_variable<'a>(caller: &'a Caller, name: &str) -> Option<&'a str> {
    let variables = &caller.api.stage_variables;
    variables.iter().find(|(variable, _)| variable == name).map(|(_, value)| value.as_str())
}

/// Returns the values of the fields whose names match: all of them, or only the last.
fn fields<'a>(fields: &'a [Field], all: bool, matches: impl Fn(&str) -> bool) -> Vec<Cow<'a, str>> {
    let mut values: Vec<_> =
        fields.iter().filter(|(name, _)| matches(name)).map(|(_, value)| Cow::Borrowed(value.as_str())).collect();
    if !all && values.len() > 1 {
        values.drain(..values.len() - 1);
    }
    values
}

/// Checks that a parameter's name has only the characters that API Gateway allows.
fn check_name(name: &str) -> Result<(), BadMapping> {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'$' | b'-');
    if name.is_empty() || !name.bytes().all(is_allowed) {
        return Err(bad("a name of A-Z a-z 0-9 . _ $ - at the end", ""));
    }
    Ok(())
}

/// Returns the error for a `$context` variable that does not exist.
pub fn unknown_context_variable(name: &str) -> BadMapping {
    let names = context::NAMES.join(", ");
    BadMapping {
        found: Some(format!("context.{name}")),
        expected: format!("one of {names}, or authorizer.NAME"),
        advice: String::new(),
    }
}

fn unknown_source(text: &str) -> BadMapping {
    let advice =
        if text.contains('.') { String::new() } else { format!("put literal text in single quotes: \"'{text}'\"") };
    bad(SOURCES, advice)
}

fn bad(expected: impl Into<String>, advice: impl Into<String>) -> BadMapping {
    BadMapping { found: None, expected: expected.into(), advice: advice.into() }
}

#[cfg(test)]
pub mod tests;
