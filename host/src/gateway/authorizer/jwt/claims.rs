//! The claims of a token: checks them against the settings, and converts them to the strings that handlers receive.
//!
//! Pure. The signature has been checked before. Does not know keys.

use std::collections::HashSet;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;
use serde_json::value::RawValue;

use super::{JwtError, JwtSettings};
use crate::json;
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
pub struct ClaimSet(Vec<Claim>);

#[derive(Debug)]
struct Claim {
    name: String,
    value: Value,
    /// The value as it is written, with U+FFFD in place of halves of surrogate pairs.
    json: Box<str>,
}

impl ClaimSet {
    /// Parses the second part of a token.
    ///
    /// # Errors
    /// If it is not base64url of an object. Also if the object has duplicate names, because some parsers take the first
    /// value of a name and others the last.
    pub fn parse(payload: &str) -> Result<Self, JwtError> {
        let bytes = URL_SAFE_NO_PAD
            .decode(payload)
            .map_err(|_| JwtError::InvalidToken("its claims or its signature is not base64url"))?;
        Self::from_json(&bytes).ok_or(JwtError::InvalidToken("its claims are not a JSON object with unique names"))
    }

    fn from_json(claims: &[u8]) -> Option<Self> {
        let claims = json::without_lone_surrogates(claims);
        let mut names = HashSet::new();
        let claim = |(name, value): (String, &RawValue)| {
            let is_new = names.insert(name.clone());
            let value_json = value.get();
            let value = json::parse(value_json.as_bytes()).ok()?;
            is_new.then(|| Claim { name, value, json: value_json.into() })
        };
        json::members(str::from_utf8(&claims).ok()?).ok()?.into_iter().map(claim).collect::<Option<_>>().map(Self)
    }

    fn get(&self, name: &str) -> Option<&Value> {
        self.0.iter().find(|claim| claim.name == name).map(|claim| &claim.value)
    }

    /// Checks `exp` and `nbf`, then `iat`, the issuer, the audience and the scopes. `now` is in seconds since 1970.
    pub fn check(&self, settings: &JwtSettings, now: u64) -> Result<(), JwtError> {
        let leeway = JWT_LEEWAY.as_secs();
        let exp = self.get("exp").and_then(seconds);
        let exp = exp.ok_or(JwtError::InvalidToken("its exp is missing or not a number"))?;
        let nbf =
            self.get("nbf").map(|nbf| seconds(nbf).ok_or(JwtError::InvalidToken("its exp or nbf is not a number")));
        let nbf = nbf.transpose()?;
        if exp < now.saturating_sub(leeway) {
            return Err(JwtError::InvalidToken("it has expired (exp)"));
        }
        if nbf.is_some_and(|nbf| nbf > now + leeway) {
            return Err(JwtError::InvalidToken("it is not valid yet (nbf)"));
        }
        if self.get("iat").is_some_and(|iat| !is_past(iat, now)) {
            return Err(JwtError::InvalidToken("its iat is in the future or not a number"));
        }
        if self.string("iss") != Some(&settings.issuer) {
            return Err(JwtError::InvalidToken("it is from another issuer (iss)"));
        }
        // A client_id is used only if there is no aud at all.
        let audience = self.get("aud").or_else(|| self.get("client_id"));
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
        let is_passed_on = |claim: &&Claim| claim.name != "principalId" && !claim.value.is_null();
        let field = |claim: &Claim| (claim.name.clone(), json::text(&claim.json, " ").into_owned());
        let context: Vec<_> = self.0.iter().filter(is_passed_on).map(field).collect();
        let bytes: usize = context.iter().map(|(name, value)| name.len() + value.len()).sum();
        if bytes > JWT_CLAIMS_BYTES_MAX {
            return Err(JwtError::InvalidToken("its claims are larger than what handlers can receive"));
        }
        let scopes = self.scopes().into_iter().map(str::to_owned).collect();
        Ok(Claims { principal_id: self.string("sub").unwrap_or_default().to_owned(), context, scopes })
    }

    fn string(&self, name: &str) -> Option<&str> {
        self.get(name)?.as_str()
    }

    /// Returns the scopes of `scope` and `scp`, each of which is a string with spaces or a list.
    fn scopes(&self) -> Vec<&str> {
        let claims = ["scope", "scp"].into_iter().filter_map(|name| self.get(name));
        let texts = claims.flat_map(|value| value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice));
        texts.filter_map(Value::as_str).flat_map(|text| text.split(' ')).filter(|scope| !scope.is_empty()).collect()
    }
}

/// Returns whether a claim is a time that is not in the future. It may have a fraction of a second.
fn is_past(time: &Value, now: u64) -> bool {
    time.as_f64().is_some_and(|time| time <= (now + JWT_LEEWAY.as_secs()) as f64)
}

/// Returns a time in whole seconds, rounded; `None` if it is not a number, or no time since 1970.
fn seconds(time: &Value) -> Option<u64> {
    let rounded = |time: f64| ((0.0..u64::MAX as f64).contains(&time)).then_some(time.round() as u64);
    time.as_u64().or_else(|| time.as_f64().and_then(rounded))
}
