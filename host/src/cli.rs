//! The command line: one file for each verb.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use clap::{Parser, Subcommand};
use tracing::warn;

use crate::config::{Config, MANIFEST_NAME};
use crate::limits::LOG_FLUSH_TIMEOUT;
use crate::memory;
use crate::reload::{COMPILE_SOURCE_VERB, display_path};
use crate::runtime::{CodeCacheOptions, EngineFolder, Runtime, RuntimeOptions, WaitingEvents};
use crate::telemetry::{self, LogFormat};
use crate::worker::{self, WorkerOptions};

mod admin;
mod admin_client;
mod build;
mod check;
mod compile_component;
mod compile_source;
mod deployments;
mod import;
mod inspect;
mod invoke;
mod new;
mod open_files;
mod parse_script;
mod print_script;
mod revoke;
mod sandbox;
mod serve;
mod status;
mod store;
mod wit;

/// Maximum number of threads for blocking work: the store, compilers, files.
const BLOCKING_THREADS_MAX: usize = 16;

#[derive(Parser)]
#[command(
    name = "jackfield",
    version,
    about = "Serves an API Gateway WebSocket API whose route handlers are scripts or WASM components, and swaps them live",
    after_help = "\
To get started:
  jackfield new ts hello && cd hello && jackfield dev    (or js, python, go, c, zig, rust)

Exit codes: 0 success, 1 failure or a problem was found, 2 invalid command line.
RUST_LOG sets what is logged (default: info); NO_COLOR disables colours."
)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
    /// Format of the log on stderr: text, or json with one object per line
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
    Build(build::Build),
    Check(check::Check),
    New(new::New),
    Wit(wit::Wit),
    Import(import::Import),
    Invoke(invoke::Invoke),
    Inspect(inspect::Inspect),
    Status(status::Status),
    Deployments(deployments::Deployments),
    Revoke(revoke::Revoke),
    Store(store::Store),
    PrintScript(print_script::PrintScript),
    #[command(name = worker::VERB, hide = true)]
    CompileComponent(compile_component::CompileComponent),
    #[command(name = COMPILE_SOURCE_VERB, hide = true)]
    CompileSource(compile_source::CompileSource),
    #[command(name = worker::script::VERB, hide = true)]
    ParseScript(parse_script::ParseScript),
}

pub fn main() -> ExitCode {
    let cli = Cli::parse();
    if let Verb::CompileComponent(verb) = cli.verb {
        return verb.run();
    }
    if let Verb::CompileSource(verb) = cli.verb {
        return verb.run();
    }
    if let Verb::ParseScript(verb) = cli.verb {
        return verb.run();
    }
    // A server ends although no program reads its log. The other verbs wait for their reader, as other programs do.
    let flush_timeout = matches!(cli.verb, Verb::Serve(_) | Verb::Dev(_)).then_some(LOG_FLUSH_TIMEOUT);
    let result = telemetry::start(cli.log_format).context("cannot start the log").and_then(|()| run(cli.verb));
    let code = result.unwrap_or_else(|error| {
        telemetry::report_error(&format!("{error:#}"));
        ExitCode::FAILURE
    });
    telemetry::flush(flush_timeout);
    code
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
            Verb::Build(verb) => verb.run().await,
            Verb::Check(verb) => verb.run().await,
            Verb::New(verb) => verb.run(),
            Verb::Wit(verb) => verb.run(),
            Verb::Import(verb) => verb.run(),
            Verb::Invoke(verb) => verb.run().await,
            Verb::Inspect(verb) => verb.run().await,
            Verb::Status(verb) => verb.run().await,
            Verb::Deployments(verb) => verb.run().await,
            Verb::Revoke(verb) => verb.run().await,
            Verb::Store(verb) => verb.run().await,
            Verb::PrintScript(verb) => verb.run(),
            Verb::CompileComponent(_) | Verb::CompileSource(_) | Verb::ParseScript(_) => {
                unreachable!("main runs them before it starts any thread")
            }
        }
    });
    // An aborted handler may still occupy a blocking thread; do not wait for it.
    runtime.shutdown_timeout(Duration::from_millis(100));
    code
}

/// The argument that names the manifest.
#[derive(clap::Args)]
struct ManifestArg {
    /// The manifest to read
    #[arg(value_name = "MANIFEST", default_value = MANIFEST_NAME)]
    manifest: PathBuf,
}

/// The option that names the folder of the script engines.
#[derive(clap::Args)]
struct EnginesArg {
    /// Folder of the engines of scripts; the default is the folder engines beside the binary
    #[arg(long, value_name = "FOLDER")]
    engines: Option<PathBuf>,
}

impl EnginesArg {
    fn folder(&self) -> EngineFolder {
        EngineFolder::new(self.engines.clone())
    }
}

/// Reads a manifest; the error contains all its problems.
fn load_manifest(path: &Path) -> anyhow::Result<Config> {
    Config::load(path)
        .map_err(|problems| combine_problems("the manifest has", problems.iter().map(ToString::to_string)))
}

/// Combines problems to one error. Several problems are one line each, below a line with `introduction` and their
/// number.
fn combine_problems(introduction: &str, mut problems: impl ExactSizeIterator<Item = String>) -> anyhow::Error {
    match problems.len() {
        1 => anyhow!(problems.next().expect("there is one problem")),
        count => anyhow!("{introduction} {count} problems\n{}", problems.collect::<Vec<_>>().join("\n")),
    }
}

/// Returns a warning if the page of the manifest is missing. A server starts without it.
fn missing_page_warning(config: &Config) -> Option<String> {
    let page = config.server.page.as_ref().filter(|page| !page.is_file())?;
    let (manifest, page) = (display_path(&config.manifest), display_path(page));
    Some(format!("{manifest}: server.page: {page} is not a file, so GET / returns 404"))
}

/// Writes the output of a verb to stdout. A closed pipe is not an error: the reader may stop early.
fn print_output(text: &str) -> anyhow::Result<()> {
    match io::stdout().write_all(text.as_bytes()).and_then(|()| io::stdout().flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error).context("cannot write to stdout"),
        _ => Ok(()),
    }
}

/// Formats a size in KiB or MiB.
fn format_size(bytes: usize) -> String {
    const KIB: f64 = 1024.0;
    match bytes as f64 / KIB {
        kib if kib < KIB => format!("{kib:.1} KiB"),
        kib => format!("{:.1} MiB", kib / KIB),
    }
}

/// Formats a count with its noun: `1 route`, `2 routes`.
fn format_count(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

/// Creates the engine, with the cache folder and the limits of the manifest.
fn new_runtime(config: &Config, engines: &EnginesArg, waiting: WaitingEvents) -> anyhow::Result<Arc<Runtime>> {
    let server = &config.server;
    let folder = cache_folder(server.cache.as_ref());
    let cache = folder.as_deref().map(|folder| CodeCacheOptions { folder, bytes_max: server.cache_bytes });
    let worker = WorkerOptions { executable: None, limits: config.compiler.clone() };
    let memory_bytes = events_memory(config);
    Runtime::new(RuntimeOptions { cache, worker, waiting, engines: engines.folder(), memory_bytes })
}

/// Returns `server.memory_total`.
fn events_memory(config: &Config) -> usize {
    config.server.memory_bytes.unwrap_or_else(memory::half_of_the_machine)
}

/// Returns the folder for compiled code: that of the manifest, or else one in the user's cache folder.
fn cache_folder(configured: Option<&PathBuf>) -> Option<PathBuf> {
    // The XDG specification ignores relative paths. Each working directory would have a cache of its own.
    let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|folder| folder.is_absolute());
    let default = || {
        let base = absolute("XDG_CACHE_HOME").or_else(|| absolute("HOME").map(|home| home.join(".cache")));
        if base.is_none() {
            warn!(
                "compiled code is not cached: found no absolute path in XDG_CACHE_HOME or HOME; \
                 set one of them, or cache in [server]"
            );
        }
        base.map(|folder| folder.join("jackfield"))
    };
    configured.cloned().or_else(default)
}
