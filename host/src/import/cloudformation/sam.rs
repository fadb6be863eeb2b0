//! SAM's `WebSocketApi`: an API with its routes, its stage and its authorizer in one resource.

use super::integration::timeout;
use super::properties::Properties;
use super::{ApiImport, authorizer, route, stage};
use crate::import::lambda::{self, UriTarget};
use crate::import::manifest::{ManifestRoute, missing_component};
use crate::import::names;
use crate::import::node::Node;
use crate::import::toml::{Toml, TomlSection};

pub fn import_sam_api<'r, 't>(import: &mut ApiImport<'r, 't>, properties: &Properties<'r, 't>) {
    let name = properties.known_text("StageName").unwrap_or_else(|| stage::SAM_DEFAULT_STAGE.to_owned());
    // The names by which templates refer to the stage that SAM generates.
    for id in [format!("{}{name}Stage", properties.name), format!("{}.Stage", properties.name)] {
        import.stages.insert(id, names::sanitize(&name));
    }
    stage::import_settings(import, properties, &name);
    let routes = properties.table("Routes");
    for (key, _) in routes.entries() {
        import_route(import, &routes.table(key), properties, key);
    }
    set_authorizer(import, &properties.table("Auth"));
    let domain = properties.table("Domain");
    if let Some(paths) = domain.get("BasePath").and_then(Node::items) {
        paths.iter().for_each(Node::mark_read);
        for path in domain.texts("BasePath") {
            stage::set_base_path(import, &domain, "BasePath", &names::sanitize(&name), &path);
        }
    } else if domain.get("DomainName").is_some() {
        stage::set_base_path(import, &domain, "DomainName", &names::sanitize(&name), "");
    }
}

fn import_route<'r, 't>(
    import: &mut ApiImport<'r, 't>,
    route: &Properties<'r, 't>,
    api: &Properties<'r, 't>,
    key: &str,
) {
    if !route::is_valid_key(import, route, key) {
        return;
    }
    let arn = route.with_stage_variables("FunctionArn").unwrap_or_default();
    let (name, mut section) = match lambda::parse_uri(&arn) {
        UriTarget::Function(function) => {
            let name = if function.contains('$') { key.to_owned() } else { function.clone() };
            (name, lambda::section(&import.options.endpoint, &function))
        }
        _ => {
            let problem = format!("found {arn:?} as the function of the route {key}");
            route.report("FunctionArn", format!("{problem}; write a component, or set a function"));
            (key.to_owned(), missing_component(key, &problem))
        }
    };
    if let Some(timeout) = timeout(route, "IntegrationTimeout") {
        section.set("timeout", timeout);
    }
    let integration = import.manifest.add_integration(&name, section);
    let mut new_route = route::convert_route(import, route, key, integration);
    let normalized: String = key.chars().filter(char::is_ascii_alphanumeric).collect();
    route::set_route_response(import, route, &mut new_route, &format!("{}{normalized}Route", api.name));
    import.manifest.routes.push(new_route);
}

/// Imports `Auth`: the authorizer of `$connect`.
fn set_authorizer<'r, 't>(import: &mut ApiImport<'r, 't>, auth: &Properties<'r, 't>) {
    let name = match auth.get("AuthType") {
        None => return,
        Some(_) => match auth.known_text("AuthType").as_deref() {
            Some("NONE") => return,
            Some("AWS_IAM") => authorizer::iam(import, auth, "AuthType"),
            Some("CUSTOM") => {
                let name = auth.known_text("Name").unwrap_or_else(|| "authorizer".to_owned());
                authorizer::add(import, &name, |import| authorizer::lambda(import, auth, "AuthArn", "IdentitySource"))
            }
            other => {
                let found = other.unwrap_or("an unknown value");
                let problem = format!("found {found}, expected NONE, AWS_IAM or CUSTOM");
                authorizer::missing_authorizer(import, auth, "AuthType", &problem)
            }
        },
    };
    match import.manifest.routes.iter_mut().find(|route| route.key == "$connect") {
        Some(connect) => connect.authorizer = Some(name),
        None => {
            // An authorizer needs a route.
            let mut mock = TomlSection::default().with("type", Toml::text("mock"));
            mock.notes.push("Accepts every connection that the authorizer of $connect accepts.".to_owned());
            let integration = import.manifest.add_integration("connect", mock);
            import.manifest.routes.push(ManifestRoute {
                key: "$connect".to_owned(),
                integration,
                route_response: false,
                models: Vec::new(),
                model_selection_expression: None,
                authorizer: Some(name),
                api_key_required: false,
            });
        }
    }
}
