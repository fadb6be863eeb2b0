//! Policy documents, as Lambda authorizers answer them: whether one allows `execute-api:Invoke` on an ARN.
//!
//! Pure. An explicit Deny wins, and what no statement allows is denied. What cannot be evaluated is an
//! error, never an answer: a condition that was passed over could let somebody in.

use serde_json::{Map, Value};

use crate::gateway::integration::json_kind as kind;

/// The action that a handshake takes.
const INVOKE: &str = "execute-api:Invoke";
/// The colons of an ARN before its resource, which may have more of them.
const ARN_PARTS: usize = 6;
/// A policy has so many statements, actions and resources at most; its bytes are bounded anyway.
const ITEMS_MAX: usize = 1024;

/// A document, and nothing in it that is not understood.
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

/// `Action` and `Resource`, or with `except` what `NotAction` and `NotResource` leave over.
#[derive(Debug, PartialEq)]
struct Patterns {
    except: bool,
    patterns: Vec<String>,
}

/// What is wrong with a document, and what was expected.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("its policyDocument has {found}, expected {expected}")]
pub struct BadPolicy {
    found: String,
    expected: &'static str,
}

impl Policy {
    /// Reads a document whole; it is a document also as a text of JSON, as some libraries send it.
    pub fn parse(document: &Value) -> Result<Self, BadPolicy> {
        let of_text;
        let document = match document {
            Value::String(text) => {
                of_text = serde_json::from_str(text).map_err(|_| bad("a text that is no JSON", "an object"))?;
                &of_text
            }
            document => document,
        };
        let Value::Object(document) = document else { return Err(bad(kind(document), "an object with a Statement")) };
        for (key, value) in document {
            match (&**key, value) {
                ("Version", Value::String(version)) if matches!(&**version, "2012-10-17" | "2008-10-17") => {}
                ("Version", _) => return Err(bad("another Version", "\"2012-10-17\"")),
                ("Id", Value::String(_)) | ("Statement", _) => {}
                _ => return Err(bad(named(key), "Version, Id and Statement alone")),
            }
        }
        let statements = match document.get("Statement") {
            Some(Value::Array(statements)) => statements.iter().map(Statement::parse).collect::<Result<_, _>>()?,
            Some(statement @ Value::Object(_)) => vec![Statement::parse(statement)?],
            Some(other) => return Err(bad(format!("{} as its Statement", kind(other)), "a list of statements")),
            None => return Err(bad("no Statement", "one or more")),
        };
        let policy = Self { statements };
        let items = |patterns: &Patterns| patterns.patterns.len();
        let count: usize = policy.statements.iter().map(|of| 1 + items(&of.actions) + items(&of.resources)).sum();
        if count > ITEMS_MAX {
            return Err(bad(format!("{count} statements, actions and resources"), "at most 1024"));
        }
        Ok(policy)
    }

    /// Whether it lets a handshake to this ARN in.
    pub fn allows(&self, method_arn: &str) -> bool {
        let effect = |allows| {
            self.statements.iter().any(|statement| statement.allows == allows && statement.is_about(method_arn))
        };
        !effect(false) && effect(true)
    }
}

impl Statement {
    fn parse(statement: &Value) -> Result<Self, BadPolicy> {
        let Value::Object(statement) = statement else {
            return Err(bad(
                format!("{} as a statement", kind(statement)),
                "an object with Effect, Action and Resource",
            ));
        };
        const KNOWN: [&str; 6] = ["Sid", "Effect", "Action", "NotAction", "Resource", "NotResource"];
        match statement.keys().find(|key| !KNOWN.contains(&key.as_str())).map(String::as_str) {
            None => {}
            Some("Condition") => {
                return Err(bad("a Condition", "none, as it is not evaluated here: decide in the authorizer itself"));
            }
            Some(key) => return Err(bad(named(key), "Sid, Effect, Action and Resource alone in a statement")),
        }
        let allows = match statement.get("Effect").and_then(Value::as_str) {
            Some("Allow") => true,
            Some("Deny") => false,
            _ => return Err(bad("a statement with another Effect", "\"Allow\" or \"Deny\"")),
        };
        Ok(Self {
            allows,
            actions: Patterns::of(statement, "Action", "NotAction")?,
            resources: Patterns::of(statement, "Resource", "NotResource")?,
        })
    }

    fn is_about(&self, method_arn: &str) -> bool {
        // Actions are of any case, ARNs are not.
        let action = |pattern: &str| matches(&pattern.to_ascii_lowercase(), &INVOKE.to_ascii_lowercase());
        self.actions.take_in(action) && self.resources.take_in(|pattern| is_arn_of(pattern, method_arn))
    }
}

impl Patterns {
    fn of(statement: &Map<String, Value>, is: &str, is_not: &str) -> Result<Self, BadPolicy> {
        let (except, value) = match (statement.get(is), statement.get(is_not)) {
            (Some(value), None) => (false, value),
            (None, Some(value)) => (true, value),
            (None, None) => return Err(bad(format!("a statement without {is}"), "a text or a list of texts")),
            (Some(_), Some(_)) => return Err(bad(format!("a statement with {is} and {is_not}"), "one of them")),
        };
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let patterns = match value {
            Value::String(pattern) => Some(vec![pattern.clone()]),
            Value::Array(patterns) if !patterns.is_empty() => patterns.iter().map(text).collect(),
            _ => None,
        };
        let wrong = || bad(format!("a statement whose {is} is something else"), "a text or a list of texts");
        Ok(Self { except, patterns: patterns.ok_or_else(wrong)? })
    }

    fn take_in(&self, is: impl Fn(&str) -> bool) -> bool {
        self.patterns.iter().any(|pattern| is(pattern)) != self.except
    }
}

/// Each part of an ARN is matched by itself, so that no wildcard reaches over a colon; parts that are
/// missing at its end are any.
fn is_arn_of(pattern: &str, arn: &str) -> bool {
    if pattern == "*" {
        return true;
    }
    let mut patterns = pattern.splitn(ARN_PARTS, ':');
    arn.splitn(ARN_PARTS, ':').all(|part| matches(patterns.next().unwrap_or("*"), part))
}

/// Whether `*`, any number of characters, and `?`, one of them, make `text` of `pattern`. In the time of
/// one length times the other at worst: only the last `*` is ever tried again.
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

/// The key is somebody's own, and the log gets only a known one.
fn named(key: &str) -> String {
    match key {
        "Principal" | "NotPrincipal" | "Condition" => format!("the key {key}"),
        _ => "a key that is not known".to_owned(),
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
    fn a_resource_matches_part_by_part() {
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
    fn an_action_may_be_of_any_case_and_have_wildcards() {
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
    fn a_deny_wins_and_what_nobody_allows_is_denied() {
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
    fn lists_and_their_opposites_are_taken() {
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
    fn a_document_may_be_a_text() {
        let text = json!({ "Statement": [statement("Allow", "*", "*")] }).to_string();
        assert!(Policy::parse(&Value::String(text)).unwrap().allows(ARN));
        assert!(Policy::parse(&json!("{")).is_err());
    }

    #[test]
    fn nonsense_is_told_and_never_allows() {
        for (document, told) in [
            (json!(null), "null, expected an object with a Statement"),
            (json!(5), "a number, expected an object with a Statement"),
            (json!({}), "no Statement, expected one or more"),
            (json!({ "Version": "2025-01-01", "Statement": [] }), "another Version, expected \"2012-10-17\""),
            (
                json!({ "Statement": [], "\u{1b}[31m": 1 }),
                "a key that is not known, expected Version, Id and Statement alone",
            ),
            (json!({ "Statement": "Allow" }), "a text as its Statement, expected a list of statements"),
            (
                json!({ "Statement": ["Allow"] }),
                "a text as a statement, expected an object with Effect, Action and Resource",
            ),
            (
                json!({ "Statement": [statement("allow", "*", "*")] }),
                "a statement with another Effect, expected \"Allow\" or \"Deny\"",
            ),
            (
                json!({ "Statement": [{ "Effect": "Allow", "Resource": "*" }] }),
                "a statement without Action, expected a text or a list of texts",
            ),
            (
                json!({ "Statement": [{ "Effect": "Allow", "Action": "*", "Resource": [] }] }),
                "a statement whose Resource is something else, expected a text or a list of texts",
            ),
            (
                json!({ "Statement": [{ "Effect": "Allow", "Action": ["*", 1], "Resource": "*" }] }),
                "a statement whose Action is something else, expected a text or a list of texts",
            ),
            (
                json!({ "Statement": [{ "Effect": "Allow", "Action": "*", "NotAction": "x", "Resource": "*" }] }),
                "a statement with Action and NotAction, expected one of them",
            ),
            (
                json!({ "Statement": [{ "Effect": "Allow", "Action": "*", "Resource": "*", "Condition": {} }] }),
                "a Condition, expected none, as it is not evaluated here: decide in the authorizer itself",
            ),
            (
                json!({ "Statement": [{ "Effect": "Allow", "Action": "*", "Resource": "*", "Principal": "*" }] }),
                "the key Principal, expected Sid, Effect, Action and Resource alone in a statement",
            ),
        ] {
            let error = Policy::parse(&document).unwrap_err();
            assert_eq!(error.to_string(), format!("its policyDocument has {told}"), "{document}");
        }
    }

    #[test]
    fn a_pattern_of_many_stars_takes_no_time() {
        let pattern = "*a".repeat(2000);
        let text = "a".repeat(1999);
        let started = std::time::Instant::now();
        assert!(!matches(&pattern, &text) && matches(&pattern, &format!("{text}a")));
        assert!(started.elapsed() < std::time::Duration::from_secs(1));
    }
}
