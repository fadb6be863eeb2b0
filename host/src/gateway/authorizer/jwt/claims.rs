//! What a token says: checked against the settings, and then told to handlers as texts.
//!
//! Pure. Knows that the signature is good and the token in time; does not know keys.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};
use serde_json::{Map, Value};

use super::{JwtError, JwtSettings};
use crate::limits::{JWT_CLAIMS_BYTES_MAX, JWT_LEEWAY};

/// What is told of who was let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claims {
    /// The `sub`; empty where there is none.
    pub principal_id: String,
    /// Each claim under its name, as API Gateway writes it: a text as it is, numbers and `true` as JSON has them, a list
    /// as `[a b]`, an object as JSON. Those that are null are left out, and one that is called `principalId`.
    pub context: Vec<(String, String)>,
    /// Those of `scope` and `scp`.
    pub scopes: Vec<String>,
}

/// The claims as they came, each name once.
#[derive(Debug)]
pub struct ClaimSet(Map<String, Value>);

impl ClaimSet {
    /// `now` in seconds since 1970.
    pub fn check(&self, settings: &JwtSettings, now: u64) -> Result<(), JwtError> {
        if self.0.get("iat").is_some_and(|iat| !is_past(iat, now)) {
            return Err(JwtError::Unacceptable("it is issued in the future, or at what is no time (iat)"));
        }
        if self.text("iss") != Some(&settings.issuer) {
            return Err(JwtError::Unacceptable("it is not of this issuer (iss)"));
        }
        // A client_id counts only where there is no aud at all.
        let audience = self.0.get("aud").or_else(|| self.0.get("client_id"));
        let is_audience =
            |value: &Value| value.as_str().is_some_and(|text| settings.audience.iter().any(|one| one == text));
        let is_for_us = audience.is_some_and(|written| match written {
            Value::Array(several) => several.iter().any(is_audience),
            one => is_audience(one),
        });
        if !is_for_us {
            return Err(JwtError::Unacceptable("it is not for this audience (aud, or else client_id)"));
        }
        let scopes = self.scopes();
        if !settings.scopes.is_empty() && !settings.scopes.iter().any(|scope| scopes.contains(&&**scope)) {
            return Err(JwtError::ScopesLacking);
        }
        Ok(())
    }

    /// # Errors
    /// If it is more than a handler is told.
    pub fn told(&self) -> Result<Claims, JwtError> {
        let is_told = |(name, value): &(&String, &Value)| *name != "principalId" && !value.is_null();
        let context: Vec<_> =
            self.0.iter().filter(is_told).map(|(name, value)| (name.clone(), written(value))).collect();
        let bytes: usize = context.iter().map(|(name, value)| name.len() + value.len()).sum();
        if bytes > JWT_CLAIMS_BYTES_MAX {
            return Err(JwtError::Unacceptable("its claims are more than handlers are told"));
        }
        let scopes = self.scopes().into_iter().map(str::to_owned).collect();
        Ok(Claims { principal_id: self.text("sub").unwrap_or_default().to_owned(), context, scopes })
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name)?.as_str()
    }

    /// Both are written as one text with spaces, or as a list.
    fn scopes(&self) -> Vec<&str> {
        let written = ["scope", "scp"].into_iter().filter_map(|name| self.0.get(name));
        let texts = written.flat_map(|value| value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice));
        texts.filter_map(Value::as_str).flat_map(|text| text.split(' ')).filter(|scope| !scope.is_empty()).collect()
    }
}

/// Whether it is a time that is not to come; a part of a second may be written.
fn is_past(time: &Value, now: u64) -> bool {
    time.as_f64().is_some_and(|time| time <= (now + JWT_LEEWAY.as_secs()) as f64)
}

fn written(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(items) => format!("[{}]", items.iter().map(written).collect::<Vec<_>>().join(" ")),
        other => other.to_string(),
    }
}

impl<'de> Deserialize<'de> for ClaimSet {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(EachOnce)
    }
}

/// What reads a name twice may believe the first or the last, so nobody is asked to.
struct EachOnce;

impl<'de> Visitor<'de> for EachOnce {
    type Value = ClaimSet;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<ClaimSet, A::Error> {
        let mut claims = Map::new();
        while let Some((name, value)) = entries.next_entry()? {
            if claims.insert(name, value).is_some() {
                return Err(A::Error::custom("a name that stands twice"));
            }
        }
        Ok(ClaimSet(claims))
    }
}
