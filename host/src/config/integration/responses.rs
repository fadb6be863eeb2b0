//! Integration responses: `responses` of an integration with `proxy = false`, and the response of a mock.

use toml::de::DeValue;

use crate::config::section::Section;
use crate::config::value::{self, InvalidValue};
use crate::gateway::{
    IntegrationResponse, ResponseKey, ResponseParameter, ResponseSource, Responses, Template, TemplateKind,
};

/// Reads `responses = { "$default" = { .. }, '/4\d\d/' = { status = 403 } }`, which needs `proxy = false`.
pub fn responses(section: &mut Section<'_>, proxy: bool) -> Responses {
    let table = section.section("responses");
    let mut entries: Vec<_> = table.entries().collect();
    // The order of the manifest matters, because the first pattern that matches is used.
    entries.sort_by_key(|entry| entry.key_span.start);
    let mut responses = Responses::default();
    for entry in entries {
        let key = match ResponseKey::parse(entry.key) {
            Ok(key) => key,
            Err(bad) => {
                let invalid = InvalidValue::from(bad);
                let advice = match (invalid.found, invalid.advice) {
                    (Some(found), _) => found,
                    (None, advice) => advice,
                };
                table.report_name(&entry, InvalidValue::new(invalid.expected, advice));
                continue;
            }
        };
        let invalid = InvalidValue::new(
            "a table such as { status = 403, body = \"...\" }",
            "an empty table passes everything through: {}",
        );
        if let Some(mut response) = table.table(&table.name_of(entry.key), entry.key_span, entry.value, invalid) {
            let parsed = integration_response(&mut response, TemplateKind::Response);
            response.finish();
            responses.0.push((key, parsed));
        }
    }
    check_proxy(section, proxy, &responses);
    responses
}

/// Reports `responses` that contradict `proxy`.
fn check_proxy(section: &Section<'_>, proxy: bool, responses: &Responses) {
    let name = section.name_of("responses");
    let has_responses = section.contains("responses");
    if proxy && has_responses {
        let problem = format!("{name}: found in a proxy integration, whose response is passed through unchanged");
        section.problems.error(section.span_of("responses"), problem, "remove it, or write proxy = false");
    }
    if !proxy && !has_responses {
        let problem = format!("{name}: found none, so no response would be returned");
        section.problems.error(
            section.span_of("proxy"),
            problem,
            r#"add responses = { "$default" = {} }, or remove proxy = false"#,
        );
    } else if !proxy && !responses.has_default() {
        let problem = format!(
            "{name}: found no $default, so a response that no pattern matches becomes an internal server error"
        );
        section.problems.warning(section.span_of("responses"), problem, r#"add "$default" = {}"#);
    }
}

/// Reads `status`, `body` and `parameters`.
pub fn integration_response(section: &mut Section<'_>, kind: TemplateKind) -> IntegrationResponse {
    let status = |value: &DeValue<'_>| value::count(200..=599)(value);
    IntegrationResponse {
        status: section.read("status", status).and_then(|status| u16::try_from(status).ok()),
        body: section.read("body", |body| Ok(Template::parse(value::string(body)?, kind)?)),
        parameters: parameters(section, kind),
    }
}

fn parameters(section: &mut Section<'_>, kind: TemplateKind) -> Vec<ResponseParameter> {
    let table = section.section("parameters");
    let mut parameters = Vec::new();
    for entry in table.entries() {
        let name = table.name_of(entry.key);
        let parameter = |value| Ok(ResponseParameter::parse(entry.key, value::string(value)?)?);
        let Some(parameter) = table.parse(&name, entry.value, parameter) else { continue };
        if kind == TemplateKind::Event && !matches!(parameter.from, ResponseSource::Literal(_)) {
            table.report_value(
                &name,
                entry.value,
                InvalidValue::new("a string in single quotes such as \"'chat'\"", "a mock has no response"),
            );
        } else if parameter.header != http::header::SEC_WEBSOCKET_PROTOCOL {
            let problem = format!("{name}: found a header that is never sent to the peer");
            let advice = "only Sec-WebSocket-Protocol is copied to the handshake response of $connect";
            table.problems.warning(entry.key_span, problem, advice);
        }
        parameters.push(parameter);
    }
    parameters
}
