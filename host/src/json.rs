//! JSON from outside. Accepts everything that RFC 8259 allows, also what serde_json rejects: escapes of halves of surrogate
//! pairs, and numbers that are larger than a float can be. Finds and formats values without changing their numbers.
//!
//! Does not know where JSON comes from, or what it means.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::ops::Range;

use serde::de::{Deserialize as _, DeserializeOwned, Deserializer as _, MapAccess, Visitor};
use serde_json::value::RawValue;

/// The byte order mark, with which some editors begin a file in UTF-8.
pub const BYTE_ORDER_MARK: char = '\u{feff}';

/// Parses JSON. Half of a surrogate pair becomes U+FFFD, and a number that is too large becomes the largest float.
///
/// # Errors
/// If it is not JSON, or not of this type.
pub fn parse<T: DeserializeOwned>(json: &[u8]) -> Result<T, serde_json::Error> {
    // Nearly all JSON is accepted at once, and costs nothing more.
    serde_json::from_slice(json).or_else(|error| {
        let replaced = str::from_utf8(json)
            .ok()
            .filter(|text| is_json(text))
            .map(|_| replaced(json, Replace::SurrogatesAndNumbers));
        match replaced {
            Some(Cow::Owned(json)) => serde_json::from_slice(&json),
            _ => Err(error),
        }
    })
}

/// Returns a file's content without the byte order mark at its start.
pub fn without_byte_order_mark(text: &[u8]) -> &[u8] {
    text.strip_prefix(BYTE_ORDER_MARK.encode_utf8(&mut [0; 4]).as_bytes()).unwrap_or(text)
}

/// Returns the JSON with `\ufffd` in place of every escape of half of a surrogate pair.
pub fn without_lone_surrogates(json: &[u8]) -> Cow<'_, [u8]> {
    replaced(json, Replace::Surrogates)
}

/// The members of an object in their order, with their values as they are written. They may have equal names.
///
/// # Errors
/// If the JSON is not an object, or a name has half of a surrogate pair.
pub fn members(json: &str) -> Result<Vec<(String, &RawValue)>, serde_json::Error> {
    let mut deserializer = serde_json::Deserializer::from_str(json);
    let members = deserializer.deserialize_map(Members)?;
    deserializer.end()?;
    Ok(members)
}

/// Does the same as `members`, but of several members with equal names only the last value is returned.
///
/// # Errors
/// As `members`.
pub fn unique_members(json: &str) -> Result<Vec<(String, &RawValue)>, serde_json::Error> {
    let mut unique: Vec<(String, &RawValue)> = Vec::new();
    let mut positions = HashMap::new();
    for (name, value) in members(json)? {
        match positions.get(&name) {
            Some(&position) => {
                let (_, known): &mut (String, &RawValue) = &mut unique[position];
                *known = value;
            }
            None => {
                positions.insert(name.clone(), unique.len());
                unique.push((name, value));
            }
        }
    }
    Ok(unique)
}

struct Members;

impl<'j> Visitor<'j> for Members {
    type Value = Vec<(String, &'j RawValue)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'j>>(self, mut object: A) -> Result<Self::Value, A::Error> {
        let mut members = Vec::new();
        while let Some(member) = object.next_entry()? {
            members.push(member);
        }
        Ok(members)
    }
}

// ---- text ------------------------------------------------------------------------------------

/// Converts a value, which must be JSON, to text: a string to its content, an array to `[item1, item2]` with this
/// separator, an object to JSON without spaces. Everything else stays as it is written.
pub fn text<'j>(json: &'j str, separator: &str) -> Cow<'j, str> {
    match json.as_bytes().first() {
        Some(b'"') => string(json),
        Some(b'[') => Cow::Owned(array(json, separator)),
        _ => compact(json),
    }
}

/// Removes the spaces between the tokens of JSON, and changes nothing else.
pub fn compact(json: &str) -> Cow<'_, str> {
    let mut compact = String::new();
    let (mut rest, mut is_changed) = (json, false);
    while let Some(next) = rest.find(|next: char| next == '"' || is_space(next)) {
        let (before, after) = rest.split_at(next);
        compact.push_str(before);
        if after.starts_with('"') {
            let (string, after) = after.split_at(string_length(after.as_bytes()));
            compact.push_str(string);
            rest = after;
        } else {
            rest = after.trim_start_matches(is_space);
            is_changed = true;
        }
    }
    compact.push_str(rest);
    if is_changed { Cow::Owned(compact) } else { Cow::Borrowed(json) }
}

fn string(json: &str) -> Cow<'_, str> {
    let content = &json[1..json.len() - 1];
    if !content.contains('\\') {
        return Cow::Borrowed(content);
    }
    Cow::Owned(parse(json.as_bytes()).expect("it is a string of JSON"))
}

/// Takes time in proportion to the length, however deep the arrays are nested.
fn array(json: &str, separator: &str) -> String {
    let mut text = String::new();
    let mut rest = json;
    while let Some(next) = rest.chars().next() {
        let length = match next {
            '"' => string_length(rest.as_bytes()),
            '{' => object_length(rest.as_bytes()),
            _ => next.len_utf8(),
        };
        let (token, after) = rest.split_at(length);
        match next {
            '"' => text.push_str(&string(token)),
            '{' => text.push_str(&compact(token)),
            ',' => text.push_str(separator),
            space if is_space(space) => {}
            other => text.push(other),
        }
        rest = after;
    }
    text
}

fn is_space(character: char) -> bool {
    matches!(character, ' ' | '\t' | '\n' | '\r')
}

/// Returns the length of the string that JSON begins with.
fn string_length(json: &[u8]) -> usize {
    let mut at = 1;
    while let Some(byte) = json.get(at) {
        match byte {
            b'"' => return at + 1,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    json.len()
}

/// Returns the length of the object that JSON begins with.
fn object_length(json: &[u8]) -> usize {
    let (mut at, mut depth) = (0, 0);
    while let Some(byte) = json.get(at) {
        match byte {
            b'"' => at += string_length(&json[at..]),
            b'{' => (at, depth) = (at + 1, depth + 1),
            b'}' if depth == 1 => return at + 1,
            b'}' => (at, depth) = (at + 1, depth - 1),
            _ => at += 1,
        }
    }
    json.len()
}

// ---- what serde_json rejects ------------------------------------------------------------------

#[derive(Clone, Copy, PartialEq, Eq)]
enum Replace {
    Surrogates,
    SurrogatesAndNumbers,
}

/// The numbers with the largest absolute values that a float can be, `f64::MAX` and `f64::MIN`.
const LARGEST: &[u8] = b"1.7976931348623157e308";
const SMALLEST: &[u8] = b"-1.7976931348623157e308";

/// Replaces halves of surrogate pairs, and perhaps numbers that are too large. What is not JSON stays as it is.
fn replaced(json: &[u8], replace: Replace) -> Cow<'_, [u8]> {
    let mut changes: Vec<(Range<usize>, &[u8])> = Vec::new();
    let mut at = 0;
    while let Some(byte) = json.get(at) {
        match byte {
            b'"' => {
                let end = at + string_length(&json[at..]);
                while at < end {
                    at += match (json[at], code_unit(json, at)) {
                        (_, Some(0xd800..=0xdbff)) if matches!(code_unit(json, at + 6), Some(0xdc00..=0xdfff)) => 12,
                        (_, Some(0xd800..=0xdfff)) => {
                            changes.push((at..at + 6, br"\ufffd"));
                            6
                        }
                        (b'\\', _) => 2,
                        _ => 1,
                    };
                }
            }
            b'-' | b'0'..=b'9' if replace == Replace::SurrogatesAndNumbers => {
                let is_number = |byte: &u8| matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E');
                let length = json[at..].iter().take_while(|byte| is_number(byte)).count();
                let number = std::str::from_utf8(&json[at..at + length]).ok().and_then(|text| text.parse::<f64>().ok());
                if let Some(number) = number.filter(|number| number.is_infinite()) {
                    changes.push((at..at + length, if number > 0.0 { LARGEST } else { SMALLEST }));
                }
                at += length;
            }
            _ => at += 1,
        }
    }
    if changes.is_empty() {
        return Cow::Borrowed(json);
    }
    let mut result = Vec::with_capacity(json.len());
    let mut copied = 0;
    for (range, replacement) in changes {
        result.extend_from_slice(&json[copied..range.start]);
        result.extend_from_slice(replacement);
        copied = range.end;
    }
    result.extend_from_slice(&json[copied..]);
    Cow::Owned(result)
}

/// Returns the code unit of the escape `\uXXXX` at this position, if there is one.
fn code_unit(json: &[u8], at: usize) -> Option<u16> {
    let digits = json.get(at..at + 6)?.strip_prefix(br"\u")?;
    digits.iter().try_fold(0, |unit, digit| Some(unit * 16 + char::from(*digit).to_digit(16)? as u16))
}

/// Returns whether a text is JSON.
pub fn is_json(text: &str) -> bool {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    serde::de::IgnoredAny::deserialize(&mut deserializer).is_ok() && deserializer.end().is_ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn half_of_a_surrogate_pair_is_replaced_and_a_whole_pair_is_not() {
        for (json, expected) in [
            (r#""\ud83d""#, "\u{fffd}"),
            (r#""\uDE00""#, "\u{fffd}"),
            (r#""\ud83d\ude00""#, "\u{1f600}"),
            (r#""\ud83d\ud83d\ude00""#, "\u{fffd}\u{1f600}"),
            (r#""\ude00\ud83d""#, "\u{fffd}\u{fffd}"),
            (r#""a\ud83dA\\ud83d""#, "a\u{fffd}A\\ud83d"),
            (r#""\\\ud83d\"""#, "\\\u{fffd}\""),
            (r#""\ud83d\n""#, "\u{fffd}\n"),
        ] {
            assert_eq!(parse::<String>(json.as_bytes()).unwrap(), expected, "{json}");
            assert_eq!(text(json, ","), expected, "{json}");
        }
        let object = parse::<Value>(br#"{"\udc00":["\ud800"]}"#).unwrap();
        assert_eq!(object, json!({ "\u{fffd}": ["\u{fffd}"] }));
        for broken in [r#""\ud83""#, r#""\ud83dx"#, r#""\uzzzz""#, r#"\ud83d"#, r#"{"a":"\ud83d"]"#] {
            assert!(parse::<Value>(broken.as_bytes()).is_err(), "{broken}");
        }
        assert!(matches!(without_lone_surrogates(br#"{"a":"\ud83d\ude00 \\ud83d"}"#), Cow::Borrowed(_)));
    }

    #[test]
    fn a_number_that_is_too_large_becomes_the_largest_float() {
        let parsed = parse::<Value>(br#"{"a":[1e400,-1E+999,1],"b":"1e400"}"#).unwrap();
        assert_eq!(parsed, json!({ "a": [f64::MAX, f64::MIN, 1], "b": "1e400" }));
        for broken in ["1e400e1", "-", "1e", "01e400", "[1e400", "1e400 x"] {
            assert!(parse::<Value>(broken.as_bytes()).is_err(), "{broken}");
        }
    }

    #[test]
    fn numbers_in_texts_stay_as_they_are_written() {
        for number in ["12345678901234567890123", "1e400", "-0", "1.0", "1.50", "1E3", "0.10000000000000000001"] {
            assert_eq!(text(number, ", "), number);
            let array =
                format!("[ {number} ,\n[\"a, \\\"b\", {{ \"n\" : {number} , \"s\" : \" \\\" }} \" }} ] , \"\"]");
            let expected = format!("[{number}, [a, \"b, {{\"n\":{number},\"s\":\" \\\" }} \"}}], ]");
            assert_eq!(text(&array, ", "), expected);
        }
        assert!(matches!(compact(r#"{"a b":[1,"c d"]}"#), Cow::Borrowed(_)));
        assert_eq!(compact("{ \"a b\" :\t[ 1,\r\n\"c  d\" ] }"), r#"{"a b":[1,"c  d"]}"#);
    }

    #[test]
    fn members_keep_their_order_and_the_last_of_equal_names_counts() {
        let values = |members: Vec<(String, &RawValue)>| {
            members.into_iter().map(|(name, value)| format!("{name}={}", value.get())).collect::<Vec<_>>()
        };
        let object = r#" { "b" : 1e400 , "a":[ 1 ], "\u0062":2 } "#;
        assert_eq!(values(members(object).unwrap()), ["b=1e400", "a=[ 1 ]", "b=2"]);
        assert_eq!(values(unique_members(object).unwrap()), ["b=2", "a=[ 1 ]"]);
        for other in ["[]", "1", "", "{", r#"{"a":1} x"#, r#"{"a":}"#] {
            assert!(members(other).is_err(), "{other}");
        }
    }

    #[test]
    fn a_byte_order_mark_is_removed_once_and_only_at_the_start() {
        assert_eq!(without_byte_order_mark("\u{feff}{}".as_bytes()), b"{}");
        assert_eq!(without_byte_order_mark("\u{feff}\u{feff}".as_bytes()), "\u{feff}".as_bytes());
        assert_eq!(without_byte_order_mark(b"{}"), b"{}");
        assert_eq!(without_byte_order_mark(b""), b"");
    }

    #[test]
    fn deep_nesting_is_formatted_without_recursion() {
        let deep = format!("{}{}", "[".repeat(60_000), "]".repeat(60_000));
        assert_eq!(text(&deep, ", "), deep);
        let objects = format!("{}1{}", r#"{"a":"#.repeat(60_000), "}".repeat(60_000));
        assert_eq!(text(&format!("[{objects}]"), ", "), format!("[{objects}]"));
    }

    proptest! {
        #[test]
        fn what_is_replaced_is_accepted_and_everything_else_stays_as_it_is(
            text in r#"(\\u(d[89abcdef]|D[8-9A-F]|00)[0-9a-f]{2}|\\["\\/bfnrt]|[a-z 1-9é]){0,12}"#
        ) {
            let json = format!("[\"{text}\",{{\"{text}\":1}}]");
            prop_assert!(is_json(&json));
            let parsed: Vec<Value> = parse(json.as_bytes()).unwrap();
            let units: Vec<u16> = units(&text);
            prop_assert_eq!(parsed[0].as_str().unwrap(), String::from_utf16_lossy(&units));
        }

        #[test]
        fn arbitrary_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..40), text in r#"[\[\]{}",:\\ue1d8-]{0,20}"#) {
            for bytes in [&bytes[..], text.as_bytes()] {
                let _ = parse::<Value>(bytes);
                let _ = without_lone_surrogates(bytes);
                let _ = (compact(&text), object_length(bytes), string_length(bytes));
            }
            if is_json(&text) {
                let _ = super::text(&text, ", ");
            }
        }
    }

    /// Returns the code units of the content of a string, as JavaScript reads it.
    fn units(content: &str) -> Vec<u16> {
        let mut units = Vec::new();
        let mut rest = content;
        while let Some(next) = rest.chars().next() {
            if let Some(unit) = code_unit(rest.as_bytes(), 0) {
                units.push(unit);
                rest = &rest[6..];
            } else if next == '\\' {
                units.push(match rest.as_bytes()[1] {
                    b'b' => 8,
                    b'f' => 12,
                    b'n' => 10,
                    b'r' => 13,
                    b't' => 9,
                    other => other.into(),
                });
                rest = &rest[2..];
            } else {
                units.extend(next.encode_utf16(&mut [0; 2]).iter());
                rest = &rest[next.len_utf8()..];
            }
        }
        units
    }
}
