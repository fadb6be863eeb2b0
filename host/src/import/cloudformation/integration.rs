//! `Integration` and `IntegrationResponse`: what serves a route.

use super::Import;
use super::properties::Properties;
use crate::gateway::{RequestParameter, Source, Target, TemplateKind, UrlTemplate};
use crate::import::lambda::{self, Called};
use crate::import::manifest::missing_component;
use crate::import::responses::{self, Response};
use crate::import::toml::{Section, Toml};

const METHODS: [&str; 7] = ["DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"];

pub fn integrations(import: &mut Import<'_, '_>) {
    let mut responses = import.by_owner("AWS::ApiGatewayV2::IntegrationResponse", "IntegrationId");
    for integration in import.of_kind("AWS::ApiGatewayV2::Integration") {
        integration.text("ApiId");
        let Some(id) = import.id_of(&integration.name) else { continue };
        let (own, others) = responses.into_iter().partition(|(owner, _)| owner.as_deref() == Some(id));
        responses = others;
        let own: Vec<_> = own.into_iter().map(|(_, response)| response).collect();
        let (candidate, section) = one(import, &integration, own);
        let name = import.manifest.integration(&candidate, section);
        import.integrations.insert(id, name);
    }
    for (_, response) in responses {
        response.tell_all("of which integration it is cannot be known, or there is none");
    }
}

/// What it may be called, and what stands in its section.
fn one<'r, 't>(
    import: &Import<'r, 't>,
    integration: &Properties<'r, 't>,
    own: Vec<Properties<'r, 't>>,
) -> (String, Section) {
    let id = integration.name.clone();
    let kind = integration.known("IntegrationType").unwrap_or_default();
    let is_proxy = kind.ends_with("_PROXY");
    let (name, mut section) = match kind.as_str() {
        "AWS" | "AWS_PROXY" => of_aws(import, integration),
        "HTTP" | "HTTP_PROXY" => (id.clone(), http(integration)),
        "MOCK" => return (id, mock(integration, own)),
        other => {
            let why = format!("the IntegrationType {other:?} is not known");
            integration.tell("IntegrationType", format!("{why}; write a component that does it"));
            (id.clone(), missing_component(&id, &why))
        }
    };
    if section.entries.iter().any(|(key, _)| key == "component") {
        // What it was to answer is a component's to say.
        own.iter().for_each(|response| response.tell_all("a component has to answer in its place"));
        return (id, section);
    }
    if let Some(timeout) = timeout(integration, "TimeoutInMillis") {
        section.set("timeout", timeout);
    }
    request_template(integration, is_proxy);
    if is_proxy {
        own.iter().for_each(|response| response.tell_all("a proxy passes on what it is answered"));
    } else {
        section.set("proxy", Toml::Flag(false));
        section.set("responses", answers(integration, own));
    }
    (name, section)
}

fn of_aws<'r, 't>(import: &Import<'r, 't>, integration: &Properties<'r, 't>) -> (String, Section) {
    let id = integration.name.clone();
    let uri = integration.with_stage_variables("IntegrationUri").unwrap_or_default();
    match lambda::called(&uri) {
        Called::Function(function) => {
            integration.text("IntegrationMethod");
            if !integration.entries("RequestParameters").is_empty() {
                integration.tell("RequestParameters", "a function gets the event, and no headers of its own");
            }
            let name = if function.contains('$') { id } else { function.clone() };
            (name, lambda::section(&import.options.endpoint, &function))
        }
        Called::Service(service) => {
            let why = format!("it calls {service} of AWS");
            integration.tell("IntegrationUri", format!("{why}; write a component that does it"));
            integration.text("IntegrationMethod");
            done_with(integration, &["RequestParameters", "RequestTemplates", "TimeoutInMillis"]);
            (id.clone(), missing_component(&id, &why))
        }
        Called::Other => {
            let why = format!("found {uri:?}, expected the URI of a function or of a service of AWS");
            integration.tell("IntegrationUri", format!("{why}; write a component that does it"));
            (id.clone(), missing_component(&id, &why))
        }
    }
}

/// What belongs to a call that a component makes now is told with it.
fn done_with(integration: &Properties<'_, '_>, keys: &[&str]) {
    for key in keys.iter().filter(|key| integration.get(key).is_some()) {
        integration.tell(key, "it is of the call that a component has to make");
    }
}

fn http(integration: &Properties<'_, '_>) -> Section {
    let url = integration.with_stage_variables("IntegrationUri").unwrap_or_default();
    let template = match UrlTemplate::parse(&url) {
        Ok(template) => template,
        Err(bad) => {
            let why = format!("found {}, expected {}", bad.found.unwrap_or(url), bad.expected);
            integration.tell("IntegrationUri", format!("{why}; write an integration that is one"));
            return missing_component(&integration.name, &why);
        }
    };
    let mut section = Section::default().with("type", Toml::text("http")).with("url", Toml::text(&url));
    match integration.known("IntegrationMethod") {
        Some(method) if method == "POST" => {}
        Some(method) if METHODS.contains(&method.as_str()) => section.set("method", Toml::text(method)),
        Some(method) => {
            integration.tell(
                "IntegrationMethod",
                format!("found {method}, expected one of {}; it is POST", METHODS.join(", ")),
            );
        }
        None => {}
    }
    if let Some(kind) = integration.known("ConnectionType")
        && kind != "INTERNET"
    {
        integration.tell("ConnectionType", format!("found {kind}: the URL is asked as it is, with no link between"));
    }
    let parameters = request_parameters(integration, &template);
    if !parameters.is_empty() {
        section.set("request_parameters", Toml::Section(parameters));
    }
    section
}

fn request_parameters(integration: &Properties<'_, '_>, url: &UrlTemplate) -> Vec<(String, Toml)> {
    let table = integration.below("RequestParameters");
    let mut taken: Vec<RequestParameter> = Vec::new();
    let mut entries = Vec::new();
    for (target, _) in table.all() {
        let Some(source) = table.known(target) else { continue };
        let parsed = Target::parse(target).and_then(|to| Ok(RequestParameter { to, from: Source::parse(&source)? }));
        let why = match parsed {
            Err(bad) => format!("found {}, expected {}", bad.found.unwrap_or_else(|| source.clone()), bad.expected),
            Ok(parameter) if taken.iter().any(|other| other.to == parameter.to) => "the same header twice".to_owned(),
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
        table.tell(target, format!("{why}; it is left out"));
    }
    for name in url.path_parameters() {
        if !taken.iter().any(|parameter| matches!(&parameter.to, Target::Path(path) if **path == *name)) {
            let source = format!("route.request.body.{name}");
            integration.tell("IntegrationUri", format!("nothing is mapped to {{{name}}}; it is {source} now"));
            entries.push((format!("integration.request.path.{name}"), Toml::text(source)));
        }
    }
    entries
}

/// Only what passes the message on has a counterpart.
fn request_template(integration: &Properties<'_, '_>, is_proxy: bool) {
    for (key, _) in integration.entries("RequestTemplates") {
        let table = integration.below("RequestTemplates");
        let Some(template) = table.known(key) else { continue };
        match template.trim() {
            _ if is_proxy => table.tell(key, "a proxy is sent the event as it is"),
            "$input.body" | "$input.json('$')" | "$input.json(\"$\")" => {}
            _ => table.tell(key, "the message is sent as it is; what makes another one of it is a component's work"),
        }
    }
}

/// A duration in milliseconds as a manifest has it; `None` for the default.
pub fn timeout(properties: &Properties<'_, '_>, key: &str) -> Option<Toml> {
    let milliseconds = properties.number(key)?;
    if !(50.0..=29_000.0).contains(&milliseconds) || milliseconds.fract() != 0.0 {
        properties.tell(key, format!("found {milliseconds}, expected 50 to 29000 milliseconds; it is 29 s"));
        return None;
    }
    let milliseconds = milliseconds as u64;
    let text = match milliseconds % 1000 {
        0 => format!("{}s", milliseconds / 1000),
        _ => format!("{milliseconds}ms"),
    };
    (milliseconds != 29_000).then(|| Toml::text(text))
}

fn mock<'r, 't>(integration: &Properties<'r, 't>, own: Vec<Properties<'r, 't>>) -> Section {
    let mut section = Section::default().with("type", Toml::text("mock"));
    let status = mock_status(integration);
    if status != 200 {
        section.set("status", Toml::Number(f64::from(status)));
    }
    let key = |response: &Properties<'_, '_>| response.known("IntegrationResponseKey").unwrap_or_default();
    let chosen = own.iter().position(|response| responses::selects(&key(response), status));
    let chosen = chosen.or_else(|| own.iter().position(|response| key(response) == "$default"));
    if !own.is_empty() && chosen.is_none() {
        integration.resolver.report.tell(
            integration.line,
            &integration.name,
            format!("no IntegrationResponse is for {status}"),
        );
    }
    for (index, response) in own.iter().enumerate() {
        if Some(index) == chosen {
            section.entries.extend(answer(response, TemplateKind::Event).entries);
        } else {
            response.tell_all(format!("a mock answers one thing: that for {status}"));
        }
    }
    section
}

/// What the request template of a mock says: `{"statusCode": 200}`.
fn mock_status(integration: &Properties<'_, '_>) -> u16 {
    const DEFAULT: u16 = 200;
    let table = integration.below("RequestTemplates");
    let mut status = None;
    for (key, _) in table.all() {
        let Some(template) = table.known(key) else { continue };
        let json: Option<serde_json::Value> = serde_json::from_str(&template).ok();
        let found = json.as_ref().and_then(|json| json.get("statusCode")?.as_u64());
        let found = found.and_then(|found| u16::try_from(found).ok()).filter(|found| (200..=599).contains(found));
        match found {
            Some(found) if status.is_none() => status = Some(found),
            Some(_) => table.tell(key, "a mock answers one thing: that of its first template"),
            None => {
                table.tell(key, format!("expected {{\"statusCode\": 200}} or another from 200 to 599; it is {DEFAULT}"))
            }
        }
    }
    if table.all().len() < 2 {
        // Whichever it selects, there is no other.
        integration.text("TemplateSelectionExpression");
    }
    status.unwrap_or(DEFAULT)
}

/// `responses` of an integration that is no proxy.
fn answers<'r, 't>(integration: &Properties<'r, 't>, own: Vec<Properties<'r, 't>>) -> Toml {
    let mut entries: Vec<(String, Toml)> = Vec::new();
    for response in own {
        let key = response.known("IntegrationResponseKey").unwrap_or_else(|| "$default".to_owned());
        let wrong = responses::check_key(&key).err();
        let wrong = wrong.or_else(|| entries.iter().any(|(other, _)| *other == key).then(|| format!("{key} twice")));
        if let Some(wrong) = wrong {
            response.tell_all(wrong);
            continue;
        }
        let answer = answer(&response, TemplateKind::Response);
        entries.push((key, Toml::Table(answer.entries)));
    }
    if entries.is_empty() {
        let reason =
            "found no IntegrationResponse, without which API Gateway answers nothing; here all is passed through";
        integration.resolver.report.tell(integration.line, &integration.name, reason);
        entries.push(("$default".to_owned(), Toml::Table(Vec::new())));
    }
    Toml::Section(entries)
}

fn answer(properties: &Properties<'_, '_>, kind: TemplateKind) -> Response {
    properties.text("IntegrationResponseKey");
    let mut response = Response::default();
    let templates = properties.below("ResponseTemplates");
    let all = templates.all();
    let selected = properties.known("TemplateSelectionExpression").map(|expression| expression.replace(r"\$", "$"));
    let is_key = |key: &str| selected.as_deref().is_some_and(|selected| selected == key);
    let chosen = all.iter().find(|(key, _)| is_key(key)).or_else(|| all.iter().find(|(key, _)| *key == "$default"));
    // What API Gateway was never asked to select by is one template.
    let chosen = chosen.or(match (&all[..], &selected) {
        ([only], None) => Some(only),
        _ => None,
    });
    if let Some(selected) = selected.filter(|selected| selected.contains("${") || selected.starts_with("$request")) {
        let reason = format!("found {selected}: a response has one template here, that of $default");
        properties.tell("TemplateSelectionExpression", reason);
    }
    for (key, _) in &all {
        if chosen.is_none_or(|(chosen, _)| chosen != key) {
            templates.tell(key, "a response has one template here, that of $default");
        } else if let Some(template) = templates.known(key)
            && let Err(why) = response.body(&template, kind)
        {
            templates.tell(key, why);
        }
    }
    let parameters = properties.below("ResponseParameters");
    for (to, _) in parameters.all() {
        let Some(from) = parameters.known(to) else { continue };
        let is_literal = from.starts_with('\'');
        let taken = match kind == TemplateKind::Event && !is_literal {
            true => Err("a mock has no response to take it from".to_owned()),
            false => response.parameter(to, &from),
        };
        if let Err(why) = taken {
            parameters.tell(to, format!("{why}; it is left out"));
        }
    }
    response
}
