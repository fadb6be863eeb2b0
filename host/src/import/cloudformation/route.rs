//! `Route` and `RouteResponse`.

use super::properties::Properties;
use super::{ApiImport, authorizer};
use crate::gateway::{RouteKey, RouteSelectionExpression};
use crate::import::manifest::{ManifestRoute, missing_component};

pub fn import_routes<'r, 't>(import: &mut ApiImport<'r, 't>) {
    for route in import.resources_of_type("AWS::ApiGatewayV2::Route") {
        route.text("ApiId");
        let Some(key) = route.known_text("RouteKey") else {
            route.report_whole("omitted, because its RouteKey is unknown");
            continue;
        };
        let Some(integration) = is_valid_key(import, &route, &key).then(|| target(import, &route, &key)) else {
            continue;
        };
        let mut new_route = convert_route(import, &route, &key, integration);
        authorizer::set_route_authorizer(import, &route, &mut new_route);
        set_route_response(import, &route, &mut new_route, &route.name);
        import.manifest.routes.push(new_route);
    }
}

/// Checks that a route with this key can be added; if not, reports why.
pub fn is_valid_key(import: &ApiImport<'_, '_>, route: &Properties<'_, '_>, key: &str) -> bool {
    if let Err(bad) = RouteKey::parse(key) {
        route.report_whole(bad.to_string());
        return false;
    }
    if import.manifest.route(key).is_some() {
        route.report_whole(format!("the route {key} exists already"));
        return false;
    }
    true
}

/// Returns the name of the integration that `Target` names; a missing component if there is none.
fn target<'r, 't>(import: &mut ApiImport<'r, 't>, route: &Properties<'r, 't>, key: &str) -> String {
    let target = route.text("Target").map(|target| target.whole());
    let id = match &target {
        Some(Ok(target)) => target.strip_prefix("integrations/").unwrap_or(target),
        _ => "",
    };
    if let Some(name) = import.integrations.get(id) {
        return name.clone();
    }
    let problem = match target {
        Some(Ok(target)) => {
            format!("the route {key} has the target {target:?}, which is not an integration of this template")
        }
        Some(Err(unknown)) => format!("the target of the route {key} is unknown: {}", unknown.reason),
        None => format!("the route {key} has no target"),
    };
    route.report("Target", format!("{problem}; write a component, or set another integration"));
    import.manifest.add_integration(&route.name, missing_component(&route.name, &problem))
}

/// Imports the properties that a `Route` and an entry of SAM's `Routes` have in common.
pub fn convert_route<'r, 't>(
    import: &ApiImport<'r, 't>,
    route: &Properties<'r, 't>,
    key: &str,
    integration: String,
) -> ManifestRoute {
    let mut new_route = ManifestRoute {
        key: key.to_owned(),
        integration,
        route_response: false,
        models: Vec::new(),
        model_selection_expression: None,
        authorizer: None,
        api_key_required: false,
    };
    if route.flag("ApiKeyRequired") == Some(true) {
        match key {
            "$connect" => new_route.api_key_required = true,
            _ => route
                .report("ApiKeyRequired", "API keys are only checked when a connection is opened: set it on $connect"),
        }
    }
    let parameters = route.table("RequestParameters");
    for (name, node) in parameters.entries() {
        let required = parameters.table(name).flag("Required").unwrap_or(false);
        if required || node.scalar().is_some_and(|text| text == "true") {
            parameters.report(name, "required parameters are not checked; check it in the handler of $connect");
        }
    }
    set_models(import, route, &mut new_route);
    new_route
}

fn set_models<'r, 't>(import: &ApiImport<'r, 't>, route: &Properties<'r, 't>, new_route: &mut ManifestRoute) {
    let table = route.table("RequestModels");
    let expression = route.known_text("ModelSelectionExpression");
    for (key, _) in table.entries() {
        let Some(written) = table.known_text(key) else { continue };
        let problem = match import.models.get(&written) {
            _ if matches!(new_route.key.as_str(), "$connect" | "$disconnect") => "only messages have models".to_owned(),
            None => format!("this API has no model {written:?}; messages are not validated"),
            Some(_) if expression.is_none() && key != "$default" => {
                "it is never selected, because there is no ModelSelectionExpression".to_owned()
            }
            Some(name) => {
                new_route.models.push((key.to_owned(), name.clone()));
                continue;
            }
        };
        table.report(key, problem);
    }
    let Some(expression) = expression else { return };
    if new_route.models.is_empty() {
        route.report("ModelSelectionExpression", "there is no model that it could select");
    } else if let Err(bad) = RouteSelectionExpression::parse(&expression)
        && expression != "$default"
    {
        route.report("ModelSelectionExpression", format!("{bad}; the model of $default is used for all messages"));
        new_route.models.retain(|(key, _)| key == "$default");
    } else {
        new_route.model_selection_expression = Some(expression);
    }
}

/// Sets whether the response is sent to the peer. API Gateway requires a selection expression and a route response.
pub fn set_route_response<'r, 't>(
    import: &mut ApiImport<'r, 't>,
    route: &Properties<'r, 't>,
    new_route: &mut ManifestRoute,
    id: &str,
) {
    let responses = std::mem::take(&mut import.route_responses);
    let (own, others) = responses.into_iter().partition(|(owner, _)| owner.as_deref() == Some(id));
    import.route_responses = others;
    let mut own: Vec<Properties<'_, '_>> = own.into_iter().map(|(_, response)| response).collect();
    own.retain(|response| {
        let key = response.known_text("RouteResponseKey");
        if key.as_deref() != Some("$default") {
            response.report("RouteResponseKey", "expected $default; there is no other route response");
        }
        key.as_deref() == Some("$default")
    });
    let Some(expression) = route.known_text("RouteResponseSelectionExpression") else {
        for response in own {
            response.report_whole("it is never sent, because its route has no RouteResponseSelectionExpression");
        }
        return;
    };
    match expression.as_str() {
        _ if matches!(new_route.key.as_str(), "$connect" | "$disconnect") => {
            route.report("RouteResponseSelectionExpression", "only a message has a response");
        }
        "$default" | r"\$default" if !own.is_empty() => new_route.route_response = true,
        "$default" | r"\$default" => {
            let reason =
                "API Gateway sends no response without a RouteResponse; to send one, set route_response = true";
            route.report("RouteResponseSelectionExpression", reason);
        }
        other => route.report("RouteResponseSelectionExpression", format!("found {other:?}, expected $default")),
    }
}
