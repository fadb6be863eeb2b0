//! The keys of an issuer: a JWK set (RFC 7517), of which those are kept that can check a signature.
//!
//! Pure: what is skipped is told by whoever has asked.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyOperations, PublicKeyUse, RSAKeyParameters};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;

use crate::limits::{JWKS_KEYS_MAX, JWKS_KEYS_TRIED_MAX};

#[derive(Debug, Default)]
pub struct KeySet(Vec<Key>);

#[derive(Debug)]
struct Key {
    /// Its `kid`.
    id: Option<String>,
    /// Those whose signatures it can have made.
    algorithms: Vec<Algorithm>,
    key: DecodingKey,
}

/// A key that is none, or none that is safe.
#[derive(Debug, PartialEq, Eq)]
pub struct Skipped {
    /// In the list, from 0.
    pub index: usize,
    pub why: &'static str,
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("found no JWK set, which is a JSON object with a list \"keys\"")]
pub struct NoKeySet;

#[derive(Deserialize)]
struct Written {
    keys: Vec<serde_json::Value>,
}

impl KeySet {
    /// The keys that are good, at most [`JWKS_KEYS_MAX`], and why others are not.
    pub fn parse(text: &[u8]) -> Result<(Self, Vec<Skipped>), NoKeySet> {
        let Written { keys: written } = serde_json::from_slice(text).map_err(|_| NoKeySet)?;
        let (mut keys, mut skipped) = (Vec::new(), Vec::new());
        for (index, key) in written.into_iter().enumerate() {
            if keys.len() == JWKS_KEYS_MAX {
                skipped.push(Skipped { index, why: "this one and those behind it are more than are kept" });
                break;
            }
            match parse(key) {
                Ok(key) => keys.extend(key),
                Err(why) => skipped.push(Skipped { index, why }),
            }
        }
        Ok((Self(keys), skipped))
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether there is a key of this name.
    pub fn has(&self, id: &str) -> bool {
        self.0.iter().any(|key| key.id.as_deref() == Some(id))
    }

    /// The keys that can have made a signature, a few at most: those that the token names, or if none has that name,
    /// those without one. A token that names none may mean each.
    pub fn candidates(&self, algorithm: Algorithm, id: Option<&str>) -> impl Iterator<Item = &DecodingKey> {
        let named = id.filter(|id| self.has(id));
        let is_meant = move |key: &&Key| id.is_none() || key.id.as_deref() == named;
        let fits = move |key: &&Key| key.algorithms.contains(&algorithm);
        self.0.iter().filter(is_meant).filter(fits).map(|key| &key.key).take(JWKS_KEYS_TRIED_MAX)
    }
}

/// `None` for a key that is there for something else.
fn parse(written: serde_json::Value) -> Result<Option<Key>, &'static str> {
    const RSA: [Algorithm; 6] =
        [Algorithm::RS256, Algorithm::RS384, Algorithm::RS512, Algorithm::PS256, Algorithm::PS384, Algorithm::PS512];
    let jwk: Jwk = serde_json::from_value(written).map_err(|_| "it is no JWK")?;
    let common = jwk.common;
    let is_for_more = common.public_key_use.is_none_or(|purpose| purpose == PublicKeyUse::Signature)
        && common.key_operations.is_none_or(|operations| operations.contains(&KeyOperations::Verify));
    if !is_for_more {
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
        _ => return Err("it is neither RSA, EC nor OKP, or lacks a part of such a key"),
    };
    if let Some(only) = common.key_algorithm {
        let only = Algorithm::try_from(only).ok();
        algorithms.retain(|algorithm| Some(*algorithm) == only);
        if algorithms.is_empty() {
            return Err("its alg is none that is accepted, or does not go with its kind");
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

/// Some write a zero in front, so that nobody takes it for a negative number.
fn number(text: &str) -> Result<Vec<u8>, &'static str> {
    let bytes = base64url(text)?;
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    Ok(bytes[zeros..].to_vec())
}

fn coordinate(text: &str, length: usize) -> Result<Vec<u8>, &'static str> {
    base64url(text)
        .and_then(|bytes| if bytes.len() == length { Ok(bytes) } else { Err("its x or y is too short or too long") })
}

fn base64url(text: &str) -> Result<Vec<u8>, &'static str> {
    URL_SAFE_NO_PAD.decode(text.trim_end_matches('=')).map_err(|_| "a part of it is no base64url")
}
