//! The access log: what its lines look like, and where they go.

use std::path::Path;

use toml::de::DeValue;

use super::section::Section;
use super::value::{self, Wrong};
use crate::gateway::access_log::{Format, Rotate, Target};

/// The fields of API Gateway's own example, and how long the handler took.
const FORMAT: &str = r#"{"requestId":"$context.requestId","ip":"$context.identity.sourceIp","requestTime":"$context.requestTime","eventType":"$context.eventType","routeKey":"$context.routeKey","status":"$context.status","connectionId":"$context.connectionId","integrationLatency":"$context.integrationLatency"}"#;
/// A week, where a file is a day.
const KEEP: usize = 7;
const KEEP_MAX: usize = 10_000;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessLog {
    pub format: Format,
    pub target: Target,
    /// The line of the manifest that says where it goes.
    pub line: u32,
}

/// `None` where there is no such section.
pub fn access_log(mut section: Section<'_>, folder: &Path) -> Option<AccessLog> {
    let format = section.read("format", format);
    let file = section.read("file", value::path(folder));
    let rotate = section.read("rotate", rotate).unwrap_or(Rotate::Daily);
    let keep = section.read("keep", value::count(1..=KEEP_MAX)).unwrap_or(KEEP);
    for key in ["rotate", "keep"] {
        let advice = match key {
            _ if !section.is_written(key) => continue,
            _ if !section.is_written("file") => "add file = \"access.log\", or leave it out",
            "keep" if rotate == Rotate::Never => "leave it out: with rotate = \"never\" there is one file",
            _ => continue,
        };
        let problem = format!("access_log.{key}: found where no file rotates");
        section.problems.error(section.span_of(key), problem, advice);
    }
    let there = section.is_there();
    let line = section.problems.line(if section.is_written("file") { section.span_of("file") } else { section.span() });
    section.finish();
    there.then(|| AccessLog {
        format: format.unwrap_or_else(|| Format::parse(FORMAT).expect("the default is good")),
        target: file.map_or(Target::Stdout, |path| Target::File { path, rotate, keep }),
        line,
    })
}

fn format(value: &DeValue<'_>) -> Result<Format, Wrong> {
    Format::parse(value::text(value)?).map_err(|bad| Wrong {
        found: Some(bad.found),
        expected: bad.expected,
        advice: bad.advice,
    })
}

fn rotate(value: &DeValue<'_>) -> Result<Rotate, Wrong> {
    match value.as_str() {
        Some("hourly") => Ok(Rotate::Hourly),
        Some("daily") => Ok(Rotate::Daily),
        Some("never") => Ok(Rotate::Never),
        _ => Err(Wrong::new("\"hourly\", \"daily\" or \"never\"", "")),
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
        assert_eq!((log.target, log.format), (Target::Stdout, Format::parse(FORMAT).unwrap()));
    }

    #[test]
    fn a_file_rotates_by_the_day_and_a_week_is_kept_unless_it_is_said_otherwise() {
        let file = |rotate, keep| Target::File { path: "/p/a.log".into(), rotate, keep };
        assert_eq!(parsed("access_log.file = \"a.log\"").unwrap().target, file(Rotate::Daily, 7));
        let written = "[access_log]\nformat = \"$context.requestId\"\nfile = \"a.log\"\nrotate = \"hourly\"\nkeep = 2";
        let log = parsed(written).unwrap();
        assert_eq!((log.target, log.line), (file(Rotate::Hourly, 2), 3));
        assert_eq!(log.format, Format::parse("$context.requestId").unwrap());
    }

    #[test]
    fn what_cannot_be_is_told() {
        for (written, told) in [
            ("format = \"$context.stage\"", "format: found no request id, expected $context.requestId or"),
            (
                "format = \"$context.requestID\"",
                "format: found $context.requestID, expected a variable of $context; did you mean $context.requestId?",
            ),
            ("format = 5", "format: found 5, expected a text"),
            (
                "file = \"a\"\nrotate = \"weekly\"",
                "rotate: found \"weekly\", expected \"hourly\", \"daily\" or \"never\"",
            ),
            ("file = \"a\"\nkeep = 0", "keep: found 0, expected a number from 1 to 10000"),
            ("rotate = \"daily\"", "rotate: found where no file rotates; add file = \"access.log\", or leave it out"),
            ("file = \"a\"\nrotate = \"never\"\nkeep = 3", "keep: found where no file rotates; leave it out"),
        ] {
            let errors = Config::parse(&format!("[access_log]\n{written}"), Path::new("jackfield.toml")).unwrap_err();
            let [error] = &errors[..] else { panic!("{errors:?}") };
            let error = error.to_string();
            let told = format!(" access_log.{told}");
            assert!(error.contains(&told), "{error}");
        }
    }
}
