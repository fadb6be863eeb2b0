//! An authorizer: lets in whoever has a ticket that a server of yours has signed.
//!
//! A ticket is a text for the query string, `?ticket=NAME.EXPIRES.SIGNATURE`: a browser can send no header with its
//! upgrade request. `EXPIRES` is in seconds since the Unix epoch; the signature is HMAC-SHA256 of `NAME.EXPIRES` under a
//! key that this authorizer and that server share, in hexadecimal digits.

use hmac::{Hmac, KeyInit as _, Mac as _};
use jackfield_sdk::config;
use jackfield_sdk::prelude::*;
use sha2::Sha256;

/// The authorizer.
pub struct Ticket;

/// What `config` in the manifest calls the key.
const KEY: &str = "key";
/// A shorter key could be guessed.
const KEY_BYTES_MIN: usize = 32;

impl Authorizer for Ticket {
    fn authorize(context: &RequestContext, request: ConnectEvent) -> Result<Decision> {
        let key = config::get(KEY)?.filter(|key| key.len() >= KEY_BYTES_MIN);
        let key = key.ok_or_else(|| format!("config.{KEY} is not there or has less than {KEY_BYTES_MIN} bytes"))?;
        let Some(ticket) = request.query("ticket") else { return Ok(Decision::Unauthorized) };
        let Some((name, expires)) = read(ticket, key.as_bytes()) else { return Ok(Decision::Unauthorized) };
        if context.request_time >= expires.saturating_mul(1000) {
            return Ok(Decision::Deny);
        }
        Ok(Decision::allow(name).with("expires", expires.to_string()))
    }
}

export_authorizer!(Ticket);

/// Name and end of a ticket, if its signature is right.
fn read<'t>(ticket: &'t str, key: &[u8]) -> Option<(&'t str, u64)> {
    let (signed, signature) = ticket.rsplit_once('.')?;
    let (name, expires) = signed.rsplit_once('.')?;
    let signature = bytes(signature)?;
    let mut mac = Hmac::<Sha256>::new_from_slice(key).ok()?;
    mac.update(signed.as_bytes());
    // In constant time.
    mac.verify_slice(&signature).ok()?;
    let expires = expires.parse().ok()?;
    (!name.is_empty()).then_some((name, expires))
}

/// The bytes of hexadecimal digits.
fn bytes(digits: &str) -> Option<Vec<u8>> {
    let pairs = digits.as_bytes().chunks(2);
    pairs.map(|pair| u8::from_str_radix(str::from_utf8(pair).ok().filter(|pair| pair.len() == 2)?, 16).ok()).collect()
}
