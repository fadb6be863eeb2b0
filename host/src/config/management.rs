//! `[management]` and `[access_keys]`: who may call `@connections`, and how often.

use std::env;
use std::num::NonZeroU32;
use std::ops::RangeInclusive;
use std::time::Duration;

use governor::Quota;
use toml::de::DeValue;

use super::section::{Entry, Section};
use super::value::{self, Wrong};
use crate::gateway::Signatures;
use crate::sigv4::{AccessKeys, Secret};

/// AWS's bound of an access key's id.
const ACCESS_KEY_LENGTH_MAX: usize = 128;
/// Nobody guesses a random secret of so many characters from a signature; AWS's have 40.
const SECRET_LENGTH_SAFE: usize = 20;
/// One call in a minute and a half, to more than one process answers.
const RATES: RangeInclusive<f64> = 0.01..=1_000_000.0;
const BURSTS: RangeInclusive<usize> = 1..=1_000_000;

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Management {
    pub signatures: Signatures,
    /// Of each caller; `None`: as many as come.
    pub throttle: Option<CallerThrottle>,
    pub access_keys: AccessKeys,
}

/// A bucket of `burst` calls, into which come `rate` in a second.
#[derive(Clone, Debug, PartialEq)]
pub struct CallerThrottle {
    pub rate: f64,
    pub burst: NonZeroU32,
}

impl CallerThrottle {
    pub fn quota(&self) -> Quota {
        let period = Duration::from_secs_f64(1.0 / self.rate);
        Quota::with_period(period).expect("a rate has an upper bound").allow_burst(self.burst)
    }
}

pub fn management(mut section: Section<'_>, access_keys: &Section<'_>) -> Management {
    let management = Management {
        signatures: section.read("signatures", signatures).unwrap_or_default(),
        throttle: throttle(&mut section),
        access_keys: self::access_keys(access_keys),
    };
    if management.signatures == Signatures::Required && access_keys.entries().next().is_none() {
        let problem = "management.signatures: found \"required\" without an access key, so every call is refused";
        section.problems.warning(section.span_of("signatures"), problem.to_owned(), "add [access_keys.NAME]");
    }
    section.finish();
    management
}

fn signatures(value: &DeValue<'_>) -> Result<Signatures, Wrong> {
    match value.as_str() {
        Some("auto") => Ok(Signatures::Auto),
        Some("required") => Ok(Signatures::Required),
        Some("off") => Ok(Signatures::Off),
        _ => Err(Wrong::new("\"auto\", \"required\" or \"off\"", "")),
    }
}

/// `{ rate = 100, burst = 200 }` or `"none"`.
fn throttle(section: &mut Section<'_>) -> Option<CallerThrottle> {
    let entry = section.entry("throttle")?;
    if entry.value.get_ref().as_str() == Some("none") {
        return None;
    }
    let name = section.name_of(entry.key);
    let wrong = Wrong::new("{ rate = 100, burst = 100 } or \"none\"", "");
    let mut table = section.table(&name, entry.key_span, entry.value, wrong)?;
    let rate = table.read_needed("rate", rate);
    let burst = table.read_needed("burst", value::count(BURSTS));
    table.finish();
    let burst = NonZeroU32::new(u32::try_from(burst?).ok()?)?;
    Some(CallerThrottle { rate: rate?, burst })
}

fn rate(value: &DeValue<'_>) -> Result<f64, Wrong> {
    let number = match value {
        DeValue::Integer(number) => number.as_str().parse().ok().filter(|_| number.radix() == 10),
        DeValue::Float(number) => number.as_str().parse().ok(),
        _ => None,
    };
    let wrong =
        || Wrong::new(format!("a number from {} to {}", RATES.start(), RATES.end()), "it counts calls a second");
    number.filter(|rate| RATES.contains(rate)).ok_or_else(wrong)
}

fn access_keys(section: &Section<'_>) -> AccessKeys {
    let mut keys = AccessKeys::new();
    for entry in section.entries() {
        if let Err(wrong) = value::name(ACCESS_KEY_LENGTH_MAX)(entry.key) {
            section.wrong_key(&entry, wrong);
        } else if let Some(secret) = access_key(section, &entry) {
            keys.insert(entry.key.to_owned(), secret);
        }
    }
    keys
}

fn access_key(section: &Section<'_>, entry: &Entry<'_>) -> Option<Secret> {
    let name = section.name_of(entry.key);
    // What stands there instead may be the secret.
    let wrong = Wrong {
        found: Some("something else".to_owned()),
        expected: "a table".to_owned(),
        advice: format!("write [{name}] on a line of its own, and below it secret_env = \"VARIABLE\""),
    };
    let mut section = section.table(&name, entry.key_span.clone(), entry.value, wrong)?;
    let written = section.read("secret", written_secret);
    let of_environment = section.read("secret_env", secret_of_environment);
    let (is_written, is_named) = (section.is_written("secret"), section.is_written("secret_env"));
    if is_written && is_named {
        let problem = format!("{name}: found secret and secret_env, expected one of them");
        section.problems.error(section.span_of("secret_env"), problem, "leave one of the two out");
    } else if !is_written && !is_named {
        let problem = format!("{name}: found no secret");
        let advice = "add secret_env = \"VARIABLE\", or secret = \"...\" where the manifest is kept secret";
        section.problems.error(section.span(), problem, advice);
    }
    let secret = written.or(of_environment);
    if secret.as_ref().is_some_and(|secret| secret.chars().count() < SECRET_LENGTH_SAFE) {
        let problem = format!("{name}: found a secret of less than {SECRET_LENGTH_SAFE} characters");
        let advice = "whoever sees a signature could guess it: take 40 random ones, as AWS does";
        section.problems.warning(section.span(), problem, advice);
    }
    section.finish();
    secret.map(Secret::new)
}

fn written_secret(value: &DeValue<'_>) -> Result<String, Wrong> {
    let wrong = |found: &str| Wrong {
        found: Some(found.to_owned()),
        expected: "a text that is not empty".to_owned(),
        advice: "put it in quotes".to_owned(),
    };
    match value.as_str() {
        Some("") => Err(wrong("an empty text")),
        Some(secret) => Ok(secret.to_owned()),
        // Not shown: it may be the secret, without its quotes.
        None => Err(wrong("something else")),
    }
}

fn secret_of_environment(value: &DeValue<'_>) -> Result<String, Wrong> {
    let variable = value::text(value)?;
    value::variable_name(variable)?;
    env::var(variable).ok().filter(|secret| !secret.is_empty()).ok_or_else(|| Wrong {
        found: Some(format!("{variable:?}, which is not set in the environment")),
        expected: "a variable that holds the secret".to_owned(),
        advice: "set it before the start".to_owned(),
    })
}
