//! AES-GCM, with a tag of 16 bytes at the end of the encrypted data.

use aes_gcm::aead::consts::{U12, U16};
use aes_gcm::aead::{Aead, Payload};
use aes_gcm::aes::{Aes128, Aes192, Aes256};
use aes_gcm::{AesGcm, KeyInit, Nonce};

use super::Failure;

/// The inputs of one encryption or decryption.
pub(super) struct AesGcmInput<'a> {
    pub(super) key: &'a [u8],
    pub(super) nonce: &'a [u8],
    pub(super) associated: &'a [u8],
    pub(super) data: &'a [u8],
}

/// Encrypts `data` and appends the tag, or checks the tag and decrypts.
pub(super) fn aes_gcm(encrypt: bool, input: &AesGcmInput<'_>) -> Result<Vec<u8>, Failure> {
    match input.key.len() {
        16 => run::<AesGcm<Aes128, U12, U16>>(encrypt, input),
        24 => run::<AesGcm<Aes192, U12, U16>>(encrypt, input),
        32 => run::<AesGcm<Aes256, U12, U16>>(encrypt, input),
        other => Err(Failure::new(format!("AES: a key of {other} bytes; expected 16, 24 or 32"))),
    }
}

fn run<C>(encrypt: bool, input: &AesGcmInput<'_>) -> Result<Vec<u8>, Failure>
where
    C: Aead<NonceSize = U12> + KeyInit,
{
    let cipher = C::new_from_slice(input.key).map_err(|_| Failure::new("AES: invalid key"))?;
    let nonce = Nonce::<U12>::try_from(input.nonce)
        .map_err(|_| Failure::new("AES-GCM: an iv of another length than 12 bytes is not supported"))?;
    let payload = Payload { msg: input.data, aad: input.associated };
    let result = if encrypt { cipher.encrypt(&nonce, payload) } else { cipher.decrypt(&nonce, payload) };
    result.map_err(|_| Failure::new("AES-GCM: the data is not authentic"))
}
