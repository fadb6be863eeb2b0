//! The command line: one file a verb.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use clap::{Parser, Subcommand};

use crate::config::{self, Config, MANIFEST_NAME};
use crate::reload::shown;
use crate::runtime::{Runtime, RuntimeOptions};
use crate::telemetry::{self, LogFormat};

mod admin;
mod check;
mod deployments;
mod import;
mod inspect;
mod invoke;
mod new;
mod open_files;
mod sandbox;
mod serve;

/// Threads for what blocks: the store, compilers, files.
const BLOCKING_THREADS_MAX: usize = 16;

#[derive(Parser)]
#[command(
    name = "jackfield",
    version,
    about = "Serves an API Gateway WebSocket API whose route handlers are WASM components, swapped live",
    after_help = "\
To begin:
  jackfield new rust hello && cd hello && jackfield dev

Exit codes: 0 done, 1 it failed or found a problem, 2 the command line was wrong.
RUST_LOG chooses what is logged (default: info); NO_COLOR switches colours off."
)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
    /// How the log on stderr looks: text, or json with one object a line
    #[arg(
        long,
        global = true,
        value_enum,
        default_value_t,
        value_name = "FORMAT",
        hide_possible_values = true,
        display_order = 100
    )]
    log_format: LogFormat,
}

#[derive(Subcommand)]
enum Verb {
    Serve(serve::Serve),
    Dev(serve::Dev),
    Check(check::Check),
    New(new::New),
    Import(import::Import),
    Invoke(invoke::Invoke),
    Inspect(inspect::Inspect),
    Deployments(deployments::Deployments),
}

pub fn main() -> ExitCode {
    let cli = Cli::parse();
    telemetry::start(cli.log_format);
    match run(cli.verb) {
        Ok(code) => code,
        Err(error) => {
            telemetry::say_error(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(verb: Verb) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING_THREADS_MAX)
        .build()
        .context("cannot start the threads of the server")?;
    let code = runtime.block_on(async {
        match verb {
            Verb::Serve(verb) => verb.run().await,
            Verb::Dev(verb) => verb.run().await,
            Verb::Check(verb) => verb.run().await,
            Verb::New(verb) => verb.run(),
            Verb::Import(verb) => verb.run(),
            Verb::Invoke(verb) => verb.run().await,
            Verb::Inspect(verb) => verb.run(),
            Verb::Deployments(verb) => verb.run().await,
        }
    });
    // A handler that was cut off may still hold a blocking thread; nobody waits for it.
    runtime.shutdown_timeout(Duration::from_millis(100));
    code
}

/// Which manifest.
#[derive(clap::Args)]
struct ManifestArg {
    /// The manifest to read
    #[arg(value_name = "MANIFEST", default_value = MANIFEST_NAME)]
    manifest: PathBuf,
}

/// Reads a manifest; every problem of it is in the error.
fn load_manifest(path: &Path) -> anyhow::Result<Config> {
    Config::load(path).map_err(|problems| told("the manifest has", problems.iter().map(ToString::to_string)))
}

/// One problem is the error; of several, each is a line of it.
fn told(who: &str, mut problems: impl ExactSizeIterator<Item = String>) -> anyhow::Error {
    match problems.len() {
        1 => anyhow!(problems.next().expect("there is one")),
        count => anyhow!("{who} {count} problems\n{}", problems.collect::<Vec<_>>().join("\n")),
    }
}

/// What the manifest names beside its components and is not there. A server starts without it.
fn missing(config: &Config) -> Option<String> {
    let page = config.server.page.as_ref().filter(|page| !page.is_file())?;
    let (manifest, page) = (shown(&config.manifest), shown(page));
    Some(format!("{manifest}: server.page: {page} is no file, so GET / finds nothing"))
}

/// Writes the answer of a verb to stdout. Whoever reads no further has had enough.
fn answer(text: &str) -> anyhow::Result<()> {
    match io::stdout().write_all(text.as_bytes()).and_then(|()| io::stdout().flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error).context("cannot write to stdout"),
        _ => Ok(()),
    }
}

/// A size as a person reads it.
fn size(bytes: usize) -> String {
    const KIB: f64 = 1024.0;
    match bytes as f64 / KIB {
        kib if kib < KIB => format!("{kib:.1} KiB"),
        kib => format!("{:.1} MiB", kib / KIB),
    }
}

/// `1 route`, `2 routes`.
fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// The engine, with the folder and the memory that the manifest gives it.
fn runtime(server: &config::Server) -> anyhow::Result<Arc<Runtime>> {
    let cache = cache_folder(server.cache.as_ref());
    Runtime::new(RuntimeOptions { cache: cache.as_deref(), memory_bytes: server.memory_bytes })
}

/// Where compiled code is kept: where the manifest says, else in the user's cache folder.
fn cache_folder(configured: Option<&PathBuf>) -> Option<PathBuf> {
    let user = || {
        let base = std::env::var_os("XDG_CACHE_HOME").filter(|folder| !folder.is_empty()).map(PathBuf::from);
        let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
        base.or_else(home).map(|folder| folder.join("jackfield"))
    };
    configured.cloned().or_else(user)
}
