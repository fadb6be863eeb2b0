//! Asymmetric keys: read from and written as DER, or taken apart for JWK.
//!
//! Knows RSA, ECDSA over P-256 and P-384, and Ed25519. Does not know PEM, JSON or JavaScript.

use pkcs8::{DecodePrivateKey, DecodePublicKey, EncodePrivateKey, EncodePublicKey};
use rsa::pkcs1::{DecodeRsaPrivateKey, DecodeRsaPublicKey};
use rsa::traits::{PrivateKeyParts, PublicKeyParts};

use super::Failure;

/// A key that verifies.
pub(super) enum PublicKey {
    Rsa(rsa::PublicKey),
    P256(p256::PublicKey),
    P384(p384::PublicKey),
    Ed25519(ed25519_dalek::VerifyingKey),
}

/// A key that signs.
pub(super) enum PrivateKey {
    Rsa(Box<rsa::PrivateKey>),
    P256(p256::SecretKey),
    P384(p384::SecretKey),
    Ed25519(ed25519_dalek::SigningKey),
}

/// What JavaScript keeps of a key: its kind, its DER (SPKI or PKCS #8), and its parts in the order of JWK:
/// RSA `n, e` and `d, p, q`; elliptic curves `x, y` and `d`; Ed25519 `x` and `d`.
pub(super) struct Described {
    pub(super) kind: &'static str,
    pub(super) der: Vec<u8>,
    pub(super) parts: Vec<Vec<u8>>,
}

fn malformed() -> Failure {
    Failure::new(
        "the key is malformed or of a kind that is not supported; RSA of 1024 to 8192 bits, P-256, P-384 and Ed25519 are",
    )
}

impl PublicKey {
    /// Reads a key in the form `spki` or `pkcs1`.
    pub(super) fn read(form: &str, der: &[u8]) -> Result<Self, Failure> {
        if form == "pkcs1" {
            return rsa::PublicKey::from_pkcs1_der(der).map(Self::Rsa).map_err(|_| malformed());
        }
        None.or_else(|| p256::PublicKey::from_public_key_der(der).ok().map(Self::P256))
            .or_else(|| rsa::PublicKey::from_public_key_der(der).ok().map(Self::Rsa))
            .or_else(|| ed25519_dalek::VerifyingKey::from_public_key_der(der).ok().map(Self::Ed25519))
            .or_else(|| p384::PublicKey::from_public_key_der(der).ok().map(Self::P384))
            .ok_or_else(malformed)
    }

    /// Makes a key from the parts that `Described` has.
    pub(super) fn assemble(kind: &str, parts: &[Vec<u8>]) -> Result<Self, Failure> {
        match (kind, parts) {
            ("rsa", [n, e]) => rsa::PublicKey::new(number(n)?, number(e)?).ok().map(Self::Rsa),
            ("P-256", [x, y]) => p256::PublicKey::from_sec1_bytes(&point(x, y)).ok().map(Self::P256),
            ("P-384", [x, y]) => p384::PublicKey::from_sec1_bytes(&point(x, y)).ok().map(Self::P384),
            // The raw form of WebCrypto is the uncompressed point.
            ("P-256", [point]) => p256::PublicKey::from_sec1_bytes(point).ok().map(Self::P256),
            ("P-384", [point]) => p384::PublicKey::from_sec1_bytes(point).ok().map(Self::P384),
            ("ed25519", [x]) => ed25519_dalek::VerifyingKey::try_from(x.as_slice()).ok().map(Self::Ed25519),
            _ => None,
        }
        .ok_or_else(malformed)
    }

    /// Describes the key for JavaScript.
    pub(super) fn describe(&self) -> Result<Described, Failure> {
        let (kind, der, parts) = match self {
            Self::Rsa(key) => ("rsa", key.to_public_key_der(), rsa_public(key)),
            Self::P256(key) => ("P-256", key.to_public_key_der(), coordinates(&key.to_sec1_bytes())),
            Self::P384(key) => ("P-384", key.to_public_key_der(), coordinates(&key.to_sec1_bytes())),
            Self::Ed25519(key) => ("ed25519", key.to_public_key_der(), vec![key.to_bytes().to_vec()]),
        };
        let der = der.map_err(|_| malformed())?.into_vec();
        Ok(Described { kind, der, parts })
    }
}

impl PrivateKey {
    /// Reads a key in the form `pkcs8`, `pkcs1` or `sec1`.
    pub(super) fn read(form: &str, der: &[u8]) -> Result<Self, Failure> {
        match form {
            "pkcs1" => rsa::PrivateKey::from_pkcs1_der(der).ok().map(|key| Self::Rsa(Box::new(key))),
            "sec1" => p256::SecretKey::from_sec1_der(der)
                .ok()
                .map(Self::P256)
                .or_else(|| p384::SecretKey::from_sec1_der(der).ok().map(Self::P384)),
            _ => None
                .or_else(|| p256::SecretKey::from_pkcs8_der(der).ok().map(Self::P256))
                .or_else(|| rsa::PrivateKey::from_pkcs8_der(der).ok().map(|key| Self::Rsa(Box::new(key))))
                .or_else(|| ed25519_dalek::SigningKey::from_pkcs8_der(der).ok().map(Self::Ed25519))
                .or_else(|| p384::SecretKey::from_pkcs8_der(der).ok().map(Self::P384)),
        }
        .ok_or_else(malformed)
    }

    /// Makes a key from the parts that `Described` has.
    pub(super) fn assemble(kind: &str, parts: &[Vec<u8>]) -> Result<Self, Failure> {
        match (kind, parts) {
            ("rsa", [n, e, d, p, q]) => {
                let primes = vec![number(p)?, number(q)?];
                rsa::PrivateKey::from_components(number(n)?, number(e)?, number(d)?, primes)
                    .ok()
                    .map(|key| Self::Rsa(Box::new(key)))
            }
            ("P-256", [d]) => p256::SecretKey::from_slice(d).ok().map(Self::P256),
            ("P-384", [d]) => p384::SecretKey::from_slice(d).ok().map(Self::P384),
            ("ed25519", [d]) => ed25519_dalek::SigningKey::try_from(d.as_slice()).ok().map(Self::Ed25519),
            _ => None,
        }
        .ok_or_else(malformed)
    }

    /// Returns the key that verifies what this key signs.
    pub(super) fn public(&self) -> PublicKey {
        match self {
            Self::Rsa(key) => PublicKey::Rsa(key.to_public_key()),
            Self::P256(key) => PublicKey::P256(key.public_key()),
            Self::P384(key) => PublicKey::P384(key.public_key()),
            Self::Ed25519(key) => PublicKey::Ed25519(key.verifying_key()),
        }
    }

    /// Describes the key for JavaScript.
    pub(super) fn describe(&self) -> Result<Described, Failure> {
        let (kind, der, mut secret) = match self {
            Self::Rsa(key) => {
                let primes = key.primes().iter().map(|prime| trimmed(&prime.to_be_bytes()));
                let secret = std::iter::once(trimmed(&key.d().to_be_bytes())).chain(primes).collect();
                ("rsa", key.to_pkcs8_der(), secret)
            }
            Self::P256(key) => ("P-256", key.to_pkcs8_der(), vec![key.to_bytes().to_vec()]),
            Self::P384(key) => ("P-384", key.to_pkcs8_der(), vec![key.to_bytes().to_vec()]),
            Self::Ed25519(key) => ("ed25519", key.to_pkcs8_der(), vec![key.to_bytes().to_vec()]),
        };
        let der = der.map_err(|_| malformed())?.as_bytes().to_vec();
        let mut parts = self.public().describe()?.parts;
        parts.append(&mut secret);
        Ok(Described { kind, der, parts })
    }
}

fn rsa_public(key: &rsa::PublicKey) -> Vec<Vec<u8>> {
    vec![trimmed(&key.n().to_be_bytes()), trimmed(&key.e().to_be_bytes())]
}

/// Splits an uncompressed point into its two coordinates.
fn coordinates(point: &[u8]) -> Vec<Vec<u8>> {
    let (x, y) = point[1..].split_at(point.len() / 2);
    vec![x.to_vec(), y.to_vec()]
}

fn point(x: &[u8], y: &[u8]) -> Vec<u8> {
    [&[4], x, y].concat()
}

fn number(bytes: &[u8]) -> Result<rsa::BoxedUint, Failure> {
    let bits = u32::try_from(bytes.len() * 8).map_err(|_| malformed())?;
    rsa::BoxedUint::from_be_slice(bytes, bits).map_err(|_| malformed())
}

/// Removes leading zeros.
fn trimmed(bytes: &[u8]) -> Vec<u8> {
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    bytes[zeros..].to_vec()
}
