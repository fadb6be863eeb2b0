//! Authorizer that verifies a JSON Web Token: its signature, its issuer, its audience and its lifetime.
//!
//! The checks, in this order; the first one that fails is the result:
//!
//! 1. the token is not longer than [`JWT_BYTES_MAX`] and has three parts;
//! 2. its header is valid, names an algorithm with a public key (never `none`, never HS*), and requires no extension
//!    (`crit`);
//! 3. the signature matches a key of the issuer that fits the algorithm, and the `kid` if there is one;
//! 4. the claims are a JSON object without duplicate names;
//! 5. `exp` is present and not in the past, and `nbf` is not in the future, with a tolerance of `JWT_LEEWAY`;
//! 6. `iat` is not in the future, with the same tolerance;
//! 7. `iss` equals the issuer exactly;
//! 8. `aud`, a string or a list, contains one of the audiences; if there is no `aud`, `client_id` is one of them;
//! 9. `scope` or `scp` contains one of the required scopes, if there are any;
//! 10. the claims as strings are not larger than what handlers receive.
//!
//! The claims are checked as by API Gateway's HTTP APIs. Unlike there, a token needs no `kid`, and algorithms other
//! than RSA are accepted. Knows tokens and keys. Does not know which part of a request contains the token.

use std::path::PathBuf;

use http::Uri;
use jsonwebtoken::errors::{Error, ErrorKind};
use jsonwebtoken::{Algorithm, Header, decode_header, get_current_timestamp};

use crate::gateway::integration::Transport;
use crate::limits::JWT_BYTES_MAX;

mod claims;
mod crypto;
mod key_set;
mod keys;

#[cfg(test)]
mod tests;

use claims::ClaimSet;
use key_set::KeySet;
use keys::{IssuerKeys, RefreshPolicy};

pub use claims::Claims;

/// The manifest's settings for a JWT authorizer.
#[derive(Clone, Debug, PartialEq)]
pub struct JwtSettings {
    /// The required value of `iss`.
    pub issuer: String,
    /// `aud` must contain one of these; without `aud`, `client_id` must be one of them.
    pub audience: Vec<String>,
    /// `scope` or `scp` must contain one of these; if empty, no scope is required.
    pub scopes: Vec<String>,
    pub keys: KeySource,
}

/// Where the issuer's public keys are read from, as a JWK set.
#[derive(Clone, Debug, PartialEq)]
pub enum KeySource {
    /// An `https` URL, or an `http` URL on this machine.
    Url(Uri),
    File(PathBuf),
}

pub struct Jwt {
    settings: JwtSettings,
    keys: IssuerKeys,
}

/// Why a token is rejected. No text contains any part of the token.
#[derive(Debug, thiserror::Error)]
pub enum JwtError {
    #[error("invalid token: {0}")]
    InvalidToken(&'static str),
    #[error("the token is valid, but has none of the required scopes")]
    MissingScope,
    /// The token may be valid.
    #[error("cannot verify tokens, because the keys of the issuer cannot be read: {0}")]
    KeysUnavailable(String),
}

impl JwtError {
    /// Returns the HTTP status that the peer receives.
    pub fn status(&self) -> u16 {
        match self {
            Self::InvalidToken(_) => 401,
            Self::MissingScope => 403,
            Self::KeysUnavailable(_) => 500,
        }
    }
}

impl Jwt {
    /// Makes an authorizer. The keys are fetched when the first token arrives.
    pub fn new(settings: JwtSettings, transport: Transport) -> Self {
        let policy = RefreshPolicy::for_source(&settings.keys);
        Self::with_policy(settings, transport, policy)
    }

    fn with_policy(settings: JwtSettings, transport: Transport, policy: RefreshPolicy) -> Self {
        crypto::install();
        let keys = IssuerKeys::new(settings.keys.clone(), transport, policy);
        Self { settings, keys }
    }

    pub fn settings(&self) -> &JwtSettings {
        &self.settings
    }

    /// Verifies a token, with or without `Bearer ` in front of it, and returns its claims.
    ///
    /// Waits for the keys if none are known, or if the token names an unknown one.
    ///
    /// # Cancel safety
    /// Dropping the future does not cancel the request for keys, because other callers may wait for it.
    pub async fn verify(&self, token: &str) -> Result<Claims, JwtError> {
        let token = without_scheme(token);
        if token.len() > JWT_BYTES_MAX {
            return Err(JwtError::InvalidToken("it is longer than the maximum length of a token"));
        }
        let header = parse_header(token)?;
        let keys = self.keys.current().await.map_err(JwtError::KeysUnavailable)?;
        let mut claims = verify_signature(token, &header, &keys);
        // An issuer never gives the id of a key to another key, so only a key with an unknown id or without an id may
        // be new.
        let may_be_new_key = !header.kid.as_deref().is_some_and(|id| keys.contains(id));
        if claims.is_none()
            && may_be_new_key
            && let Some(newer) = self.keys.newer_than(&keys).await
        {
            claims = verify_signature(token, &header, &newer);
        }
        let reason = if may_be_new_key {
            "its signature matches no known key of the issuer"
        } else {
            "its signature does not match the key that it names (kid)"
        };
        let claims = claims.unwrap_or(Err(JwtError::InvalidToken(reason)))?;
        claims.check(&self.settings, get_current_timestamp())?;
        claims.to_claims()
    }
}

/// Removes the scheme `Bearer `, which is case insensitive (RFC 7235).
fn without_scheme(token: &str) -> &str {
    match token.split_at_checked("Bearer ".len()) {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("Bearer ") => token.trim_start_matches(' '),
        _ => token,
    }
}

fn parse_header(token: &str) -> Result<Header, JwtError> {
    let header = decode_header(token).map_err(|error| match error.kind() {
        ErrorKind::InvalidToken | ErrorKind::Base64(_) => JwtError::InvalidToken("it is not a signed JSON Web Token"),
        _ => JwtError::InvalidToken("its header is invalid, or names an algorithm that is not accepted"),
    })?;
    if matches!(header.alg, Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512) {
        return Err(JwtError::InvalidToken("it is signed with a shared secret, but only public keys are accepted"));
    }
    if header.crit.is_some() {
        return Err(JwtError::InvalidToken("its header requires an extension (crit), and none is supported"));
    }
    Ok(header)
}

/// Verifies the signature of a token, and returns its claims; `None` if the signature matches none of the keys.
///
/// The library's own `decode` is not used, because it rejects claims that are JSON and that serde_json rejects.
fn verify_signature(token: &str, header: &Header, keys: &KeySet) -> Option<Result<ClaimSet, JwtError>> {
    let (message, signature) = token.rsplit_once('.')?;
    let (_, payload) = message.rsplit_once('.')?;
    let verify = |key| jsonwebtoken::crypto::verify(signature, message.as_bytes(), key, header.alg);
    keys.candidates(header.alg, header.kid.as_deref()).find_map(|key| match verify(key) {
        Ok(true) => Some(ClaimSet::parse(payload)),
        Ok(false) => None,
        Err(error) if is_key_mismatch(&error) => None,
        Err(_) => Some(Err(JwtError::InvalidToken("its claims or its signature is not base64url"))),
    })
}

/// Returns whether the token may be valid with another key.
fn is_key_mismatch(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::InvalidSignature | ErrorKind::InvalidKeyFormat | ErrorKind::InvalidAlgorithm)
}
