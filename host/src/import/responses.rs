//! How integrations answer: statuses, templates and headers, held to what a manifest takes.

use super::toml::Toml;
use crate::gateway::{ResponseKey, ResponseParameter, Template, TemplateKind};

/// One integration response as a table of `responses`, or what a mock answers.
#[derive(Default)]
pub struct Response {
    pub entries: Vec<(String, Toml)>,
}

impl Response {
    /// # Errors
    /// Why the template is none of a manifest. The body is empty then: nothing that a template was to
    /// leave out gets through.
    pub fn body(&mut self, template: &str, kind: TemplateKind) -> Result<(), String> {
        let parsed = Template::parse(template, kind);
        let text = if parsed.is_ok() { template } else { "" };
        self.entries.push(("body".to_owned(), Toml::text(text)));
        parsed.map(|_| ()).map_err(|bad| {
            let found = bad.found.unwrap_or_else(|| "the template".to_owned());
            format!("found {found}; its body is empty until one is written: {}", bad.advice)
        })
    }

    /// # Errors
    /// Why a header is none that a manifest can set.
    pub fn parameter(&mut self, to: &str, from: &str) -> Result<(), String> {
        let parameter = ResponseParameter::parse(to, from).map_err(|bad| format!("expected {}", bad.expected))?;
        if parameter.header != http::header::SEC_WEBSOCKET_PROTOCOL {
            return Err(
                "a header that no peer gets: only Sec-WebSocket-Protocol goes into the answer to $connect".into()
            );
        }
        let entry = (to.to_owned(), Toml::text(from));
        match self.entries.iter_mut().find(|(key, _)| key == "parameters") {
            Some((_, Toml::Table(entries))) => entries.push(entry),
            _ => self.entries.push(("parameters".to_owned(), Toml::Table(vec![entry]))),
        }
        Ok(())
    }
}

/// Whether a manifest takes the key of an integration response.
///
/// # Errors
/// What is wrong with it.
pub fn check_key(key: &str) -> Result<(), String> {
    ResponseKey::parse(key).map(|_| ()).map_err(|bad| match bad.found {
        Some(found) => format!("found {found}, expected {}", bad.expected),
        None => format!("found {key:?}, expected {}", bad.expected),
    })
}

/// Whether the response under `key` is that of `status`, as API Gateway selects it.
pub fn selects(key: &str, status: u16) -> bool {
    let pattern = key.strip_prefix('/').and_then(|rest| rest.strip_suffix('/'));
    let whole = pattern.and_then(|pattern| regex::Regex::new(&format!("^(?:{pattern})$")).ok());
    whole.is_some_and(|whole| whole.is_match(&status.to_string()))
}
