//! `native.crypto`: what `node:crypto` and WebCrypto need from native code.
//!
//! Every function takes and returns whole byte arrays and keeps no state, so that nothing of it is in an image.

mod cipher;
mod hash;
mod key;
mod sign;

use std::fmt;

use rquickjs::function::Opt;
use rquickjs::{Array, Ctx, Exception, Function, Object, Result, TypedArray};
use subtle::ConstantTimeEq;

use self::key::{Described, PrivateKey, PublicKey};
use self::sign::Scheme;
use super::{Bytes, refuse_while_loading};
use crate::bindings::wasi::random::random;

/// Why a function of this module failed; the JavaScript side makes an `Error` of it.
#[derive(Debug)]
struct Failure(String);

impl Failure {
    fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }

    fn unknown_hash(name: &str) -> Self {
        Self(format!("the hash {name:?} is not supported; md5, sha1, sha224, sha256, sha384 and sha512 are"))
    }

    fn throw(self, ctx: &Ctx<'_>) -> rquickjs::Error {
        Exception::throw_message(ctx, &self.0)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Failure {}

/// The host's secure randomness, for RustCrypto.
struct Random;

impl rsa::rand_core::TryRng for Random {
    type Error = Failure;

    fn try_next_u32(&mut self) -> std::result::Result<u32, Failure> {
        let mut bytes = [0; 4];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> std::result::Result<u64, Failure> {
        let mut bytes = [0; 8];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> std::result::Result<(), Failure> {
        bytes.copy_from_slice(&random::get_random_bytes(bytes.len() as u64));
        Ok(())
    }
}

impl rsa::rand_core::TryCryptoRng for Random {}

/// Makes `native.crypto`.
pub fn object<'js>(ctx: &Ctx<'js>) -> Result<Object<'js>> {
    let object = Object::new(ctx.clone())?;
    hashes(ctx, &object)?;
    keys(ctx, &object)?;
    signatures(ctx, &object)?;
    Ok(object)
}

fn bytes<'js>(ctx: &Ctx<'js>, result: std::result::Result<Vec<u8>, Failure>) -> Result<TypedArray<'js, u8>> {
    let bytes = result.map_err(|failure| failure.throw(ctx))?;
    TypedArray::new(ctx.clone(), bytes)
}

fn hashes<'js>(ctx: &Ctx<'js>, object: &Object<'js>) -> Result<()> {
    object.set(
        "digest",
        Function::new(ctx.clone(), |ctx: Ctx<'js>, name: String, data: Bytes| {
            bytes(&ctx, hash::digest(&name, &data.0))
        })?,
    )?;
    object.set(
        "hmac",
        Function::new(ctx.clone(), |ctx: Ctx<'js>, name: String, key: Bytes, data: Bytes| {
            bytes(&ctx, hash::hmac(&name, &key.0, &data.0))
        })?,
    )?;
    object.set(
        "pbkdf2",
        Function::new(
            ctx.clone(),
            |ctx: Ctx<'js>, name: String, password: Bytes, salt: Bytes, rounds: u32, length: usize| {
                bytes(&ctx, hash::pbkdf2(&name, &password.0, &salt.0, rounds, length))
            },
        )?,
    )?;
    object.set(
        "scrypt",
        Function::new(
            ctx.clone(),
            |ctx: Ctx<'js>, password: Bytes, salt: Bytes, log_n: u8, r: u32, p: u32, length: usize| {
                let cost = hash::ScryptCost { log_n, r, p };
                bytes(&ctx, hash::scrypt(&password.0, &salt.0, &cost, length))
            },
        )?,
    )?;
    object.set("equal", Function::new(ctx.clone(), |a: Bytes, b: Bytes| bool::from(a.0.ct_eq(&b.0)))?)?;
    object.set(
        "aesGcm",
        Function::new(
            ctx.clone(),
            |ctx: Ctx<'js>, encrypt: bool, key: Bytes, nonce: Bytes, associated: Bytes, data: Bytes| {
                let input =
                    cipher::AesGcmInput { key: &key.0, nonce: &nonce.0, associated: &associated.0, data: &data.0 };
                bytes(&ctx, cipher::aes_gcm(encrypt, &input))
            },
        )?,
    )
}

fn described<'js>(ctx: &Ctx<'js>, result: std::result::Result<Described, Failure>) -> Result<Object<'js>> {
    let described = result.map_err(|failure| failure.throw(ctx))?;
    let object = Object::new(ctx.clone())?;
    object.set("kind", described.kind)?;
    object.set("der", TypedArray::<u8>::new(ctx.clone(), described.der)?)?;
    let parts = Array::new(ctx.clone())?;
    for (index, part) in described.parts.into_iter().enumerate() {
        parts.set(index, TypedArray::<u8>::new(ctx.clone(), part)?)?;
    }
    object.set("parts", parts)?;
    Ok(object)
}

fn keys<'js>(ctx: &Ctx<'js>, object: &Object<'js>) -> Result<()> {
    object.set(
        "readPublic",
        Function::new(ctx.clone(), |ctx: Ctx<'js>, form: String, der: Bytes| {
            described(&ctx, PublicKey::read(&form, &der.0).and_then(|key| key.describe()))
        })?,
    )?;
    object.set(
        "readPrivate",
        Function::new(ctx.clone(), |ctx: Ctx<'js>, form: String, der: Bytes| {
            described(&ctx, PrivateKey::read(&form, &der.0).and_then(|key| key.describe()))
        })?,
    )?;
    let parts = |parts: Vec<Bytes>| parts.into_iter().map(|part| part.0).collect::<Vec<_>>();
    object.set(
        "assemblePublic",
        Function::new(ctx.clone(), move |ctx: Ctx<'js>, kind: String, list: Vec<Bytes>| {
            described(&ctx, PublicKey::assemble(&kind, &parts(list)).and_then(|key| key.describe()))
        })?,
    )?;
    object.set(
        "assemblePrivate",
        Function::new(ctx.clone(), move |ctx: Ctx<'js>, kind: String, list: Vec<Bytes>| {
            described(&ctx, PrivateKey::assemble(&kind, &parts(list)).and_then(|key| key.describe()))
        })?,
    )?;
    object.set(
        "publicOf",
        Function::new(ctx.clone(), |ctx: Ctx<'js>, pkcs8: Bytes| {
            described(&ctx, PrivateKey::read("pkcs8", &pkcs8.0).and_then(|key| key.public().describe()))
        })?,
    )
}

fn signatures<'js>(ctx: &Ctx<'js>, object: &Object<'js>) -> Result<()> {
    object.set(
        "verify",
        Function::new(
            ctx.clone(),
            |ctx: Ctx<'js>,
             spki: Bytes,
             name: String,
             hash: String,
             message: Bytes,
             signature: Bytes,
             salt_bytes: Opt<Option<usize>>| {
                let scheme = Scheme { name: &name, hash: &hash, salt_bytes: salt_bytes.0.flatten() };
                PublicKey::read("spki", &spki.0)
                    .and_then(|key| sign::verify(&key, &scheme, &message.0, &signature.0))
                    .map_err(|failure| failure.throw(&ctx))
            },
        )?,
    )?;
    object.set(
        "sign",
        Function::new(
            ctx.clone(),
            |ctx: Ctx<'js>,
             pkcs8: Bytes,
             name: String,
             hash: String,
             message: Bytes,
             salt_bytes: Opt<Option<usize>>| {
                // RSA blinds with secure randomness; the others are refused too, so that the rule is one.
                refuse_while_loading(&ctx, "crypto.sign")?;
                let scheme = Scheme { name: &name, hash: &hash, salt_bytes: salt_bytes.0.flatten() };
                let signed = PrivateKey::read("pkcs8", &pkcs8.0)
                    .and_then(|key| sign::sign(&key, &scheme, &message.0, &mut Random));
                bytes(&ctx, signed)
            },
        )?,
    )
}
