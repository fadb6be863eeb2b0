//! A text with variables in it: `{"id":"$context.connectionId","to":$input.json('$.to')}`.
//!
//! This is the part of API Gateway's mapping templates that only inserts values: it has no directives and no
//! `$util`. Pure: parsed once, when the manifest is read.

use std::borrow::Cow;
use std::fmt;

use http::HeaderMap;

use crate::capability::Caller;
use crate::event::Event;
use crate::gateway::JsonPath;
use crate::gateway::context::ContextVariable;
use crate::gateway::integration::mapping::{self, BadMapping, stage_variable};

mod parse;

#[derive(Clone, PartialEq, Eq)]
pub struct Template {
    source: Box<str>,
    parts: Box<[Part]>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(Box<str>),
    Context(ContextVariable),
    StageVariable(Box<str>),
    /// `$input.body`
    Body,
    /// `$input.json('$.a')`: the value as JSON, a string with its quotes.
    Json(JsonPath),
    /// `$input.path('$.a')`: the value as text.
    Path(JsonPath),
    /// `$input.params('a')`: a query parameter, or else a header.
    Parameter(Box<str>),
    Status,
    Header(Box<str>),
}

/// Where the variables of a template take their values from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An event: `$input` is the message.
    Event,
    /// The response of an integration: `$input` is its body.
    Response,
}

/// The values of the variables.
pub struct Scope<'a> {
    pub caller: &'a Caller,
    pub event: &'a Event,
    /// `$input`; `None` if there is no body, or it is not text.
    pub body: Option<&'a str>,
    /// The status and the headers of the integration's response.
    pub response: Option<(u16, &'a HeaderMap)>,
}

/// The text would have more bytes than are allowed.
#[derive(Debug, PartialEq, Eq)]
pub struct TooLong;

impl Template {
    pub fn parse(text: &str, kind: Kind) -> Result<Self, BadMapping> {
        Ok(Self { source: text.into(), parts: parse::parts(text, kind)?.into() })
    }

    /// Replaces the variables with their values. A missing value is the empty text, and as JSON `""`.
    ///
    /// # Errors
    /// If the text would be longer than `bytes_max`.
    pub fn render(&self, scope: &Scope<'_>, bytes_max: usize) -> Result<String, TooLong> {
        let mut text = String::new();
        for part in &self.parts {
            let value = part.value(scope);
            // Checked for each part, because a short template can insert a large message many times.
            if value.len() > bytes_max - text.len() {
                return Err(TooLong);
            }
            text.push_str(&value);
        }
        Ok(text)
    }
}

impl Part {
    fn value<'a>(&'a self, scope: &Scope<'a>) -> Cow<'a, str> {
        let body = || scope.body;
        let found = match self {
            Self::Text(text) => return Cow::Borrowed(text),
            Self::Context(variable) => variable.value(scope.caller, scope.event),
            Self::StageVariable(name) => stage_variable(scope.caller, name).map(Cow::Borrowed),
            Self::Body => body().map(Cow::Borrowed),
            Self::Json(path) => {
                return body().and_then(|body| path.json(body)).unwrap_or(Cow::Borrowed("\"\""));
            }
            Self::Path(path) => body().and_then(|body| path.text(body)),
            Self::Parameter(name) => parameter(scope.event, name).map(Cow::Borrowed),
            Self::Status => scope.response.map(|(status, _)| status.to_string().into()),
            Self::Header(name) => scope.response.and_then(|(_, headers)| {
                let value = headers.get(&**name)?;
                Some(String::from_utf8_lossy(value.as_bytes()))
            }),
        };
        found.unwrap_or_default()
    }
}

fn parameter<'a>(event: &'a Event, name: &str) -> Option<&'a str> {
    let Event::Connect { headers, query_string } = event else { return None };
    let in_query = query_string.iter().rev().find(|(parameter, _)| parameter == name);
    let in_headers = || headers.iter().rev().find(|(header, _)| header.eq_ignore_ascii_case(name));
    in_query.or_else(in_headers).map(|(_, value)| value.as_str())
}

impl fmt::Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.source, f)
    }
}

#[cfg(test)]
mod tests;
