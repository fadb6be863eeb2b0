//! `Route` and `RouteResponse`: what a message selects, and what its peer is answered.

use super::properties::Properties;
use super::{Import, authorizer};
use crate::gateway::{RouteKey, RouteSelectionExpression};
use crate::import::manifest::{Route, missing_component};

pub fn routes<'r, 't>(import: &mut Import<'r, 't>) {
    for route in import.of_kind("AWS::ApiGatewayV2::Route") {
        route.text("ApiId");
        let Some(key) = route.known("RouteKey") else {
            route.tell_all("its RouteKey is not known, so it is left out");
            continue;
        };
        let Some(integration) = key_is_good(import, &route, &key).then(|| target(import, &route, &key)) else {
            continue;
        };
        let mut made = settings(import, &route, &key, integration);
        authorizer::of_route(import, &route, &mut made);
        answers(import, &route, &mut made, &route.name);
        import.manifest.routes.push(made);
    }
}

/// Whether there can be such a route; if not, that is told.
pub fn key_is_good(import: &Import<'_, '_>, route: &Properties<'_, '_>, key: &str) -> bool {
    if let Err(bad) = RouteKey::parse(key) {
        route.tell_all(bad.to_string());
        return false;
    }
    if import.manifest.route(key).is_some() {
        route.tell_all(format!("there is a route {key} already"));
        return false;
    }
    true
}

/// The integration that `Target` names.
fn target<'r, 't>(import: &mut Import<'r, 't>, route: &Properties<'r, 't>, key: &str) -> String {
    let target = route.text("Target").map(|target| target.whole());
    let id = match &target {
        Some(Ok(target)) => target.strip_prefix("integrations/").unwrap_or(target),
        _ => "",
    };
    if let Some(name) = import.integrations.get(id) {
        return name.clone();
    }
    let why = match target {
        Some(Ok(target)) => {
            format!("the route {key} has the target {target:?}, which is no integration of this template")
        }
        Some(Err(unknown)) => format!("the target of the route {key} is not known: {}", unknown.reason),
        None => format!("the route {key} has no target"),
    };
    route.tell("Target", format!("{why}; write a component, or name another integration"));
    import.manifest.integration(&route.name, missing_component(&route.name, &why))
}

/// What a route says itself, of its own or in SAM's `Routes`.
pub fn settings<'r, 't>(import: &Import<'r, 't>, route: &Properties<'r, 't>, key: &str, integration: String) -> Route {
    let mut made = Route {
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
            "$connect" => made.api_key_required = true,
            _ => route.tell("ApiKeyRequired", "who connects has to show a key; set it on $connect"),
        }
    }
    let parameters = route.below("RequestParameters");
    for (name, node) in parameters.all() {
        let required = parameters.below(name).flag("Required").unwrap_or(false);
        if required || node.scalar().is_some_and(|text| text == "true") {
            parameters.tell(name, "that it must be there is not checked here; a handler of $connect can");
        }
    }
    models(import, route, &mut made);
    made
}

fn models<'r, 't>(import: &Import<'r, 't>, route: &Properties<'r, 't>, made: &mut Route) {
    let table = route.below("RequestModels");
    let expression = route.known("ModelSelectionExpression");
    for (key, _) in table.all() {
        let Some(written) = table.known(key) else { continue };
        let why = match import.models.get(&written) {
            _ if matches!(made.key.as_str(), "$connect" | "$disconnect") => "only messages have a model".to_owned(),
            None => format!("found no model {written:?} of this API, so messages are not held to it"),
            Some(_) if expression.is_none() && key != "$default" => {
                "nothing selects it without a ModelSelectionExpression".to_owned()
            }
            Some(name) => {
                made.models.push((key.to_owned(), name.clone()));
                continue;
            }
        };
        table.tell(key, why);
    }
    let Some(expression) = expression else { return };
    if made.models.is_empty() {
        route.tell("ModelSelectionExpression", "found without a model that it could select");
    } else if let Err(bad) = RouteSelectionExpression::parse(&expression)
        && expression != "$default"
    {
        route.tell("ModelSelectionExpression", format!("{bad}; the model of $default is for every message"));
        made.models.retain(|(key, _)| key == "$default");
    } else {
        made.model_selection_expression = Some(expression);
    }
}

/// Whether the peer gets an answer: API Gateway wants a selection expression and a route response.
pub fn answers<'r, 't>(import: &mut Import<'r, 't>, route: &Properties<'r, 't>, made: &mut Route, id: &str) {
    let responses = std::mem::take(&mut import.route_responses);
    let (own, others) = responses.into_iter().partition(|(owner, _)| owner.as_deref() == Some(id));
    import.route_responses = others;
    let mut own: Vec<Properties<'_, '_>> = own.into_iter().map(|(_, response)| response).collect();
    own.retain(|response| {
        let key = response.known("RouteResponseKey");
        if key.as_deref() != Some("$default") {
            response.tell("RouteResponseKey", "expected $default, the only one that there is");
        }
        key.as_deref() == Some("$default")
    });
    let Some(expression) = route.known("RouteResponseSelectionExpression") else {
        for response in own {
            response.tell_all("its route has no RouteResponseSelectionExpression, so it is never sent");
        }
        return;
    };
    match expression.as_str() {
        _ if matches!(made.key.as_str(), "$connect" | "$disconnect") => {
            route.tell("RouteResponseSelectionExpression", "only a message has an answer");
        }
        "$default" | r"\$default" if !own.is_empty() => made.route_response = true,
        "$default" | r"\$default" => {
            let reason =
                "found without a RouteResponse, so API Gateway sends none; for one write route_response = true";
            route.tell("RouteResponseSelectionExpression", reason);
        }
        other => route.tell("RouteResponseSelectionExpression", format!("found {other:?}, expected $default")),
    }
}
