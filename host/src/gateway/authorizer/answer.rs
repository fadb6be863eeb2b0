//! What a Lambda function answers that was asked who a peer is: a principal, a policy, and a context.
//!
//! Pure. Whatever is malformed is an error: nobody is let in by half of an answer.

use serde_json::{Map, Value};

use crate::event::{Decision, Field, Grant};
use crate::gateway::authorizer::policy::Policy;
use crate::gateway::integration::function_failure;

/// With this error message a function says that it does not know the peer.
const UNAUTHORIZED: &str = "Unauthorized";

/// What the function says of a handshake to this ARN, and the API key that it names for the peer.
///
/// # Errors
/// Its failure, or what is malformed; for the log.
pub fn read(payload: &[u8], method_arn: &str) -> Result<(Decision, Option<String>), String> {
    let answer: Value = match serde_json::from_slice(payload) {
        Ok(answer) => answer,
        Err(_) => return Err("it answered what is no JSON, expected a principalId and a policyDocument".to_owned()),
    };
    let Value::Object(answer) = answer else {
        return Err("it answered no object, expected one with a principalId and a policyDocument".to_owned());
    };
    if !answer.contains_key("principalId") {
        if answer.get("errorMessage").and_then(Value::as_str) == Some(UNAUTHORIZED) {
            return Ok((Decision::Unauthorized, None));
        }
        if let Some(failure) = function_failure(payload) {
            return Err(failure);
        }
    }
    let text = |key: &str| match answer.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(_) => Err(format!("its {key} is something else, expected a text")),
    };
    let principal_id = text("principalId")?.filter(|id| !id.is_empty()).ok_or("it answered no principalId")?;
    let usage_identifier_key = text("usageIdentifierKey")?;
    let context = match answer.get("context") {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::Object(context)) => fields(context)?,
        Some(_) => return Err("its context is something else, expected an object".to_owned()),
    };
    let document = answer.get("policyDocument").ok_or("it answered no policyDocument")?;
    let policy = Policy::parse(document).map_err(|error| error.to_string())?;
    let decision = match policy.allows(method_arn) {
        true => Decision::Allow(Grant { principal_id, context }),
        false => Decision::Deny,
    };
    Ok((decision, usage_identifier_key))
}

/// Texts, numbers and booleans as texts, as later events have them.
fn fields(context: &Map<String, Value>) -> Result<Vec<Field>, String> {
    let field = |(name, value): (&String, &Value)| match value {
        Value::String(text) => Ok((name.clone(), text.clone())),
        Value::Number(_) | Value::Bool(_) => Ok((name.clone(), value.to_string())),
        Value::Null | Value::Array(_) | Value::Object(_) => {
            Err("its context has null, a list or an object, expected texts, numbers and booleans".to_owned())
        }
    };
    context.iter().map(field).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const ARN: &str = "arn:aws:execute-api:us-east-1:123456789012:abcdef123/prod/$connect";

    fn answer(effect: &str, context: Value) -> Value {
        json!({
            "principalId": "me",
            "policyDocument": {
                "Version": "2012-10-17",
                "Statement": [{ "Action": "execute-api:Invoke", "Effect": effect, "Resource": ARN }],
            },
            "context": context,
        })
    }

    fn read(answer: &Value) -> Result<(Decision, Option<String>), String> {
        super::read(answer.to_string().as_bytes(), ARN)
    }

    #[test]
    fn a_policy_that_allows_lets_in_with_a_context_of_texts() {
        let mut allowed = answer("Allow", json!({ "room": "a", "level": 5, "rate": 0.5, "admin": true }));
        let field = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let context = vec![field("room", "a"), field("level", "5"), field("rate", "0.5"), field("admin", "true")];
        let grant = Grant { principal_id: "me".to_owned(), context };
        assert_eq!(read(&allowed), Ok((Decision::Allow(grant.clone()), None)));
        allowed["usageIdentifierKey"] = json!("a-key");
        assert_eq!(read(&allowed), Ok((Decision::Allow(grant), Some("a-key".to_owned()))));
        assert_eq!(read(&answer("Deny", json!(null))), Ok((Decision::Deny, None)));
    }

    #[test]
    fn a_function_that_throws_unauthorized_does_not_know_the_peer() {
        let thrown = |message: &str| json!({ "errorMessage": message, "errorType": "Error", "trace": [] });
        assert_eq!(read(&thrown("Unauthorized")), Ok((Decision::Unauthorized, None)));
        assert_eq!(read(&thrown("unauthorized")), Err("Error: unauthorized".to_owned()));
        assert_eq!(read(&thrown("no")), Err("Error: no".to_owned()));
    }

    #[test]
    fn what_is_malformed_lets_nobody_in() {
        let without = |key: &str| {
            let mut answer = answer("Allow", json!({}));
            answer.as_object_mut().unwrap().remove(key);
            answer
        };
        let with = |key: &str, value: Value| {
            let mut answer = answer("Allow", json!({}));
            answer[key] = value;
            answer
        };
        for (answer, told) in [
            (json!("Unauthorized"), "it answered no object, expected one with a principalId and a policyDocument"),
            (json!(null), "it answered no object, expected one with a principalId and a policyDocument"),
            (json!({ "isAuthorized": true }), "it answered no principalId"),
            (without("principalId"), "it answered no principalId"),
            (without("policyDocument"), "it answered no policyDocument"),
            (with("principalId", json!("")), "it answered no principalId"),
            (with("principalId", json!(7)), "its principalId is something else, expected a text"),
            (with("usageIdentifierKey", json!(7)), "its usageIdentifierKey is something else, expected a text"),
            (with("context", json!([])), "its context is something else, expected an object"),
            (
                with("context", json!({ "a": { "b": 1 } })),
                "its context has null, a list or an object, expected texts, numbers and booleans",
            ),
            (
                with("context", json!({ "a": null })),
                "its context has null, a list or an object, expected texts, numbers and booleans",
            ),
            (
                with("policyDocument", json!("nonsense")),
                "its policyDocument has a text that is no JSON, expected an object",
            ),
        ] {
            assert_eq!(read(&answer), Err(told.to_owned()), "{answer}");
        }
        let told = "it answered what is no JSON, expected a principalId and a policyDocument";
        assert_eq!(super::read(b"", ARN), Err(told.to_owned()));
    }
}
