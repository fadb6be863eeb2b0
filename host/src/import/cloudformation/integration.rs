//! `Integration` and `IntegrationResponse`.

use super::ApiImport;
use super::properties::Properties;
use crate::gateway::{RequestParameter, Source, Target, TemplateKind, UrlTemplate};
use crate::import::lambda::{self, UriTarget};
use crate::import::manifest::missing_component;
use crate::import::responses::{self, ManifestResponse};
use crate::import::toml::{Toml, TomlSection};

/// HTTP methods that a manifest accepts.
const METHODS: [&str; 7] = ["DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"];

pub fn import_integrations(import: &mut ApiImport<'_, '_>) {
    let mut responses = import.with_owners("AWS::ApiGatewayV2::IntegrationResponse", "IntegrationId");
    for integration in import.resources_of_type("AWS::ApiGatewayV2::Integration") {
        integration.text("ApiId");
        let Some(id) = import.logical_id(&integration.name) else { continue };
        let (own, others) = responses.into_iter().partition(|(owner, _)| owner.as_deref() == Some(id));
        responses = others;
        let own: Vec<_> = own.into_iter().map(|(_, response)| response).collect();
        let (candidate, section) = convert_integration(import, &integration, own);
        let name = import.manifest.add_integration(&candidate, section);
        import.integrations.insert(id, name);
    }
    for (_, response) in responses {
        response.report_whole("the integration of this response is unknown or does not exist");
    }
}

/// Returns a candidate for the name of the integration, and its section.
fn convert_integration<'r, 't>(
    import: &ApiImport<'r, 't>,
    integration: &Properties<'r, 't>,
    own: Vec<Properties<'r, 't>>,
) -> (String, TomlSection) {
    let id = integration.name.clone();
    let kind = integration.known_text("IntegrationType").unwrap_or_default();
    let is_proxy = kind.ends_with("_PROXY");
    let (name, mut section) = match kind.as_str() {
        "AWS" | "AWS_PROXY" => convert_aws(import, integration),
        "HTTP" | "HTTP_PROXY" => (id.clone(), convert_http(integration)),
        "MOCK" => return (id, convert_mock(integration, own)),
        other => {
            let problem = format!("the IntegrationType {other:?} is not supported");
            integration.report("IntegrationType", format!("{problem}; write a component that replaces it"));
            (id.clone(), missing_component(&id, &problem))
        }
    };
    if section.entries.iter().any(|(key, _)| key == "component") {
        // A component chooses its response itself.
        own.iter().for_each(|response| response.report_whole("the component that you write must return this response"));
        return (id, section);
    }
    if let Some(timeout) = timeout(integration, "TimeoutInMillis") {
        section.set("timeout", timeout);
    }
    report_request_templates(integration, is_proxy);
    if is_proxy {
        own.iter()
            .for_each(|response| response.report_whole("the response of a proxy integration is passed on unchanged"));
    } else {
        section.set("proxy", Toml::Bool(false));
        section.set("responses", responses_table(integration, own));
    }
    (name, section)
}

/// Converts an integration of type `AWS` or `AWS_PROXY`, which calls a function or another service of AWS.
fn convert_aws<'r, 't>(import: &ApiImport<'r, 't>, integration: &Properties<'r, 't>) -> (String, TomlSection) {
    let id = integration.name.clone();
    let uri = integration.with_stage_variables("IntegrationUri").unwrap_or_default();
    match lambda::parse_uri(&uri) {
        UriTarget::Function(function) => {
            integration.text("IntegrationMethod");
            if !integration.table_entries("RequestParameters").is_empty() {
                integration.report("RequestParameters", "a function receives the event, without additional parameters");
            }
            let name = if function.contains('$') { id } else { function.clone() };
            (name, lambda::section(&import.options.endpoint, &function))
        }
        UriTarget::Service(service) => {
            let problem = format!("the integration calls {service} of AWS");
            integration.report("IntegrationUri", format!("{problem}; write a component that replaces it"));
            integration.text("IntegrationMethod");
            report_replaced_keys(integration, &["RequestParameters", "RequestTemplates", "TimeoutInMillis"]);
            (id.clone(), missing_component(&id, &problem))
        }
        UriTarget::Other => {
            let problem = format!("found {uri:?}, expected the URI of a function or of a service of AWS");
            integration.report("IntegrationUri", format!("{problem}; write a component that replaces it"));
            (id.clone(), missing_component(&id, &problem))
        }
    }
}

/// Reports the properties of a call that a component replaces.
fn report_replaced_keys(integration: &Properties<'_, '_>, keys: &[&str]) {
    for key in keys.iter().filter(|key| integration.get(key).is_some()) {
        integration.report(key, "it belongs to a call that the component must make");
    }
}

fn convert_http(integration: &Properties<'_, '_>) -> TomlSection {
    let url = integration.with_stage_variables("IntegrationUri").unwrap_or_default();
    let template = match UrlTemplate::parse(&url) {
        Ok(template) => template,
        Err(bad) => {
            let problem = format!("found {}, expected {}", bad.found.unwrap_or(url), bad.expected);
            integration.report("IntegrationUri", format!("{problem}; write a component that replaces it"));
            return missing_component(&integration.name, &problem);
        }
    };
    let mut section = TomlSection::default().with("type", Toml::text("http")).with("url", Toml::text(&url));
    match integration.known_text("IntegrationMethod") {
        Some(method) if method == "POST" => {}
        Some(method) if METHODS.contains(&method.as_str()) => section.set("method", Toml::text(method)),
        Some(method) => {
            integration.report(
                "IntegrationMethod",
                format!("found {method}, expected one of {}; POST is used", METHODS.join(", ")),
            );
        }
        None => {}
    }
    if let Some(kind) = integration.known_text("ConnectionType")
        && kind != "INTERNET"
    {
        integration.report(
            "ConnectionType",
            format!("found {kind}; the host sends the request directly to the URL, without a VPC link"),
        );
    }
    let parameters = request_parameters(integration, &template);
    if !parameters.is_empty() {
        section.set("request_parameters", Toml::Section(parameters));
    }
    section
}

fn request_parameters(integration: &Properties<'_, '_>, url: &UrlTemplate) -> Vec<(String, Toml)> {
    let table = integration.table("RequestParameters");
    let mut taken: Vec<RequestParameter> = Vec::new();
    let mut entries = Vec::new();
    for (target, _) in table.entries() {
        let Some(source) = table.known_text(target) else { continue };
        let parsed = Target::parse(target).and_then(|to| Ok(RequestParameter { to, from: Source::parse(&source)? }));
        let problem = match parsed {
            Err(bad) => format!("found {}, expected {}", bad.found.unwrap_or_else(|| source.clone()), bad.expected),
            Ok(parameter) if taken.iter().any(|other| other.to == parameter.to) => {
                "the same parameter occurs twice".to_owned()
            }
            Ok(RequestParameter { to: Target::Path(name), .. })
                if !url.path_parameters().any(|other| *other == *name) =>
            {
                format!("the URL has no {{{name}}}")
            }
            Ok(parameter) => {
                taken.push(parameter);
                entries.push((target.to_owned(), Toml::text(source)));
                continue;
            }
        };
        table.report(target, format!("{problem}; it is omitted"));
    }
    for name in url.path_parameters() {
        if !taken.iter().any(|parameter| matches!(&parameter.to, Target::Path(path) if **path == *name)) {
            let source = format!("route.request.body.{name}");
            integration.report("IntegrationUri", format!("no parameter is mapped to {{{name}}}; {source} is used"));
            entries.push((format!("integration.request.path.{name}"), Toml::text(source)));
        }
    }
    entries
}

/// Reports request templates, except those that pass the message on unchanged: only these have a counterpart.
fn report_request_templates(integration: &Properties<'_, '_>, is_proxy: bool) {
    for (key, _) in integration.table_entries("RequestTemplates") {
        let table = integration.table("RequestTemplates");
        let Some(template) = table.known_text(key) else { continue };
        match template.trim() {
            _ if is_proxy => table.report(key, "a proxy integration has no request templates"),
            "$input.body" | "$input.json('$')" | "$input.json(\"$\")" => {}
            _ => table.report(key, "the message is sent unchanged; write a component if it must be transformed"),
        }
    }
}

/// Converts a duration in milliseconds to one of a manifest; `None` for the default, 29 s.
pub fn timeout(properties: &Properties<'_, '_>, key: &str) -> Option<Toml> {
    let milliseconds = properties.number(key)?;
    if !(50.0..=29_000.0).contains(&milliseconds) || milliseconds.fract() != 0.0 {
        properties.report(
            key,
            format!("found {milliseconds}, expected 50 to 29000 milliseconds; the default of 29 s is used"),
        );
        return None;
    }
    let milliseconds = milliseconds as u64;
    let text = match milliseconds % 1000 {
        0 => format!("{}s", milliseconds / 1000),
        _ => format!("{milliseconds}ms"),
    };
    (milliseconds != 29_000).then(|| Toml::text(text))
}

fn convert_mock<'r, 't>(integration: &Properties<'r, 't>, own: Vec<Properties<'r, 't>>) -> TomlSection {
    let mut section = TomlSection::default().with("type", Toml::text("mock"));
    let status = mock_status(integration);
    if status != 200 {
        section.set("status", Toml::Number(f64::from(status)));
    }
    let key = |response: &Properties<'_, '_>| response.known_text("IntegrationResponseKey").unwrap_or_default();
    let chosen = own.iter().position(|response| responses::matches_status(&key(response), status));
    let chosen = chosen.or_else(|| own.iter().position(|response| key(response) == "$default"));
    if !own.is_empty() && chosen.is_none() {
        integration.resolver.findings.add(
            integration.line,
            &integration.name,
            format!("found no IntegrationResponse for the status {status}"),
        );
    }
    for (index, response) in own.iter().enumerate() {
        if Some(index) == chosen {
            section.entries.extend(convert_response(response, TemplateKind::Event).entries);
        } else {
            response.report_whole(format!("a mock has only one response: the one for the status {status}"));
        }
    }
    section
}

/// Returns the status in the request template of a mock: `{"statusCode": 200}`.
fn mock_status(integration: &Properties<'_, '_>) -> u16 {
    const DEFAULT: u16 = 200;
    let table = integration.table("RequestTemplates");
    let mut status = None;
    for (key, _) in table.entries() {
        let Some(template) = table.known_text(key) else { continue };
        let json: Option<serde_json::Value> = serde_json::from_str(&template).ok();
        let found = json.as_ref().and_then(|json| json.get("statusCode")?.as_u64());
        let found = found.and_then(|found| u16::try_from(found).ok()).filter(|found| (200..=599).contains(found));
        match found {
            Some(found) if status.is_none() => status = Some(found),
            Some(_) => table.report(key, "a mock has only one response: that of its first template"),
            None => table.report(
                key,
                format!("expected {{\"statusCode\": 200}} with a status from 200 to 599; {DEFAULT} is used"),
            ),
        }
    }
    if table.entries().len() < 2 {
        // With at most one template, the expression has no effect.
        integration.text("TemplateSelectionExpression");
    }
    status.unwrap_or(DEFAULT)
}

/// Returns the `responses` of an integration that is not a proxy.
fn responses_table<'r, 't>(integration: &Properties<'r, 't>, own: Vec<Properties<'r, 't>>) -> Toml {
    let mut entries: Vec<(String, Toml)> = Vec::new();
    for response in own {
        let key = response.known_text("IntegrationResponseKey").unwrap_or_else(|| "$default".to_owned());
        let problem = responses::check_key(&key).err();
        let is_duplicate = entries.iter().any(|(other, _)| *other == key);
        let problem = problem.or_else(|| is_duplicate.then(|| format!("the response key {key} occurs twice")));
        if let Some(problem) = problem {
            response.report_whole(problem);
            continue;
        }
        let converted = convert_response(&response, TemplateKind::Response);
        entries.push((key, Toml::Table(converted.entries)));
    }
    if entries.is_empty() {
        let reason = "found no IntegrationResponse; API Gateway then returns nothing, but here the response is passed on \
            unchanged";
        integration.resolver.findings.add(integration.line, &integration.name, reason);
        entries.push(("$default".to_owned(), Toml::Table(Vec::new())));
    }
    Toml::Section(entries)
}

/// Converts an `IntegrationResponse`.
fn convert_response(properties: &Properties<'_, '_>, kind: TemplateKind) -> ManifestResponse {
    properties.text("IntegrationResponseKey");
    let mut response = ManifestResponse::default();
    let templates = properties.table("ResponseTemplates");
    let all = templates.entries();
    let selected =
        properties.known_text("TemplateSelectionExpression").map(|expression| expression.replace(r"\$", "$"));
    let is_key = |key: &str| selected.as_deref().is_some_and(|selected| selected == key);
    let chosen = all.iter().find(|(key, _)| is_key(key)).or_else(|| all.iter().find(|(key, _)| *key == "$default"));
    // Without a selection expression, a single template is used whatever its key is.
    let chosen = chosen.or(match (&all[..], &selected) {
        ([only], None) => Some(only),
        _ => None,
    });
    if let Some(selected) = selected.filter(|selected| selected.contains("${") || selected.starts_with("$request")) {
        let reason = format!("found {selected}; a response has only one template: that of $default");
        properties.report("TemplateSelectionExpression", reason);
    }
    for (key, _) in &all {
        if chosen.is_none_or(|(chosen, _)| chosen != key) {
            templates.report(key, "a response has only one template: that of $default");
        } else if let Some(template) = templates.known_text(key)
            && let Err(problem) = response.set_body(&template, kind)
        {
            templates.report(key, problem);
        }
    }
    let parameters = properties.table("ResponseParameters");
    for (to, _) in parameters.entries() {
        let Some(from) = parameters.known_text(to) else { continue };
        let is_literal = from.starts_with('\'');
        let result = if kind == TemplateKind::Event && !is_literal {
            Err("a mock has no backend response to take the value from".to_owned())
        } else {
            response.set_parameter(to, &from)
        };
        if let Err(problem) = result {
            parameters.report(to, format!("{problem}; it is omitted"));
        }
    }
    response
}
