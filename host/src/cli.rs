//! The command line: one file a verb.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Parser, Subcommand};

use crate::config::{self, Config, MANIFEST_NAME};
use crate::runtime::{Runtime, RuntimeOptions};
use crate::telemetry::{self, LogFormat};

mod check;
mod inspect;
mod invoke;
mod new;
mod sandbox;
mod serve;

/// Threads for what blocks: the store, compilers, files.
const BLOCKING_THREADS_MAX: usize = 16;

#[derive(Parser)]
#[command(
    name = "jackfield",
    version,
    about = "Serves an API Gateway WebSocket API whose route handlers are WASM components, swapped live",
    after_help = "Exit codes: 0 done, 1 it failed or found a problem, 2 the command line was wrong.\n\
                  RUST_LOG chooses what is logged (default: info); NO_COLOR switches colours off."
)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
    /// How the log on stderr looks
    #[arg(long, global = true, value_enum, default_value_t)]
    log_format: LogFormat,
}

#[derive(Subcommand)]
enum Verb {
    Serve(serve::Serve),
    Dev(serve::Dev),
    Check(check::Check),
    New(new::New),
    Invoke(invoke::Invoke),
    Inspect(inspect::Inspect),
}

pub fn main() -> ExitCode {
    let cli = Cli::parse();
    telemetry::start(cli.log_format);
    match run(cli.verb) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
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
            Verb::Invoke(verb) => verb.run().await,
            Verb::Inspect(verb) => verb.run(),
        }
    });
    // A handler that was cut off may still hold a blocking thread; nobody waits for it.
    runtime.shutdown_timeout(Duration::from_millis(100));
    code
}

/// Which manifest.
#[derive(clap::Args)]
struct ManifestArg {
    /// The manifest
    #[arg(value_name = "MANIFEST", default_value = MANIFEST_NAME)]
    manifest: PathBuf,
}

impl ManifestArg {
    /// Reads the manifest; every problem of it is in the error, every warning on stderr.
    fn load(&self) -> anyhow::Result<Config> {
        let config = Config::load(&self.manifest).map_err(|problems| {
            let told: Vec<String> = problems.iter().map(ToString::to_string).collect();
            anyhow::anyhow!("the manifest has problems\n{}", told.join("\n"))
        })?;
        for warning in &config.warnings {
            tracing::warn!("{warning}");
        }
        Ok(config)
    }
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
