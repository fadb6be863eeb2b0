//! What the test double parses as the real host does: query strings, and the route that a message selects.

use std::collections::HashMap;

use serde_json::value::RawValue;

use crate::{Field, Payload};

/// Returns the route that `$request.body.action` selects among `routes`; any action is a route if `routes` is empty.
///
/// Only a text message can select a route. An action that begins with `$` selects none.
pub fn select_route(body: &Payload, routes: &[&str]) -> String {
    let members = body.as_text().and_then(|text| serde_json::from_str::<HashMap<String, &RawValue>>(text).ok());
    let action = members.as_ref().and_then(|members| members.get("action"));
    let action = action.map(|action| action_text(action.get())).unwrap_or_default();
    let is_route = routes.is_empty() || routes.contains(&action.as_str());
    if action.is_empty() || action.starts_with('$') || !is_route {
        return "$default".to_owned();
    }
    action
}

/// The text of an action: a string as it is, an array as `[item1, item2]`, and anything else as JSON without spaces, whose
/// numbers stay as they are written.
fn action_text(action: &str) -> String {
    if let Ok(text) = serde_json::from_str(action) {
        return text;
    }
    match serde_json::from_str::<Vec<&RawValue>>(action) {
        Ok(items) => {
            format!("[{}]", items.iter().map(|item| action_text(item.get())).collect::<Vec<_>>().join(", "))
        }
        Err(_) => without_spaces(action),
    }
}

/// Removes the spaces between the tokens of JSON.
fn without_spaces(json: &str) -> String {
    let (mut is_in_string, mut is_escaped) = (false, false);
    let is_kept = |character: &char| {
        if is_in_string {
            is_in_string = is_escaped || *character != '"';
            is_escaped = !is_escaped && *character == '\\';
            return true;
        }
        is_in_string = *character == '"';
        !matches!(character, ' ' | '\t' | '\r' | '\n')
    };
    json.chars().filter(is_kept).collect()
}

/// Parses a query string such as `?a=1&b=2` and decodes its percent-encoding.
pub fn query_fields(query: &str) -> Vec<Field> {
    query
        .strip_prefix('?')
        .unwrap_or(query)
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (percent_decode(name), percent_decode(value))
        })
        .collect()
}

fn percent_decode(text: &str) -> String {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let hex = match (first, after) {
            (b'%', [high, low, ..]) => hex_digit(*high).zip(hex_digit(*low)),
            _ => None,
        };
        match hex {
            Some((high, low)) => {
                decoded.push(high << 4 | low);
                rest = &after[2..];
            }
            None => {
                decoded.push(if *first == b'+' { b' ' } else { *first });
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

fn hex_digit(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(name: &str, value: &str) -> Field {
        (name.to_owned(), value.to_owned())
    }

    #[test]
    fn a_query_string_is_parsed_and_decoded() {
        assert_eq!(query_fields(""), []);
        assert_eq!(query_fields("?"), []);
        assert_eq!(
            query_fields("?a=1&b=x%20y+z&c&a=%C3%A4"),
            [field("a", "1"), field("b", "x y z"), field("c", ""), field("a", "ä")]
        );
        assert_eq!(query_fields("a=100%"), [field("a", "100%")]);
    }

    #[test]
    fn an_action_without_a_route_selects_the_default_route() {
        let body = Payload::from(r#"{"action":"send"}"#);
        assert_eq!(select_route(&body, &[]), "send");
        assert_eq!(select_route(&body, &["send"]), "send");
        assert_eq!(select_route(&body, &["who"]), "$default");
        assert_eq!(select_route(&Payload::from("hello"), &[]), "$default");
        assert_eq!(select_route(&Payload::from(r#""send""#), &[]), "$default");
        assert_eq!(select_route(&Payload::from(r#"{"action":7}"#), &[]), "7");
        assert_eq!(select_route(&Payload::from(r#"{"action":["a",1]}"#), &[]), "[a, 1]");
        assert_eq!(select_route(&Payload::from(r#"{"action":"$connect"}"#), &[]), "$default");
        assert_eq!(select_route(&Payload::Binary(br#"{"action":"send"}"#.to_vec()), &[]), "$default");
    }
}
