//! An authorizer that admits peers with a ticket that another server has signed.
//!
//! A ticket is a parameter of the query string, `?ticket=NAME.EXPIRES.SIGNATURE`, because a browser cannot send headers
//! of its own with an upgrade request. `EXPIRES` is in seconds since the Unix epoch. The signature is the HMAC-SHA256
//! of `NAME.EXPIRES` in hexadecimal digits, with a key that this authorizer and that server share.

use hmac::{Hmac, KeyInit as _, Mac as _};
use jackfield_sdk::config;
use jackfield_sdk::prelude::*;
use sha2::Sha256;

/// The authorizer.
pub struct Ticket;

/// The name of the key in the table `config` of the manifest.
const KEY: &str = "key";
/// Shortest accepted key; a shorter one could be guessed.
const KEY_BYTES_MIN: usize = 32;

impl Authorizer for Ticket {
    fn authorize(context: &RequestContext, request: ConnectEvent) -> Result<Decision> {
        let key = config::get(KEY)?.filter(|key| key.len() >= KEY_BYTES_MIN);
        let key = key.ok_or_else(|| format!("config.{KEY} is missing or has less than {KEY_BYTES_MIN} bytes"))?;
        let Some(ticket) = request.query("ticket") else { return Ok(Decision::Unauthorized) };
        let Some((name, expires)) = verify(ticket, key.as_bytes()) else { return Ok(Decision::Unauthorized) };
        if context.request_time >= expires.saturating_mul(1000) {
            return Ok(Decision::Deny);
        }
        Ok(Decision::allow(name).with("expires", expires.to_string()))
    }
}

export_authorizer!(Ticket);

/// Returns the name and the expiry time of a ticket, if its signature is valid.
fn verify<'t>(ticket: &'t str, key: &[u8]) -> Option<(&'t str, u64)> {
    let (signed, signature) = ticket.rsplit_once('.')?;
    let (name, expires) = signed.rsplit_once('.')?;
    let signature = decode_hex(signature)?;
    let mut mac = Hmac::<Sha256>::new_from_slice(key).ok()?;
    mac.update(signed.as_bytes());
    // Compares in constant time, so that the duration reveals nothing about the valid signature.
    mac.verify_slice(&signature).ok()?;
    let expires = expires.parse().ok()?;
    (!name.is_empty()).then_some((name, expires))
}

fn decode_hex(digits: &str) -> Option<Vec<u8>> {
    let pairs = digits.as_bytes().chunks(2);
    pairs.map(|pair| u8::from_str_radix(str::from_utf8(pair).ok().filter(|pair| pair.len() == 2)?, 16).ok()).collect()
}
