//! The log: written to stderr, as text lines for people or as JSON for programs.

use std::io::IsTerminal as _;
use std::sync::OnceLock;

use clap::ValueEnum;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
pub enum LogFormat {
    /// Text lines, coloured on a terminal.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

/// The log format of this process; set once, by `start`.
static FORMAT: OnceLock<LogFormat> = OnceLock::new();

/// Starts logging. Only the binary calls it, once. `RUST_LOG` sets what is logged; the default is `info`.
pub fn start(format: LogFormat) {
    let _ = FORMAT.set(format);
    let directives = std::env::var(EnvFilter::DEFAULT_ENV).ok().filter(|directives| !directives.is_empty());
    let directives = directives.as_deref().unwrap_or("info");
    // notify logs each watch that ends because its folder was deleted. Operators cannot act on these lines, so only
    // its warnings are logged.
    let filter = EnvFilter::builder()
        .with_default_directive(LevelFilter::INFO.into())
        .parse_lossy(format!("notify=warn,{directives}"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match format {
        LogFormat::Text => builder.with_ansi(use_colours(std::io::stderr().is_terminal())).with_target(false).init(),
        LogFormat::Json => builder.json().flatten_event(true).init(),
    }
}

/// Reports the error that ended a verb: a plain line in the text format, a log line in the JSON format.
pub fn report_error(text: &str) {
    match FORMAT.get() {
        Some(LogFormat::Json) => tracing::error!(target: "jackfield", "{text}"),
        _ => eprintln!("error: {text}"),
    }
}

/// Reports a warning of a verb, in the same way as an error.
pub fn report_warning(text: &str) {
    match FORMAT.get() {
        Some(LogFormat::Json) => tracing::warn!(target: "jackfield", "{text}"),
        _ => eprintln!("warning: {text}"),
    }
}

/// Whether the log is coloured: only on a terminal, and only if `NO_COLOR` is not set (https://no-color.org).
fn use_colours(is_terminal: bool) -> bool {
    is_terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}
