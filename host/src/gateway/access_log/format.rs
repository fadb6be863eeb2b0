//! The format of an access log line: text and `$context` variables, parsed once when the manifest is loaded.

use std::fmt;

use crate::gateway::access_log::Variable;
use crate::gateway::context::ContextVariable;
use crate::limits::ACCESS_LOG_FORMAT_BYTES_MAX;

/// The parsed format of an access log line. `$context.name` and `${context.name}` are variables; a `$` that is not
/// followed by a letter is literal.
#[derive(Clone, PartialEq, Eq)]
pub struct Format {
    source: Box<str>,
    parts: Box<[Part]>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    Text(Box<str>),
    Variable(Variable),
}

/// Why a format is invalid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadFormat {
    pub found: String,
    pub expected: String,
    pub advice: String,
}

impl BadFormat {
    fn new(found: impl Into<String>, expected: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { found: found.into(), expected: expected.into(), advice: advice.into() }
    }
}

impl Format {
    /// # Errors
    /// If the format has an unknown variable, a control character, more than 3 KiB, or no request id.
    pub fn parse(text: &str) -> Result<Self, BadFormat> {
        if text.len() > ACCESS_LOG_FORMAT_BYTES_MAX {
            let expected = format!("at most {ACCESS_LOG_FORMAT_BYTES_MAX}");
            return Err(BadFormat::new(format!("a format of {} bytes", text.len()), expected, "name fewer variables"));
        }
        if text.contains(char::is_control) {
            return Err(BadFormat::new(
                "a control character",
                "a format of one line",
                "take out the line feeds and tabs",
            ));
        }
        let parts = parts(text)?;
        let is_request_id = |part: &Part| *part == Part::Variable(Variable::Event(ContextVariable::RequestId));
        if !parts.iter().any(is_request_id) {
            let expected = "$context.requestId or $context.extendedRequestId in it, as API Gateway demands";
            return Err(BadFormat::new("no request id", expected, "add $context.requestId"));
        }
        Ok(Self { source: text.into(), parts: parts.into() })
    }

    pub fn parts(&self) -> &[Part] {
        &self.parts
    }
}

impl fmt::Debug for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.source, f)
    }
}

fn parts(text: &str) -> Result<Vec<Part>, BadFormat> {
    let mut parts = Vec::new();
    let mut plain = String::new();
    let mut rest = text;
    while let Some(dollar) = rest.find('$') {
        plain.push_str(&rest[..dollar]);
        let after = &rest[dollar + 1..];
        let (wrapped, after) = after.strip_prefix('{').map_or((false, after), |inside| (true, inside));
        if !after.starts_with(|next: char| next.is_ascii_alphabetic()) {
            // A literal dollar, as in a price or at the end of a regular expression.
            plain.push('$');
            rest = &rest[dollar + 1..];
            continue;
        }
        let name = &after[..name_length(after)];
        rest = &after[name.len()..];
        if wrapped {
            let ended = rest.strip_prefix('}');
            rest = ended.ok_or_else(|| BadFormat::new(format!("${{{name} without a }}"), "the } that ends it", ""))?;
        }
        let variable = name.strip_prefix("context.").and_then(Variable::parse).ok_or_else(|| unknown(name))?;
        if !plain.is_empty() {
            parts.push(Part::Text(std::mem::take(&mut plain).into()));
        }
        parts.push(Part::Variable(variable));
    }
    plain.push_str(rest);
    if !plain.is_empty() {
        parts.push(Part::Text(plain.into()));
    }
    Ok(parts)
}

/// Length of the variable name at the start of `text`. A dot is part of the name only if a name character follows it;
/// so is a dash in a property of an authorizer, whose names API Gateway does not restrict.
fn name_length(text: &str) -> usize {
    const UNRESTRICTED_NAMES: &str = "context.authorizer.";
    let is_name = |character: char| character.is_ascii_alphanumeric() || character == '_';
    let mut length = 0;
    loop {
        length += text[length..].find(|next| !is_name(next)).unwrap_or(text.len() - length);
        let separator = text[length..].chars().next();
        let continues =
            separator == Some('.') || (separator == Some('-') && text[..length].starts_with(UNRESTRICTED_NAMES));
        if !continues || !text[length + 1..].starts_with(is_name) {
            return length;
        }
        length += 1;
    }
}

fn unknown(name: &str) -> BadFormat {
    let advice = match name.strip_prefix("context.") {
        _ if name == "context" => "name one of them: $context.requestId".to_owned(),
        Some(name) => match Variable::nearest(name) {
            Some(nearest) => format!("did you mean $context.{nearest}?"),
            None => "docs/access-log.md lists all of them".to_owned(),
        },
        None if name.starts_with("stageVariables") || name.starts_with("input") => {
            "an access log has only $context variables, as on API Gateway".to_owned()
        }
        None => format!("did you mean $context.{}?", Variable::nearest(name).unwrap_or("requestId")),
    };
    BadFormat::new(format!("${name}"), "a variable of $context", advice)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::access_log::OutcomeVariable;

    fn text(text: &str) -> Part {
        Part::Text(text.into())
    }

    fn parsed(format: &str) -> Vec<Part> {
        parts(format).unwrap()
    }

    #[test]
    fn a_format_is_split_into_text_and_variables() {
        use ContextVariable::{Authorizer, RequestId, Stage};
        let variable = |variable| Part::Variable(Variable::Event(variable));
        let outcome = |variable| Part::Variable(Variable::Outcome(variable));
        assert_eq!(parsed("$context.requestId"), [variable(RequestId)]);
        assert_eq!(
            parsed(r#"{"a":"$context.requestId","b":${context.status}}"#),
            [text(r#"{"a":""#), variable(RequestId), text(r#"","b":"#), outcome(OutcomeVariable::Status), text("}")]
        );
        assert_eq!(
            parsed("$context.requestId-$context.stage. $5 $$ a$"),
            [variable(RequestId), text("-"), variable(Stage), text(". $5 $$ a$")]
        );
        assert_eq!(parsed("$context.requestId.$context.stage")[1], text("."));
        assert_eq!(
            parsed("$context.authorizer.user-name-$context.stage $context.authorizer.status"),
            [
                variable(Authorizer("user-name".into())),
                text("-"),
                variable(Stage),
                text(" "),
                outcome(OutcomeVariable::AuthorizerStatus)
            ]
        );
    }

    #[test]
    fn an_unknown_variable_is_rejected_with_the_nearest_known_name() {
        for (format, found, advice) in [
            ("$context.requestID", "$context.requestID", "did you mean $context.requestId?"),
            ("$context.identity.ip", "$context.identity.ip", "docs/access-log.md lists all of them"),
            ("$context.identity.sourceIP", "$context.identity.sourceIP", "did you mean $context.identity.sourceIp?"),
            (
                "$context.integration.latncy",
                "$context.integration.latncy",
                "did you mean $context.integration.latency?",
            ),
            ("$context", "$context", "name one of them: $context.requestId"),
            ("$requestId", "$requestId", "did you mean $context.requestId?"),
            ("$stageVariables.x", "$stageVariables.x", "an access log has only $context variables"),
        ] {
            let bad = Format::parse(format).unwrap_err();
            assert_eq!(bad.found, found);
            assert!(bad.advice.starts_with(advice), "{format}: {}", bad.advice);
        }
        assert_eq!(Format::parse("${context.requestId").unwrap_err().found, "${context.requestId without a }");
    }

    #[test]
    fn a_format_needs_a_request_id_and_is_one_line_of_at_most_three_kilobytes() {
        assert_eq!(Format::parse("$context.stage").unwrap_err().found, "no request id");
        for good in ["$context.requestId", "$context.extendedRequestId"] {
            assert!(Format::parse(good).is_ok());
        }
        assert_eq!(Format::parse("$context.requestId\n").unwrap_err().found, "a control character");
        let padded = |bytes: usize| format!("{:bytes$}", "$context.requestId");
        assert!(Format::parse(&padded(3 * 1024)).is_ok());
        assert_eq!(Format::parse(&padded(3 * 1024 + 1)).unwrap_err().found, "a format of 3073 bytes");
    }
}
