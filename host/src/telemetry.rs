//! Where the log goes: stderr, as lines for a person or as JSON for a machine.

use std::io::IsTerminal as _;
use std::sync::OnceLock;

use clap::ValueEnum;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
pub enum LogFormat {
    /// A line for a person, in colour on a terminal.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// How this process speaks; set once, by `start`.
static FORMAT: OnceLock<LogFormat> = OnceLock::new();

/// To be called once, by the binary. `RUST_LOG` chooses what is told; without it, `info`.
pub fn start(format: LogFormat) {
    let _ = FORMAT.set(format);
    let chosen = std::env::var(EnvFilter::DEFAULT_ENV).ok().filter(|chosen| !chosen.is_empty());
    let chosen = chosen.as_deref().unwrap_or("info");
    // notify tells of each watch that went with its folder: nothing that anybody could do about.
    let filter = EnvFilter::builder()
        .with_default_directive(LevelFilter::INFO.into())
        .parse_lossy(format!("notify=warn,{chosen}"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match format {
        LogFormat::Text => builder.with_ansi(colours(std::io::stderr().is_terminal())).with_target(false).init(),
        LogFormat::Json => builder.json().flatten_event(true).init(),
    }
}

/// What a verb ended with: for a person without the trimmings of a log, for a machine a line of it.
pub fn say_error(text: &str) {
    match FORMAT.get() {
        Some(LogFormat::Json) => tracing::error!(target: "jackfield", "{text}"),
        _ => eprintln!("error: {text}"),
    }
}

/// What a verb found, in the same way.
pub fn say_warning(text: &str) {
    match FORMAT.get() {
        Some(LogFormat::Json) => tracing::warn!(target: "jackfield", "{text}"),
        _ => eprintln!("warning: {text}"),
    }
}

/// Colours only on a terminal, and only where nobody has said no (https://no-color.org).
fn colours(terminal: bool) -> bool {
    terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}
