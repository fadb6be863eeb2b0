//! Hashes, HMAC, and the derivation of keys from passwords.
//!
//! Knows names of hashes and bytes. Does not know JavaScript.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Digest;

use super::Failure;

/// Evaluates `$body` with the type alias `$hash` for the hash that `$name` names.
macro_rules! with_hash {
    ($name:expr, $hash:ident => $body:expr) => {
        match $name {
            "md5" => {
                type $hash = md5::Md5;
                $body
            }
            "sha1" => {
                type $hash = sha1::Sha1;
                $body
            }
            "sha224" => {
                type $hash = sha2::Sha224;
                $body
            }
            "sha256" => {
                type $hash = sha2::Sha256;
                $body
            }
            "sha384" => {
                type $hash = sha2::Sha384;
                $body
            }
            "sha512" => {
                type $hash = sha2::Sha512;
                $body
            }
            other => Err($crate::native::crypto::Failure::unknown_hash(other)),
        }
    };
}
pub(super) use with_hash;

/// Returns the digest of `data`.
pub(super) fn digest(name: &str, data: &[u8]) -> Result<Vec<u8>, Failure> {
    with_hash!(name, H => Ok(H::digest(data).to_vec()))
}

/// Returns the HMAC of `data`.
pub(super) fn hmac(name: &str, key: &[u8], data: &[u8]) -> Result<Vec<u8>, Failure> {
    with_hash!(name, H => {
        let mut mac = Hmac::<H>::new_from_slice(key).expect("HMAC accepts keys of every length");
        mac.update(data);
        Ok(mac.finalize().into_bytes().to_vec())
    })
}

/// Derives `length` bytes from a password by PBKDF2 with HMAC.
pub(super) fn pbkdf2(name: &str, password: &[u8], salt: &[u8], rounds: u32, length: usize) -> Result<Vec<u8>, Failure> {
    let mut key = vec![0; length];
    with_hash!(name, H => {
        pbkdf2::pbkdf2_hmac::<H>(password, salt, rounds, &mut key);
        Ok(key)
    })
}

/// The cost of scrypt: `N` is two to the power of `log_n`.
pub(super) struct ScryptCost {
    pub(super) log_n: u8,
    pub(super) r: u32,
    pub(super) p: u32,
}

/// Derives `length` bytes from a password by scrypt.
pub(super) fn scrypt(password: &[u8], salt: &[u8], cost: &ScryptCost, length: usize) -> Result<Vec<u8>, Failure> {
    let params = scrypt::Params::new(cost.log_n, cost.r, cost.p)
        .map_err(|_| Failure::new("scrypt: invalid cost (N, r or p)"))?;
    let mut key = vec![0; length];
    scrypt::scrypt(password, salt, &params, &mut key).map_err(|_| Failure::new("scrypt: invalid length of the key"))?;
    Ok(key)
}
