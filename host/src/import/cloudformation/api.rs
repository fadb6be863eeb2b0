//! `AWS::ApiGatewayV2::Api`, which becomes `[api]`.

use super::ApiImport;
use super::properties::Properties;
use crate::gateway::{ApiKeySource, RouteSelectionExpression};
use crate::import::names;
use crate::import::toml::{Toml, TomlSection};

/// The accepted expressions; the first is the default.
const API_KEY_SELECTION_EXPRESSIONS: [&str; 2] =
    ["$request.header.x-api-key", "$context.authorizer.usageIdentifierKey"];

/// Imports an `AWS::ApiGatewayV2::Api`, or SAM's `WebSocketApi`, which has the same properties.
pub fn import_api<'r, 't>(import: &mut ApiImport<'r, 't>, properties: &Properties<'r, 't>) {
    let mut section = TomlSection::default();
    let name = properties.known_text("Name").unwrap_or_else(|| properties.name.clone());
    let id = names::sanitize(&name);
    if id != name {
        properties
            .report("Name", format!("changed to {id}: the id of an API has 1 to 128 characters of A-Z a-z 0-9 _ -"));
    }
    section.set("id", Toml::text(id));
    if let Some(expression) = properties.known_text("RouteSelectionExpression") {
        match RouteSelectionExpression::parse(&expression) {
            Ok(_) => section.set("route_selection_expression", Toml::text(expression)),
            Err(bad) => properties
                .report("RouteSelectionExpression", format!("{bad}; the default $request.body.action is used")),
        }
    }
    if let Some(expression) = properties.known_text("ApiKeySelectionExpression") {
        match ApiKeySource::parse(&expression) {
            Some(ApiKeySource::Header) => {}
            Some(ApiKeySource::Authorizer) => section.set("api_key_selection_expression", Toml::text(expression)),
            None => {
                let expected = API_KEY_SELECTION_EXPRESSIONS.join(" or ");
                properties.report("ApiKeySelectionExpression", format!("found {expression}, expected {expected}"));
            }
        }
    }
    properties.text("ProtocolType");
    import.manifest.api = section;
}
