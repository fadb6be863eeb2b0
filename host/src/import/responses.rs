//! Responses of integrations: statuses, templates and headers, checked against what a manifest accepts.

use super::toml::Toml;
use crate::gateway::{ResponseKey, ResponseParameter, Template, TemplateKind};

/// One integration response: an entry of `responses`, or the response of a mock.
#[derive(Default)]
pub struct ManifestResponse {
    pub entries: Vec<(String, Toml)>,
}

impl ManifestResponse {
    /// Sets the body to a template.
    ///
    /// # Errors
    /// Why a manifest does not accept the template. The body is then empty, so that no data is sent that the
    /// template would have removed.
    pub fn set_body(&mut self, template: &str, kind: TemplateKind) -> Result<(), String> {
        let parsed = Template::parse(template, kind);
        let text = if parsed.is_ok() { template } else { "" };
        self.entries.push(("body".to_owned(), Toml::text(text)));
        parsed.map(|_| ()).map_err(|bad| {
            let found = bad.found.unwrap_or_else(|| "the template".to_owned());
            format!("found {found}; the body is empty until you write a template: {}", bad.advice)
        })
    }

    /// Adds a response header.
    ///
    /// # Errors
    /// Why a manifest cannot set this header.
    pub fn set_parameter(&mut self, to: &str, from: &str) -> Result<(), String> {
        let parameter = ResponseParameter::parse(to, from).map_err(|bad| format!("expected {}", bad.expected))?;
        if parameter.header != http::header::SEC_WEBSOCKET_PROTOCOL {
            return Err(
                "no peer receives this header: only Sec-WebSocket-Protocol is sent in the response to $connect".into(),
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

/// Checks that a manifest accepts `key` as the key of an integration response.
///
/// # Errors
/// What is wrong with it.
pub fn check_key(key: &str) -> Result<(), String> {
    ResponseKey::parse(key).map(|_| ()).map_err(|bad| match bad.found {
        Some(found) => format!("found {found}, expected {}", bad.expected),
        None => format!("found {key:?}, expected {}", bad.expected),
    })
}

/// Returns whether API Gateway selects the response with this key for `status`. The key is a regular expression between
/// slashes, or `$default`, which is handled by the caller.
pub fn matches_status(key: &str, status: u16) -> bool {
    let pattern = key.strip_prefix('/').and_then(|rest| rest.strip_suffix('/'));
    let regex = pattern.and_then(|pattern| regex::Regex::new(&format!("^(?:{pattern})$")).ok());
    regex.is_some_and(|regex| regex.is_match(&status.to_string()))
}
