//! The claims of a token: checks them against the settings, and converts them to the strings that handlers receive.
//!
//! Pure. The signature, `exp` and `nbf` have been checked before. Does not know keys.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};
use serde_json::{Map, Value};

use super::{JwtError, JwtSettings};
use crate::limits::{JWT_CLAIMS_BYTES_MAX, JWT_LEEWAY};

/// The claims of a verified token, as handlers receive them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claims {
    /// The `sub`; empty if there is none.
    pub principal_id: String,
    /// Each claim with its value in API Gateway's format: a string unchanged, a number or boolean as in JSON, a list as
    /// `[a b]`, an object as JSON. Claims that are null and a claim named `principalId` are left out.
    pub context: Vec<(String, String)>,
    /// The scopes of `scope` and `scp`.
    pub scopes: Vec<String>,
}

/// The claims as they are in the token, without duplicate names.
#[derive(Debug)]
pub struct ClaimSet(Map<String, Value>);

impl ClaimSet {
    /// Checks `iat`, the issuer, the audience and the scopes. `now` is in seconds since 1970.
    pub fn check(&self, settings: &JwtSettings, now: u64) -> Result<(), JwtError> {
        if self.0.get("iat").is_some_and(|iat| !is_past(iat, now)) {
            return Err(JwtError::InvalidToken("its iat is in the future or not a number"));
        }
        if self.string("iss") != Some(&settings.issuer) {
            return Err(JwtError::InvalidToken("it is from another issuer (iss)"));
        }
        // A client_id is used only if there is no aud at all.
        let audience = self.0.get("aud").or_else(|| self.0.get("client_id"));
        let is_accepted =
            |value: &Value| value.as_str().is_some_and(|text| settings.audience.iter().any(|one| one == text));
        let has_audience = audience.is_some_and(|claim| match claim {
            Value::Array(items) => items.iter().any(is_accepted),
            one => is_accepted(one),
        });
        if !has_audience {
            return Err(JwtError::InvalidToken("it is for another audience (aud, or client_id if there is no aud)"));
        }
        let scopes = self.scopes();
        if !settings.scopes.is_empty() && !settings.scopes.iter().any(|scope| scopes.contains(&&**scope)) {
            return Err(JwtError::MissingScope);
        }
        Ok(())
    }

    /// Converts the claims to what handlers receive.
    ///
    /// # Errors
    /// If they are larger than [`JWT_CLAIMS_BYTES_MAX`].
    pub fn to_claims(&self) -> Result<Claims, JwtError> {
        let is_passed_on = |(name, value): &(&String, &Value)| *name != "principalId" && !value.is_null();
        let context: Vec<_> =
            self.0.iter().filter(is_passed_on).map(|(name, value)| (name.clone(), to_text(value))).collect();
        let bytes: usize = context.iter().map(|(name, value)| name.len() + value.len()).sum();
        if bytes > JWT_CLAIMS_BYTES_MAX {
            return Err(JwtError::InvalidToken("its claims are larger than what handlers can receive"));
        }
        let scopes = self.scopes().into_iter().map(str::to_owned).collect();
        Ok(Claims { principal_id: self.string("sub").unwrap_or_default().to_owned(), context, scopes })
    }

    fn string(&self, name: &str) -> Option<&str> {
        self.0.get(name)?.as_str()
    }

    /// Returns the scopes of `scope` and `scp`, each of which is a string with spaces or a list.
    fn scopes(&self) -> Vec<&str> {
        let claims = ["scope", "scp"].into_iter().filter_map(|name| self.0.get(name));
        let texts = claims.flat_map(|value| value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice));
        texts.filter_map(Value::as_str).flat_map(|text| text.split(' ')).filter(|scope| !scope.is_empty()).collect()
    }
}

/// Returns whether a claim is a time that is not in the future. It may have a fraction of a second.
fn is_past(time: &Value, now: u64) -> bool {
    time.as_f64().is_some_and(|time| time <= (now + JWT_LEEWAY.as_secs()) as f64)
}

fn to_text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(items) => format!("[{}]", items.iter().map(to_text).collect::<Vec<_>>().join(" ")),
        other => other.to_string(),
    }
}

impl<'de> Deserialize<'de> for ClaimSet {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(UniqueNames)
    }
}

/// Rejects an object with duplicate names, because some parsers take the first value of a name and others the last.
struct UniqueNames;

impl<'de> Visitor<'de> for UniqueNames {
    type Value = ClaimSet;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<ClaimSet, A::Error> {
        let mut claims = Map::new();
        while let Some((name, value)) = entries.next_entry()? {
            if claims.insert(name, value).is_some() {
                return Err(A::Error::custom("a duplicate name"));
            }
        }
        Ok(ClaimSet(claims))
    }
}
