//! `[management]` and `[access_keys]`: which callers can use `@connections`, and at which rate.

use std::collections::BTreeMap;
use std::env;
use std::ops::RangeInclusive;

use toml::de::DeValue;

use super::section::{Entry, Section};
use super::value::{self, HIDDEN, InvalidValue};
use crate::gateway::Signatures;
use crate::sigv4::{AccessKeys, Secret};
use crate::throttle::Rate;

/// AWS's limit for the id of an access key.
const ACCESS_KEY_LENGTH_MAX: usize = 128;
/// Shortest secret without a warning: a random one of this length cannot be guessed from a signature.
///
/// The secrets of AWS have 40 characters.
const SECRET_LENGTH_SAFE: usize = 20;
/// From one call in 100 seconds to more calls than one process can handle.
const RATES: RangeInclusive<f64> = 0.01..=1_000_000.0;
const BURSTS: RangeInclusive<usize> = 1..=1_000_000;

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Management {
    pub signatures: Signatures,
    /// Limits the calls of each caller; `None`: no limit.
    pub throttle: Option<Rate>,
    /// Whether the manifest has the section `[access_keys]`, with a valid key or not.
    pub has_access_keys: bool,
    /// Access keys by their ids.
    pub access_keys: BTreeMap<String, AccessKey>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct AccessKey {
    pub secret: Secret,
    /// The user that the key belongs to.
    pub user: String,
    /// Whether the key can sign `@connections` calls.
    pub may_manage: bool,
    /// Whether the key can sign a handshake.
    pub may_invoke: bool,
}

impl Management {
    /// Returns the access keys that `is_allowed` selects.
    pub fn keys(&self, is_allowed: impl Fn(&AccessKey) -> bool) -> AccessKeys {
        let keys = self.access_keys.iter().filter(|(_, key)| is_allowed(key));
        keys.map(|(id, key)| (id.clone(), key.secret.clone())).collect()
    }
}

pub fn management(section: Section<'_>, access_keys: &Section<'_>) -> Management {
    let (problems, signatures_span) = (section.problems, section.span_of("signatures"));
    let (signatures, throttle) = settings(section);
    let management = management_of(signatures, throttle, access_keys);
    if management.signatures == Signatures::Required && !management.access_keys.values().any(|key| key.may_manage) {
        let problem = "management.signatures: found \"required\" without an access key, so every call is rejected";
        problems.warning(signatures_span, problem.to_owned(), "add [access_keys.NAME]");
    }
    management
}

/// Reads `signatures` and `throttle` of `[management]`.
pub fn settings(mut section: Section<'_>) -> (Signatures, Option<Rate>) {
    let settings = (section.read("signatures", signatures).unwrap_or_default(), throttle(&mut section));
    section.finish();
    settings
}

/// Returns these settings together with the keys of `[access_keys]`.
pub fn management_of(signatures: Signatures, throttle: Option<Rate>, access_keys: &Section<'_>) -> Management {
    let has_access_keys = access_keys.exists();
    Management { signatures, throttle, has_access_keys, access_keys: self::access_keys(access_keys) }
}

fn signatures(value: &DeValue<'_>) -> Result<Signatures, InvalidValue> {
    match value.as_str() {
        Some("auto") => Ok(Signatures::Auto),
        Some("required") => Ok(Signatures::Required),
        Some("off") => Ok(Signatures::Off),
        _ => Err(InvalidValue::new("\"auto\", \"required\" or \"off\"", "")),
    }
}

/// Reads `{ rate = 100, burst = 200 }` or `"none"`.
fn throttle(section: &mut Section<'_>) -> Option<Rate> {
    let entry = section.entry("throttle")?;
    if entry.value.get_ref().as_str() == Some("none") {
        return None;
    }
    let name = section.name_of(entry.key);
    let invalid = InvalidValue::new("{ rate = 100, burst = 100 } or \"none\"", "");
    let mut table = section.table(&name, entry.key_span, entry.value, invalid)?;
    let rate = table.read_required("rate", rate);
    let burst = table.read_required("burst", value::count(BURSTS));
    table.finish();
    Rate::new(rate?, u32::try_from(burst?).ok()?)
}

fn rate(value: &DeValue<'_>) -> Result<f64, InvalidValue> {
    let number = match value {
        DeValue::Integer(number) => number.as_str().parse().ok().filter(|_| number.radix() == 10),
        DeValue::Float(number) => number.as_str().parse().ok(),
        _ => None,
    };
    let invalid = || {
        InvalidValue::new(format!("a number from {} to {}", RATES.start(), RATES.end()), "it is in calls per second")
    };
    number.filter(|rate| RATES.contains(rate)).ok_or_else(invalid)
}

/// Reads the access keys. A key whose section has an error is left out: without its invalid `actions` it could do more.
fn access_keys(section: &Section<'_>) -> BTreeMap<String, AccessKey> {
    let mut keys = BTreeMap::new();
    for entry in section.entries() {
        let errors_before = section.problems.error_count();
        if let Err(invalid) = value::check_name(ACCESS_KEY_LENGTH_MAX)(entry.key) {
            section.report_name(&entry, invalid);
        } else if let Some(key) = access_key(section, &entry)
            && section.problems.error_count() == errors_before
        {
            keys.insert(entry.key.to_owned(), key);
        }
    }
    keys
}

fn access_key(section: &Section<'_>, entry: &Entry<'_>) -> Option<AccessKey> {
    let name = section.name_of(entry.key);
    // An error does not show the value, because a user may have written the secret itself.
    let invalid = InvalidValue {
        found: Some(HIDDEN.to_owned()),
        expected: "a table".to_owned(),
        advice: format!("write [{name}] on a line of its own, and below it secret_env = \"VARIABLE\""),
    };
    let mut section = section.table(&name, entry.key_span.clone(), entry.value, invalid)?;
    let written = section.read("secret", written_secret);
    let from_environment = section.read("secret_env", secret_from_environment);
    let (has_secret, has_secret_env) = (section.contains("secret"), section.contains("secret_env"));
    if has_secret && has_secret_env {
        let problem = format!("{name}: found secret and secret_env, expected one of them");
        section.problems.error(section.span_of("secret_env"), problem, "remove one of the two");
    } else if !has_secret && !has_secret_env {
        let problem = format!("{name}: found no secret");
        let advice = "add secret_env = \"VARIABLE\", or secret = \"...\" if the manifest itself is kept secret";
        section.problems.error(section.span(), problem, advice);
    }
    let secret = written.or(from_environment);
    if secret.as_ref().is_some_and(|secret| secret.chars().count() < SECRET_LENGTH_SAFE) {
        let problem = format!("{name}: found a secret with fewer than {SECRET_LENGTH_SAFE} characters");
        let advice = "it could be guessed from a signature: use 40 random characters, as AWS does";
        section.problems.warning(section.span(), problem, advice);
    }
    let user = section.read("user", |user| value::name(user, ACCESS_KEY_LENGTH_MAX)).unwrap_or(entry.key);
    let actions = section.read_list("actions", action);
    // A key that can sign handshakes can post to connections only if `actions` has that action too. Without
    // `actions` a key can only manage connections.
    let may = |action| actions.contains(&action);
    let may_manage = may(Action::ManageConnections) || !section.contains("actions");
    let key = AccessKey {
        secret: Secret::new(secret.clone().unwrap_or_default()),
        user: user.to_owned(),
        may_manage,
        may_invoke: may(Action::Invoke),
    };
    section.finish();
    secret.map(|_| key)
}

/// What an access key can sign, with the names of IAM.
#[derive(Clone, Copy, PartialEq)]
enum Action {
    Invoke,
    ManageConnections,
}

fn action(value: &DeValue<'_>) -> Result<Action, InvalidValue> {
    match value::string(value)? {
        "execute-api:Invoke" => Ok(Action::Invoke),
        "execute-api:ManageConnections" => Ok(Action::ManageConnections),
        _ => Err(InvalidValue::new("\"execute-api:Invoke\" (a handshake) or \"execute-api:ManageConnections\"", "")),
    }
}

fn written_secret(value: &DeValue<'_>) -> Result<String, InvalidValue> {
    let invalid = |found: &str| InvalidValue {
        found: Some(found.to_owned()),
        expected: "a string that is not empty".to_owned(),
        advice: "put it in quotes".to_owned(),
    };
    match value.as_str() {
        Some("") => Err(invalid("an empty string")),
        Some(secret) => Ok(secret.to_owned()),
        // An error does not show the value, because it can be the secret without its quotes.
        None => Err(invalid(HIDDEN)),
    }
}

fn secret_from_environment(value: &DeValue<'_>) -> Result<String, InvalidValue> {
    let variable = value::environment_variable(value)?;
    env::var(&variable).ok().filter(|secret| !secret.is_empty()).ok_or_else(|| InvalidValue {
        found: Some(format!("{variable:?}, which is not set in the environment")),
        expected: "a variable with the secret".to_owned(),
        advice: "set it before the start".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::Config;
    use super::*;

    /// Returns the `[management]` and `[access_keys]` of a manifest, and the errors and warnings about them.
    fn examine(text: &str) -> (Option<Management>, Vec<String>, Vec<String>) {
        let checked = Config::check_text(text, Path::new("/project/jackfield.toml"));
        let errors = checked.errors.iter().map(ToString::to_string).collect();
        let config = checked.config.expect("this is TOML");
        let is_own = |text: &String| text.contains("access_keys") || text.contains("management");
        let warnings = config.warnings.iter().map(ToString::to_string).filter(is_own).collect();
        (Some(config.management), errors, warnings)
    }

    fn management(text: &str) -> Management {
        let (management, errors, warnings) = examine(text);
        assert_eq!((errors, warnings), (Vec::new(), Vec::new()), "{text}");
        management.unwrap()
    }

    fn error(text: &str) -> String {
        let (_, mut errors, _) = examine(text);
        assert_eq!(errors.len(), 1, "{text}: {errors:?}");
        errors.remove(0).split_once("jackfield.toml:").unwrap().1.to_owned()
    }

    const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";

    #[test]
    fn the_default_is_auto_without_keys_and_without_a_throttle() {
        assert_eq!(management(""), Management::default());
        assert_eq!(management("[management]\nsignatures = \"auto\"\nthrottle = \"none\""), Management::default());
    }

    #[test]
    fn every_key_of_the_manifest_is_in_the_config() {
        let written = management(&format!(
            "[management]\nsignatures = \"off\"\nthrottle = {{ rate = 0.5, burst = 3 }}\n\
             [access_keys.AKIDEXAMPLE]\nsecret = \"{SECRET}\"\n[access_keys.other-key_2]\nsecret = \"{SECRET}\""
        ));
        assert_eq!(written.signatures, Signatures::Off);
        assert_eq!(written.throttle, Rate::new(0.5, 3));
        let secret = Secret::new(SECRET.to_owned());
        let keys = [("AKIDEXAMPLE".to_owned(), secret.clone()), ("other-key_2".to_owned(), secret)];
        assert_eq!(written.keys(|key| key.may_manage), AccessKeys::from(keys));
        assert!(written.keys(|key| key.may_invoke).is_empty());
        assert!(!format!("{written:?}").contains(SECRET));
    }

    #[test]
    fn a_key_can_do_only_its_actions_and_belongs_to_its_user() {
        for (actions, may_manage, may_invoke) in [
            ("", true, false),
            ("actions = []", false, false),
            ("actions = [\"execute-api:Invoke\"]", false, true),
            ("actions = [\"execute-api:ManageConnections\"]", true, false),
            ("actions = [\"execute-api:Invoke\", \"execute-api:ManageConnections\"]", true, true),
        ] {
            let written =
                management(&format!("[access_keys.AKID]\nsecret = \"{SECRET}\"\nuser = \"alice\"\n{actions}"));
            let key = &written.access_keys["AKID"];
            assert_eq!((key.may_manage, key.may_invoke, &*key.user), (may_manage, may_invoke, "alice"), "{actions}");
        }
        assert_eq!(management(&format!("[access_keys.AKID]\nsecret = \"{SECRET}\"")).access_keys["AKID"].user, "AKID");
        let message = error(&format!("[access_keys.A]\nsecret = \"{SECRET}\"\nactions = [\"execute-api:*\"]"));
        assert!(
            message
                .starts_with("3: access_keys.A.actions[0]: found \"execute-api:*\", expected \"execute-api:Invoke\""),
            "{message}"
        );
    }

    #[test]
    fn errors_do_not_show_secrets() {
        for (text, expected) in [
            (
                "access_keys = { A = \"S3CRET\" }",
                "1: access_keys.A: found another value (hidden, as it may be a secret), expected a table",
            ),
            (
                "access_keys = { A = { secret = 53237 } }",
                "1: access_keys.A.secret: found another value (hidden, as it may be a secret), expected a string",
            ),
            (
                "access_keys = { A = { secret = \"\" } }",
                "1: access_keys.A.secret: found an empty string, expected a string",
            ),
            ("access_keys = { A = {} }", "1: access_keys.A: found no secret; add secret_env = \"VARIABLE\""),
            (
                "access_keys = { \"A/B\" = { secret = \"S3CRET\" } }",
                "1: access_keys: found the name \"A/B\", expected 1",
            ),
            (
                "[access_keys.A]\nsecret_env = \"JACKFIELD_TEST_IS_NOT_SET\"",
                "2: access_keys.A.secret_env: found \"JACK",
            ),
            ("[access_keys.A]\nsecret_env = \"A=B\"", "2: access_keys.A.secret_env: found \"A=B\", expected a name"),
            (
                "[access_keys.A]\nsecret = \"S3CRET\"\nsecret_env = \"PATH\"",
                "3: access_keys.A: found secret and secret_env",
            ),
            (
                "[access_keys.A]\nsecrets = \"S3CRET\"\nsecret_env = \"PATH\"",
                "2: [access_keys.A] has no key \"secrets\"",
            ),
            (
                "[management]\nsignatures = true",
                "2: management.signatures: found true, expected \"auto\", \"required\"",
            ),
            ("[management]\nthrottle = 5", "2: management.throttle: found 5, expected { rate = 100, burst = 100 } or"),
            ("[management]\nthrottle = { rate = 5 }", "2: management.throttle: found no burst"),
            (
                "[management]\nthrottle = { rate = 0, burst = 1 }",
                "2: management.throttle.rate: found 0, expected a number from 0.01 to 1000000",
            ),
            ("[management]\nthrottle = { rate = nan, burst = 1 }", "2: management.throttle.rate: found nan, expected"),
            ("[management]\nthrottle = { rate = 1, burst = 0 }", "2: management.throttle.burst: found 0, expected"),
        ] {
            let message = error(text);
            assert!(message.starts_with(expected), "{message}");
            assert!(!message.contains("S3CRET") && !message.contains("53237"), "{message}");
        }
    }

    #[test]
    fn a_short_secret_and_required_signatures_without_a_key_are_warnings() {
        let (_, errors, warnings) = examine("access_keys = { A = { secret = \"0123456789012345678\" } }");
        assert_eq!((errors.len(), warnings.len()), (0, 1), "{warnings:?}");
        assert!(warnings[0].contains("access_keys.A: found a secret with fewer than 20 characters"), "{warnings:?}");
        assert!(examine("access_keys = { A = { secret = \"01234567890123456789\" } }").2.is_empty());
        let (_, _, warnings) = examine("management = { signatures = \"required\" }");
        assert!(warnings[0].contains("\"required\" without an access key"), "{warnings:?}");
    }
}
