//! The access log: one line for each event, in the format of the manifest.
//!
//! Knows events and their outcomes. Never logs the content of a message or of a response.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use crate::capability::Caller;
use crate::event::Event;
use crate::gateway::connect_auth::AuthorizerOutcome;
use crate::limits::ACCESS_LOG_VALUE_BYTES_MAX;
use crate::printable::is_printable;

mod format;
mod sink;
mod variable;

use format::Part;

pub use format::{BadFormat, Format};
pub use sink::{LogTarget, Rotate, Sink};
pub use variable::{OutcomeVariable, Variable};

/// Written in place of a variable that has no value, as API Gateway does.
const NO_VALUE: &str = "-";
/// Marks the end of a value that was truncated.
const TRUNCATED: &str = "...";

/// The access log of one API: the format of its lines and where they are written.
pub struct AccessLog {
    pub format: Format,
    pub sink: Arc<Sink>,
}

/// Outcome of an event.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// HTTP status of the handshake; for a message, the status that an HTTP API would have returned.
    pub status: u16,
    pub error: Option<ErrorResponse>,
    /// Why the message does not match the model of its route.
    pub validation_error: Option<String>,
    pub integration: Option<IntegrationOutcome>,
    /// Only for a handshake whose route has an authorizer.
    pub authorizer: Option<AuthorizerOutcome>,
}

/// The error that the peer received in place of the handler's response.
#[derive(Clone, Copy, Debug)]
pub struct ErrorResponse {
    pub message: &'static str,
    /// API Gateway's name for the error.
    pub response_type: &'static str,
}

/// Outcome of the call of the integration.
#[derive(Clone, Debug)]
pub struct IntegrationOutcome {
    pub latency: Duration,
    /// Status of the response; `None` if the call failed.
    pub status: Option<u16>,
    /// Why the call failed; `None` if it succeeded.
    pub error: Option<String>,
}

impl AccessLog {
    /// Queues the line of an event; never waits.
    pub fn write(&self, caller: &Caller, event: &Event, outcome: &Outcome) {
        let line = format_line(&self.format, |variable| match variable {
            Variable::Event(variable) => variable.value(caller, event),
            Variable::Outcome(variable) => outcome.value(*variable),
        });
        self.sink.write(line.as_bytes());
    }
}

impl Outcome {
    fn value(&self, variable: OutcomeVariable) -> Option<Cow<'_, str>> {
        let number = |number: u128| Some(Cow::Owned(number.to_string()));
        let (integration, authorizer) = (self.integration.as_ref(), self.authorizer.as_ref());
        match variable {
            OutcomeVariable::Status => number(self.status.into()),
            OutcomeVariable::ErrorMessage | OutcomeVariable::ErrorMessageString => Some(self.error?.message.into()),
            OutcomeVariable::ErrorResponseType => Some(self.error?.response_type.into()),
            OutcomeVariable::ErrorValidationErrorString => self.validation_error.as_deref().map(Cow::Borrowed),
            OutcomeVariable::IntegrationLatency => number(integration?.latency.as_millis()),
            OutcomeVariable::IntegrationStatus => number(integration?.status?.into()),
            OutcomeVariable::IntegrationError => integration?.error.as_deref().map(Cow::Borrowed),
            // The handler returned a response, so the service that runs it could call it.
            OutcomeVariable::ServiceStatus => integration?.status.map(|_| "200".into()),
            OutcomeVariable::AuthorizerError => authorizer?.error.as_deref().map(Cow::Borrowed),
            OutcomeVariable::AuthorizerLatency => number(authorizer?.latency.as_millis()),
            OutcomeVariable::AuthorizerStatus => number(authorizer?.status.into()),
            OutcomeVariable::Unsupported => None,
        }
    }
}

/// Formats one line, including its line feed. Values are escaped, so no value can end the line or a JSON string.
fn format_line<'v>(format: &Format, value: impl Fn(&Variable) -> Option<Cow<'v, str>>) -> String {
    let mut line = String::with_capacity(512);
    for part in format.parts() {
        let variable = match part {
            Part::Text(text) => {
                line.push_str(text);
                continue;
            }
            Part::Variable(variable) => variable,
        };
        let quote = if *variable == Variable::Outcome(OutcomeVariable::ErrorMessageString) { "\"" } else { "" };
        match value(variable) {
            Some(value) => {
                line.push_str(quote);
                escape(&value, &mut line);
                line.push_str(quote);
            }
            None => line.push_str(NO_VALUE),
        }
    }
    line.push('\n');
    line
}

/// Appends a value, escaped as in a JSON string whatever the format is, as API Gateway and web servers do.
/// A value longer than [`ACCESS_LOG_VALUE_BYTES_MAX`] is truncated.
fn escape(value: &str, line: &mut String) {
    let end = line.len() + ACCESS_LOG_VALUE_BYTES_MAX;
    for character in value.chars() {
        let before = line.len();
        match character {
            '"' => line.push_str("\\\""),
            '\\' => line.push_str("\\\\"),
            '\n' => line.push_str("\\n"),
            '\r' => line.push_str("\\r"),
            '\t' => line.push_str("\\t"),
            _ if is_printable(character) => line.push(character),
            _ => {
                let mut units = [0; 2];
                for unit in character.encode_utf16(&mut units) {
                    line.push_str(&format!("\\u{unit:04x}"));
                }
            }
        }
        if line.len() > end {
            line.truncate(before);
            line.push_str(TRUNCATED);
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn formatted(format: &str, outcome: &Outcome) -> String {
        let format = Format::parse(format).unwrap();
        format_line(&format, |variable| match variable {
            Variable::Event(_) => Some("x".into()),
            Variable::Outcome(variable) => outcome.value(*variable),
        })
    }

    #[test]
    fn variables_in_the_format_are_replaced_by_their_values() {
        let outcome = Outcome {
            status: 500,
            error: Some(ErrorResponse { message: "Internal server error", response_type: "INTEGRATION_FAILURE" }),
            validation_error: None,
            integration: Some(IntegrationOutcome {
                latency: Duration::from_micros(2900),
                status: None,
                error: Some("it said \"no\"\n".to_owned()),
            }),
            authorizer: Some(AuthorizerOutcome { latency: Duration::from_millis(7), status: 401, error: None }),
        };
        assert_eq!(
            formatted(
                "$context.requestId $context.status $context.integrationLatency $context.integration.latency",
                &outcome
            ),
            "x 500 2 2\n"
        );
        assert_eq!(
            formatted(
                r#"$context.requestId {"m":$context.error.messageString,"e":"$context.integration.error"}"#,
                &outcome
            ),
            "x {\"m\":\"Internal server error\",\"e\":\"it said \\\"no\\\"\\n\"}\n"
        );
        assert_eq!(
            formatted("$context.requestId $context.integration.integrationStatus $context.waf.status", &outcome),
            "x - -\n"
        );
        let authorizer = "$context.requestId $context.authorizer.status $context.authorizer.latency \
            $context.authorizer.integrationStatus $context.authorizer.error";
        assert_eq!(formatted(authorizer, &outcome), "x 401 7 401 -\n");
    }

    #[test]
    fn a_value_cannot_end_the_line_or_the_json_string_around_it() {
        let hostile = "a\"b\\c\nd\re\tf\u{1b}[31m\u{2028}\u{202e}\u{85}ü\u{1f600}";
        let mut escaped = String::new();
        escape(hostile, &mut escaped);
        assert_eq!(escaped, "a\\\"b\\\\c\\nd\\re\\tf\\u001b[31m\\u2028\\u202e\\u0085ü\u{1f600}");
        let back: String = serde_json::from_str(&format!("\"{escaped}\"")).unwrap();
        assert_eq!(back, hostile);
    }

    #[test]
    fn a_long_value_is_truncated_between_characters_and_marked() {
        for (value, length) in [("x", 1024), ("\n", 512), ("ü", 512)] {
            let escaped = |count: usize| {
                let mut line = "before ".to_owned();
                escape(&value.repeat(count), &mut line);
                line
            };
            assert!(!escaped(length).ends_with(TRUNCATED), "{value:?}");
            let longer = escaped(length + 1);
            assert!(longer.ends_with(TRUNCATED), "{value:?}");
            assert!(longer.len() <= "before ".len() + 1024 + TRUNCATED.len(), "{value:?}");
        }
    }
}
