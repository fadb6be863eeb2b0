//! Request parameters: what of an event goes into the request to an integration.
//!
//! Pure: parsed once, when the manifest is read. Does not know how a request is made.

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
use crate::payload::Payload;

/// One value, from an event into a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestParameter {
    pub to: Target,
    pub from: Source,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    Header(HeaderName),
    QueryString(Box<str>),
    /// What stands in the URL as `{name}`.
    Path(Box<str>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Of `$connect`; `all` the values under a name, or the last.
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

/// What is no target or no source, what there is instead, and what to do, which may be empty.
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
    stageVariables.NAME, context.NAME or 'a text'";

impl Target {
    pub fn parse(text: &str) -> Result<Self, BadMapping> {
        let wrong = || bad(TARGETS, "");
        let (part, name) =
            text.strip_prefix("integration.request.").and_then(|rest| rest.split_once('.')).ok_or_else(wrong)?;
        check_name(name)?;
        match part {
            "header" => {
                let header = HeaderName::from_bytes(name.as_bytes()).map_err(|_| bad("a header's name", ""))?;
                if is_of_the_connection(&header) {
                    return Err(bad("a header that is not about the connection itself", "leave it out"));
                }
                Ok(Self::Header(header))
            }
            "querystring" => Ok(Self::QueryString(name.into())),
            "path" => Ok(Self::Path(name.into())),
            _ => Err(wrong()),
        }
    }
}

/// Whether a header tells of one connection, not of the request: it is neither mapped nor passed on.
pub fn is_of_the_connection(name: &HeaderName) -> bool {
    const OF_THE_CONNECTION: [HeaderName; 9] = [
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
    OF_THE_CONNECTION.contains(name) || matches!(name.as_str(), "keep-alive" | "proxy-connection")
}

impl Source {
    pub fn parse(text: &str) -> Result<Self, BadMapping> {
        if let Some(literal) = text.strip_prefix('\'') {
            let literal = literal.strip_suffix('\'').ok_or_else(|| bad("a text between two ' signs", ""))?;
            return Ok(Self::Literal(literal.into()));
        }
        if let Some(rest) = text.strip_prefix('$') {
            return Err(bad(SOURCES, format!("leave out the $: \"{rest}\"")));
        }
        if let Some(path) = text.strip_prefix("route.request.body") {
            let path = JsonPath::parse_steps(path).map_err(|error| BadMapping {
                found: Some(format!("{} behind route.request.body", error.found)),
                expected: error.expected,
                advice: String::new(),
            })?;
            return Ok(Self::Body(path));
        }
        if let Some(name) = text.strip_prefix("stageVariables.") {
            check_name(name)?;
            return Ok(Self::StageVariable(name.into()));
        }
        if let Some(name) = text.strip_prefix("context.") {
            return ContextVariable::parse(name).map(Self::Context).ok_or_else(|| no_context(name));
        }
        let (part, name) =
            text.strip_prefix("route.request.").and_then(|rest| rest.split_once('.')).ok_or_else(|| no_source(text))?;
        check_name(name)?;
        let name = name.into();
        match part {
            "header" => Ok(Self::Header { name, all: false }),
            "multivalueheader" => Ok(Self::Header { name, all: true }),
            "querystring" => Ok(Self::QueryString { name, all: false }),
            "multivaluequerystring" => Ok(Self::QueryString { name, all: true }),
            _ => Err(no_source(text)),
        }
    }

    /// What it stands for in this event; nothing where the event has no such thing.
    pub fn values<'a>(&'a self, caller: &'a Caller, event: &'a Event) -> Vec<Cow<'a, str>> {
        match (self, event) {
            (Self::Header { name, all }, Event::Connect { headers, .. }) => {
                fields(headers, *all, |header| header.eq_ignore_ascii_case(name))
            }
            (Self::QueryString { name, all }, Event::Connect { query_string, .. }) => {
                fields(query_string, *all, |parameter| *parameter == **name)
            }
            (Self::Body(path), Event::Message { body: Payload::Text(text), .. }) => match path.is_whole() {
                true => vec![Cow::Borrowed(text)],
                false => path.text(text).into_iter().collect(),
            },
            // A message has no headers, an upgrade no body.
            (Self::Header { .. } | Self::QueryString { .. } | Self::Body(_), _) => Vec::new(),
            (Self::StageVariable(name), _) => stage_variable(caller, name).map(Cow::Borrowed).into_iter().collect(),
            (Self::Context(variable), _) => variable.value(caller, event).into_iter().collect(),
            (Self::Literal(text), _) => vec![Cow::Borrowed(text)],
        }
    }

    /// Whether only `$connect` has it.
    pub fn is_of_connect(&self) -> bool {
        matches!(self, Self::Header { .. } | Self::QueryString { .. })
    }
}

pub fn stage_variable<'a>(caller: &'a Caller, name: &str) -> Option<&'a str> {
    let variables = &caller.api.stage_variables;
    variables.iter().find(|(variable, _)| variable == name).map(|(_, value)| value.as_str())
}

fn fields<'a>(fields: &'a [Field], all: bool, is_meant: impl Fn(&str) -> bool) -> Vec<Cow<'a, str>> {
    let mut values: Vec<_> =
        fields.iter().filter(|(name, _)| is_meant(name)).map(|(_, value)| Cow::Borrowed(value.as_str())).collect();
    if !all && values.len() > 1 {
        values.drain(..values.len() - 1);
    }
    values
}

/// API Gateway's characters of a parameter's name.
fn check_name(name: &str) -> Result<(), BadMapping> {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'$' | b'-');
    if name.is_empty() || !name.bytes().all(good) {
        return Err(bad("a name of A-Z a-z 0-9 . _ $ - at its end", ""));
    }
    Ok(())
}

/// What to say of a `$context` variable that is none.
pub fn no_context(name: &str) -> BadMapping {
    let names = context::NAMES.join(", ");
    BadMapping {
        found: Some(format!("context.{name}")),
        expected: format!("one of {names}, or authorizer.NAME"),
        advice: String::new(),
    }
}

fn no_source(text: &str) -> BadMapping {
    let advice = match text.contains('.') {
        true => String::new(),
        false => format!("a text as it is stands in single quotes: \"'{text}'\""),
    };
    bad(SOURCES, advice)
}

fn bad(expected: impl Into<String>, advice: impl Into<String>) -> BadMapping {
    BadMapping { found: None, expected: expected.into(), advice: advice.into() }
}

#[cfg(test)]
pub mod tests;
