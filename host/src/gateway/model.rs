//! Models: JSON Schemas that the body of a message must match.
//!
//! Knows JSON and schemas. Does not know files, routes or frames. An error about a body contains nothing
//! of that body: neither its values nor the names of its properties.

use std::collections::BTreeMap;
use std::sync::Arc;

use jsonschema::error::ValidationErrorKind;
use jsonschema::{Draft, PatternOptions, ValidationError, Validator};
use serde_json::Value;

use crate::gateway::RouteSelectionExpression;
use crate::json;
use crate::limits::{
    BLOCKING_VALIDATION_BYTES_MIN, MODEL_ERROR_BYTES_MAX, MODEL_REGEX_BACKTRACKS_MAX, MODEL_REGEX_BYTES_MAX,
};
use crate::payload::Payload;
use crate::printable::{printable, shortened};

/// The key of the model for messages whose own key has no model.
const DEFAULT: &str = "$default";

/// The formats that the library checks in draft 4, although that draft (section 7.3 of its validation) does not have them.
const LATER_FORMATS: [&str; 3] = ["date", "regex", "time"];

/// A compiled schema.
pub struct Model {
    pub name: Arc<str>,
    validator: Validator,
}

/// The models of a route, and the expression that selects one for a message.
pub struct RequestModels {
    /// `None`: every message has the key `$default`.
    pub expression: Option<RouteSelectionExpression>,
    pub by_key: BTreeMap<String, Arc<Model>>,
}

impl Model {
    /// Compiles a schema: draft-04, as for API Gateway's models, unless its `$schema` names another draft.
    /// References to other documents are not allowed.
    ///
    /// # Errors
    /// What is wrong in the schema, and what to do.
    pub fn compile(name: &str, schema: &[u8]) -> Result<Self, String> {
        let schema = json::without_byte_order_mark(schema);
        let schema: Value = json::parse(schema).map_err(|error| format!("it is not JSON: {error}"))?;
        if !schema.is_object() {
            return Err(
                "found JSON that is not an object, expected a JSON Schema such as {\"type\": \"object\"}".to_owned()
            );
        }
        let draft = Draft::Draft4.detect(&schema);
        if draft == Draft::Unknown {
            let found = printable(schema["$schema"].as_str().unwrap_or_default());
            let found = shortened(&found, MODEL_ERROR_BYTES_MAX);
            return Err(format!(
                "$schema: found {found:?}, expected draft 4, 6, 7, 2019-09 or 2020-12; write \
                 \"http://json-schema.org/draft-04/schema#\", or leave it out, which means the same"
            ));
        }
        let patterns = PatternOptions::fancy_regex()
            .backtrack_limit(MODEL_REGEX_BACKTRACKS_MAX)
            .size_limit(MODEL_REGEX_BYTES_MAX)
            .dfa_size_limit(MODEL_REGEX_BYTES_MAX);
        let mut options = jsonschema::options().with_draft(draft).offline().with_pattern_options(patterns);
        if draft == Draft::Draft4 {
            // The library checks them in every draft. Draft 4 does not have them, and accepts every value of such a format.
            for format in LATER_FORMATS {
                options = options.with_format(format, |_: &str| true);
            }
        }
        let validator = options.build(&schema).map_err(|error| describe_schema_error(&error))?;
        Ok(Self { name: name.into(), validator })
    }

    fn check(&self, body: &Value) -> Result<(), String> {
        self.validator.validate(body).map_err(|error| {
            let (name, at, reason) = (&self.name, error.schema_path(), describe_violation(&error));
            shortened(&printable(&format!("model {name}, #{at}: {reason}")), MODEL_ERROR_BYTES_MAX).into_owned()
        })
    }
}

impl RequestModels {
    /// Checks a body against the model that it selects.
    ///
    /// # Errors
    /// Why it does not match, in one line that contains nothing of the body.
    pub fn check(&self, body: &Payload) -> Result<(), String> {
        let Payload::Text(text) = body else {
            return Err("the message is binary, but its model requires JSON".to_owned());
        };
        if text.len() < BLOCKING_VALIDATION_BYTES_MIN {
            return self.check_text(text);
        }
        // A large body takes long, so the runtime first moves the other tasks of this thread to another thread.
        tokio::task::block_in_place(|| self.check_text(text))
    }

    fn check_text(&self, text: &str) -> Result<(), String> {
        let not_json = "the message is not JSON, but its model requires JSON";
        let key = match &self.expression {
            Some(expression) => expression.evaluate(text).ok_or(not_json)?,
            None => DEFAULT.into(),
        };
        let model = self.by_key.get(&*key).or_else(|| self.by_key.get(DEFAULT));
        let model = model.ok_or("the message selects no model, and the route has no model for $default")?;
        // The error of serde is dropped, because it quotes what it found in the body.
        let body: Value = json::parse(text.as_bytes()).map_err(|_| not_json)?;
        model.check(&body)
    }
}

/// Describes why a schema cannot be compiled. It may quote the schema, because the schema is the operator's own.
fn describe_schema_error(error: &ValidationError<'_>) -> String {
    let at = error.instance_path();
    let (reason, advice) = match error.kind() {
        ValidationErrorKind::Referencing(jsonschema::ReferencingError::Unretrievable { uri, .. }) => (
            format!("the reference {uri} leads out of the file, and other documents are not fetched"),
            "; put the schema under \"definitions\", and refer to it as \"#/definitions/NAME\"",
        ),
        ValidationErrorKind::Format { format } if format == "regex" => (error.to_string(), "; fix the pattern"),
        _ => (error.to_string(), ""),
    };
    let reason = shortened(&printable(&reason), MODEL_ERROR_BYTES_MAX).into_owned();
    format!("at #{at}: {reason}{advice}")
}

/// Describes how a body violates a schema, without quoting the body.
fn describe_violation(error: &ValidationError<'_>) -> String {
    match error.kind() {
        ValidationErrorKind::AdditionalProperties { unexpected }
        | ValidationErrorKind::UnevaluatedProperties { unexpected } => {
            let count = unexpected.len();
            format!("found {count} properties that the schema does not define")
        }
        ValidationErrorKind::PropertyNames { .. } => "found a property whose name is not allowed".to_owned(),
        ValidationErrorKind::BacktrackLimitExceeded { .. } => {
            format!("the pattern took more than {MODEL_REGEX_BACKTRACKS_MAX} backtracking steps on the value")
        }
        _ => error.masked_with("the value").to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn model(schema: Value) -> Model {
        Model::compile("send", schema.to_string().as_bytes()).unwrap()
    }

    fn compile_error(schema: &str) -> String {
        Model::compile("send", schema.as_bytes()).err().unwrap_or_else(|| panic!("{schema} compiles"))
    }

    fn text(text: &str) -> Payload {
        text.to_owned().into()
    }

    fn request(expression: Option<&str>, models: &[(&str, Value)]) -> RequestModels {
        let by_key = models.iter().map(|(key, schema)| ((*key).to_owned(), Arc::new(model(schema.clone()))));
        let expression = expression.map(|text| RouteSelectionExpression::parse(text).unwrap());
        RequestModels { expression, by_key: by_key.collect() }
    }

    #[test]
    fn a_schema_is_of_draft_4_unless_it_names_another_draft() {
        // In draft 4 exclusiveMinimum is a boolean that modifies minimum, and const does not exist yet.
        let draft_4 = model(json!({ "minimum": 3, "exclusiveMinimum": true, "const": 9 }));
        assert!(draft_4.check(&json!(3)).is_err() && draft_4.check(&json!(4)).is_ok());
        let draft_7 = json!({ "$schema": "http://json-schema.org/draft-07/schema#", "const": 9 });
        assert!(model(draft_7.clone()).check(&json!(4)).is_err());
        let mixed = json!({ "$schema": draft_7["$schema"], "minimum": 3, "exclusiveMinimum": true });
        let mixed = compile_error(&mixed.to_string());
        assert!(mixed.contains("exclusiveMinimum"), "{mixed}");
        let unknown = compile_error(r#"{"$schema":"https://example.com/mine"}"#);
        assert!(unknown.contains("$schema: found \"https://example.com/mine\", expected draft 4"), "{unknown}");
    }

    #[test]
    fn draft_4_checks_its_six_formats_and_no_others() {
        for (format, valid, invalid) in [
            ("date-time", "2026-11-27T12:00:00Z", "2026-11-27"),
            ("email", "ann@example.com", "ann"),
            ("hostname", "a.example", "a_b"),
            ("ipv4", "192.0.2.1", "192.0.2.256"),
            ("ipv6", "2001:db8::1", "2001:db8"),
            ("uri", "https://a.example/b", "b"),
        ] {
            let model = model(json!({ "format": format }));
            assert!(model.check(&json!(valid)).is_ok() && model.check(&json!(5)).is_ok(), "{format}");
            let error = model.check(&json!(invalid)).unwrap_err();
            assert!(error.contains("#/format: ") && !error.contains(invalid), "{error}");
        }
        for format in
            ["date", "time", "regex", "uuid", "uri-reference", "json-pointer", "duration", "password", "my-own"]
        {
            assert!(model(json!({ "format": format })).check(&json!("(")).is_ok(), "{format}");
        }
        let draft_7 = json!({ "$schema": "http://json-schema.org/draft-07/schema#", "format": "date" });
        assert!(model(draft_7.clone()).check(&json!("(")).is_err());
        assert!(model(draft_7).check(&json!("2026-11-27")).is_ok());
        let draft_2020 = json!({ "$schema": "https://json-schema.org/draft/2020-12/schema", "format": "ipv4" });
        assert!(model(draft_2020).check(&json!("(")).is_ok());
    }

    #[test]
    fn the_keywords_of_draft_4_mean_what_they_mean_there_and_later_ones_nothing() {
        let later = json!({
            "$id": "send", "examples": [1], "const": 1, "contains": { "type": "null" }, "propertyNames": { "maxLength": 0 },
            "if": {}, "then": { "type": "null" }, "dependentRequired": { "a": ["b"] }, "unevaluatedProperties": false,
        });
        for body in [json!([1]), json!({ "a": 1 })] {
            assert!(model(later.clone()).check(&body).is_ok(), "{body}");
        }
        for (schema, valid, invalid) in [
            (json!({ "type": "integer" }), "1", "1.0"),
            (json!({ "type": "integer" }), "12345678901234567890123", "1.5"),
            (json!({ "maximum": 5, "exclusiveMaximum": true }), "4.9", "5"),
            (json!({ "maximum": 5, "exclusiveMaximum": false }), "5", "5.1"),
            (json!({ "items": [{ "type": "string" }], "additionalItems": false }), r#"["a"]"#, r#"["a",1]"#),
            (json!({ "dependencies": { "a": ["b"] } }), r#"{"a":1,"b":1}"#, r#"{"a":1}"#),
            (json!({ "dependencies": { "a": { "required": ["c"] } } }), r#"{"a":1,"c":1}"#, r#"{"a":1}"#),
            (json!({ "patternProperties": { "^n": { "type": "number" } } }), r#"{"n1":1}"#, r#"{"n1":"x"}"#),
            (json!({ "oneOf": [{ "type": "number" }, { "multipleOf": 5 }] }), "3", "5"),
            (json!({ "not": { "enum": ["a"] } }), r#""b""#, r#""a""#),
        ] {
            let request = request(None, &[("$default", schema.clone())]);
            assert_eq!(request.check(&text(valid)), Ok(()), "{schema}");
            assert!(request.check(&text(invalid)).is_err(), "{schema} {invalid}");
        }
        for invalid in [r#"{"required":[]}"#, r#"{"required":true}"#, r#"{"exclusiveMinimum":5}"#, r#"{"items":true}"#]
        {
            compile_error(invalid);
        }
    }

    #[test]
    fn the_error_for_an_unusable_schema_names_the_place_and_the_reason() {
        for (schema, expected) in [
            ("", "it is not JSON: EOF"),
            ("{", "line 1 column 1"),
            ("true", "found JSON that is not an object"),
            (r#"{"properties":{"a":{"type":"strin"}}}"#, "at #/properties/a/type: \"strin\" is not valid"),
            (r#"{"properties":{"a":{"pattern":"("}}}"#, "at #/properties/a/pattern"),
            (r##"{"$ref":"#/definitions/missing"}"##, "/definitions/missing"),
            (
                r#"{"$ref":"https://example.com/a.json"}"#,
                "the reference https://example.com/a.json leads out of the file",
            ),
            (r#"{"$ref":"other.json"}"#, "other.json leads out of the file"),
            (r#"{"$ref":"file:///etc/passwd"}"#, "file:///etc/passwd leads out of the file"),
        ] {
            let error = compile_error(schema);
            assert!(error.contains(expected), "{schema}: {error}");
        }
    }

    #[test]
    fn the_error_about_a_body_contains_nothing_of_the_body() {
        let schema = json!({
            "$schema": "http://json-schema.org/draft-07/schema#",
            "properties": { "text": { "type": "string", "maxLength": 3, "pattern": "^[a-z]*$" }, "n": { "enum": [1] } },
            "required": ["text"], "additionalProperties": false, "propertyNames": { "maxLength": 9 },
        });
        let model = model(schema);
        for (body, expected) in [
            (json!({ "text": "ok" }), ""),
            (json!({}), r#"model send, #/required: "text" is a required property"#),
            (json!({ "text": 12345 }), r#"#/properties/text/type: the value is not of type "string""#),
            (json!({ "text": "secret" }), "#/properties/text/maxLength: the value is longer than 3 characters"),
            (json!({ "text": "A" }), r#"#/properties/text/pattern: the value does not match "^[a-z]*$""#),
            (json!({ "text": "a", "n": "secret" }), "#/properties/n/enum: the value is not one of"),
            (json!({ "text": "a", "secret": 1 }), "#/additionalProperties: found 1 properties that the schema"),
            (json!({ "text": "a", "very secret": 1 }), "#/"),
        ] {
            let error = model.check(&body).err().unwrap_or_default();
            assert!(error.contains(expected) && error.is_empty() == expected.is_empty(), "{body}: {error}");
            assert!(!error.contains("secret") && !error.contains("12345"), "{error}");
        }
        let long = self::model(json!({ "enum": ["x".repeat(20_000)] })).check(&json!(1)).unwrap_err();
        assert!(long.len() < MODEL_ERROR_BYTES_MAX + 100, "{}", long.len());
    }

    #[test]
    fn a_message_is_checked_by_the_model_of_its_key_or_the_default_and_rejected_if_there_is_neither() {
        let (string, number) = (json!({ "required": ["s"] }), json!({ "required": ["n"] }));
        let both = request(Some("$request.body.kind"), &[("string", string.clone()), ("$default", number.clone())]);
        assert_eq!(both.check(&text(r#"{"kind":"string","s":1}"#)), Ok(()));
        assert!(both.check(&text(r#"{"kind":"string","n":1}"#)).is_err());
        for by_default in [r#"{"kind":"other","n":1}"#, r#"{"n":1}"#] {
            assert_eq!(both.check(&text(by_default)), Ok(()), "{by_default}");
        }
        let one = request(Some("$request.body.kind"), &[("string", string)]);
        assert_eq!(one.check(&text(r#"{"kind":"string","s":1}"#)), Ok(()));
        assert!(one.check(&text(r#"{"kind":"other","s":1}"#)).unwrap_err().contains("selects no model"));
        let always = request(None, &[("$default", number)]);
        assert_eq!(always.check(&text(r#"{"n":1}"#)), Ok(()));
        assert!(always.check(&text("{}")).is_err());
    }

    #[test]
    fn a_message_that_is_not_json_is_rejected_if_the_route_has_models() {
        for expression in [None, Some("$request.body.kind"), Some("static")] {
            let any = request(expression, &[("$default", json!({}))]);
            for body in ["", "hello", "{", r#"{"a":1} x"#] {
                assert!(any.check(&text(body)).unwrap_err().contains("not JSON"), "{body}");
            }
            assert!(any.check(&Payload::Binary(b"{}".to_vec().into())).unwrap_err().contains("binary"));
            for body in ["{}", "5", "\"hi\"", " [1] "] {
                assert_eq!(any.check(&text(body)), Ok(()), "{body}");
            }
        }
        let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
        assert!(request(None, &[("$default", json!({}))]).check(&text(&deep)).is_err());
    }

    #[test]
    fn a_message_that_serde_json_would_reject_is_checked_too() {
        let object = json!({ "properties": { "t": { "type": "string", "maxLength": 2 }, "n": { "type": "number" } } });
        let any = request(None, &[("$default", object)]);
        for (body, is_valid) in [
            (r#"{"t":"a\ud83d"}"#, true),
            (r#"{"t":"ab\ud83d"}"#, false),
            (r#"{"t":1,"\udc00":1}"#, false),
            (r#"{"n":1e400}"#, true),
            (r#"{"n":"1e400"}"#, false),
            (r#"{"n":12345678901234567890123}"#, true),
        ] {
            assert_eq!(any.check(&text(body)).is_ok(), is_valid, "{body}");
        }
        assert!(any.check(&text("\u{feff}{}")).unwrap_err().contains("not JSON"));
    }

    #[test]
    fn a_schema_may_begin_with_a_byte_order_mark() {
        let model = Model::compile("send", "\u{feff}{\"type\":\"string\"}".as_bytes()).unwrap();
        assert!(model.check(&json!("a")).is_ok() && model.check(&json!(1)).is_err());
        assert!(compile_error("\u{feff}\u{feff}{}").contains("it is not JSON"));
    }

    #[test]
    fn a_pattern_that_backtracks_too_much_is_stopped() {
        let model = model(json!({ "pattern": "^(?=(a+)+b)(a|aa)+$\\1?" }));
        let started = std::time::Instant::now();
        assert!(model.check(&json!("a".repeat(20_000))).is_err());
        assert!(started.elapsed() < std::time::Duration::from_secs(5), "{:?}", started.elapsed());
    }

    #[test]
    fn cyclic_references_do_not_loop_forever() {
        let cycle = json!({
            "$ref": "#/definitions/a",
            "definitions": {
                "a": { "allOf": [{ "$ref": "#/definitions/b" }] }, "b": { "allOf": [{ "$ref": "#/definitions/a" }] },
            },
        });
        let compiled = Model::compile("send", cycle.to_string().as_bytes());
        if let Ok(model) = compiled {
            let _ = model.check(&json!({ "a": [1] }));
        }
        let list = model(json!({ "type": "object", "properties": { "next": { "$ref": "#" } } }));
        assert!(list.check(&json!({ "next": { "next": {} } })).is_ok());
        assert!(list.check(&json!({ "next": { "next": 1 } })).is_err());
    }
}
