//! An authorizer that reads a JSON Web Token: who has signed it, for whom, and until when.
//!
//! What is checked, in this order; the first that fails is the answer:
//!
//! 1. the token is no longer than it may be, and has three parts;
//! 2. its header is one, names an algorithm with a public key (never `none`, never HS*), and no extension (`crit`);
//! 3. a key of the issuer that goes with this algorithm, and with `kid` where there is one, has made the signature;
//! 4. its claims are a JSON object in which no name stands twice;
//! 5. `exp` is there and not past, `nbf` is not to come, both but for [`JWT_LEEWAY`];
//! 6. `iat` is not to come, but for the same;
//! 7. `iss` is the issuer, to the letter;
//! 8. `aud`, a text or a list, has one of the audience; where there is no `aud`, `client_id` is one of it;
//! 9. `scope` or `scp` has one of the scopes, where any are asked for;
//! 10. the claims as texts are not more than a handler is told.
//!
//! The claims are checked as API Gateway's HTTP APIs do it. Beyond them a token need not have a `kid`, and not only
//! RSA will do. Knows tokens and keys. Does not know where in a request a token stands.

use std::path::PathBuf;

use http::Uri;
use jsonwebtoken::errors::{Error, ErrorKind};
use jsonwebtoken::{Algorithm, Header, Validation, decode, decode_header, get_current_timestamp};

use crate::gateway::integration::Transport;
use crate::limits::{JWT_BYTES_MAX, JWT_LEEWAY};

mod crypto; // how a signature is checked
mod key_set; // the keys of an issuer
mod keys; // how they are got, kept and got again
mod claims; // what a token says

#[cfg(test)]
mod tests;

pub use claims::Claims;

use claims::ClaimSet;
use key_set::KeySet;
use keys::{Keys, Pace};

/// What the manifest says of one.
#[derive(Clone, Debug, PartialEq)]
pub struct JwtSettings {
    /// As it stands in `iss`.
    pub issuer: String,
    /// One of these is in `aud`, or else `client_id`.
    pub audience: Vec<String>,
    /// One of these is in `scope` or `scp`; none: no scope is asked for.
    pub scopes: Vec<String>,
    pub keys: KeySource,
}

/// Where the issuer's public keys are, as a JWK set.
#[derive(Clone, Debug, PartialEq)]
pub enum KeySource {
    /// `https`, or `http` to this machine.
    Url(Uri),
    File(PathBuf),
}

pub struct Jwt {
    settings: JwtSettings,
    keys: Keys,
}

/// Why a token lets nobody in. None of these says what stands in the token.
#[derive(Debug, thiserror::Error)]
pub enum JwtError {
    #[error("the token is not accepted: {0}")]
    Unacceptable(&'static str),
    #[error("the token is good, but has none of the scopes that are asked for")]
    ScopesLacking,
    /// The token may be good.
    #[error("no token can be checked, as the keys of its issuer cannot be read: {0}")]
    KeysUnavailable(String),
}

impl JwtError {
    /// What the peer is told.
    pub fn status(&self) -> u16 {
        match self {
            Self::Unacceptable(_) => 401,
            Self::ScopesLacking => 403,
            Self::KeysUnavailable(_) => 500,
        }
    }
}

impl Jwt {
    /// The keys are not got before a token comes.
    pub fn new(settings: JwtSettings, transport: Transport) -> Self {
        let pace = Pace::of(&settings.keys);
        Self::at_pace(settings, transport, pace)
    }

    fn at_pace(settings: JwtSettings, transport: Transport, pace: Pace) -> Self {
        crypto::install();
        let keys = Keys::new(settings.keys.clone(), transport, pace);
        Self { settings, keys }
    }

    pub fn settings(&self) -> &JwtSettings {
        &self.settings
    }

    /// What the token says, if it is good. `Bearer ` may stand in front of it.
    ///
    /// Waits for the keys where none are known, or none that the token names.
    ///
    /// # Cancel safety
    /// Dropping the future does not end the request for keys, which others may wait for.
    pub async fn verify(&self, token: &str) -> Result<Claims, JwtError> {
        let token = without_scheme(token);
        if token.len() > JWT_BYTES_MAX {
            return Err(JwtError::Unacceptable("it is longer than a token may be"));
        }
        let header = header(token)?;
        let keys = self.keys.current().await.map_err(JwtError::KeysUnavailable)?;
        let mut opened = open(token, &header, &keys);
        // A key keeps its name, so only one that is not known, or has none, may be new.
        let may_be_new = !header.kid.as_deref().is_some_and(|id| keys.has(id));
        if opened.is_none()
            && may_be_new
            && let Some(newer) = self.keys.newer_than(&keys).await
        {
            opened = open(token, &header, &newer);
        }
        let refusal = match may_be_new {
            true => "no key of the issuer that is known has made its signature",
            false => "the key that it names has not made its signature",
        };
        let claims = opened.unwrap_or(Err(JwtError::Unacceptable(refusal)))?;
        claims.check(&self.settings, get_current_timestamp())?;
        claims.told()
    }
}

/// RFC 7235: the case of a scheme does not tell.
fn without_scheme(token: &str) -> &str {
    match token.split_at_checked("Bearer ".len()) {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("Bearer ") => token.trim_start_matches(' '),
        _ => token,
    }
}

fn header(token: &str) -> Result<Header, JwtError> {
    let header = decode_header(token).map_err(|error| match error.kind() {
        ErrorKind::InvalidToken | ErrorKind::Base64(_) => JwtError::Unacceptable("it is no signed JSON Web Token"),
        _ => JwtError::Unacceptable("its header is none, or its algorithm is none of those that are accepted"),
    })?;
    if matches!(header.alg, Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512) {
        return Err(JwtError::Unacceptable(
            "it is signed with a shared secret, and what an issuer tells are public keys",
        ));
    }
    if header.crit.is_some() {
        return Err(JwtError::Unacceptable("its header asks for an extension, and none is known here"));
    }
    Ok(header)
}

/// The claims, of which only the times are checked; `None` if no key of these has made the signature.
fn open(token: &str, header: &Header, keys: &KeySet) -> Option<Result<ClaimSet, JwtError>> {
    let mut validation = Validation::new(header.alg);
    validation.leeway = JWT_LEEWAY.as_secs();
    validation.validate_nbf = true;
    // It knows no client_id.
    validation.validate_aud = false;
    keys.candidates(header.alg, header.kid.as_deref()).find_map(|key| match decode(token, key, &validation) {
        Ok(token) => Some(Ok(token.claims)),
        Err(error) if is_of_key(&error) => None,
        Err(error) => Some(Err(JwtError::Unacceptable(refusal(&error)))),
    })
}

/// Whether another key may be the right one.
fn is_of_key(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::InvalidSignature | ErrorKind::InvalidKeyFormat | ErrorKind::InvalidAlgorithm)
}

/// The library's own words may have some of the token in them.
fn refusal(error: &Error) -> &'static str {
    match error.kind() {
        ErrorKind::MissingRequiredClaim(_) => "it has no exp that is a time",
        ErrorKind::ExpiredSignature => "it has expired (exp)",
        ErrorKind::ImmatureSignature => "it is not valid yet (nbf)",
        ErrorKind::InvalidClaimFormat(_) => "its exp or nbf is no time",
        ErrorKind::Base64(_) => "its claims or its signature are no base64url",
        _ => "its claims are no JSON object in which each name stands once",
    }
}
