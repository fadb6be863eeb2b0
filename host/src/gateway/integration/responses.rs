//! Integration responses: what a peer is told for what an integration that is no proxy has answered.
//!
//! Pure: parsed once, when the manifest is read. Does not know where an answer comes from.

use http::{HeaderMap, HeaderName};
use regex::{Regex, RegexBuilder};

use crate::event::{Field, Response};
use crate::gateway::JsonPath;
use crate::gateway::integration::mapping::BadMapping;
use crate::gateway::integration::template::{Scope, Template, TooLong};
use crate::payload::Payload;

/// What a pattern may take of memory once it is compiled.
const PATTERN_BYTES_MAX: usize = 1024 * 1024;

/// Under their keys, in the order in which they are looked at.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Responses(pub Vec<(ResponseKey, IntegrationResponse)>);

/// `$default`, or `/4\d\d/`.
#[derive(Clone, Debug)]
pub enum ResponseKey {
    Default,
    Pattern { source: Box<str>, whole: Regex },
}

/// What is answered; where it does not say so, what the integration has.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct IntegrationResponse {
    pub status: Option<u16>,
    pub body: Option<Template>,
    pub parameters: Vec<ResponseParameter>,
}

/// A header of the answer. Only `Sec-WebSocket-Protocol`, and only of `$connect`, reaches a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResponseParameter {
    pub header: HeaderName,
    pub from: ResponseSource,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ResponseSource {
    Header(HeaderName),
    Body(JsonPath),
    Literal(Box<str>),
}

impl Responses {
    /// The one for what the selection expression says: the first whose pattern is all of it, else
    /// `$default`.
    pub fn select(&self, selected: &str) -> Option<&IntegrationResponse> {
        let is_meant = |key: &ResponseKey| match key {
            ResponseKey::Default => false,
            ResponseKey::Pattern { whole, .. } => whole.is_match(selected),
        };
        let is_default = |key: &ResponseKey| matches!(key, ResponseKey::Default);
        let find = |is_it: &dyn Fn(&ResponseKey) -> bool| self.0.iter().find(|(key, _)| is_it(key));
        find(&is_meant).or_else(|| find(&is_default)).map(|(_, response)| response)
    }

    pub fn has_default(&self) -> bool {
        self.0.iter().any(|(key, _)| *key == ResponseKey::Default)
    }
}

impl ResponseKey {
    pub fn parse(text: &str) -> Result<Self, BadMapping> {
        let bad = |found, advice| BadMapping {
            found,
            expected: r"$default, or a pattern between slashes such as /4\d\d/".to_owned(),
            advice,
        };
        if text == "$default" {
            return Ok(Self::Default);
        }
        let Some(pattern) = text.strip_prefix('/').and_then(|rest| rest.strip_suffix('/')) else {
            return Err(bad(None, format!("write '/{text}/'")));
        };
        // API Gateway compares with all of the text; a dot is any character, as errors have lines.
        let whole = RegexBuilder::new(&format!("^(?:{pattern})$"))
            .dot_matches_new_line(true)
            .size_limit(PATTERN_BYTES_MAX)
            .build()
            .map_err(|error| bad(Some(format!("{text}: {}", reason(&error))), String::new()))?;
        Ok(Self::Pattern { source: pattern.into(), whole })
    }
}

impl PartialEq for ResponseKey {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Default, Self::Default) => true,
            (Self::Pattern { source, .. }, Self::Pattern { source: of_other, .. }) => source == of_other,
            _ => false,
        }
    }
}

/// Its own message draws a picture over several lines; the last one says what is wrong.
fn reason(error: &regex::Error) -> String {
    let text = error.to_string();
    text.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned()
}

impl ResponseParameter {
    pub fn parse(to: &str, from: &str) -> Result<Self, BadMapping> {
        let header = to.strip_prefix("method.response.header.").and_then(header_name);
        let header = header.ok_or_else(|| bad("method.response.header.NAME"))?;
        Ok(Self { header, from: ResponseSource::parse(from)? })
    }

    fn field(&self, headers: &HeaderMap, body: Option<&str>) -> Option<Field> {
        let value = match &self.from {
            ResponseSource::Header(name) => String::from_utf8_lossy(headers.get(name)?.as_bytes()).into_owned(),
            ResponseSource::Body(path) => path.text(body?)?.into_owned(),
            ResponseSource::Literal(text) => text.to_string(),
        };
        Some((self.header.to_string(), value))
    }
}

impl ResponseSource {
    fn parse(text: &str) -> Result<Self, BadMapping> {
        const SOURCES: &str = "integration.response.header.NAME, integration.response.body.PATH or 'a text'";
        let literal = text.strip_prefix('\'').and_then(|rest| rest.strip_suffix('\''));
        if let Some(literal) = literal {
            return Ok(Self::Literal(literal.into()));
        }
        if let Some(name) = text.strip_prefix("integration.response.header.") {
            return header_name(name).map(Self::Header).ok_or_else(|| bad(SOURCES));
        }
        let path = text.strip_prefix("integration.response.body").and_then(|path| JsonPath::parse_steps(path).ok());
        path.map(Self::Body).ok_or_else(|| bad(SOURCES))
    }
}

fn header_name(name: &str) -> Option<HeaderName> {
    HeaderName::from_bytes(name.as_bytes()).ok()
}

fn bad(expected: &str) -> BadMapping {
    BadMapping { found: None, expected: expected.to_owned(), advice: String::new() }
}

impl IntegrationResponse {
    /// The answer made of what an integration has: `status`, the scope's headers and body, and
    /// `body` as it goes to the peer where no template says otherwise.
    ///
    /// # Errors
    /// If a template makes more than `bytes_max` bytes.
    pub fn answer(
        &self,
        status: u16,
        scope: &Scope<'_>,
        body: Option<Payload>,
        bytes_max: usize,
    ) -> Result<Response, TooLong> {
        let none = HeaderMap::new();
        let headers = scope.response.map_or(&none, |(_, headers)| headers);
        let parameters = self.parameters.iter();
        Ok(Response {
            status_code: self.status.unwrap_or(status),
            headers: parameters.filter_map(|parameter| parameter.field(headers, scope.body)).collect(),
            body: match &self.body {
                Some(template) => Some(template.render(scope, bytes_max)?.into()),
                None => body,
            },
        })
    }
}

#[cfg(test)]
mod tests;
