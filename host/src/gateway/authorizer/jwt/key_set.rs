//! The keys of an issuer: parses a JWK set (RFC 7517) and keeps the keys that can verify a signature.
//!
//! Pure: the caller logs the keys that are skipped.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyOperations, PublicKeyUse, RSAKeyParameters};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;

use crate::json;
use crate::limits::{JWKS_KEYS_MAX, JWKS_KEYS_TRIED_MAX};

#[derive(Debug, Default)]
pub struct KeySet(Vec<Key>);

#[derive(Debug)]
struct Key {
    /// The `kid`.
    id: Option<String>,
    /// The algorithms whose signatures this key can verify.
    algorithms: Vec<Algorithm>,
    key: DecodingKey,
}

/// A key of the set that is not used, because it is invalid or not secure.
#[derive(Debug, PartialEq, Eq)]
pub struct SkippedKey {
    /// Position in the list, from 0.
    pub index: usize,
    pub reason: &'static str,
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected a JWK set, which is a JSON object with a list \"keys\"")]
pub struct NotAKeySet;

#[derive(Deserialize)]
struct KeySetDocument {
    keys: Vec<serde_json::Value>,
}

impl KeySet {
    /// Parses a JWK set. Returns the usable keys, at most [`JWKS_KEYS_MAX`], and the keys that were skipped.
    pub fn parse(text: &[u8]) -> Result<(Self, Vec<SkippedKey>), NotAKeySet> {
        let document: KeySetDocument = json::parse(json::without_byte_order_mark(text)).map_err(|_| NotAKeySet)?;
        let (mut keys, mut skipped) = (Vec::new(), Vec::new());
        for (index, key) in document.keys.into_iter().enumerate() {
            if keys.len() == JWKS_KEYS_MAX {
                skipped
                    .push(SkippedKey { index, reason: "this key and all after it exceed the maximum number of keys" });
                break;
            }
            match parse(key) {
                Ok(key) => keys.extend(key),
                Err(reason) => skipped.push(SkippedKey { index, reason }),
            }
        }
        Ok((Self(keys), skipped))
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns whether a key has this id.
    pub fn contains(&self, id: &str) -> bool {
        self.0.iter().any(|key| key.id.as_deref() == Some(id))
    }

    /// Returns the keys that may match a signature, at most [`JWKS_KEYS_TRIED_MAX`]: the keys with this id; if there
    /// are none, the keys without an id; and all keys if the token has no id.
    pub fn candidates(&self, algorithm: Algorithm, id: Option<&str>) -> impl Iterator<Item = &DecodingKey> {
        let wanted = id.filter(|id| self.contains(id));
        let has_id = move |key: &&Key| id.is_none() || key.id.as_deref() == wanted;
        let has_algorithm = move |key: &&Key| key.algorithms.contains(&algorithm);
        self.0.iter().filter(has_id).filter(has_algorithm).map(|key| &key.key).take(JWKS_KEYS_TRIED_MAX)
    }
}

/// Parses one key; `None` if it is valid but intended for another purpose, such as encryption.
fn parse(key: serde_json::Value) -> Result<Option<Key>, &'static str> {
    const RSA: [Algorithm; 6] =
        [Algorithm::RS256, Algorithm::RS384, Algorithm::RS512, Algorithm::PS256, Algorithm::PS384, Algorithm::PS512];
    let jwk: Jwk = serde_json::from_value(key).map_err(|_| "it is not a JWK")?;
    let common = jwk.common;
    let is_for_signatures = common.public_key_use.is_none_or(|purpose| purpose == PublicKeyUse::Signature)
        && common.key_operations.is_none_or(|operations| operations.contains(&KeyOperations::Verify));
    if !is_for_signatures {
        return Ok(None);
    }
    let (mut algorithms, key) = match &jwk.algorithm {
        AlgorithmParameters::RSA(rsa_key) => (RSA.to_vec(), rsa(rsa_key)?),
        AlgorithmParameters::EllipticCurve(point) => {
            let (algorithm, bytes) = match point.curve {
                EllipticCurve::P256 => (Algorithm::ES256, 32),
                EllipticCurve::P384 => (Algorithm::ES384, 48),
                _ => return Err("its curve is neither P-256 nor P-384"),
            };
            let (x, y) = (coordinate(&point.x, bytes)?, coordinate(&point.y, bytes)?);
            (vec![algorithm], DecodingKey::from_ec_der(&[&[4], &x[..], &y[..]].concat()))
        }
        AlgorithmParameters::OctetKeyPair(pair) if pair.curve == EllipticCurve::Ed25519 => {
            (vec![Algorithm::EdDSA], DecodingKey::from_ed_der(&coordinate(&pair.x, 32)?))
        }
        AlgorithmParameters::OctetKeyPair(_) => return Err("its curve is not Ed25519"),
        AlgorithmParameters::OctetKey(_) => return Err("it is a shared secret"),
        _ => return Err("it is neither RSA, EC nor OKP, or a part of the key is missing"),
    };
    if let Some(only) = common.key_algorithm {
        let only = Algorithm::try_from(only).ok();
        algorithms.retain(|algorithm| Some(*algorithm) == only);
        if algorithms.is_empty() {
            return Err("its alg is not accepted, or does not fit its key type");
        }
    }
    Ok(Some(Key { id: common.key_id, algorithms, key }))
}

fn rsa(key: &RSAKeyParameters) -> Result<DecodingKey, &'static str> {
    let (modulus, exponent) = (number(&key.n)?, number(&key.e)?);
    let bits = modulus.len() * 8 - modulus.first().map_or(0, |byte| byte.leading_zeros() as usize);
    match bits {
        ..2048 => Err("its modulus has fewer than 2048 bits"),
        2048..=8192 => Ok(DecodingKey::from_rsa_raw_components(&modulus, &exponent)),
        _ => Err("its modulus has more than 8192 bits"),
    }
}

/// Decodes an unsigned number. Removes leading zeros, which some issuers add to mark the number as positive.
fn number(text: &str) -> Result<Vec<u8>, &'static str> {
    let bytes = base64url(text)?;
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    Ok(bytes[zeros..].to_vec())
}

fn coordinate(text: &str, length: usize) -> Result<Vec<u8>, &'static str> {
    base64url(text)
        .and_then(|bytes| if bytes.len() == length { Ok(bytes) } else { Err("its x or y has the wrong length") })
}

fn base64url(text: &str) -> Result<Vec<u8>, &'static str> {
    URL_SAFE_NO_PAD.decode(text.trim_end_matches('=')).map_err(|_| "a part of the key is not base64url")
}
