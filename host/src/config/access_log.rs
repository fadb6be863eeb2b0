//! `[access_log]`: the format of its lines, and where they are written.

use std::path::Path;

use toml::de::DeValue;

use super::section::Section;
use super::value::{self, InvalidValue};
use crate::gateway::access_log::{Format, LogTarget, Rotate};

/// The fields of API Gateway's own example, and the latency of the integration.
const DEFAULT_FORMAT: &str = r#"{"requestId":"$context.requestId","ip":"$context.identity.sourceIp","requestTime":"$context.requestTime","eventType":"$context.eventType","routeKey":"$context.routeKey","status":"$context.status","connectionId":"$context.connectionId","integrationLatency":"$context.integrationLatency"}"#;
/// One week of files, if each file has one day.
const DEFAULT_KEEP: usize = 7;
const KEEP_MAX: usize = 10_000;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessLog {
    pub format: Format,
    pub target: LogTarget,
    /// The line of the manifest with `file`, or with the section if the log goes to standard output.
    pub line: u32,
}

/// Reads `[access_log]`; `None` if the manifest does not have it.
pub fn access_log(mut section: Section<'_>, folder: &Path) -> Option<AccessLog> {
    let format = section.read("format", format);
    let file = section.read("file", value::path(folder));
    let rotate = section.read("rotate", rotate).unwrap_or(Rotate::Daily);
    let keep = section.read("keep", value::count(1..=KEEP_MAX)).unwrap_or(DEFAULT_KEEP);
    for key in ["rotate", "keep"] {
        let advice = match key {
            _ if !section.contains(key) => continue,
            _ if !section.contains("file") => "add file = \"access.log\", or remove it",
            "keep" if rotate == Rotate::Never => "remove it: with rotate = \"never\" there is one file",
            _ => continue,
        };
        let problem = format!("access_log.{key}: found, but no file is rotated");
        section.problems.error(section.span_of(key), problem, advice);
    }
    let exists = section.exists();
    let line = section.problems.line(if section.contains("file") { section.span_of("file") } else { section.span() });
    section.finish();
    exists.then(|| AccessLog {
        format: format.unwrap_or_else(|| Format::parse(DEFAULT_FORMAT).expect("the default is valid")),
        target: file.map_or(LogTarget::Stdout, |path| LogTarget::File { path, rotate, keep }),
        line,
    })
}

fn format(value: &DeValue<'_>) -> Result<Format, InvalidValue> {
    Format::parse(value::string(value)?).map_err(|bad| InvalidValue {
        found: Some(bad.found),
        expected: bad.expected,
        advice: bad.advice,
    })
}

fn rotate(value: &DeValue<'_>) -> Result<Rotate, InvalidValue> {
    match value.as_str() {
        Some("hourly") => Ok(Rotate::Hourly),
        Some("daily") => Ok(Rotate::Daily),
        Some("never") => Ok(Rotate::Never),
        _ => Err(InvalidValue::new("\"hourly\", \"daily\" or \"never\"", "")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn parsed(text: &str) -> Option<AccessLog> {
        Config::parse(text, Path::new("/p/jackfield.toml")).unwrap().access_log
    }

    #[test]
    fn without_the_section_there_is_no_access_log_and_an_empty_one_goes_to_stdout() {
        assert_eq!(parsed(""), None);
        let log = parsed("[access_log]").unwrap();
        assert_eq!((log.target, log.format), (LogTarget::Stdout, Format::parse(DEFAULT_FORMAT).unwrap()));
    }

    #[test]
    fn by_default_a_file_rotates_daily_and_seven_are_kept() {
        let file = |rotate, keep| LogTarget::File { path: "/p/a.log".into(), rotate, keep };
        assert_eq!(parsed("access_log.file = \"a.log\"").unwrap().target, file(Rotate::Daily, 7));
        let written = "[access_log]\nformat = \"$context.requestId\"\nfile = \"a.log\"\nrotate = \"hourly\"\nkeep = 2";
        let log = parsed(written).unwrap();
        assert_eq!((log.target, log.line), (file(Rotate::Hourly, 2), 3));
        assert_eq!(log.format, Format::parse("$context.requestId").unwrap());
    }

    #[test]
    fn invalid_keys_are_errors() {
        for (written, expected) in [
            ("format = \"$context.stage\"", "format: found no request id, expected $context.requestId or"),
            (
                "format = \"$context.requestID\"",
                "format: found $context.requestID, expected a variable of $context; did you mean $context.requestId?",
            ),
            ("format = 5", "format: found 5, expected a string"),
            (
                "file = \"a\"\nrotate = \"weekly\"",
                "rotate: found \"weekly\", expected \"hourly\", \"daily\" or \"never\"",
            ),
            ("file = \"a\"\nkeep = 0", "keep: found 0, expected a number from 1 to 10000"),
            ("rotate = \"daily\"", "rotate: found, but no file is rotated; add file = \"access.log\", or remove it"),
            ("file = \"a\"\nrotate = \"never\"\nkeep = 3", "keep: found, but no file is rotated; remove it"),
        ] {
            let errors = Config::parse(&format!("[access_log]\n{written}"), Path::new("jackfield.toml")).unwrap_err();
            let [error] = &errors[..] else { panic!("{errors:?}") };
            let error = error.to_string();
            let expected = format!(" access_log.{expected}");
            assert!(error.contains(&expected), "{error}");
        }
    }
}
