//! What an integration that is no proxy answers: `responses`, and what a mock does.

use toml::de::DeValue;

use crate::config::section::Section;
use crate::config::value::{self, Wrong};
use crate::gateway::{
    IntegrationResponse, ResponseKey, ResponseParameter, ResponseSource, Responses, Template, TemplateKind,
};

/// `responses = { "$default" = { .. }, '/4\d\d/' = { status = 403 } }`, where `proxy = false`.
pub fn responses(section: &mut Section<'_>, proxy: bool) -> Responses {
    let table = section.section("responses");
    let mut entries: Vec<_> = table.entries().collect();
    // In the order in which they are written: the first pattern that matches counts.
    entries.sort_by_key(|entry| entry.key_span.start);
    let mut responses = Responses::default();
    for entry in entries {
        let key = match ResponseKey::parse(entry.key) {
            Ok(key) => key,
            Err(bad) => {
                let wrong = Wrong::from(bad);
                let advice = match (wrong.found, wrong.advice) {
                    (Some(found), _) => found,
                    (None, advice) => advice,
                };
                table.wrong_key(&entry, Wrong::new(wrong.expected, advice));
                continue;
            }
        };
        let wrong =
            Wrong::new("a table such as { status = 403, body = \"...\" }", "an empty one passes all through: {}");
        if let Some(mut response) = table.table(&table.name_of(entry.key), entry.key_span, entry.value, wrong) {
            let meaning = integration_response(&mut response, TemplateKind::Response);
            response.finish();
            responses.0.push((key, meaning));
        }
    }
    check(section, proxy, &responses);
    responses
}

fn check(section: &Section<'_>, proxy: bool, responses: &Responses) {
    let name = section.name_of("responses");
    let written = section.is_written("responses");
    if proxy && written {
        let problem = format!("{name}: found in a proxy, whose response is passed through as it is");
        section.problems.error(section.span_of("responses"), problem, "leave it out, or write proxy = false");
    }
    if !proxy && !written {
        let problem = format!("{name}: found none, so that no response is answered");
        section.problems.error(
            section.span_of("proxy"),
            problem,
            r#"add responses = { "$default" = {} }, or leave out proxy = false"#,
        );
    } else if !proxy && !responses.has_default() {
        let problem = format!("{name}: found no $default, so that what no pattern matches is an internal server error");
        section.problems.warning(section.span_of("responses"), problem, r#"add "$default" = {}"#);
    }
}

/// `status`, `body` and `parameters` of a section.
pub fn integration_response(section: &mut Section<'_>, kind: TemplateKind) -> IntegrationResponse {
    let status = |value: &DeValue<'_>| value::count(200..=599)(value);
    IntegrationResponse {
        status: section.read("status", status).and_then(|status| u16::try_from(status).ok()),
        body: section.read("body", |body| Ok(Template::parse(value::text(body)?, kind)?)),
        parameters: parameters(section, kind),
    }
}

fn parameters(section: &mut Section<'_>, kind: TemplateKind) -> Vec<ResponseParameter> {
    let table = section.section("parameters");
    let mut parameters = Vec::new();
    for entry in table.entries() {
        let name = table.name_of(entry.key);
        let parameter = |value| Ok(ResponseParameter::parse(entry.key, value::text(value)?)?);
        let Some(parameter) = table.meaning(&name, entry.value, parameter) else { continue };
        if kind == TemplateKind::Event && !matches!(parameter.from, ResponseSource::Literal(_)) {
            table.wrong(
                &name,
                entry.value,
                Wrong::new("a text in single quotes such as \"'chat'\"", "a mock has no response"),
            );
        } else if parameter.header != http::header::SEC_WEBSOCKET_PROTOCOL {
            let problem = format!("{name}: found a header that no peer gets");
            let advice = "only Sec-WebSocket-Protocol goes into the answer to $connect";
            table.problems.warning(entry.key_span, problem, advice);
        }
        parameters.push(parameter);
    }
    parameters
}
