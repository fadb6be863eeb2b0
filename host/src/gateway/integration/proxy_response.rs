//! Parses the result of a Lambda function under proxy integration.
//!
//! Pure. Like API Gateway, it rejects an object with an unknown key and an object without a status.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use crate::event::{Field, Response};
use crate::json;
use crate::payload::Payload;
use crate::printable::{printable, shortened};

/// Longest unknown key in an error text, in bytes; longer keys are shortened.
const KEY_BYTES_MAX: usize = 64;
/// Longest text of a function's own error, in bytes; longer texts are shortened.
const FAILURE_BYTES_MAX: usize = 4 * 1024;

/// Why a result is not a response: what was found and what was expected.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{found}, expected {expected}")]
pub struct Malformed {
    found: String,
    expected: &'static str,
}

/// Parses the response in a function's payload.
pub fn parse(payload: &[u8]) -> Result<Response, Malformed> {
    let object = match json::parse(payload) {
        Ok(Value::Object(object)) => object,
        Ok(other) => return Err(malformed(json_kind(&other), "an object with a statusCode")),
        Err(_) if payload.is_empty() => return Err(malformed("nothing", "an object with a statusCode")),
        Err(_) => return Err(malformed("text that is not JSON", "an object with a statusCode")),
    };
    let (mut status_code, mut body, mut is_base64_encoded, mut headers) = (None, None, false, Vec::new());
    for (key, value) in object {
        match &*key {
            "statusCode" => status_code = Some(status(&value)?),
            "body" => body = text(value)?,
            "isBase64Encoded" => is_base64_encoded = flag(&value)?,
            "headers" => single_values(value, &mut headers)?,
            "multiValueHeaders" => multiple_values(value, &mut headers)?,
            _ => {
                let key = shortened(&printable(&key), KEY_BYTES_MAX).into_owned();
                let expected = "only statusCode, headers, multiValueHeaders, body and isBase64Encoded";
                return Err(malformed(format!("the key \"{key}\""), expected));
            }
        }
    }
    let status_code = status_code.ok_or_else(|| malformed("no statusCode", "one from 200 to 599"))?;
    let body = match body {
        Some(body) if is_base64_encoded => {
            let bytes = STANDARD.decode(body).map_err(|_| malformed("a body that is not base64", "base64"))?;
            Some(Payload::Binary(bytes.into()))
        }
        body => body.map(Payload::from),
    };
    Ok(Response { status_code, headers, body })
}

/// Returns the text of the function's own error, if the payload is one. The payload decides because the Runtime
/// Interface Emulator sends an error like any other result, without the header `X-Amz-Function-Error`.
pub fn function_failure(payload: &[u8]) -> Option<String> {
    let error: Map<String, Value> = json::parse(payload).ok()?;
    if error.contains_key("statusCode") {
        return None;
    }
    let text = |key| error.get(key).map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned));
    let failure = match (text("errorType"), text("errorMessage")) {
        (None, None) => return None,
        (Some(kind), Some(message)) => format!("{kind}: {message}"),
        (kind, message) => kind.or(message).unwrap_or_default(),
    };
    Some(shortened(&printable(&failure), FAILURE_BYTES_MAX).into_owned())
}

fn malformed(found: impl Into<String>, expected: &'static str) -> Malformed {
    Malformed { found: found.into(), expected }
}

/// Returns the type of a JSON value, as text for an error.
pub fn json_kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

/// Parses a number, or a string with a number: some of AWS's own samples write `"200"`.
fn status(value: &Value) -> Result<u16, Malformed> {
    let number = match value {
        Value::Number(number) => number.as_u64(),
        Value::String(text) => text.parse().ok(),
        _ => None,
    };
    let status = number.filter(|status| (200..=599).contains(status)).and_then(|status| u16::try_from(status).ok());
    status.ok_or_else(|| {
        let found = match value {
            Value::Number(number) => format!("the statusCode {number}"),
            other => format!("{} as the statusCode", json_kind(other)),
        };
        malformed(found, "one from 200 to 599")
    })
}

fn text(value: Value) -> Result<Option<String>, Malformed> {
    match value {
        Value::Null => Ok(None),
        Value::String(text) => Ok(Some(text)),
        other => Err(malformed(format!("{} as the body", json_kind(&other)), "a string")),
    }
}

fn flag(value: &Value) -> Result<bool, Malformed> {
    match value {
        Value::Null => Ok(false),
        Value::Bool(flag) => Ok(*flag),
        other => Err(malformed(format!("{} as isBase64Encoded", json_kind(other)), "true or false")),
    }
}

fn single_values(value: Value, headers: &mut Vec<Field>) -> Result<(), Malformed> {
    let fields = match value {
        Value::Null => return Ok(()),
        Value::Object(fields) => fields,
        other => return Err(malformed(format!("{} as headers", json_kind(&other)), "an object of strings")),
    };
    for (name, value) in fields {
        headers.extend(header_value(value)?.map(|value| (name, value)));
    }
    Ok(())
}

fn multiple_values(value: Value, headers: &mut Vec<Field>) -> Result<(), Malformed> {
    const EXPECTED: &str = "an object of arrays of strings";
    let fields = match value {
        Value::Null => return Ok(()),
        Value::Object(fields) => fields,
        other => return Err(malformed(format!("{} as multiValueHeaders", json_kind(&other)), EXPECTED)),
    };
    for (name, values) in fields {
        let Value::Array(values) = values else {
            return Err(malformed(format!("{} in multiValueHeaders", json_kind(&values)), EXPECTED));
        };
        for value in values {
            headers.extend(header_value(value)?.map(|value| (name.clone(), value)));
        }
    }
    Ok(())
}

/// Converts a header value to text. Numbers and booleans are accepted too, as in
/// `"Access-Control-Allow-Credentials": true`.
fn header_value(value: Value) -> Result<Option<String>, Malformed> {
    match value {
        Value::Null => Ok(None),
        Value::String(text) => Ok(Some(text)),
        Value::Number(_) | Value::Bool(_) => Ok(Some(value.to_string())),
        Value::Array(_) | Value::Object(_) => Err(malformed(format!("{} as a header", json_kind(&value)), "a string")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response(status_code: u16, body: Option<&str>) -> Response {
        Response { status_code, headers: Vec::new(), body: body.map(|body| Payload::from(body.to_owned())) }
    }

    #[test]
    fn a_response_has_a_status_and_an_optional_body() {
        for (payload, expected) in [
            (r#"{"statusCode":200}"#, response(200, None)),
            (r#"{"statusCode":599,"body":""}"#, response(599, Some(""))),
            (r#"{"statusCode":"201","body":"x"}"#, response(201, Some("x"))),
            (r#"{"statusCode":200,"body":null,"headers":null,"multiValueHeaders":null}"#, response(200, None)),
            (r#" {"isBase64Encoded":false,"body":"eA==","statusCode":200} "#, response(200, Some("eA=="))),
        ] {
            assert_eq!(parse(payload.as_bytes()), Ok(expected), "{payload}");
        }
    }

    #[test]
    fn a_base64_body_is_binary_whether_the_flag_comes_before_or_after_it() {
        for payload in [
            r#"{"statusCode":200,"body":"AP8=","isBase64Encoded":true}"#,
            r#"{"isBase64Encoded":true,"statusCode":200,"body":"AP8="}"#,
        ] {
            assert_eq!(parse(payload.as_bytes()).unwrap().body, Some(Payload::Binary(vec![0, 255].into())));
        }
    }

    #[test]
    fn headers_and_multi_value_headers_are_accepted_together() {
        let payload =
            br#"{"statusCode":200,"headers":{"A":"1","B":2,"C":true,"D":null},"multiValueHeaders":{"E":["1","2"]}}"#;
        let expected = [("A", "1"), ("B", "2"), ("C", "true"), ("E", "1"), ("E", "2")];
        assert_eq!(parse(payload).unwrap().headers, expected.map(|(name, value)| (name.into(), value.into())));
    }

    #[test]
    fn the_error_for_a_malformed_result_names_what_was_found_and_expected() {
        for (payload, expected) in [
            ("", "nothing, expected an object with a statusCode"),
            ("null", "null, expected an object with a statusCode"),
            (r#""ok""#, "a string, expected an object with a statusCode"),
            ("[]", "an array, expected an object with a statusCode"),
            ("Task timed out", "text that is not JSON, expected an object with a statusCode"),
            ("{}", "no statusCode, expected one from 200 to 599"),
            (r#"{"body":"x"}"#, "no statusCode, expected one from 200 to 599"),
            (r#"{"statusCode":199}"#, "the statusCode 199, expected one from 200 to 599"),
            (r#"{"statusCode":600}"#, "the statusCode 600, expected one from 200 to 599"),
            (r#"{"statusCode":200.5}"#, "the statusCode 200.5, expected one from 200 to 599"),
            (r#"{"statusCode":null}"#, "null as the statusCode, expected one from 200 to 599"),
            (r#"{"statusCode":"OK"}"#, "a string as the statusCode, expected one from 200 to 599"),
            (r#"{"statusCode":200,"body":{"a":1}}"#, "an object as the body, expected a string"),
            (r#"{"statusCode":200,"body":5}"#, "a number as the body, expected a string"),
            (r#"{"statusCode":200,"isBase64Encoded":1}"#, "a number as isBase64Encoded, expected true or false"),
            (r#"{"statusCode":200,"body":"?","isBase64Encoded":true}"#, "a body that is not base64, expected base64"),
            (r#"{"statusCode":200,"headers":[]}"#, "an array as headers, expected an object of strings"),
            (r#"{"statusCode":200,"headers":{"a":{}}}"#, "an object as a header, expected a string"),
            (
                r#"{"statusCode":200,"multiValueHeaders":{"a":"b"}}"#,
                "a string in multiValueHeaders, expected an object of arrays of strings",
            ),
            (
                r#"{"ConnectionId":"x","Data":"y","statusCode":200}"#,
                "the key \"ConnectionId\", expected only statusCode, headers, multiValueHeaders, body and \
                 isBase64Encoded",
            ),
        ] {
            assert_eq!(parse(payload.as_bytes()).unwrap_err().to_string(), expected, "{payload}");
        }
    }

    #[test]
    fn a_payload_with_an_error_and_no_status_is_a_failure() {
        for (payload, expected) in [
            (r#"{"errorMessage":"no","errorType":"ValueError","stackTrace":[]}"#, Some("ValueError: no")),
            (r#"{"errorMessage":"no"}"#, Some("no")),
            (r#"{"errorType":"Runtime.ExitError","errorMessage":null}"#, Some("Runtime.ExitError: null")),
            (r#"{"errorMessage":"a\nb"}"#, Some("a\\nb")),
            (r#"{"statusCode":200,"errorMessage":"no"}"#, None),
            (r#"{"statusCode":200}"#, None),
            ("null", None),
            ("[]", None),
        ] {
            assert_eq!(function_failure(payload.as_bytes()).as_deref(), expected, "{payload}");
        }
    }
}
