//! Policy documents of Lambda authorizers: evaluates whether a document allows `execute-api:Invoke` on an ARN.
//!
//! Pure. An explicit Deny wins, and an action that no statement allows is denied. A document with a part that cannot be
//! evaluated is an error: to ignore a condition, for example, could admit a peer that the condition excludes.

use serde_json::{Map, Value};

use crate::gateway::integration::json_kind;
use crate::json;

/// The action of a handshake.
const INVOKE: &str = "execute-api:Invoke";
/// Parts of an ARN; the last one is the resource, which may contain colons itself.
const ARN_PARTS: usize = 6;
/// Most statements, actions and resources of one policy in total. Its size in bytes is limited elsewhere.
const ITEMS_MAX: usize = 1024;

/// A document of which every part is understood.
#[derive(Debug, PartialEq)]
pub struct Policy {
    statements: Vec<Statement>,
}

#[derive(Debug, PartialEq)]
struct Statement {
    allows: bool,
    actions: Patterns,
    resources: Patterns,
}

/// The patterns of `Action` or `Resource`; with `negated`, those of `NotAction` or `NotResource`.
#[derive(Debug, PartialEq)]
struct Patterns {
    negated: bool,
    patterns: Vec<String>,
}

/// What is invalid in a document, and what was expected.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("its policyDocument has {found}, expected {expected}")]
pub struct BadPolicy {
    found: String,
    expected: &'static str,
}

impl Policy {
    /// Parses a document, given as an object or as a string that contains JSON, because some libraries send a string.
    pub fn parse(document: &Value) -> Result<Self, BadPolicy> {
        let parsed;
        let document = match document {
            Value::String(text) => {
                parsed = json::parse(text.as_bytes()).map_err(|_| bad("a string that is not JSON", "an object"))?;
                &parsed
            }
            document => document,
        };
        let Value::Object(document) = document else {
            return Err(bad(json_kind(document), "an object with a Statement"));
        };
        for (key, value) in document {
            match (&**key, value) {
                ("Version", Value::String(version)) if matches!(&**version, "2012-10-17" | "2008-10-17") => {}
                ("Version", _) => return Err(bad("an unknown Version", "\"2012-10-17\"")),
                ("Id", Value::String(_)) | ("Statement", _) => {}
                _ => return Err(bad(describe_key(key), "only Version, Id and Statement")),
            }
        }
        let statements = match document.get("Statement") {
            Some(Value::Array(statements)) => statements.iter().map(Statement::parse).collect::<Result<_, _>>()?,
            Some(statement @ Value::Object(_)) => vec![Statement::parse(statement)?],
            Some(other) => return Err(bad(format!("{} as its Statement", json_kind(other)), "a list of statements")),
            None => return Err(bad("no Statement", "one or more")),
        };
        let policy = Self { statements };
        let items = |patterns: &Patterns| patterns.patterns.len();
        let count: usize = policy.statements.iter().map(|one| 1 + items(&one.actions) + items(&one.resources)).sum();
        if count > ITEMS_MAX {
            return Err(bad(format!("{count} statements, actions and resources"), "at most 1024"));
        }
        Ok(policy)
    }

    /// Returns whether the policy allows a handshake to this ARN.
    pub fn allows(&self, method_arn: &str) -> bool {
        let any_matches = |allows| {
            self.statements.iter().any(|statement| statement.allows == allows && statement.matches(method_arn))
        };
        !any_matches(false) && any_matches(true)
    }
}

impl Statement {
    fn parse(statement: &Value) -> Result<Self, BadPolicy> {
        let Value::Object(statement) = statement else {
            return Err(bad(
                format!("{} as a statement", json_kind(statement)),
                "an object with Effect, Action and Resource",
            ));
        };
        const KNOWN: [&str; 6] = ["Sid", "Effect", "Action", "NotAction", "Resource", "NotResource"];
        match statement.keys().find(|key| !KNOWN.contains(&key.as_str())).map(String::as_str) {
            None => {}
            Some("Condition") => {
                return Err(bad("a Condition", "none, because conditions are not evaluated: decide in the authorizer"));
            }
            Some(key) => return Err(bad(describe_key(key), "only Sid, Effect, Action and Resource in a statement")),
        }
        let allows = match statement.get("Effect").and_then(Value::as_str) {
            Some("Allow") => true,
            Some("Deny") => false,
            _ => return Err(bad("a statement with an invalid Effect", "\"Allow\" or \"Deny\"")),
        };
        Ok(Self {
            allows,
            actions: Patterns::parse(statement, "Action", "NotAction")?,
            resources: Patterns::parse(statement, "Resource", "NotResource")?,
        })
    }

    fn matches(&self, method_arn: &str) -> bool {
        // Actions are case insensitive, ARNs are case sensitive.
        let is_invoke = |pattern: &str| matches(&pattern.to_ascii_lowercase(), &INVOKE.to_ascii_lowercase());
        self.actions.match_any(is_invoke) && self.resources.match_any(|pattern| matches_arn(pattern, method_arn))
    }
}

impl Patterns {
    /// Reads the patterns under `key` or under `negated_key`, of which a statement must have exactly one.
    fn parse(statement: &Map<String, Value>, key: &str, negated_key: &str) -> Result<Self, BadPolicy> {
        let (negated, value) = match (statement.get(key), statement.get(negated_key)) {
            (Some(value), None) => (false, value),
            (None, Some(value)) => (true, value),
            (None, None) => return Err(bad(format!("a statement without {key}"), "a string or a list of strings")),
            (Some(_), Some(_)) => {
                return Err(bad(format!("a statement with {key} and {negated_key}"), "only one of them"));
            }
        };
        let string = |value: &Value| value.as_str().map(str::to_owned);
        let patterns = match value {
            Value::String(pattern) => Some(vec![pattern.clone()]),
            Value::Array(patterns) if !patterns.is_empty() => patterns.iter().map(string).collect(),
            _ => None,
        };
        let invalid = || bad(format!("a statement with an invalid {key}"), "a string or a list of strings");
        Ok(Self { negated, patterns: patterns.ok_or_else(invalid)? })
    }

    /// Returns whether `is_match` is true for one of the patterns; if they are negated, whether it is true for none.
    fn match_any(&self, is_match: impl Fn(&str) -> bool) -> bool {
        self.patterns.iter().any(|pattern| is_match(pattern)) != self.negated
    }
}

/// Returns whether a pattern matches an ARN. Each part of the ARN is matched separately, so no wildcard matches a colon
/// between parts; parts that are missing at the end of the pattern match everything.
fn matches_arn(pattern: &str, arn: &str) -> bool {
    if pattern == "*" {
        return true;
    }
    let mut patterns = pattern.splitn(ARN_PARTS, ':');
    arn.splitn(ARN_PARTS, ':').all(|part| matches(patterns.next().unwrap_or("*"), part))
}

/// Returns whether `pattern` matches `text`; `*` matches any number of characters and `?` exactly one.
///
/// Takes at most time proportional to the product of both lengths, because only the last `*` is ever tried again.
fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
    let (mut at, mut next) = (0, 0);
    let mut star = None;
    while next < text.len() {
        match pattern.get(at) {
            Some('*') => {
                star = Some((at, next));
                at += 1;
            }
            Some(&expected) if expected == '?' || expected == text[next] => {
                at += 1;
                next += 1;
            }
            _ => match star {
                Some((star_at, taken)) => {
                    star = Some((star_at, taken + 1));
                    (at, next) = (star_at + 1, taken + 1);
                }
                None => return false,
            },
        }
    }
    pattern[at..].iter().all(|rest| *rest == '*')
}

/// Describes a key for the log. A key that is not part of the policy language may contain anything, so it is not
/// logged.
fn describe_key(key: &str) -> String {
    match key {
        "Principal" | "NotPrincipal" | "Condition" => format!("the key {key}"),
        _ => "an unknown key".to_owned(),
    }
}

fn bad(found: impl Into<String>, expected: &'static str) -> BadPolicy {
    BadPolicy { found: found.into(), expected }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const ARN: &str = "arn:aws:execute-api:us-east-1:123456789012:abcdef123/prod/$connect";

    fn statement(effect: &str, action: &str, resource: &str) -> Value {
        json!({ "Effect": effect, "Action": action, "Resource": resource })
    }

    fn allows(statements: Value) -> bool {
        Policy::parse(&json!({ "Version": "2012-10-17", "Statement": statements })).unwrap().allows(ARN)
    }

    #[test]
    fn the_parts_of_a_resource_are_matched_separately() {
        for (resource, allowed) in [
            (ARN, true),
            ("*", true),
            ("arn:aws:execute-api:us-east-1:123456789012:abcdef123/prod/*", true),
            ("arn:aws:execute-api:us-east-1:123456789012:abcdef123/*", true),
            ("arn:aws:execute-api:*:*:*", true),
            ("arn:aws:execute-api", true),
            ("arn:aws:execute-api:us-east-?:*:abcdef123/*/$connect", true),
            ("arn:aws:execute-api:us-east-1:123456789012:abcdef123/*/*/*", false),
            ("arn:aws:execute-api:us-east-1:123456789012:abcdef123/dev/$connect", false),
            ("arn:aws:execute-api:us-east-1:123456789012:abcdef123/prod/$CONNECT", false),
            ("arn:aws:execute-api:us-east-1:123456789012:abcdef123/prod/connect", false),
            ("arn:aws:execute-api:*:abcdef123/prod/$connect", false),
            ("arn:*/$connect", false),
            ("arn:aws:execute-api:us-east-1:123456789012:abcdef123/prod", false),
            ("", false),
        ] {
            assert_eq!(allows(json!([statement("Allow", "execute-api:Invoke", resource)])), allowed, "{resource}");
        }
    }

    #[test]
    fn an_action_is_case_insensitive_and_may_have_wildcards() {
        for (action, allowed) in [
            ("execute-api:Invoke", true),
            ("Execute-API:invoke", true),
            ("execute-api:*", true),
            ("*", true),
            ("execute-api:Inv?ke", true),
            ("execute-api:ManageConnections", false),
            ("execute-api:Invok", false),
            ("execute-api:InvokeX", false),
            ("lambda:Invoke", false),
        ] {
            assert_eq!(allows(json!([statement("Allow", action, "*")])), allowed, "{action}");
        }
    }

    #[test]
    fn a_deny_wins_and_an_action_that_no_statement_allows_is_denied() {
        let allow = statement("Allow", "execute-api:Invoke", "*");
        let deny = statement("Deny", "execute-api:Invoke", ARN);
        let other = statement("Deny", "execute-api:Invoke", "arn:aws:execute-api:*:*:other/*");
        for (statements, allowed) in [
            (json!([allow, deny]), false),
            (json!([deny, allow]), false),
            (json!([allow, other]), true),
            (json!([other]), false),
            (json!([]), false),
            (allow.clone(), true),
        ] {
            assert_eq!(allows(statements.clone()), allowed, "{statements}");
        }
    }

    #[test]
    fn lists_and_negated_keys_are_accepted() {
        let list = json!([{ "Sid": "x", "Effect": "Allow", "Action": ["a:b", "execute-api:Invoke"],
            "Resource": ["arn:aws:s3:::x", ARN] }]);
        assert!(allows(list));
        let with = |key: &str, value: &str| {
            let mut statement = json!({ "Effect": "Allow", "Action": "*", "Resource": "*" });
            statement.as_object_mut().unwrap().remove(key.trim_start_matches("Not"));
            statement[key] = json!(value);
            allows(json!([statement]))
        };
        assert!(with("NotAction", "execute-api:ManageConnections"));
        assert!(!with("NotAction", "execute-api:*"));
        assert!(with("NotResource", "arn:aws:execute-api:*:*:other/*"));
        assert!(!with("NotResource", ARN));
    }

    #[test]
    fn a_document_may_be_a_string_that_contains_json() {
        let text = json!({ "Statement": [statement("Allow", "*", "*")] }).to_string();
        assert!(Policy::parse(&Value::String(text)).unwrap().allows(ARN));
        assert!(Policy::parse(&json!("{")).is_err());
    }

    #[test]
    fn an_invalid_document_is_an_error_and_never_allows() {
        for (document, problem) in [
            (json!(null), "null, expected an object with a Statement"),
            (json!(5), "a number, expected an object with a Statement"),
            (json!({}), "no Statement, expected one or more"),
            (json!({ "Version": "2025-01-01", "Statement": [] }), "an unknown Version, expected \"2012-10-17\""),
            (json!({ "Statement": [], "\u{1b}[31m": 1 }), "an unknown key, expected only Version, Id and Statement"),
            (json!({ "Statement": "Allow" }), "a string as its Statement, expected a list of statements"),
            (
                json!({ "Statement": ["Allow"] }),
                "a string as a statement, expected an object with Effect, Action and Resource",
            ),
            (
                json!({ "Statement": [statement("allow", "*", "*")] }),
                "a statement with an invalid Effect, expected \"Allow\" or \"Deny\"",
            ),
            (
                json!({ "Statement": [{ "Effect": "Allow", "Resource": "*" }] }),
                "a statement without Action, expected a string or a list of strings",
            ),
            (
                json!({ "Statement": [{ "Effect": "Allow", "Action": "*", "Resource": [] }] }),
                "a statement with an invalid Resource, expected a string or a list of strings",
            ),
            (
                json!({ "Statement": [{ "Effect": "Allow", "Action": ["*", 1], "Resource": "*" }] }),
                "a statement with an invalid Action, expected a string or a list of strings",
            ),
            (
                json!({ "Statement": [{ "Effect": "Allow", "Action": "*", "NotAction": "x", "Resource": "*" }] }),
                "a statement with Action and NotAction, expected only one of them",
            ),
            (
                json!({ "Statement": [{ "Effect": "Allow", "Action": "*", "Resource": "*", "Condition": {} }] }),
                "a Condition, expected none, because conditions are not evaluated: decide in the authorizer",
            ),
            (
                json!({ "Statement": [{ "Effect": "Allow", "Action": "*", "Resource": "*", "Principal": "*" }] }),
                "the key Principal, expected only Sid, Effect, Action and Resource in a statement",
            ),
        ] {
            let error = Policy::parse(&document).unwrap_err();
            assert_eq!(error.to_string(), format!("its policyDocument has {problem}"), "{document}");
        }
    }

    #[test]
    fn a_pattern_with_many_stars_is_matched_in_less_than_a_second() {
        let pattern = "*a".repeat(2000);
        let text = "a".repeat(1999);
        let started = std::time::Instant::now();
        assert!(!matches(&pattern, &text) && matches(&pattern, &format!("{text}a")));
        assert!(started.elapsed() < std::time::Duration::from_secs(1));
    }
}
