//! Imports a serverless.yml: the websocket events of its functions become routes.

use std::collections::BTreeSet;

use super::lambda;
use super::manifest::{Manifest, ManifestRoute, ManifestStage, missing_component};
use super::names;
use super::node::Node;
use super::report::Findings;
use super::text::{Text, Unknown};
use super::toml::{Toml, TomlSection};
use super::{ImportError, ImportOptions};
use crate::gateway::access_log::Format;
use crate::gateway::{RouteKey, RouteSelectionExpression};

use variables::Variables;

mod variables;

/// Default identity source of an authorizer.
const IDENTITY_SOURCE: &str = "route.request.header.Auth";
/// Default format of access logs.
const LOG_FORMAT: &str = "$context.identity.sourceIp $context.identity.caller $context.identity.user \
    [$context.requestTime] \"$context.eventType $context.routeKey $context.connectionId\" $context.requestId";

pub fn import(template: &Node, options: &ImportOptions, findings: &Findings) -> Result<Manifest, ImportError> {
    let variables = Variables::new(template, &options.parameters);
    let mut import =
        ServerlessImport { template, variables, options, findings, manifest: Manifest::default(), other_events: 0 };
    import.add_routes();
    if import.manifest.routes.is_empty() {
        return Err(ImportError::new(
            "found no websocket event: expected one among the events of a function, such as - websocket: $connect",
        ));
    }
    import.set_api();
    import.add_stage();
    import.set_access_log();
    import.report_unread_keys();
    Ok(import.manifest)
}

struct ServerlessImport<'t> {
    template: &'t Node,
    variables: Variables<'t>,
    options: &'t ImportOptions,
    findings: &'t Findings,
    manifest: Manifest,
    /// Number of events that are not websocket events.
    other_events: usize,
}

impl<'t> ServerlessImport<'t> {
    fn add_routes(&mut self) {
        for (name, function) in self.function_entries() {
            let Some(events) = function.get("events") else { continue };
            let Some(events) = events.items() else {
                self.findings.add(
                    events.line,
                    format!("functions.{name}.events"),
                    "found no list; a variable here is only resolved by a deployment",
                );
                continue;
            };
            for (index, event) in events.iter().enumerate() {
                match event.get("websocket") {
                    Some(websocket) => {
                        let path = format!("functions.{name}.events[{index}].websocket");
                        self.add_route(name, &path, websocket);
                    }
                    None => self.other_events += 1,
                }
            }
        }
    }

    /// Returns all functions. `functions` is a table, or a list of tables.
    fn function_entries(&self) -> Vec<(&'t str, &'t Node)> {
        let Some(functions) = self.template.get("functions") else { return Vec::new() };
        let tables = functions.items().map_or_else(|| vec![functions], |items| items.iter().collect());
        let mut entries = Vec::new();
        for table in tables {
            if table.scalar().is_some() {
                self.findings.add(
                    table.line,
                    "functions",
                    "the functions are in another file: move them into this one, and import again",
                );
            }
            entries.extend(table.entries().iter().map(|(name, function)| (name.as_str(), function)));
        }
        entries
    }

    fn add_route(&mut self, function: &str, path: &str, websocket: &'t Node) {
        let route = if websocket.scalar().is_some() { Some(websocket) } else { websocket.get("route") };
        let Some(route) = route else {
            websocket.mark_read();
            self.findings.add(websocket.line, path, "found no route");
            return;
        };
        let Some(key) = self.known_text(route, path) else { return };
        if let Err(bad) = RouteKey::parse(&key) {
            websocket.mark_read();
            self.findings.add(route.line, path, bad.to_string());
            return;
        }
        if self.manifest.route(&key).is_some() {
            websocket.mark_read();
            self.findings.add(route.line, path, format!("the route {key} exists already"));
            return;
        }
        let section = lambda::section(&self.options.endpoint, &self.function_name(function, path));
        let integration = self.manifest.add_integration(function, section);
        let mut new_route = ManifestRoute {
            key,
            integration,
            route_response: false,
            models: Vec::new(),
            model_selection_expression: None,
            authorizer: None,
            api_key_required: false,
        };
        self.set_route_response(path, websocket, &mut new_route);
        if let Some(authorizer) = websocket.get("authorizer") {
            let path = format!("{path}.authorizer");
            if new_route.key == "$connect" {
                new_route.authorizer = Some(self.authorizer(&path, authorizer));
            } else {
                authorizer.mark_read();
                self.findings.add(
                    authorizer.line,
                    path,
                    "connections are only authorized when they are opened: set it on $connect",
                );
            }
        }
        self.manifest.routes.push(new_route);
        self.report_unread(path, websocket);
    }

    fn set_route_response(&self, path: &str, websocket: &'t Node, new_route: &mut ManifestRoute) {
        let Some(node) = websocket.get("routeResponseSelectionExpression") else { return };
        let path = format!("{path}.routeResponseSelectionExpression");
        match self.known_text(node, &path).as_deref() {
            Some(_) if matches!(new_route.key.as_str(), "$connect" | "$disconnect") => {
                self.findings.add(node.line, path, "only a message has a response");
            }
            Some("$default" | r"\$default") => new_route.route_response = true,
            Some(other) => self.findings.add(node.line, path, format!("found {other:?}, expected $default")),
            None => {}
        }
    }

    /// Adds the authorizer of `$connect`, and returns its name in the manifest.
    fn authorizer(&mut self, path: &str, node: &'t Node) -> String {
        let (function, line) = match (node.scalar(), node.get("arn"), node.get("name")) {
            (Some(_), ..) => (self.variables.text(node), node.line),
            (None, Some(arn), _) => (self.variables.text(arn), arn.line),
            (None, None, Some(name)) => (self.variables.text(name), name.line),
            (None, None, None) => (Text::unknown("authorizer", "found neither a name nor an arn"), node.line),
        };
        let (written, unknown) = function.with_stage_variables();
        self.report_stage_variables(line, path, unknown);
        let is_own = self.function_entries().iter().any(|(name, _)| *name == written);
        let function =
            if is_own { self.function_name(&written, path) } else { lambda::function_name(&written).to_owned() };
        let allowed = |c: char| c.is_ascii_alphanumeric() || "-_:.${}".contains(c);
        let mut section = if !function.is_empty() && function.chars().all(allowed) {
            lambda::section(&self.options.endpoint, &function)
        } else {
            let problem = format!("found {written:?}, expected the function of an authorizer");
            self.findings.add(line, path, format!("{problem}; write a component that authorizes"));
            missing_component("authorizer", &problem)
        };
        let sources = match node.get("identitySource") {
            None => vec![IDENTITY_SOURCE.to_owned()],
            Some(sources) => self.identity_sources(path, sources),
        };
        if !sources.is_empty() {
            section.set("identity_sources", Toml::List(sources.into_iter().map(Toml::Text).collect()));
        }
        // With an `arn`, `name` is only the name of the authorizer; without, it names the function.
        let own_name =
            node.get("name").filter(|_| node.get("arn").is_some()).and_then(|name| self.known_text(name, path));
        let name = names::sanitize(&own_name.unwrap_or_else(|| lambda::function_name(&written).to_owned()));
        self.manifest.authorizers.push(TomlSection { name: name.clone(), ..section });
        name
    }

    fn identity_sources(&self, path: &str, node: &'t Node) -> Vec<String> {
        let items = node.items().map_or_else(|| vec![node], |items| items.iter().collect());
        let mut sources = Vec::new();
        for item in items {
            match self.known_text(item, path) {
                Some(source) if super::is_identity_source(&source) => sources.push(source),
                Some(source) => {
                    let expected = super::IDENTITY_SOURCES;
                    self.findings.add(item.line, path, format!("found {source:?}, expected {expected}; it is omitted"));
                }
                None => {}
            }
        }
        sources
    }

    /// Returns the name of the deployed function: its `name`, or else `service-stage-function`.
    fn function_name(&self, function: &str, path: &str) -> String {
        let own = self.function_entries().into_iter().find(|(name, _)| *name == function);
        if let Some(name) = own.and_then(|(_, function)| function.get("name")) {
            let (name, unknown) = self.variables.text(name).with_stage_variables();
            self.report_stage_variables(own.map_or(0, |(_, node)| node.line), path, unknown);
            return name;
        }
        format!("{}-{}-{function}", self.service(), self.variables.stage())
    }

    fn service(&self) -> String {
        let service = self.template.get("service");
        let name = service.and_then(|service| service.get("name")).or(service);
        let known = name.and_then(|name| self.variables.text(name).whole().ok());
        known.unwrap_or_else(|| "service".to_owned())
    }

    fn provider(&self, key: &str) -> Option<&'t Node> {
        self.template.get("provider")?.get(key)
    }

    fn set_api(&mut self) {
        let mut section = TomlSection::default();
        let written =
            self.provider("websocketsApiName").and_then(|node| self.known_text(node, "provider.websocketsApiName"));
        let written = written.unwrap_or_else(|| format!("{}-{}-websockets", self.variables.stage(), self.service()));
        let id = names::sanitize(&written);
        if let Some(node) = self.provider("websocketsApiName").filter(|_| id != written) {
            let reason = format!("changed to {id}: the id of an API has 1 to 128 characters of A-Z a-z 0-9 _ -");
            self.findings.add(node.line, "provider.websocketsApiName", reason);
        }
        section.set("id", Toml::text(id));
        if let Some(region) = self.provider("region").and_then(|node| self.known_text(node, "provider.region")) {
            section.set("region", Toml::text(names::sanitize(&region)));
        }
        let path = "provider.websocketsApiRouteSelectionExpression";
        if let Some(node) = self.provider("websocketsApiRouteSelectionExpression")
            && let Some(expression) = self.known_text(node, path)
        {
            match RouteSelectionExpression::parse(&expression) {
                Ok(_) => section.set("route_selection_expression", Toml::text(expression)),
                Err(bad) => {
                    self.findings.add(node.line, path, format!("{bad}; the default $request.body.action is used"));
                }
            }
        }
        self.manifest.api = section;
    }

    fn add_stage(&mut self) {
        let written = self.variables.stage();
        let name = names::sanitize(&written);
        if name != written {
            let line = self.provider("stage").map_or(0, |node| node.line);
            self.findings.add(
                line,
                "provider.stage",
                format!("renamed to {name}: a name has 1 to 128 characters of A-Z a-z 0-9 _ -"),
            );
        }
        let (variables, route_throttles) = (Vec::new(), Vec::new());
        self.manifest.stages.push(ManifestStage { name, variables, base_path: None, throttle: None, route_throttles });
    }

    fn set_access_log(&mut self) {
        let Some(logs) = self.provider("logs").and_then(|logs| logs.get("websocket")) else { return };
        let flag = |node: Option<&Node>| node.and_then(Node::scalar).map(|text| text == "true");
        if flag(Some(logs)) == Some(false) || flag(logs.get("accessLogging")) == Some(false) {
            return;
        }
        let path = "provider.logs.websocket.format";
        let node = logs.get("format");
        let written = node.and_then(|node| self.known_text(node, path));
        let format = written.as_deref().map_or(LOG_FORMAT, str::trim_end);
        let mut section = TomlSection::default();
        section.notes.push(
            "Lines are written to stdout. With file = \"access.log\" they are written to rotated files.".to_owned(),
        );
        match Format::parse(format) {
            Ok(_) => section.set("format", Toml::text(format)),
            Err(bad) => {
                let line = node.map_or(logs.line, |node| node.line);
                let reason = format!("found {}, expected {}; the default format is used", bad.found, bad.expected);
                self.findings.add(line, path, reason);
            }
        }
        self.manifest.access_log = Some(section);
    }

    fn report_unread_keys(&self) {
        for name in self.variables.unused() {
            self.findings.add(0, format!("--parameter {name}"), "no imported value uses a variable with this name");
        }
        let provider = self.template.get("provider").map_or(&[][..], Node::entries);
        let mut others = BTreeSet::new();
        for (key, node) in provider {
            match key.as_str() {
                "name" | "stage" | "region" => {}
                "logs" => {
                    node.get("websocket").iter().for_each(|node| self.report_unread("provider.logs.websocket", node))
                }
                "apiGateway" => {
                    node.get("websocketApiId").iter().for_each(|node| {
                        let reason =
                            "an API cannot be shared with another service: put the routes of both into one manifest";
                        self.findings.add(node.line, "provider.apiGateway.websocketApiId", reason);
                    });
                }
                key if key.starts_with("websocket") => self.report_unread(&format!("provider.{key}"), node),
                key => {
                    others.insert(key);
                }
            }
        }
        if !others.is_empty() {
            let keys = others.into_iter().collect::<Vec<_>>().join(", ");
            self.findings.add(
                0,
                format!("provider: {keys}"),
                "these keys are about functions and their deployment, which do not change",
            );
        }
        if self.other_events > 0 {
            let s = if self.other_events == 1 { "" } else { "s" };
            self.findings.add(
                0,
                format!("{} event{s} of other types", self.other_events),
                "only WebSocket APIs are supported",
            );
        }
        for (id, node) in
            self.template.get("resources").and_then(|node| node.get("Resources")).map_or(&[][..], Node::entries)
        {
            let kind = node.get("Type").and_then(Node::scalar).unwrap_or_default();
            if kind.starts_with("AWS::ApiGatewayV2::") {
                let advice = "resources outside of the events are not imported from a serverless.yml: import \
                    .serverless/cloudformation-template-update-stack.json, which `serverless package` writes";
                self.findings.add(node.line, format!("resources.Resources.{id}"), advice);
            }
        }
    }

    fn report_unread(&self, path: &str, node: &Node) {
        let mut unread = Vec::new();
        node.unread(path, &mut unread);
        for (path, node) in unread {
            self.findings.add(node.line, &path, reason(&path));
        }
    }

    fn known_text(&self, node: &'t Node, path: &str) -> Option<String> {
        let text = self.variables.text(node).whole();
        text.map_err(|unknown| self.findings.add(node.line, path, format!("it is omitted: {}", unknown.reason))).ok()
    }

    fn report_stage_variables(&self, line: usize, path: &str, unknown: Vec<(String, Unknown)>) {
        for (name, unknown) in unknown {
            self.findings.add(line, path, format!("{}; set the stage variable {name} instead", unknown.reason));
        }
    }
}

/// Returns why an unread key has no counterpart.
fn reason(path: &str) -> &'static str {
    match path.rsplit('.').next().unwrap_or(path) {
        "websocketsDescription" => "descriptions are not used; write a comment instead",
        "useProviderTags" | "websocket" if path.starts_with("provider.websocket") => {
            "tags are for AWS billing, which does not apply here"
        }
        "level" | "executionLogging" | "fullExecutionData" => {
            "the log level is set with RUST_LOG; messages are never logged"
        }
        "accessLogging" => "the access log is switched on and off by [access_log]",
        "roleManagedExternally" | "role" => "no role is needed to write a log",
        _ => "unknown to `jackfield import`; it is omitted",
    }
}
