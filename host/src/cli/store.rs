//! `store`: writes, checks and imports exports of the store.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, bail};
use clap::Subcommand;

use crate::backend::{Backend, Durability, ExportSummary, SledOptions};
use crate::cli::{ManifestArg, format_count, print_output};
use crate::config::AdminClient;
use crate::limits::FLUSH_INTERVAL;
use crate::reload::display_path;

/// Export, check or import the stored keys and connection rows
///
/// A server writes an export into the folder "exports" of its store, every hour and when it stops,
/// and keeps the last two. The manifest names the folder of the store; it may have errors elsewhere.
#[derive(clap::Args)]
#[command(
    verbatim_doc_comment,
    after_help = "Examples:\n  jackfield store check chat/jackfield.toml\n  jackfield store export --to backup.export chat/jackfield.toml\n  jackfield store import data/exports/store-2026-11-29T10-00-00.000Z.export"
)]
pub struct Store {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Write an export of a store that no server uses
    Export {
        #[command(flatten)]
        manifest: ManifestArg,
        /// The file to write; by default one in the folder of exports
        #[arg(long, value_name = "FILE")]
        to: Option<PathBuf>,
    },
    /// Check the store and its exports, and name the last good export
    Check {
        #[command(flatten)]
        manifest: ManifestArg,
    },
    /// Bring the store back from an export
    ///
    /// The folder must have no store, or --replace moves its files to a folder beside them.
    Import {
        /// The export
        file: PathBuf,
        #[command(flatten)]
        manifest: ManifestArg,
        /// Move the files of the store that is there to a folder beside them
        #[arg(long)]
        replace: bool,
    },
}

impl Store {
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        match self.command {
            Command::Export { manifest, to } => export(&folder(&manifest)?, to).await,
            Command::Check { manifest } => check(&folder(&manifest)?).await,
            Command::Import { file, manifest, replace } => import(&folder(&manifest)?, &file, replace),
        }
    }
}

/// The folder of the store that a manifest names.
fn folder(manifest: &ManifestArg) -> anyhow::Result<PathBuf> {
    Ok(AdminClient::read(&manifest.manifest)?.store_folder)
}

fn open(folder: &Path) -> anyhow::Result<Backend> {
    Backend::open_sled(&SledOptions { folder: folder.to_owned(), durability: Durability::Interval(FLUSH_INTERVAL) })
}

async fn export(folder: &Path, to: Option<PathBuf>) -> anyhow::Result<ExitCode> {
    reject_missing(folder)?;
    let exported = open(folder)?.export(to, || true).await;
    let (path, summary) = exported.context("cannot export the store")?.context("the export was not written")?;
    print_output(&format!("exported {} to {}\n", describe(summary), display_path(&path)))?;
    Ok(ExitCode::SUCCESS)
}

/// Rejects a folder that does not exist, which opening the store would create.
fn reject_missing(folder: &Path) -> anyhow::Result<()> {
    if !folder.is_dir() {
        bail!("found no folder {}, expected that of a store; is it the right manifest?", display_path(folder));
    }
    Ok(())
}

async fn check(folder: &Path) -> anyhow::Result<ExitCode> {
    reject_missing(folder)?;
    let mut last_good = None;
    let mut is_good = true;
    let exports = Backend::exports(folder);
    for (path, summary) in exports.with_context(|| format!("cannot read the exports in {}", display_path(folder)))? {
        let display = display_path(&path);
        match summary {
            Ok(summary) => {
                print_output(&format!("good export: {display}: {}\n", describe(summary)))?;
                last_good.get_or_insert(display);
            }
            Err(error) => {
                is_good = false;
                print_output(&format!("bad export: {display}: {error:#}\n"))?;
            }
        }
    }
    match check_store(folder).await {
        Ok(text) => print_output(&format!("{text}\n"))?,
        Err(error) => {
            is_good = false;
            print_output(&format!("bad store: {error:#}\n"))?;
        }
    }
    print_output(&format!("last good export: {}\n", last_good.as_deref().unwrap_or("none")))?;
    Ok(if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn check_store(folder: &Path) -> anyhow::Result<String> {
    if Backend::is_in_use(folder) {
        return Ok(format!("the store in {} is in use by a server, so it was not read", display_path(folder)));
    }
    let backend = open(folder)?;
    let problems = backend.verify().await.context("cannot read the store")?;
    if !problems.is_empty() {
        bail!("{} in {}: {}", format_count(problems.len(), "problem"), display_path(folder), problems.join("; "));
    }
    Ok(format!("good store: {}", display_path(folder)))
}

fn import(folder: &Path, file: &Path, replace: bool) -> anyhow::Result<ExitCode> {
    let imported = Backend::import(folder, file, replace)?;
    let moved = imported.moved_to.map(|path| format!("; the files of the store before are in {}", display_path(&path)));
    let moved = moved.unwrap_or_default();
    print_output(&format!("imported {} into {}{moved}\n", describe(imported.summary), display_path(folder)))?;
    Ok(ExitCode::SUCCESS)
}

fn describe(ExportSummary { created, keys, rows }: ExportSummary) -> String {
    let count = |count: u64, noun| format_count(usize::try_from(count).unwrap_or(usize::MAX), noun);
    let at = humantime::format_rfc3339_seconds(SystemTime::UNIX_EPOCH + Duration::from_millis(created));
    format!("{} and {} of {at}", count(keys, "key"), count(rows, "row"))
}
