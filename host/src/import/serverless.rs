//! A serverless.yml: the websocket events of its functions become routes.

use std::collections::BTreeSet;

use super::lambda;
use super::manifest::{Manifest, Route, Stage, missing_component};
use super::names;
use super::node::Node;
use super::report::Report;
use super::text::{Text, Unknown};
use super::toml::{Section, Toml};
use super::{Failed, Options};
use crate::gateway::access_log::Format;
use crate::gateway::{RouteKey, RouteSelectionExpression};

mod variables; // ${self:...} and its kin

use variables::Variables;

/// What an authorizer is given to look at where nothing is said.
const IDENTITY_SOURCE: &str = "route.request.header.Auth";
/// The format of access logs where none is written.
const LOG_FORMAT: &str = "$context.identity.sourceIp $context.identity.caller $context.identity.user \
    [$context.requestTime] \"$context.eventType $context.routeKey $context.connectionId\" $context.requestId";

pub fn import(template: &Node, options: &Options, report: &Report) -> Result<Manifest, Failed> {
    let variables = Variables::new(template, &options.parameters);
    let mut import = Import { template, variables, options, report, manifest: Manifest::default(), others: 0 };
    import.functions();
    if import.manifest.routes.is_empty() {
        return Err(Failed::new(
            "found no websocket event: expected one among the events of a function, such as - websocket: $connect",
        ));
    }
    import.api();
    import.stage();
    import.access_log();
    import.tell_the_rest();
    Ok(import.manifest)
}

struct Import<'t> {
    template: &'t Node,
    variables: Variables<'t>,
    options: &'t Options,
    report: &'t Report,
    manifest: Manifest,
    /// Events of other kinds.
    others: usize,
}

impl<'t> Import<'t> {
    fn functions(&mut self) {
        for (name, function) in self.function_entries() {
            let Some(events) = function.get("events") else { continue };
            let Some(events) = events.items() else {
                self.report.tell(
                    events.line,
                    format!("functions.{name}.events"),
                    "found no list, which only a deployment can resolve",
                );
                continue;
            };
            for (index, event) in events.iter().enumerate() {
                match event.get("websocket") {
                    Some(websocket) => {
                        let path = format!("functions.{name}.events[{index}].websocket");
                        self.event(name, &path, websocket);
                    }
                    None => self.others += 1,
                }
            }
        }
    }

    /// All functions: a table of them, or a list of tables.
    fn function_entries(&self) -> Vec<(&'t str, &'t Node)> {
        let Some(functions) = self.template.get("functions") else { return Vec::new() };
        let tables = functions.items().map_or_else(|| vec![functions], |items| items.iter().collect());
        let mut entries = Vec::new();
        for table in tables {
            if table.scalar().is_some() {
                self.report.tell(
                    table.line,
                    "functions",
                    "they stand in another file: put them here, and import again",
                );
            }
            entries.extend(table.entries().iter().map(|(name, function)| (name.as_str(), function)));
        }
        entries
    }

    fn event(&mut self, function: &str, path: &str, websocket: &'t Node) {
        let route = if websocket.scalar().is_some() { Some(websocket) } else { websocket.get("route") };
        let Some(route) = route else {
            websocket.done();
            self.report.tell(websocket.line, path, "found no route");
            return;
        };
        let Some(key) = self.known(route, path) else { return };
        if let Err(bad) = RouteKey::parse(&key) {
            websocket.done();
            self.report.tell(route.line, path, bad.to_string());
            return;
        }
        if self.manifest.route(&key).is_some() {
            websocket.done();
            self.report.tell(route.line, path, format!("there is a route {key} already"));
            return;
        }
        let section = lambda::section(&self.options.endpoint, &self.function_name(function, path));
        let integration = self.manifest.integration(function, section);
        let mut made = Route {
            key,
            integration,
            route_response: false,
            models: Vec::new(),
            model_selection_expression: None,
            authorizer: None,
            api_key_required: false,
        };
        self.answers(path, websocket, &mut made);
        if let Some(authorizer) = websocket.get("authorizer") {
            let path = format!("{path}.authorizer");
            if made.key == "$connect" {
                made.authorizer = Some(self.authorizer(&path, authorizer));
            } else {
                authorizer.done();
                self.report.tell(authorizer.line, path, "who is let in is asked when he connects: set it on $connect");
            }
        }
        self.manifest.routes.push(made);
        self.tell_unread(path, websocket);
    }

    fn answers(&self, path: &str, websocket: &'t Node, made: &mut Route) {
        let Some(node) = websocket.get("routeResponseSelectionExpression") else { return };
        let path = format!("{path}.routeResponseSelectionExpression");
        match self.known(node, &path).as_deref() {
            Some(_) if matches!(made.key.as_str(), "$connect" | "$disconnect") => {
                self.report.tell(node.line, path, "only a message has an answer");
            }
            Some("$default" | r"\$default") => made.route_response = true,
            Some(other) => self.report.tell(node.line, path, format!("found {other:?}, expected $default")),
            None => {}
        }
    }

    /// The name of the authorizer of `$connect` in the manifest.
    fn authorizer(&mut self, path: &str, node: &'t Node) -> String {
        let (function, line) = match (node.scalar(), node.get("arn"), node.get("name")) {
            (Some(_), ..) => (self.variables.text(node), node.line),
            (None, Some(arn), _) => (self.variables.text(arn), arn.line),
            (None, None, Some(name)) => (self.variables.text(name), name.line),
            (None, None, None) => (Text::unknown("authorizer", "found neither a name nor an arn"), node.line),
        };
        let (written, unknown) = function.with_stage_variables();
        self.tell_stage_variables(line, path, unknown);
        let own = self.function_entries().iter().any(|(name, _)| *name == written);
        let function = if own { self.function_name(&written, path) } else { lambda::name(&written).to_owned() };
        let allowed = |c: char| c.is_ascii_alphanumeric() || "-_:.${}".contains(c);
        let mut section = if !function.is_empty() && function.chars().all(allowed) {
            lambda::section(&self.options.endpoint, &function)
        } else {
            let why = format!("found {written:?}, expected the function of an authorizer");
            self.report.tell(line, path, format!("{why}; write an authorizer"));
            missing_component("authorizer", &why)
        };
        let sources = match node.get("identitySource") {
            None => vec![IDENTITY_SOURCE.to_owned()],
            Some(sources) => self.identity_sources(path, sources),
        };
        if !sources.is_empty() {
            section.set("identity_sources", Toml::List(sources.into_iter().map(Toml::Text).collect()));
        }
        // Beside an ARN it is a mere name.
        let called = node.get("name").filter(|_| node.get("arn").is_some()).and_then(|name| self.known(name, path));
        let name = names::name(&called.unwrap_or_else(|| lambda::name(&written).to_owned()));
        self.manifest.authorizers.push(Section { name: name.clone(), ..section });
        name
    }

    fn identity_sources(&self, path: &str, node: &'t Node) -> Vec<String> {
        let items = node.items().map_or_else(|| vec![node], |items| items.iter().collect());
        let mut sources = Vec::new();
        for item in items {
            match self.known(item, path) {
                Some(source) if super::is_identity_source(&source) => sources.push(source),
                Some(source) => {
                    let expected = super::IDENTITY_SOURCES;
                    self.report.tell(item.line, path, format!("found {source:?}, expected {expected}; it is left out"));
                }
                None => {}
            }
        }
        sources
    }

    /// What the function is called once it is deployed: `service-stage-function`, unless it has a name.
    fn function_name(&self, function: &str, path: &str) -> String {
        let own = self.function_entries().into_iter().find(|(name, _)| *name == function);
        if let Some(name) = own.and_then(|(_, function)| function.get("name")) {
            let (name, unknown) = self.variables.text(name).with_stage_variables();
            self.tell_stage_variables(own.map_or(0, |(_, node)| node.line), path, unknown);
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

    fn api(&mut self) {
        let mut section = Section::default();
        let written =
            self.provider("websocketsApiName").and_then(|node| self.known(node, "provider.websocketsApiName"));
        let written = written.unwrap_or_else(|| format!("{}-{}-websockets", self.variables.stage(), self.service()));
        let id = names::name(&written);
        if let Some(node) = self.provider("websocketsApiName").filter(|_| id != written) {
            let reason = format!("the API's id here is {id}: it has 1 to 128 characters of A-Z a-z 0-9 _ -");
            self.report.tell(node.line, "provider.websocketsApiName", reason);
        }
        section.set("id", Toml::text(id));
        if let Some(region) = self.provider("region").and_then(|node| self.known(node, "provider.region")) {
            section.set("region", Toml::text(names::name(&region)));
        }
        let path = "provider.websocketsApiRouteSelectionExpression";
        if let Some(node) = self.provider("websocketsApiRouteSelectionExpression")
            && let Some(expression) = self.known(node, path)
        {
            match RouteSelectionExpression::parse(&expression) {
                Ok(_) => section.set("route_selection_expression", Toml::text(expression)),
                Err(bad) => {
                    self.report.tell(node.line, path, format!("{bad}; $request.body.action is in its place"));
                }
            }
        }
        self.manifest.api = section;
    }

    fn stage(&mut self) {
        let written = self.variables.stage();
        let name = names::name(&written);
        if name != written {
            let line = self.provider("stage").map_or(0, |node| node.line);
            self.report.tell(line, "provider.stage", format!("its name here is {name}"));
        }
        let (variables, route_throttles) = (Vec::new(), Vec::new());
        self.manifest.stages.push(Stage { name, variables, base_path: None, throttle: None, route_throttles });
    }

    fn access_log(&mut self) {
        let Some(logs) = self.provider("logs").and_then(|logs| logs.get("websocket")) else { return };
        let flag = |node: Option<&Node>| node.and_then(Node::scalar).map(|text| text == "true");
        if flag(Some(logs)) == Some(false) || flag(logs.get("accessLogging")) == Some(false) {
            return;
        }
        let path = "provider.logs.websocket.format";
        let node = logs.get("format");
        let written = node.and_then(|node| self.known(node, path));
        let format = written.as_deref().map_or(LOG_FORMAT, str::trim_end);
        let mut section = Section::default();
        section.notes.push("Lines go to stdout; with file = \"access.log\" to files that rotate.".to_owned());
        match Format::parse(format) {
            Ok(_) => section.set("format", Toml::text(format)),
            Err(bad) => {
                let line = node.map_or(logs.line, |node| node.line);
                let reason = format!("found {}, expected {}; lines have the default format", bad.found, bad.expected);
                self.report.tell(line, path, reason);
            }
        }
        self.manifest.access_log = Some(section);
    }

    fn tell_the_rest(&self) {
        for name in self.variables.unused() {
            self.report.tell(0, format!("--parameter {name}"), "nothing that is imported has a variable of this name");
        }
        let provider = self.template.get("provider").map_or(&[][..], Node::entries);
        let mut others = BTreeSet::new();
        for (key, node) in provider {
            match key.as_str() {
                "name" | "stage" | "region" => {}
                "logs" => {
                    node.get("websocket").iter().for_each(|node| self.tell_unread("provider.logs.websocket", node))
                }
                "apiGateway" => {
                    node.get("websocketApiId").iter().for_each(|node| {
                        self.report.tell(node.line, "provider.apiGateway.websocketApiId", "there is no API elsewhere to join: its routes are served beside these once they are in one manifest");
                    });
                }
                key if key.starts_with("websocket") => self.tell_unread(&format!("provider.{key}"), node),
                key => {
                    others.insert(key);
                }
            }
        }
        if !others.is_empty() {
            let keys = others.into_iter().collect::<Vec<_>>().join(", ");
            self.report.tell(
                0,
                format!("provider: {keys}"),
                "they are of functions and of their deployment, which stay where they are",
            );
        }
        if self.others > 0 {
            let s = if self.others == 1 { "" } else { "s" };
            self.report.tell(
                0,
                format!("{} event{s} that are no websocket", self.others),
                "only WebSocket APIs are served here",
            );
        }
        for (id, node) in
            self.template.get("resources").and_then(|node| node.get("Resources")).map_or(&[][..], Node::entries)
        {
            let kind = node.get("Type").and_then(Node::scalar).unwrap_or_default();
            if kind.starts_with("AWS::ApiGatewayV2::") {
                let advice = "it is beside the events: import .serverless/cloudformation-template-update-stack.json, which \
                    `serverless package` writes";
                self.report.tell(node.line, format!("resources.Resources.{id}"), advice);
            }
        }
    }

    fn tell_unread(&self, path: &str, node: &Node) {
        let mut unread = Vec::new();
        node.unread(path, &mut unread);
        for (path, node) in unread {
            self.report.tell(node.line, &path, reason(&path));
        }
    }

    fn known(&self, node: &'t Node, path: &str) -> Option<String> {
        let text = self.variables.text(node).whole();
        text.map_err(|unknown| self.report.tell(node.line, path, format!("it is left out: {}", unknown.reason))).ok()
    }

    fn tell_stage_variables(&self, line: usize, path: &str, unknown: Vec<(String, Unknown)>) {
        for (name, unknown) in unknown {
            self.report.tell(line, path, format!("{}; set the stage variable {name} in its place", unknown.reason));
        }
    }
}

/// Why what nobody asked for has no counterpart.
fn reason(path: &str) -> &'static str {
    match path.rsplit('.').next().unwrap_or(path) {
        "websocketsDescription" => "nothing shows it; a comment can say it",
        "useProviderTags" | "websocket" if path.starts_with("provider.websocket") => {
            "tags are of the bill that nobody sends here"
        }
        "level" | "executionLogging" | "fullExecutionData" => {
            "what the log tells is chosen with RUST_LOG, and no message is in it"
        }
        "accessLogging" => "without [access_log] there is none",
        "roleManagedExternally" | "role" => "nothing needs a role to write a log",
        _ => "`jackfield import` does not know it; it is left out",
    }
}
