//! `native.encoding`: text to bytes and back.
//!
//! The state of a decoder that reads a stream is in JavaScript: it keeps the bytes that `utf8Tail` counts for the next call.

use rquickjs::{Ctx, Function, Object, Result};

use super::{Bytes, Text};

/// The characters 0x80 to 0x9F of windows-1252, which is what the Encoding standard means by latin1.
const WINDOWS_1252: [u16; 32] = [
    0x20AC, 0x0081, 0x201A, 0x0192, 0x201E, 0x2026, 0x2020, 0x2021, 0x02C6, 0x2030, 0x0160, 0x2039, 0x0152, 0x008D,
    0x017D, 0x008F, 0x0090, 0x2018, 0x2019, 0x201C, 0x201D, 0x2022, 0x2013, 0x2014, 0x02DC, 0x2122, 0x0161, 0x203A,
    0x0153, 0x009D, 0x017E, 0x0178,
];

pub fn object<'js>(ctx: &Ctx<'js>) -> Result<Object<'js>> {
    let object = Object::new(ctx.clone())?;
    object.set("utf8Encode", Function::new(ctx.clone(), |text: Text| Bytes(text.0.into_bytes()))?)?;
    object.set("utf8Length", Function::new(ctx.clone(), |text: Text| text.0.len())?)?;
    object.set("utf8Decode", Function::new(ctx.clone(), utf8_decode)?)?;
    object.set("utf8Tail", Function::new(ctx.clone(), |bytes: Bytes| utf8_tail(&bytes.0))?)?;
    object.set("utf16Decode", Function::new(ctx.clone(), utf16_decode)?)?;
    object.set("windows1252Decode", Function::new(ctx.clone(), windows_1252_decode)?)?;
    Ok(object)
}

/// Decodes UTF-8. If `fatal`, returns undefined for bytes that are not valid; otherwise each of them becomes U+FFFD.
fn utf8_decode(bytes: Bytes, fatal: bool) -> Option<String> {
    match String::from_utf8(bytes.0) {
        Ok(text) => Some(text),
        Err(_) if fatal => None,
        Err(error) => Some(String::from_utf8_lossy(error.as_bytes()).into_owned()),
    }
}

/// Returns how many bytes at the end begin a character that is not complete, and that further bytes can complete.
fn utf8_tail(bytes: &[u8]) -> usize {
    // A character has at most 4 bytes, so an incomplete one has at most 3.
    let end = &bytes[bytes.len().saturating_sub(3)..];
    let is_incomplete = |start: &usize| {
        std::str::from_utf8(&end[*start..]).is_err_and(|error| error.valid_up_to() == 0 && error.error_len().is_none())
    };
    (0..end.len()).find(is_incomplete).map_or(0, |start| end.len() - start)
}

/// Decodes UTF-16. An odd byte at the end is not valid. If `fatal`, returns undefined for units that are not valid.
fn utf16_decode(bytes: Bytes, big_endian: bool, fatal: bool) -> Option<String> {
    let (pairs, odd) = bytes.0.as_chunks::<2>();
    let unit = |pair: &[u8; 2]| if big_endian { u16::from_be_bytes(*pair) } else { u16::from_le_bytes(*pair) };
    let mut text = String::with_capacity(bytes.0.len());
    for decoded in char::decode_utf16(pairs.iter().map(unit)) {
        match decoded {
            Ok(character) => text.push(character),
            Err(_) if fatal => return None,
            Err(_) => text.push(char::REPLACEMENT_CHARACTER),
        }
    }
    if !odd.is_empty() {
        if fatal {
            return None;
        }
        text.push(char::REPLACEMENT_CHARACTER);
    }
    Some(text)
}

fn windows_1252_decode(bytes: Bytes) -> String {
    let character = |byte: u8| match byte {
        0x80..=0x9F => char::from_u32(WINDOWS_1252[usize::from(byte - 0x80)].into()).unwrap_or(char::from(byte)),
        _ => char::from(byte),
    };
    bytes.0.into_iter().map(character).collect()
}
