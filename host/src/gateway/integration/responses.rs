//! Integration responses: how the result of a non-proxy integration becomes the response for the peer.
//!
//! Pure: parsed once, when the manifest is read. Does not know where a result comes from.

use http::{HeaderMap, HeaderName};
use regex::{Regex, RegexBuilder};

use crate::event::{Field, Response};
use crate::gateway::JsonPath;
use crate::gateway::expression::{Place, Reader, Variable};
use crate::gateway::integration::mapping::BadMapping;
use crate::gateway::integration::template::{Scope, Template, TooLong};
use crate::payload::Payload;

/// Largest compiled pattern, in bytes of memory.
const PATTERN_BYTES_MAX: usize = 1024 * 1024;

/// Integration responses by their keys, in the order in which they are tried.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Responses(pub Vec<(ResponseKey, IntegrationResponse)>);

/// `$default`, or `/4\d\d/`.
#[derive(Clone, Debug)]
pub enum ResponseKey {
    Default,
    Pattern { source: Box<str>, whole: Regex },
}

/// The response for the peer. What is not set here is taken from the integration's result.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct IntegrationResponse {
    pub status: Option<u16>,
    pub body: Option<Template>,
    pub parameters: Vec<ResponseParameter>,
}

/// A header of the response. Only `Sec-WebSocket-Protocol` reaches a peer, and only in the response of `$connect`.
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
    /// Returns the integration response for the value of the selection expression: the first whose pattern matches the
    /// whole value, else `$default`.
    pub fn select(&self, value: &str) -> Option<&IntegrationResponse> {
        let matches_value = |key: &ResponseKey| match key {
            ResponseKey::Default => false,
            ResponseKey::Pattern { whole, .. } => whole.is_match(value),
        };
        let is_default = |key: &ResponseKey| matches!(key, ResponseKey::Default);
        let find = |accepts: &dyn Fn(&ResponseKey) -> bool| self.0.iter().find(|(key, _)| accepts(key));
        find(&matches_value).or_else(|| find(&is_default)).map(|(_, response)| response)
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
        // API Gateway matches the whole text. A dot also matches a line break, because an error text can have
        // several lines.
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
            (Self::Pattern { source, .. }, Self::Pattern { source: other_source, .. }) => source == other_source,
            _ => false,
        }
    }
}

/// Returns the reason in the error of a pattern: the last line of its message. The lines before it only mark the
/// position.
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
        const SOURCES: &str = "integration.response.header.NAME, integration.response.body.PATH or 'literal text'";
        let literal = text.strip_prefix('\'').and_then(|rest| rest.strip_suffix('\''));
        if let Some(literal) = literal {
            return Ok(Self::Literal(literal.into()));
        }
        let mut reader = Reader::new(text, Place::Whole);
        let source = match reader.variable().ok().flatten() {
            Some(Variable::ResponseHeader(name)) => header_name(&name).map(Self::Header),
            Some(Variable::ResponseBody(path)) => Some(Self::Body(path)),
            _ => None,
        };
        source.filter(|_| reader.rest().is_empty()).ok_or_else(|| bad(SOURCES))
    }
}

fn header_name(name: &str) -> Option<HeaderName> {
    HeaderName::from_bytes(name.as_bytes()).ok()
}

fn bad(expected: &str) -> BadMapping {
    BadMapping { found: None, expected: expected.to_owned(), advice: String::new() }
}

impl IntegrationResponse {
    /// Makes the peer's response from an integration's result: its `status`, the headers and body in `scope`, and
    /// `body`, which is sent to the peer if there is no template.
    ///
    /// # Errors
    /// If the template's result has more than `bytes_max` bytes.
    pub fn render(
        &self,
        status: u16,
        scope: &Scope<'_>,
        body: Option<Payload>,
        bytes_max: usize,
    ) -> Result<Response, TooLong> {
        let no_headers = HeaderMap::new();
        let headers = scope.response.map_or(&no_headers, |(_, headers)| headers);
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
