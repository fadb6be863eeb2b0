//! `native.buffer`: the encodings of node's `Buffer`, with node's tolerance of malformed text.
//!
//! Lone surrogates in strings become U+FFFD, as in node.

use rquickjs::{Ctx, Function, Object, Result, TypedArray};

use super::{Bytes, Text};

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const BASE64_URL: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
const HEX: &[u8; 16] = b"0123456789abcdef";

/// Makes bytes of a text in one encoding.
type Encode = fn(&str) -> Vec<u8>;
/// Makes a text of bytes in one encoding.
type Decode = fn(&[u8]) -> String;

/// Makes `native.buffer`.
pub fn object<'js>(ctx: &Ctx<'js>) -> Result<Object<'js>> {
    let object = Object::new(ctx.clone())?;
    let encode: [(&str, Encode); 4] = [
        ("fromUtf8", |text| text.as_bytes().to_vec()),
        ("fromLatin1", from_latin1),
        ("fromBase64", from_base64),
        ("fromHex", from_hex),
    ];
    for (name, encode) in encode {
        let function = move |ctx: Ctx<'js>, text: Text| TypedArray::<u8>::new(ctx, encode(&text.0));
        object.set(name, Function::new(ctx.clone(), function)?)?;
    }
    let decode: [(&str, Decode); 6] = [
        ("toUtf8", |bytes| String::from_utf8_lossy(bytes).into_owned()),
        ("toLatin1", |bytes| bytes.iter().map(|byte| char::from(*byte)).collect()),
        ("toAscii", |bytes| bytes.iter().map(|byte| char::from(byte & 0x7f)).collect()),
        ("toBase64", |bytes| to_base64(bytes, BASE64, true)),
        ("toBase64Url", |bytes| to_base64(bytes, BASE64_URL, false)),
        ("toHex", to_hex),
    ];
    for (name, decode) in decode {
        let function = move |bytes: Bytes| decode(&bytes.0);
        object.set(name, Function::new(ctx.clone(), function)?)?;
    }
    // Undefined if the bytes are not UTF-8.
    let strict_utf8 = |bytes: Bytes| String::from_utf8(bytes.0).ok();
    object.set("strictUtf8", Function::new(ctx.clone(), strict_utf8)?)?;
    object.set("utf8Length", Function::new(ctx.clone(), |text: Text| text.0.len())?)?;
    Ok(object)
}

/// The lowest byte of every UTF-16 unit, as node does.
#[expect(clippy::cast_possible_truncation, reason = "node truncates units above 255")]
fn from_latin1(text: &str) -> Vec<u8> {
    text.encode_utf16().map(|unit| unit as u8).collect()
}

/// Both alphabets; other characters are skipped, and the first `=` is the end.
fn from_base64(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3 + 3);
    // `bits` ends with the `held` bits that are not in `bytes` yet.
    let (mut bits, mut held) = (0_u16, 0);
    for character in text.bytes() {
        let value = match character {
            b'A'..=b'Z' => character - b'A',
            b'a'..=b'z' => character - b'a' + 26,
            b'0'..=b'9' => character - b'0' + 52,
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            b'=' => break,
            _ => continue,
        };
        bits = bits << 6 | u16::from(value);
        held += 6;
        if held >= 8 {
            held -= 8;
            let [_, byte] = (bits >> held).to_be_bytes();
            bytes.push(byte);
        }
    }
    bytes
}

/// Ends before the first pair that is not two hexadecimal digits.
fn from_hex(text: &str) -> Vec<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let pairs = text.as_bytes().chunks_exact(2);
    let bytes = pairs.map_while(|pair| u8::try_from(digit(pair[0])? << 4 | digit(pair[1])?).ok());
    bytes.collect()
}

fn to_base64(bytes: &[u8], alphabet: &[u8; 64], padded: bool) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let group = chunk.iter().fold(0_u32, |group, byte| group << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for position in 0..4 {
            if position <= chunk.len() {
                let index = group >> (18 - 6 * position) & 63;
                text.push(char::from(alphabet[index as usize]));
            } else if padded {
                text.push('=');
            }
        }
    }
    text
}

fn to_hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        text.push(char::from(HEX[usize::from(byte >> 4)]));
        text.push(char::from(HEX[usize::from(byte & 15)]));
    }
    text
}
