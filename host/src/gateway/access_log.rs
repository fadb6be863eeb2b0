//! The access log: one line for each event, in the words of the manifest.
//!
//! Knows events and what came of them. Never a message, nor an answer.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use crate::capability::Caller;
use crate::event::Event;
use crate::gateway::guard::Authorized;
use crate::limits::ACCESS_LOG_VALUE_BYTES_MAX;
use crate::printable::is_printable;

mod format; // what a line looks like
mod sink; // where lines go
mod variable; // what a line can tell

pub use format::{BadFormat, Format};
pub use sink::{Rotate, Sink, Target};
pub use variable::{Told, Variable};

use format::Part;

/// What a variable is that has no value, as on API Gateway.
const NO_VALUE: &str = "-";
/// Ends a value that was cut.
const CUT: &str = "...";

/// The lines of an API, and where they go.
pub struct AccessLog {
    pub format: Format,
    pub sink: Arc<Sink>,
}

/// What came of an event.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Of the handshake, or as a request over HTTP would have had it.
    pub status: u16,
    pub error: Option<Failure>,
    /// What is wrong with a message, where its model says so.
    pub validation_error: Option<String>,
    pub integration: Option<Invoked>,
    /// Of a handshake whose route has an authorizer.
    pub authorized: Option<Authorized>,
}

/// What the peer was told instead of an answer.
#[derive(Clone, Copy, Debug)]
pub struct Failure {
    pub message: &'static str,
    /// API Gateway's name for it.
    pub response_type: &'static str,
}

/// How the integration did.
#[derive(Clone, Debug)]
pub struct Invoked {
    pub latency: Duration,
    /// What it answered.
    pub status: Option<u16>,
    /// Why it did not.
    pub error: Option<String>,
}

impl AccessLog {
    /// Queues the line of an event; never waits.
    pub fn write(&self, caller: &Caller, event: &Event, outcome: &Outcome) {
        let line = line(&self.format, |variable| match variable {
            Variable::Event(variable) => variable.value(caller, event),
            Variable::Outcome(told) => outcome.value(*told),
        });
        self.sink.write(line.as_bytes());
    }
}

impl Outcome {
    fn value(&self, told: Told) -> Option<Cow<'_, str>> {
        let number = |number: u128| Some(Cow::Owned(number.to_string()));
        let (integration, authorized) = (self.integration.as_ref(), self.authorized.as_ref());
        match told {
            Told::Status => number(self.status.into()),
            Told::ErrorMessage | Told::ErrorMessageString => Some(self.error?.message.into()),
            Told::ErrorResponseType => Some(self.error?.response_type.into()),
            Told::ErrorValidationErrorString => self.validation_error.as_deref().map(Cow::Borrowed),
            Told::IntegrationLatency => number(integration?.latency.as_millis()),
            Told::IntegrationStatus => number(integration?.status?.into()),
            Told::IntegrationError => integration?.error.as_deref().map(Cow::Borrowed),
            // A handler that answered could be called.
            Told::ServiceStatus => integration?.status.map(|_| "200".into()),
            Told::AuthorizerError => authorized?.error.as_deref().map(Cow::Borrowed),
            Told::AuthorizerLatency => number(authorized?.latency.as_millis()),
            Told::AuthorizerStatus => number(authorized?.status.into()),
            Told::Nothing => None,
        }
    }
}

/// One line, with its line feed: whatever the values are, they end no line and no JSON string.
fn line<'v>(format: &Format, value: impl Fn(&Variable) -> Option<Cow<'v, str>>) -> String {
    let mut line = String::with_capacity(512);
    for part in format.parts() {
        let variable = match part {
            Part::Text(text) => {
                line.push_str(text);
                continue;
            }
            Part::Variable(variable) => variable,
        };
        let quote = if *variable == Variable::Outcome(Told::ErrorMessageString) { "\"" } else { "" };
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

/// As in a JSON string, whatever the format; so do API Gateway and the web servers.
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
            line.push_str(CUT);
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(format: &str, outcome: &Outcome) -> String {
        let format = Format::parse(format).unwrap();
        line(&format, |variable| match variable {
            Variable::Event(_) => Some("x".into()),
            Variable::Outcome(told) => outcome.value(*told),
        })
    }

    #[test]
    fn a_line_has_the_values_in_their_places() {
        let outcome = Outcome {
            status: 500,
            error: Some(Failure { message: "Internal server error", response_type: "INTEGRATION_FAILURE" }),
            validation_error: None,
            integration: Some(Invoked {
                latency: Duration::from_micros(2900),
                status: None,
                error: Some("it said \"no\"\n".to_owned()),
            }),
            authorized: Some(Authorized { latency: Duration::from_millis(7), status: 401, error: None }),
        };
        assert_eq!(
            told(
                "$context.requestId $context.status $context.integrationLatency $context.integration.latency",
                &outcome
            ),
            "x 500 2 2\n"
        );
        assert_eq!(
            told(r#"$context.requestId {"m":$context.error.messageString,"e":"$context.integration.error"}"#, &outcome),
            "x {\"m\":\"Internal server error\",\"e\":\"it said \\\"no\\\"\\n\"}\n"
        );
        assert_eq!(
            told("$context.requestId $context.integration.integrationStatus $context.waf.status", &outcome),
            "x - -\n"
        );
        let authorizer = "$context.requestId $context.authorizer.status $context.authorizer.latency \
            $context.authorizer.integrationStatus $context.authorizer.error";
        assert_eq!(told(authorizer, &outcome), "x 401 7 401 -\n");
    }

    #[test]
    fn no_value_ends_the_line_or_the_string_that_it_stands_in() {
        let hostile = "a\"b\\c\nd\re\tf\u{1b}[31m\u{2028}\u{202e}\u{85}ü\u{1f600}";
        let mut escaped = String::new();
        escape(hostile, &mut escaped);
        assert_eq!(escaped, "a\\\"b\\\\c\\nd\\re\\tf\\u001b[31m\\u2028\\u202e\\u0085ü\u{1f600}");
        let back: String = serde_json::from_str(&format!("\"{escaped}\"")).unwrap();
        assert_eq!(back, hostile);
    }

    #[test]
    fn a_long_value_is_cut_between_characters_and_says_so() {
        for (value, length) in [("x", 1024), ("\n", 512), ("ü", 512)] {
            let cut = |count: usize| {
                let mut line = "before ".to_owned();
                escape(&value.repeat(count), &mut line);
                line
            };
            assert!(!cut(length).ends_with(CUT), "{value:?}");
            let more = cut(length + 1);
            assert!(more.ends_with(CUT) && more.len() <= "before ".len() + 1024 + CUT.len(), "{value:?}");
        }
    }
}
