//! `[api]`: identity and defaults of the API, without its stages.

use toml::de::DeValue;

use super::api_key;
use super::profile::Profile;
use super::route;
use super::section::Section;
use super::value::{self, InvalidValue, NAME_LENGTH_MAX};
use crate::gateway::{ApiKeySource, Ordering, RouteSelectionExpression};

const DEFAULT_ID: &str = "local";
const DEFAULT_ACCOUNT_ID: &str = "000000000000";
const DEFAULT_REGION: &str = "us-east-1";
const DEFAULT_ROUTE_SELECTION_EXPRESSION: &str = "$request.body.action";

#[derive(Clone, Debug, PartialEq)]
pub struct Api {
    pub id: String,
    /// The account id in ARNs.
    pub account_id: String,
    /// The region in ARNs, and in signatures for Lambda.
    pub region: String,
    pub profile: Profile,
    /// Default of routes without an ordering of their own.
    pub ordering: Ordering,
    pub route_selection_expression: RouteSelectionExpression,
    /// Where a handshake carries its API key.
    pub api_key_source: ApiKeySource,
}

pub fn api(section: &mut Section<'_>) -> Api {
    let profile = section.read("profile", Profile::parse).unwrap_or_default();
    let name = |value| value::name(value, NAME_LENGTH_MAX);
    Api {
        id: section.read("id", name).unwrap_or(DEFAULT_ID).to_owned(),
        account_id: section.read("account_id", account_id).unwrap_or(DEFAULT_ACCOUNT_ID).to_owned(),
        profile,
        ordering: section.read("ordering", route::ordering).unwrap_or(profile.ordering()),
        api_key_source: section.read("api_key_selection_expression", api_key::source).unwrap_or_default(),
        region: section.read("region", name).unwrap_or(DEFAULT_REGION).to_owned(),
        route_selection_expression: section
            .read("route_selection_expression", value::selection_expression)
            .unwrap_or_else(|| {
                RouteSelectionExpression::parse(DEFAULT_ROUTE_SELECTION_EXPRESSION).expect("the default is valid")
            }),
    }
}

fn account_id<'m>(value: &'m DeValue<'m>) -> Result<&'m str, InvalidValue> {
    let id = value::string(value)?;
    if id.len() == 12 && id.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(id);
    }
    Err(InvalidValue::new("12 digits in quotes", ""))
}
