//! Signatures: verified for every kind of key, and made where the handler has a private key.
//!
//! Signatures of elliptic curves are in the form of IEEE P1363 (`r` and `s`, one after the other), or in DER.

use ecdsa::signature::hazmat::{PrehashSigner, PrehashVerifier};
use ecdsa::signature::{Signer, Verifier};

use super::hash::{digest, with_hash};
use super::key::{PrivateKey, PublicKey};
use super::{Failure, Random};

/// How a message is signed.
pub(super) struct Scheme<'a> {
    /// `pkcs1`, `pss`, `ieee-p1363`, `der` or `ed25519`.
    pub(super) name: &'a str,
    pub(super) hash: &'a str,
    /// Of PSS, in bytes; none: found from the signature, and the length of the hash for signing.
    pub(super) salt_bytes: Option<usize>,
}

/// Whether `signature` is one of `message` by the owner of `key`.
///
/// # Errors
/// The scheme does not fit the key, or the hash is unknown. A malformed signature is not valid, but no error.
pub(super) fn verify(key: &PublicKey, scheme: &Scheme<'_>, message: &[u8], signature: &[u8]) -> Result<bool, Failure> {
    match (key, scheme.name) {
        (PublicKey::Rsa(key), "pkcs1") => with_hash!(scheme.hash, H => {
            Ok(key.pkcs1v15_verify::<H>(message, signature).is_ok())
        }),
        (PublicKey::Rsa(key), "pss") => with_hash!(scheme.hash, H => {
            let key = match scheme.salt_bytes {
                Some(bytes) => rsa::pss::VerifyingKey::<H>::new_with_salt_len(key.clone(), bytes),
                None => rsa::pss::VerifyingKey::<H>::new_with_auto_salt_len(key.clone()),
            };
            let signature = rsa::pss::Signature::try_from(signature);
            Ok(signature.is_ok_and(|signature| key.verify(message, &signature).is_ok()))
        }),
        (PublicKey::P256(key), "ieee-p1363" | "der") => {
            let signature = if scheme.name == "der" {
                p256::ecdsa::Signature::from_der(signature)
            } else {
                p256::ecdsa::Signature::from_slice(signature)
            };
            let hash = digest(scheme.hash, message)?;
            let key = p256::ecdsa::VerifyingKey::from(key);
            Ok(signature.is_ok_and(|signature| key.verify_prehash(&hash, &signature).is_ok()))
        }
        (PublicKey::P384(key), "ieee-p1363" | "der") => {
            let signature = if scheme.name == "der" {
                p384::ecdsa::Signature::from_der(signature)
            } else {
                p384::ecdsa::Signature::from_slice(signature)
            };
            let hash = digest(scheme.hash, message)?;
            let key = p384::ecdsa::VerifyingKey::from(key);
            Ok(signature.is_ok_and(|signature| key.verify_prehash(&hash, &signature).is_ok()))
        }
        (PublicKey::Ed25519(key), "ed25519") => {
            let signature = ed25519_dalek::Signature::from_slice(signature);
            Ok(signature.is_ok_and(|signature| key.verify(message, &signature).is_ok()))
        }
        _ => Err(Failure::new(format!("the key does not fit the signature scheme {}", scheme.name))),
    }
}

/// Signs `message`. Signatures of elliptic curves are deterministic (RFC 6979); RSA takes its blinding and the
/// salt of PSS from `random`.
pub(super) fn sign(
    key: &PrivateKey,
    scheme: &Scheme<'_>,
    message: &[u8],
    random: &mut Random,
) -> Result<Vec<u8>, Failure> {
    let refused = |_| Failure::new("the key cannot sign with this hash");
    match (key, scheme.name) {
        (PrivateKey::Rsa(key), "pkcs1") => with_hash!(scheme.hash, H => {
            key.pkcs1v15_sign_with_rng::<H, _>(random, message)
                .map_err(|_| Failure::new("the RSA key is too short for this hash"))
        }),
        (PrivateKey::Rsa(key), "pss") => with_hash!(scheme.hash, H => {
            use rsa::signature::{RandomizedSigner, SignatureEncoding};
            let key = key.as_ref().clone();
            let key = match scheme.salt_bytes {
                Some(bytes) => rsa::pss::SigningKey::<H>::new_with_salt_len(key, bytes),
                None => rsa::pss::SigningKey::<H>::new(key),
            };
            let signature = key.try_sign_with_rng(random, message);
            signature.map(|signature| signature.to_vec()).map_err(refused)
        }),
        (PrivateKey::P256(key), "ieee-p1363" | "der") => {
            let hash = digest(scheme.hash, message)?;
            let signature: p256::ecdsa::Signature =
                p256::ecdsa::SigningKey::from(key).sign_prehash(&hash).map_err(refused)?;
            Ok(if scheme.name == "der" { signature.to_der().as_bytes().to_vec() } else { signature.to_vec() })
        }
        (PrivateKey::P384(key), "ieee-p1363" | "der") => {
            let hash = digest(scheme.hash, message)?;
            let signature: p384::ecdsa::Signature =
                p384::ecdsa::SigningKey::from(key).sign_prehash(&hash).map_err(refused)?;
            Ok(if scheme.name == "der" { signature.to_der().as_bytes().to_vec() } else { signature.to_vec() })
        }
        (PrivateKey::Ed25519(key), "ed25519") => {
            key.try_sign(message).map(|signature| signature.to_bytes().to_vec()).map_err(refused)
        }
        _ => Err(Failure::new(format!("the key does not fit the signature scheme {}", scheme.name))),
    }
}
