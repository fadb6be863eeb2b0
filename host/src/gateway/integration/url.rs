//! The URL of an integration, which may contain stage variables and path parameters.
//!
//! Pure: parsed once, when the manifest is read.

use std::fmt;

use http::Uri;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::capability::Caller;
use crate::gateway::integration::mapping::{BadMapping, stage_variable};

/// The characters to percent-encode: all except RFC 3986's unreserved characters.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// `https://${stageVariables.host}/rooms/{room}?limit=1`
#[derive(Clone, PartialEq, Eq)]
pub struct UrlTemplate {
    source: Box<str>,
    parts: Box<[Part]>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(Box<str>),
    StageVariable(Box<str>),
    PathParameter(Box<str>),
}

const EXPECTED: &str = "a URL such as \"https://api.example.com/chat\" or \"https://${stageVariables.host}/chat\"";

impl UrlTemplate {
    pub fn parse(text: &str) -> Result<Self, BadMapping> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some(at) = rest.find('{') {
            let is_variable = rest[..at].ends_with('$');
            let before = &rest[..at - usize::from(is_variable)];
            if !before.is_empty() {
                parts.push(Part::Text(before.into()));
            }
            let (name, after) =
                rest[at + 1..].split_once('}').ok_or_else(|| bad(format!("no }} after {}", &rest[at..]), ""))?;
            parts.push(part(name, is_variable)?);
            rest = after;
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.into()));
        }
        let template = Self { source: text.into(), parts: parts.into() };
        template.check()?;
        Ok(template)
    }

    /// Checks what can be checked before the values of the variables are known.
    fn check(&self) -> Result<(), BadMapping> {
        // The digit 1 replaces every variable, because it is valid both in a host name and as a port.
        let example = self.render(|_| Some("1"), |_| Some("1".to_owned())).unwrap_or_default();
        if example.contains('#') {
            return Err(bad(
                format!("{:?}", self.source),
                "leave out the # and what follows it: a fragment is never sent",
            ));
        }
        if matches!(self.parts.first(), Some(Part::StageVariable(_))) {
            // The variable contains the scheme and perhaps more of the URL, so the rest cannot be checked.
            return Ok(());
        }
        uri(&example).map(|_| ()).map_err(|advice| bad(format!("{:?}", self.source), advice))
    }

    /// Returns the names of its path parameters.
    pub fn path_parameters(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter_map(|part| match part {
            Part::PathParameter(name) => Some(&**name),
            _ => None,
        })
    }

    /// Returns the names of its stage variables.
    pub fn stage_variables(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter_map(|part| match part {
            Part::StageVariable(name) => Some(&**name),
            _ => None,
        })
    }

    /// Builds the URL for one event, and appends `query` to its own query.
    ///
    /// # Errors
    /// What is missing or invalid, as text for the log.
    pub fn uri(
        &self,
        caller: &Caller,
        path_parameter: impl Fn(&str) -> Option<String>,
        query: &[(&str, String)],
    ) -> Result<Uri, String> {
        let mut url = self.render(|name| stage_variable(caller, name), path_parameter)?;
        for (name, value) in query {
            url.push(if url.contains('?') { '&' } else { '?' });
            url.extend(utf8_percent_encode(name, RESERVED));
            url.push('=');
            url.extend(utf8_percent_encode(value, RESERVED));
        }
        uri(&url).map_err(|advice| format!("the URL with the values of its variables is invalid ({advice})"))
    }

    fn render<'a>(
        &self,
        stage_variable: impl Fn(&str) -> Option<&'a str>,
        path_parameter: impl Fn(&str) -> Option<String>,
    ) -> Result<String, String> {
        let mut url = String::with_capacity(self.source.len());
        for part in &self.parts {
            match part {
                Part::Text(text) => url.push_str(text),
                Part::StageVariable(name) => {
                    url.push_str(stage_variable(name).ok_or_else(|| format!("the stage has no variable {name}"))?);
                }
                Part::PathParameter(name) => match path_parameter(name) {
                    // These parts are rejected because they change the path even if they are percent-encoded.
                    Some(value) if !matches!(&*value, "" | "." | "..") => {
                        url.extend(utf8_percent_encode(&value, RESERVED))
                    }
                    Some(value) => {
                        return Err(format!(
                            "integration.request.path.{name} is {value:?}, which is not allowed in a path"
                        ));
                    }
                    None => return Err(format!("the event has no value for integration.request.path.{name}")),
                },
            }
        }
        Ok(url)
    }
}

fn part(name: &str, is_variable: bool) -> Result<Part, BadMapping> {
    let is_name = |name: &str| {
        !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.'))
    };
    if is_variable {
        let variable = name.strip_prefix("stageVariables.").filter(|name| is_name(name));
        let advice = "a URL accepts only ${stageVariables.NAME}; for a value of the event, map it to \
            integration.request.path.NAME and write {NAME} in the URL";
        return variable
            .map(|name| Part::StageVariable(name.into()))
            .ok_or_else(|| bad(format!("${{{name}}}"), advice));
    }
    if is_name(name) {
        Ok(Part::PathParameter(name.into()))
    } else {
        Err(bad(format!("{{{name}}}"), "write the name of a path parameter between { and }"))
    }
}

/// Parses a URL. The error is advice, which may be empty.
fn uri(url: &str) -> Result<Uri, &'static str> {
    if !url.starts_with("https://") && !url.starts_with("http://") {
        return Err("it must begin with https:// or http://");
    }
    let uri: Uri = url
        .parse()
        .map_err(|_| if url.is_ascii() { "" } else { "percent-encode the characters that are not ASCII" })?;
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    if authority.contains('@') {
        return Err("leave out the user: map integration.request.header.Authorization instead");
    }
    let host = uri.host().unwrap_or_default();
    let port = authority.get(host.len()..).unwrap_or_default();
    let has_port = port.strip_prefix(':').and_then(|port| port.parse::<u16>().ok()).is_some_and(|port| port > 0);
    if host.is_empty() || !(port.is_empty() || has_port) {
        return Err("it must name a host and, unless it is the default of the scheme, a port from 1 to 65535");
    }
    Ok(uri)
}

fn bad(found: String, advice: &str) -> BadMapping {
    BadMapping { found: Some(found), expected: EXPECTED.to_owned(), advice: advice.to_owned() }
}

impl fmt::Display for UrlTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.source)
    }
}

impl fmt::Debug for UrlTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.source, f)
    }
}

#[cfg(test)]
mod tests;
