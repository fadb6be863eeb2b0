//! Values of cases, and the short forms that they are written in.

use serde_json::{Map, Value, json};

/// What every reply begins with, so that a runner can distinguish it from what was posted.
pub const REPLY_PREFIX: &str = "reply ";

/// Longest text in a result; a longer one is replaced by its length, so that every result fits into one message.
const TEXT_BYTES_MAX: usize = 256;

/// Writes out `{"repeat": TEXT, "times": N}` and `{"list": ITEM, "times": N}`, wherever they are in a value.
pub fn expand(value: &Value) -> Value {
    match value {
        Value::Array(items) => items.iter().map(expand).collect(),
        Value::Object(fields) => match (fields.get("repeat"), fields.get("list"), fields.get("times")) {
            (Some(Value::String(text)), _, Some(times)) => text.repeat(count(times)).into(),
            (_, Some(item), Some(times)) => {
                let times = count(times);
                (0..times).map(|number| expand(&numbered(item, number, times))).collect()
            }
            _ => fields.iter().map(|(name, field)| (name.clone(), expand(field))).collect::<Map<_, _>>().into(),
        },
        other => other.clone(),
    }
}

fn count(times: &Value) -> usize {
    times.as_u64().and_then(|times| usize::try_from(times).ok()).expect("\"times\" is a number")
}

/// Replaces `{n}` in every text of a value by a number of this many items. All numbers have the same digits, so that
/// their order is that of their texts.
pub fn numbered(value: &Value, number: usize, times: usize) -> Value {
    let digits = times.saturating_sub(1).to_string().len();
    map_texts(value, &|text| text.replace("{n}", &format!("{number:0digits$}")))
}

pub fn map_texts(value: &Value, map: &impl Fn(&str) -> String) -> Value {
    match value {
        Value::String(text) => map(text).into(),
        Value::Array(items) => items.iter().map(|item| map_texts(item, map)).collect(),
        Value::Object(fields) => {
            fields.iter().map(|(name, field)| (name.clone(), map_texts(field, map))).collect::<Map<_, _>>().into()
        }
        other => other.clone(),
    }
}

/// Replaces each long text by `{"length": BYTES}`.
pub fn shortened(value: Value) -> Value {
    match value {
        Value::String(text) if text.len() > TEXT_BYTES_MAX => json!({ "length": text.len() }),
        Value::Array(items) => items.into_iter().map(shortened).collect(),
        Value::Object(fields) => {
            fields.into_iter().map(|(name, field)| (name, shortened(field))).collect::<Map<_, _>>().into()
        }
        other => other,
    }
}

/// Bytes as they are in a result: a text if they are UTF-8, else `{"hex": DIGITS}`.
pub fn from_bytes(bytes: &[u8]) -> Value {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.into(),
        Err(_) if bytes.len() > TEXT_BYTES_MAX => json!({ "length": bytes.len() }),
        Err(_) => json!({ "hex": hex(bytes) }),
    }
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Bytes as a case has them: a text, or `{"hex": DIGITS}`.
pub fn to_bytes(value: &Value) -> Vec<u8> {
    match (value.as_str(), value["hex"].as_str()) {
        (Some(text), _) => text.as_bytes().to_vec(),
        (None, Some(hex)) => (0..hex.len() / 2)
            .map(|byte| u8::from_str_radix(&hex[2 * byte..2 * byte + 2], 16).expect("\"hex\" has hexadecimal digits"))
            .collect(),
        (None, None) => panic!("expected a text or {{\"hex\": ..}}, found {value}"),
    }
}
