//! Imports CloudFormation and SAM templates: the resources of one WebSocket API become a manifest.
//!
//! This file selects the API and its resources. Each type of resource has a file of its own.

use std::collections::{BTreeMap, BTreeSet};

use super::manifest::Manifest;
use super::node::Node;
use super::report::Findings;
use super::{ImportError, ImportOptions};

use properties::Properties;
use resolve::Resolver;

mod api;
mod api_key;
mod authorizer;
mod conditions;
mod integration;
mod model;
mod properties;
mod reasons;
mod resolve;
mod route;
mod sam;
mod stage;

const API: &str = "AWS::ApiGatewayV2::Api";
const SAM_API: &str = "AWS::Serverless::WebSocketApi";

/// The state of one import, which the modules of the resource types share.
pub struct ApiImport<'r, 't> {
    pub resolver: &'r Resolver<'t>,
    pub options: &'r ImportOptions,
    pub manifest: Manifest,
    resources: Vec<Resource<'t>>,
    api: &'t str,
    /// Logical ids of integrations, and their names in the manifest.
    pub integrations: BTreeMap<&'t str, String>,
    /// Logical ids of authorizers, and their names in the manifest.
    pub authorizers: BTreeMap<&'t str, String>,
    /// Names and logical ids of models, and their names in the manifest.
    pub models: BTreeMap<String, String>,
    /// Logical ids of stages, and their names in the manifest.
    pub stages: BTreeMap<String, String>,
    /// Route responses whose routes were not imported yet, each with the logical id of its route, if known.
    pub route_responses: Vec<(Option<String>, Properties<'r, 't>)>,
}

struct Resource<'t> {
    id: &'t str,
    kind: &'t str,
    node: &'t Node,
}

/// Imports a template. Returns the manifest, and a description of the template and its API.
///
/// # Errors
/// If the template has no WebSocket API, or if `options` do not select exactly one.
pub fn import(
    template: &Node,
    options: &ImportOptions,
    findings: &Findings,
) -> Result<(Manifest, String), ImportError> {
    let resolver = Resolver::new(template, &options.parameters, findings);
    let resources = resources(template, &resolver);
    let apis: Vec<_> = resources.iter().filter(|resource| is_websocket(&resolver, resource)).collect();
    let api = select_api(&apis, options.api.as_deref())?;
    let globals = template.get("Globals").and_then(|globals| globals.get("WebSocketApi"));
    let is_sam = template.get("Transform").is_some() || api.kind == SAM_API;
    let description = format!("a {} template, the API {}", if is_sam { "SAM" } else { "CloudFormation" }, api.id);

    let (id, layers) = (api.id, [api.node.get("Properties"), globals].into_iter().flatten().collect::<Vec<_>>());
    let sam = (api.kind == SAM_API).then(|| Properties::new(&resolver, id, api.node.line, layers));
    let mut import = ApiImport {
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
    import.report_unknown_parameters(template);
    import.route_responses = import.with_owners("AWS::ApiGatewayV2::RouteResponse", "RouteId");
    match &sam {
        Some(properties) => api::import_api(&mut import, properties),
        None => import.for_each(API, api::import_api),
    }
    import.for_each("AWS::ApiGatewayV2::Deployment", |import, deployment| {
        deployment.text("ApiId");
        let reason = "not needed: a saved manifest is deployed automatically";
        import.resolver.findings.add(deployment.line, &deployment.name, reason);
    });
    import.for_each("AWS::ApiGatewayV2::Stage", stage::import_stage);
    import.for_each("AWS::ApiGatewayV2::Model", model::import_model);
    import.for_each("AWS::ApiGatewayV2::Authorizer", authorizer::import_authorizer);
    integration::import_integrations(&mut import);
    route::import_routes(&mut import);
    if let Some(properties) = &sam {
        sam::import_sam_api(&mut import, properties);
    }
    for (_, response) in std::mem::take(&mut import.route_responses) {
        response.report_whole("the route of this response is unknown or does not exist");
    }
    import.for_each("AWS::ApiGatewayV2::ApiMapping", stage::import_api_mapping);
    api_key::import_api_keys(&mut import);
    stage::finish_stages(&mut import);
    import.report_unread_resources(globals.filter(|_| sam.is_some()));
    Ok((import.manifest, description))
}

impl<'r, 't> ApiImport<'r, 't> {
    /// Returns the resources of a type that belong to the API, or to no API.
    pub fn resources_of_type(&self, kind: &str) -> Vec<Properties<'r, 't>> {
        let same_type = self.resources.iter().filter(|resource| resource.kind == kind);
        let own = same_type.filter(|resource| kind != API || resource.id == self.api);
        own.map(|resource| self.properties(resource))
            .filter(|properties| self.belongs_to_api(kind, properties))
            .collect()
    }

    /// Returns the same, each with the logical id of its owner, which is the value of `key`.
    pub fn with_owners(&self, kind: &str, key: &str) -> Vec<(Option<String>, Properties<'r, 't>)> {
        let with_owner =
            |properties: Properties<'r, 't>| (properties.text(key).and_then(|owner| owner.whole().ok()), properties);
        self.resources_of_type(kind).into_iter().map(with_owner).collect()
    }

    /// Reports command-line parameters that the template does not have.
    fn report_unknown_parameters(&self, template: &Node) {
        let parameters = template.get("Parameters");
        for name in self.options.parameters.keys() {
            if parameters.and_then(|parameters| parameters.get(name)).is_none() {
                self.resolver.findings.add(0, format!("--parameter {name}"), "the template has no such parameter");
            }
        }
    }

    fn for_each(&mut self, kind: &str, mut read: impl FnMut(&mut Self, &Properties<'r, 't>)) {
        for properties in self.resources_of_type(kind) {
            read(self, &properties);
        }
    }

    fn properties(&self, resource: &Resource<'t>) -> Properties<'r, 't> {
        let own = resource.node.get("Properties").into_iter().collect();
        Properties::new(self.resolver, resource.id, resource.node.line, own)
    }

    /// Returns whether a resource has the `ApiId` of this API, or is of a type without `ApiId`, such as the API itself.
    fn belongs_to_api(&self, kind: &str, properties: &Properties<'r, 't>) -> bool {
        if !kind.starts_with("AWS::ApiGatewayV2::") || matches!(kind, API | "AWS::ApiGatewayV2::DomainName") {
            return true;
        }
        properties.text("ApiId").and_then(|id| id.whole().ok()).as_deref() == Some(self.api)
    }

    /// Returns the logical id `name` with the lifetime of the template; `None` if no resource has it.
    pub fn logical_id(&self, name: &str) -> Option<&'t str> {
        self.resources.iter().find(|resource| resource.id == name).map(|resource| resource.id)
    }

    /// Returns whether `id` is the logical id of this API.
    pub fn is_this_api(&self, id: Option<&str>) -> bool {
        id == Some(self.api)
    }

    /// Reports the resources and properties that were not read.
    fn report_unread_resources(&mut self, globals: Option<&'t Node>) {
        let mut outside: BTreeMap<&str, usize> = BTreeMap::new();
        let mut rest_count = 0;
        let mut other_api_counts: BTreeMap<String, usize> = BTreeMap::new();
        for resource in &self.resources {
            let properties = self.properties(resource);
            match resource.kind {
                _ if resource.id == self.api => self.report_unread(resource),
                API if is_websocket(self.resolver, resource) => {
                    properties.report_whole(format!("another WebSocket API; import it with --api {}", resource.id));
                }
                API => properties.report_whole("an HTTP API; only WebSocket APIs are supported"),
                SAM_API => {
                    properties.report_whole(format!("another WebSocket API; import it with --api {}", resource.id))
                }
                "AWS::ApiGatewayV2::DomainName" => {
                    let reason =
                        "domain names and certificates belong to a reverse proxy; paths are set with base_path";
                    properties.report_whole(reason);
                }
                kind if kind.starts_with("AWS::ApiGatewayV2::") => {
                    self.report_unread_or_count(resource, &mut other_api_counts)
                }
                "AWS::ApiGateway::ApiKey" | "AWS::ApiGateway::UsagePlan" | "AWS::ApiGateway::UsagePlanKey" => {
                    self.report_unread(resource);
                }
                "AWS::ApiGateway::RestApi" | "AWS::Serverless::Api" | "AWS::Serverless::HttpApi" => {
                    properties.report_whole("not a WebSocket API; only WebSocket APIs are supported");
                }
                kind if kind.starts_with("AWS::ApiGateway::") => rest_count += 1,
                "AWS::CloudFormation::Stack" | "AWS::Serverless::Application" => {
                    properties.report_whole("another template: import it separately if it has a WebSocket API");
                }
                kind => *outside.entry(kind).or_default() += 1,
            }
        }
        if let Some(globals) = globals {
            self.report_unread_properties("Globals.WebSocketApi", SAM_API, globals);
        }
        let findings = self.resolver.findings;
        for (owner, count) in other_api_counts {
            findings.add(
                0,
                format!("{} of {owner}", format_count(count, "resource")),
                "imported only together with that API",
            );
        }
        if rest_count > 0 {
            findings.add(
                0,
                format!("{} of REST APIs", format_count(rest_count, "resource")),
                "only WebSocket APIs are supported",
            );
        }
        let count: usize = outside.values().sum();
        if count > 0 {
            let kinds = outside.keys().copied().collect::<Vec<_>>().join(", ");
            let reason = format!("not imported; they do not change ({kinds})");
            findings.add(0, format!("{} outside of API Gateway", format_count(count, "resource")), reason);
        }
    }

    fn report_unread_or_count(&self, resource: &Resource<'t>, other_api_counts: &mut BTreeMap<String, usize>) {
        let properties = self.properties(resource);
        match properties.text("ApiId").map(|id| id.whole()) {
            Some(Ok(owner)) if owner != self.api => {
                properties.get("ApiId").iter().for_each(|node| node.mark_read());
                *other_api_counts.entry(owner).or_default() += 1;
            }
            Some(Err(unknown)) => {
                properties.report_whole(format!("the API of this resource is unknown: {}", unknown.reason));
            }
            _ => self.report_unread(resource),
        }
    }

    fn report_unread(&self, resource: &Resource<'t>) {
        match resource.node.get("Properties") {
            Some(node) => self.report_unread_properties(resource.id, resource.kind, node),
            None => self.resolver.findings.add(resource.node.line, resource.id, reasons::reason(resource.kind, "")),
        }
    }

    fn report_unread_properties(&self, name: &str, kind: &str, node: &Node) {
        let mut unread = Vec::new();
        node.unread("", &mut unread);
        for (path, node) in unread {
            let subject = if path.is_empty() { name.to_owned() } else { format!("{name}.{path}") };
            self.resolver.findings.add(node.line, subject, reasons::reason(kind, &path));
        }
    }
}

/// Returns all resources, except those whose condition is false.
fn resources<'t>(template: &'t Node, resolver: &Resolver<'t>) -> Vec<Resource<'t>> {
    let mut all = Vec::new();
    for (id, node) in template.get("Resources").map_or(&[][..], Node::entries) {
        if id.starts_with("Fn::") {
            resolver.findings.add(
                node.line,
                id,
                "resources created by a loop or a macro are not imported: write them out, and import again",
            );
            continue;
        }
        let Some(kind) = node.get("Type").and_then(Node::scalar) else {
            resolver.findings.add(node.line, id, "found no Type");
            continue;
        };
        let is_api_gateway = kind.starts_with("AWS::ApiGateway") || kind == SAM_API;
        if let Some(condition) = node.get("Condition").and_then(Node::scalar).filter(|_| is_api_gateway) {
            match resolver.condition(condition) {
                Some(true) => {}
                Some(false) => {
                    let reason = format!("omitted, because its condition {condition} is false with these parameters");
                    resolver.findings.add(node.line, id, reason);
                    continue;
                }
                None => {
                    let reason = format!("imported, although the value of its condition {condition} is unknown");
                    resolver.findings.add(node.line, id, reason);
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

/// Returns the API to import: the one that `named` selects, or else the only one.
fn select_api<'r, 't>(apis: &[&'r Resource<'t>], named: Option<&str>) -> Result<&'r Resource<'t>, ImportError> {
    let ids = || apis.iter().map(|api| api.id).collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>().join(", ");
    match (apis, named) {
        ([], _) => Err(ImportError::new(format!(
            "found no WebSocket API: expected a resource {API} with the ProtocolType WEBSOCKET, or {SAM_API}"
        ))),
        (apis, Some(named)) => apis.iter().find(|api| api.id == named).copied().ok_or_else(|| {
            ImportError::new(format!("found no WebSocket API {named:?}; select one of these: {}", ids()))
        }),
        ([api], None) => Ok(api),
        (_, None) => Err(ImportError::new(format!(
            "found {} WebSocket APIs, but a manifest has only one; select one with --api LOGICAL_ID: {}",
            apis.len(),
            ids()
        ))),
    }
}

fn format_count(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}
