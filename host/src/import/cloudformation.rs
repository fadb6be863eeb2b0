//! CloudFormation and SAM: the resources of one WebSocket API become a manifest.
//!
//! This file chooses the API and whose resource is whose; what each kind says is in a file of its own.

use std::collections::{BTreeMap, BTreeSet};

use super::manifest::Manifest;
use super::node::Node;
use super::report::Report;
use super::{Failed, Options};

mod resolve; // functions: what a text comes to
mod conditions;
mod properties; // of one resource, read key by key

// Kind by kind, in the order of the manifest.
mod api;
mod stage;
mod integration;
mod route;
mod authorizer;
mod api_key;
mod model;
mod sam; // AWS::Serverless::WebSocketApi

mod reasons; // what has no counterpart, and why

use properties::Properties;
use resolve::Resolver;

const API: &str = "AWS::ApiGatewayV2::Api";
const SAM_API: &str = "AWS::Serverless::WebSocketApi";

/// What kinds of one API are handed on while they are read.
pub struct Import<'r, 't> {
    pub resolver: &'r Resolver<'t>,
    pub options: &'r Options,
    pub manifest: Manifest,
    resources: Vec<Resource<'t>>,
    api: &'t str,
    /// Names of integrations in the manifest, by logical ids; so for authorizers and models.
    pub integrations: BTreeMap<&'t str, String>,
    pub authorizers: BTreeMap<&'t str, String>,
    pub models: BTreeMap<String, String>,
    /// Logical ids of stages, and their names in the manifest.
    pub stages: BTreeMap<String, String>,
    /// Route responses of which no route was found yet, and the logical ids of theirs.
    pub route_responses: Vec<(Option<String>, Properties<'r, 't>)>,
}

struct Resource<'t> {
    id: &'t str,
    kind: &'t str,
    node: &'t Node,
}

/// The manifest of a template, and which API of which kind of template it is.
pub fn import(template: &Node, options: &Options, report: &Report) -> Result<(Manifest, String), Failed> {
    let resolver = Resolver::new(template, &options.parameters, report);
    let resources = resources(template, &resolver);
    let apis: Vec<_> = resources.iter().filter(|resource| is_websocket(&resolver, resource)).collect();
    let api = chosen(&apis, options.api.as_deref())?;
    let globals = template.get("Globals").and_then(|globals| globals.get("WebSocketApi"));
    let is_sam = template.get("Transform").is_some() || api.kind == SAM_API;
    let what = format!("a {} template, the API {}", if is_sam { "SAM" } else { "CloudFormation" }, api.id);

    let (id, layers) = (api.id, [api.node.get("Properties"), globals].into_iter().flatten().collect::<Vec<_>>());
    let sam = (api.kind == SAM_API).then(|| Properties::new(&resolver, id, api.node.line, layers));
    let mut import = Import {
        resolver: &resolver,
        options,
        manifest: Manifest::default(),
        resources,
        api: id,
        integrations: BTreeMap::new(),
        authorizers: BTreeMap::new(),
        models: BTreeMap::new(),
        stages: BTreeMap::new(),
        route_responses: Vec::new(),
    };
    import.tell_parameters(template);
    import.route_responses = import.by_owner("AWS::ApiGatewayV2::RouteResponse", "RouteId");
    match &sam {
        Some(properties) => api::api(&mut import, properties),
        None => import.each(API, api::api),
    }
    import.each("AWS::ApiGatewayV2::Deployment", |import, deployment| {
        deployment.text("ApiId");
        let reason = "there is nothing to do: a manifest that is saved is served";
        import.resolver.report.tell(deployment.line, &deployment.name, reason);
    });
    import.each("AWS::ApiGatewayV2::Stage", stage::stage);
    import.each("AWS::ApiGatewayV2::Model", model::model);
    import.each("AWS::ApiGatewayV2::Authorizer", authorizer::authorizer);
    integration::integrations(&mut import);
    route::routes(&mut import);
    if let Some(properties) = &sam {
        sam::api(&mut import, properties);
    }
    for (_, response) in std::mem::take(&mut import.route_responses) {
        response.tell_all("of which route it is cannot be known, or there is none");
    }
    import.each("AWS::ApiGatewayV2::ApiMapping", stage::mapping);
    api_key::keys(&mut import);
    stage::settle(&mut import);
    import.tell_the_rest(globals.filter(|_| sam.is_some()));
    Ok((import.manifest, what))
}

impl<'r, 't> Import<'r, 't> {
    /// The resources of a kind that are of the API.
    pub fn of_kind(&self, kind: &str) -> Vec<Properties<'r, 't>> {
        let of_kind = self.resources.iter().filter(|resource| resource.kind == kind);
        let own = of_kind.filter(|resource| kind != API || resource.id == self.api);
        own.map(|resource| self.properties(resource)).filter(|properties| self.is_own(kind, properties)).collect()
    }

    /// The same, each with the logical id that stands under `key`.
    pub fn by_owner(&self, kind: &str, key: &str) -> Vec<(Option<String>, Properties<'r, 't>)> {
        let with_owner =
            |properties: Properties<'r, 't>| (properties.text(key).and_then(|owner| owner.whole().ok()), properties);
        self.of_kind(kind).into_iter().map(with_owner).collect()
    }

    /// Tells of values on the command line for parameters that are not there.
    fn tell_parameters(&self, template: &Node) {
        let parameters = template.get("Parameters");
        for name in self.options.parameters.keys() {
            if parameters.and_then(|parameters| parameters.get(name)).is_none() {
                self.resolver.report.tell(0, format!("--parameter {name}"), "the template has no such parameter");
            }
        }
    }

    fn each(&mut self, kind: &str, mut read: impl FnMut(&mut Self, &Properties<'r, 't>)) {
        for properties in self.of_kind(kind) {
            read(self, &properties);
        }
    }

    fn properties(&self, resource: &Resource<'t>) -> Properties<'r, 't> {
        let own = resource.node.get("Properties").into_iter().collect();
        Properties::new(self.resolver, resource.id, resource.node.line, own)
    }

    /// Whether a resource has the `ApiId` of this API; the API itself has none.
    fn is_own(&self, kind: &str, properties: &Properties<'r, 't>) -> bool {
        if !kind.starts_with("AWS::ApiGatewayV2::") || matches!(kind, API | "AWS::ApiGatewayV2::DomainName") {
            return true;
        }
        properties.text("ApiId").and_then(|id| id.whole().ok()).as_deref() == Some(self.api)
    }

    /// The logical id, for a kind whose resources are named by it.
    pub fn id_of(&self, name: &str) -> Option<&'t str> {
        self.resources.iter().find(|resource| resource.id == name).map(|resource| resource.id)
    }

    /// Whether a text names this API.
    pub fn is_this_api(&self, id: Option<&str>) -> bool {
        id == Some(self.api)
    }

    /// Tells what nobody asked for.
    fn tell_the_rest(&mut self, globals: Option<&'t Node>) {
        let mut outside: BTreeMap<&str, usize> = BTreeMap::new();
        let mut of_rest = 0;
        let mut of_others: BTreeMap<String, usize> = BTreeMap::new();
        for resource in &self.resources {
            let properties = self.properties(resource);
            match resource.kind {
                _ if resource.id == self.api => self.tell_unread(resource),
                API if is_websocket(self.resolver, resource) => {
                    properties.tell_all(format!("another API: import it with --api {}", resource.id));
                }
                API => properties.tell_all("an HTTP API; only WebSocket APIs are served here"),
                SAM_API => properties.tell_all(format!("another API: import it with --api {}", resource.id)),
                "AWS::ApiGatewayV2::DomainName" => {
                    properties
                        .tell_all("names and certificates are those of a proxy in front; see base_path of its mapping");
                }
                kind if kind.starts_with("AWS::ApiGatewayV2::") => self.tell_unread_or_owner(resource, &mut of_others),
                "AWS::ApiGateway::ApiKey" | "AWS::ApiGateway::UsagePlan" | "AWS::ApiGateway::UsagePlanKey" => {
                    self.tell_unread(resource);
                }
                "AWS::ApiGateway::RestApi" | "AWS::Serverless::Api" | "AWS::Serverless::HttpApi" => {
                    properties.tell_all("no WebSocket API; only those are served here");
                }
                kind if kind.starts_with("AWS::ApiGateway::") => of_rest += 1,
                "AWS::CloudFormation::Stack" | "AWS::Serverless::Application" => {
                    properties.tell_all("a template of its own: what it has of an API, its own import tells");
                }
                kind => *outside.entry(kind).or_default() += 1,
            }
        }
        if let Some(globals) = globals {
            self.tell_unread_of("Globals.WebSocketApi", SAM_API, globals);
        }
        let report = self.resolver.report;
        for (owner, count) in of_others {
            report.tell(0, format!("{} of {owner}", counted(count, "resource")), "they go with that API");
        }
        if of_rest > 0 {
            report.tell(
                0,
                format!("{} of REST APIs", counted(of_rest, "resource")),
                "only WebSocket APIs are served here",
            );
        }
        let count: usize = outside.values().sum();
        if count > 0 {
            let kinds = outside.keys().copied().collect::<Vec<_>>().join(", ");
            let reason = format!("they stay where they are ({kinds})");
            report.tell(0, format!("{} outside of API Gateway", counted(count, "resource")), reason);
        }
    }

    fn tell_unread_or_owner(&self, resource: &Resource<'t>, of_others: &mut BTreeMap<String, usize>) {
        let properties = self.properties(resource);
        match properties.text("ApiId").map(|id| id.whole()) {
            Some(Ok(owner)) if owner != self.api => {
                properties.get("ApiId").iter().for_each(|node| node.done());
                *of_others.entry(owner).or_default() += 1;
            }
            Some(Err(unknown)) => {
                properties.tell_all(format!("of which API it is cannot be known: {}", unknown.reason));
            }
            _ => self.tell_unread(resource),
        }
    }

    fn tell_unread(&self, resource: &Resource<'t>) {
        match resource.node.get("Properties") {
            Some(node) => self.tell_unread_of(resource.id, resource.kind, node),
            None => self.resolver.report.tell(resource.node.line, resource.id, reasons::reason(resource.kind, "")),
        }
    }

    fn tell_unread_of(&self, name: &str, kind: &str, node: &Node) {
        let mut unread = Vec::new();
        node.unread("", &mut unread);
        for (path, node) in unread {
            let what = if path.is_empty() { name.to_owned() } else { format!("{name}.{path}") };
            self.resolver.report.tell(node.line, what, reasons::reason(kind, &path));
        }
    }
}

/// All resources but those whose condition does not hold.
fn resources<'t>(template: &'t Node, resolver: &Resolver<'t>) -> Vec<Resource<'t>> {
    let mut all = Vec::new();
    for (id, node) in template.get("Resources").map_or(&[][..], Node::entries) {
        if id.starts_with("Fn::") {
            resolver.report.tell(
                node.line,
                id,
                "resources that are made by a loop or a macro: write them out, and import again",
            );
            continue;
        }
        let Some(kind) = node.get("Type").and_then(Node::scalar) else {
            resolver.report.tell(node.line, id, "found no Type");
            continue;
        };
        let is_of_api = kind.starts_with("AWS::ApiGateway") || kind == SAM_API;
        if let Some(condition) = node.get("Condition").and_then(Node::scalar).filter(|_| is_of_api) {
            match resolver.condition(condition) {
                Some(true) => {}
                Some(false) => {
                    let reason = format!("its condition {condition} is false with these parameters");
                    resolver.report.tell(node.line, id, reason);
                    continue;
                }
                None => {
                    let reason = format!("it is taken, though whether its condition {condition} holds is not known");
                    resolver.report.tell(node.line, id, reason);
                }
            }
        }
        all.push(Resource { id, kind, node });
    }
    all
}

fn is_websocket(resolver: &Resolver<'_>, resource: &Resource<'_>) -> bool {
    let Some(properties) = resource.node.get("Properties") else { return resource.kind == SAM_API };
    let protocol = || resolver.get(properties, "ProtocolType").and_then(|node| resolver.text(node).whole().ok());
    resource.kind == SAM_API || (resource.kind == API && protocol().as_deref() == Some("WEBSOCKET"))
}

fn chosen<'r, 't>(apis: &[&'r Resource<'t>], named: Option<&str>) -> Result<&'r Resource<'t>, Failed> {
    let ids = || apis.iter().map(|api| api.id).collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>().join(", ");
    match (apis, named) {
        ([], _) => Err(Failed::new(format!(
            "found no WebSocket API: expected a resource {API} with the ProtocolType WEBSOCKET, or {SAM_API}"
        ))),
        (apis, Some(named)) => apis
            .iter()
            .find(|api| api.id == named)
            .copied()
            .ok_or_else(|| Failed::new(format!("found no WebSocket API {named:?}; name one of these: {}", ids()))),
        ([api], None) => Ok(api),
        (_, None) => Err(Failed::new(format!(
            "found {} WebSocket APIs, and a manifest has one; name it with --api LOGICAL_ID: {}",
            apis.len(),
            ids()
        ))),
    }
}

fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}
