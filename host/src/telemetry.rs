//! Where the log goes: stderr, as lines for a person or as JSON for a machine.

use std::io::IsTerminal as _;

use clap::ValueEnum;
use tracing_subscriber::EnvFilter;

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
pub enum LogFormat {
    /// A line for a person, in colour on a terminal.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// To be called once, by the binary. `RUST_LOG` chooses what is told; without it, `info`.
pub fn start(format: LogFormat) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match format {
        LogFormat::Text => builder.with_ansi(colours(std::io::stderr().is_terminal())).with_target(false).init(),
        LogFormat::Json => builder.json().flatten_event(true).init(),
    }
}

/// Colours only on a terminal, and only where nobody has said no (https://no-color.org).
pub fn colours(terminal: bool) -> bool {
    terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}
