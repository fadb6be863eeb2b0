//! The response of a Lambda authorizer: a principal id, a policy document, and a context.
//!
//! Pure. A malformed response is an error; no part of it is used to admit a peer.

use serde_json::Value;
use serde_json::value::RawValue;

use crate::event::{Decision, Field, Grant};
use crate::gateway::authorizer::policy::Policy;
use crate::gateway::integration::function_failure;
use crate::json;

/// The error message with which a function reports that it cannot authenticate the peer.
const UNAUTHORIZED: &str = "Unauthorized";

/// Parses a response into the decision about a handshake to this ARN, and the API key that the function returned.
///
/// # Errors
/// The failure of the function, or what is malformed in its response; for the log.
pub fn parse(payload: &[u8], method_arn: &str) -> Result<(Decision, Option<String>), String> {
    let not_json = || "its response is not JSON; expected an object with principalId and policyDocument".to_owned();
    let response: Value = json::parse(payload).map_err(|_| not_json())?;
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
        Some(Value::Object(_)) => context(payload).map_err(|_| not_json())??,
        Some(_) => return Err("its context is not an object".to_owned()),
    };
    let document = response.get("policyDocument").ok_or("its response has no policyDocument")?;
    let policy = Policy::parse(document).map_err(|error| error.to_string())?;
    let decision =
        if policy.allows(method_arn) { Decision::Allow(Grant { principal_id, context }) } else { Decision::Deny };
    Ok((decision, usage_identifier_key))
}

/// Converts the context of a response: strings, numbers and booleans become strings, as in later events. Numbers stay as
/// they are written, so the context is read once more.
fn context(response: &[u8]) -> Result<Result<Vec<Field>, String>, serde_json::Error> {
    let response = json::without_lone_surrogates(response);
    let context = json::unique_members(&String::from_utf8_lossy(&response))?
        .into_iter()
        .find_map(|(name, value)| (name == "context").then(|| value.get().to_owned()));
    let field = |(name, value): (String, &RawValue)| {
        if value.get().starts_with(['n', '[', '{']) {
            let found = "its context has null, a list or an object; expected only strings, numbers and booleans";
            return Err(found.to_owned());
        }
        Ok((name, json::text(value.get(), ", ").into_owned()))
    };
    let members = context.as_deref().map(json::unique_members).transpose()?.unwrap_or_default();
    Ok(members.into_iter().map(field).collect())
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
    fn numbers_of_a_context_stay_as_they_are_written_and_half_of_a_surrogate_pair_is_replaced() {
        let response = response("Allow", json!({})).to_string();
        let context =
            r#"{"id":1,"n":12345678901234567890123,"big":1e400,"one":1.0,"id":2,"half":"\ud83d","\udc00":"x"}"#;
        let response = response.replace("\"context\":{}", &format!("\"context\":{{\"no\":1}},\"context\":{context}"));
        let (decision, _) = super::parse(response.replace("\"me\"", r#""me\ud83d""#).as_bytes(), ARN).unwrap();
        let Decision::Allow(Grant { principal_id, context }) = decision else { panic!("{decision:?}") };
        assert_eq!(principal_id, "me\u{fffd}");
        let context: Vec<_> = context.iter().map(|(name, value)| (&**name, &**value)).collect();
        let id = "12345678901234567890123";
        let (half, name) = (("half", "\u{fffd}"), ("\u{fffd}", "x"));
        assert_eq!(context, [("id", "2"), ("n", id), ("big", "1e400"), ("one", "1.0"), half, name]);
        let document = json!({ "Statement": [{ "Action": "*", "Effect": "Allow", "Resource": "*" }] });
        let document = document.to_string().replace("{\"Statement", r#"{"Id":"\ud83d","Statement"#);
        let as_string = json!({ "principalId": "me", "policyDocument": document });
        assert!(matches!(parse(&as_string), Ok((Decision::Allow(_), None))));
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
