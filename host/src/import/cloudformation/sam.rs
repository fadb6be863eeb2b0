//! SAM's `WebSocketApi`: an API with its routes, its stage and its authorizer in one resource.

use super::integration::timeout;
use super::properties::Properties;
use super::{Import, authorizer, route, stage};
use crate::import::lambda::{self, Called};
use crate::import::manifest::{Route, missing_component};
use crate::import::names;
use crate::import::node::Node;
use crate::import::toml::{Section, Toml};

pub fn api<'r, 't>(import: &mut Import<'r, 't>, properties: &Properties<'r, 't>) {
    let name = properties.known("StageName").unwrap_or_else(|| stage::SAM_STAGE.to_owned());
    // What refers to the stage calls it so.
    for id in [format!("{}{name}Stage", properties.name), format!("{}.Stage", properties.name)] {
        import.stages.insert(id, names::name(&name));
    }
    stage::settings(import, properties, &name);
    let routes = properties.below("Routes");
    for (key, _) in routes.all() {
        route(import, &routes.below(key), properties, key);
    }
    auth(import, &properties.below("Auth"));
    let domain = properties.below("Domain");
    if let Some(paths) = domain.get("BasePath").and_then(Node::items) {
        paths.iter().for_each(Node::done);
        for path in domain.texts("BasePath") {
            stage::map(import, &domain, "BasePath", &names::name(&name), &path);
        }
    } else if domain.get("DomainName").is_some() {
        stage::map(import, &domain, "DomainName", &names::name(&name), "");
    }
}

fn route<'r, 't>(import: &mut Import<'r, 't>, route: &Properties<'r, 't>, api: &Properties<'r, 't>, key: &str) {
    if !route::key_is_good(import, route, key) {
        return;
    }
    let arn = route.with_stage_variables("FunctionArn").unwrap_or_default();
    let (name, mut section) = match lambda::called(&arn) {
        Called::Function(function) => {
            let name = if function.contains('$') { key.to_owned() } else { function.clone() };
            (name, lambda::section(&import.options.endpoint, &function))
        }
        _ => {
            let why = format!("found {arn:?} as the function of the route {key}");
            route.tell("FunctionArn", format!("{why}; write a component, or name a function"));
            (key.to_owned(), missing_component(key, &why))
        }
    };
    if let Some(timeout) = timeout(route, "IntegrationTimeout") {
        section.set("timeout", timeout);
    }
    let integration = import.manifest.integration(&name, section);
    let mut made = route::settings(import, route, key, integration);
    let normalized: String = key.chars().filter(char::is_ascii_alphanumeric).collect();
    route::answers(import, route, &mut made, &format!("{}{normalized}Route", api.name));
    import.manifest.routes.push(made);
}

/// `Auth`: who is let in by `$connect`.
fn auth<'r, 't>(import: &mut Import<'r, 't>, auth: &Properties<'r, 't>) {
    let name = match auth.get("AuthType") {
        None => return,
        Some(_) => match auth.known("AuthType").as_deref() {
            Some("NONE") => return,
            Some("AWS_IAM") => authorizer::iam(import, auth, "AuthType"),
            Some("CUSTOM") => {
                let name = auth.known("Name").unwrap_or_else(|| "authorizer".to_owned());
                authorizer::add(import, &name, |import| authorizer::lambda(import, auth, "AuthArn", "IdentitySource"))
            }
            other => {
                let why = format!("found {}, expected NONE, AWS_IAM or CUSTOM", other.unwrap_or("what is not known"));
                authorizer::undecided(import, auth, "AuthType", &why)
            }
        },
    };
    match import.manifest.routes.iter_mut().find(|route| route.key == "$connect") {
        Some(connect) => connect.authorizer = Some(name),
        None => {
            // A route is what an authorizer stands on.
            let mut mock = Section::default().with("type", Toml::text("mock"));
            mock.notes.push("Lets in whom the authorizer of $connect lets in.".to_owned());
            let integration = import.manifest.integration("connect", mock);
            import.manifest.routes.push(Route {
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
