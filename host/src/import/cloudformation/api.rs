//! `Api`: what `[api]` says.

use super::Import;
use super::properties::Properties;
use crate::gateway::RouteSelectionExpression;
use crate::import::names;
use crate::import::toml::{Section, Toml};

const API_KEY_SELECTION_EXPRESSIONS: [&str; 2] =
    ["$request.header.x-api-key", "$context.authorizer.usageIdentifierKey"];

/// Of an `AWS::ApiGatewayV2::Api`, or of SAM's `WebSocketApi`, which has the same properties.
pub fn api<'r, 't>(import: &mut Import<'r, 't>, properties: &Properties<'r, 't>) {
    let mut section = Section::default();
    let name = properties.known("Name").unwrap_or_else(|| properties.name.clone());
    let id = names::name(&name);
    if id != name {
        properties.tell("Name", format!("the API's id here is {id}: it has 1 to 128 characters of A-Z a-z 0-9 _ -"));
    }
    section.set("id", Toml::text(id));
    if let Some(expression) = properties.known("RouteSelectionExpression") {
        match RouteSelectionExpression::parse(&expression) {
            Ok(_) => section.set("route_selection_expression", Toml::text(expression)),
            Err(bad) => {
                properties.tell("RouteSelectionExpression", format!("{bad}; $request.body.action is in its place"))
            }
        }
    }
    if let Some(expression) = properties.known("ApiKeySelectionExpression") {
        match API_KEY_SELECTION_EXPRESSIONS.contains(&expression.as_str()) {
            // The first is the default.
            true if expression == API_KEY_SELECTION_EXPRESSIONS[0] => {}
            true => section.set("api_key_selection_expression", Toml::text(expression)),
            false => {
                let expected = API_KEY_SELECTION_EXPRESSIONS.join(" or ");
                properties.tell("ApiKeySelectionExpression", format!("found {expression}, expected {expected}"));
            }
        }
    }
    properties.text("ProtocolType");
    import.manifest.api = section;
}
