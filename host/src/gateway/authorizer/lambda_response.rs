//! The response of a Lambda authorizer: a principal id, a policy document, and a context.
//!
//! Pure. A malformed response is an error; no part of it is used to admit a peer.

use serde_json::{Map, Value};

use crate::event::{Decision, Field, Grant};
use crate::gateway::authorizer::policy::Policy;
use crate::gateway::integration::function_failure;

/// The error message with which a function reports that it cannot authenticate the peer.
const UNAUTHORIZED: &str = "Unauthorized";

/// Parses a response into the decision about a handshake to this ARN, and the API key that the function returned.
///
/// # Errors
/// The failure of the function, or what is malformed in its response; for the log.
pub fn parse(payload: &[u8], method_arn: &str) -> Result<(Decision, Option<String>), String> {
    let response: Value = match serde_json::from_slice(payload) {
        Ok(response) => response,
        Err(_) => {
            return Err("its response is not JSON; expected an object with principalId and policyDocument".to_owned());
        }
    };
    let Value::Object(response) = response else {
        return Err("its response is not an object; expected one with principalId and policyDocument".to_owned());
    };
    if !response.contains_key("principalId") {
        if response.get("errorMessage").and_then(Value::as_str) == Some(UNAUTHORIZED) {
            return Ok((Decision::Unauthorized, None));
        }
        if let Some(failure) = function_failure(payload) {
            return Err(failure);
        }
    }
    let string = |key: &str| match response.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(_) => Err(format!("its {key} is not a string")),
    };
    let principal_id = string("principalId")?.filter(|id| !id.is_empty()).ok_or("its response has no principalId")?;
    let usage_identifier_key = string("usageIdentifierKey")?;
    let context = match response.get("context") {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::Object(context)) => fields(context)?,
        Some(_) => return Err("its context is not an object".to_owned()),
    };
    let document = response.get("policyDocument").ok_or("its response has no policyDocument")?;
    let policy = Policy::parse(document).map_err(|error| error.to_string())?;
    let decision =
        if policy.allows(method_arn) { Decision::Allow(Grant { principal_id, context }) } else { Decision::Deny };
    Ok((decision, usage_identifier_key))
}

/// Converts a context: strings, numbers and booleans become strings, as in later events.
fn fields(context: &Map<String, Value>) -> Result<Vec<Field>, String> {
    let field = |(name, value): (&String, &Value)| match value {
        Value::String(text) => Ok((name.clone(), text.clone())),
        Value::Number(_) | Value::Bool(_) => Ok((name.clone(), value.to_string())),
        Value::Null | Value::Array(_) | Value::Object(_) => {
            Err("its context has null, a list or an object; expected only strings, numbers and booleans".to_owned())
        }
    };
    context.iter().map(field).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const ARN: &str = "arn:aws:execute-api:us-east-1:123456789012:abcdef123/prod/$connect";

    fn response(effect: &str, context: Value) -> Value {
        json!({
            "principalId": "me",
            "policyDocument": {
                "Version": "2012-10-17",
                "Statement": [{ "Action": "execute-api:Invoke", "Effect": effect, "Resource": ARN }],
            },
            "context": context,
        })
    }

    fn parse(response: &Value) -> Result<(Decision, Option<String>), String> {
        super::parse(response.to_string().as_bytes(), ARN)
    }

    #[test]
    fn a_policy_that_allows_admits_the_peer_with_a_context_of_strings() {
        let mut allowed = response("Allow", json!({ "room": "a", "level": 5, "rate": 0.5, "admin": true }));
        let field = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let context = vec![field("room", "a"), field("level", "5"), field("rate", "0.5"), field("admin", "true")];
        let grant = Grant { principal_id: "me".to_owned(), context };
        assert_eq!(parse(&allowed), Ok((Decision::Allow(grant.clone()), None)));
        allowed["usageIdentifierKey"] = json!("a-key");
        assert_eq!(parse(&allowed), Ok((Decision::Allow(grant), Some("a-key".to_owned()))));
        assert_eq!(parse(&response("Deny", json!(null))), Ok((Decision::Deny, None)));
    }

    #[test]
    fn a_function_that_throws_unauthorized_does_not_authenticate_the_peer() {
        let thrown = |message: &str| json!({ "errorMessage": message, "errorType": "Error", "trace": [] });
        assert_eq!(parse(&thrown("Unauthorized")), Ok((Decision::Unauthorized, None)));
        assert_eq!(parse(&thrown("unauthorized")), Err("Error: unauthorized".to_owned()));
        assert_eq!(parse(&thrown("no")), Err("Error: no".to_owned()));
    }

    #[test]
    fn a_malformed_response_is_an_error() {
        let without = |key: &str| {
            let mut response = response("Allow", json!({}));
            response.as_object_mut().unwrap().remove(key);
            response
        };
        let with = |key: &str, value: Value| {
            let mut response = response("Allow", json!({}));
            response[key] = value;
            response
        };
        for (response, error) in [
            (json!("Unauthorized"), "its response is not an object; expected one with principalId and policyDocument"),
            (json!(null), "its response is not an object; expected one with principalId and policyDocument"),
            (json!({ "isAuthorized": true }), "its response has no principalId"),
            (without("principalId"), "its response has no principalId"),
            (without("policyDocument"), "its response has no policyDocument"),
            (with("principalId", json!("")), "its response has no principalId"),
            (with("principalId", json!(7)), "its principalId is not a string"),
            (with("usageIdentifierKey", json!(7)), "its usageIdentifierKey is not a string"),
            (with("context", json!([])), "its context is not an object"),
            (
                with("context", json!({ "a": { "b": 1 } })),
                "its context has null, a list or an object; expected only strings, numbers and booleans",
            ),
            (
                with("context", json!({ "a": null })),
                "its context has null, a list or an object; expected only strings, numbers and booleans",
            ),
            (
                with("policyDocument", json!("nonsense")),
                "its policyDocument has a string that is not JSON, expected an object",
            ),
        ] {
            assert_eq!(parse(&response), Err(error.to_owned()), "{response}");
        }
        let error = "its response is not JSON; expected an object with principalId and policyDocument";
        assert_eq!(super::parse(b"", ARN), Err(error.to_owned()));
    }
}
