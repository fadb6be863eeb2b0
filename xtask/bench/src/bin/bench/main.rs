//! Compares jackfield with a plain server: starts both in turn, loads them, and prints one table.
//!
//! Rounds are the outer loop, so that the servers that are compared run within the same minute, because other processes
//! may use the machine. The exit code is 0 if every figure was measured, met or missed, and 1 if one could not be
//! measured.

mod build;
mod capacity;
mod credential;
mod feature;
mod figure;
mod nodes;
mod operation;
mod probe;
mod redis;
mod script;
mod server;
mod table;
mod target;
mod workload;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail, ensure};
use clap::{Parser, ValueEnum};
use jackfield_bench::process;
use serde::Serialize;

use crate::capacity::Capacity;
use crate::feature::{BASELINE, Dependencies, Feature};
use crate::operation::{Measurement, Operation};
use crate::script::Installation;
use crate::server::{Components, Scratch, Subject};
use crate::workload::Run;

/// Measures jackfield and a plain server, and reports which targets are met.
///
/// Example: bench --jackfield target/release/jackfield --wasip2 echo.wasm --only echo --quick
#[derive(Parser)]
struct Args {
    /// The binary of jackfield; without it only the plain server is measured.
    #[arg(long, requires = "wasip2")]
    jackfield: Option<PathBuf>,
    /// The echo handler built for wasm32-wasip2.
    #[arg(long)]
    wasip2: Option<PathBuf>,
    /// The relay handler built for wasm32-wasip2, which handles all messages except echo requests.
    #[arg(long)]
    wasip2_relay: Option<PathBuf>,
    /// The echo handler built for wasm32-unknown-unknown.
    #[arg(long)]
    lean: Option<PathBuf>,
    /// The relay handler built for wasm32-unknown-unknown.
    #[arg(long)]
    lean_relay: Option<PathBuf>,
    /// The component before the reload, which must echo; the default is that of --wasip2.
    #[arg(long)]
    reload_a: Option<PathBuf>,
    /// The component after the reload, which must send another response to an echo request; the chat handler does.
    #[arg(long)]
    reload_b: Option<PathBuf>,
    /// The authorizer `ticket` built for wasm32-wasip2.
    #[arg(long)]
    ticket: Option<PathBuf>,
    /// The folder of the engines of scripts; without it, scripts are not measured.
    #[arg(long, requires = "jackfield")]
    engines: Option<PathBuf>,
    /// A folder `node_modules` with the client for DynamoDB, which a script imports.
    #[arg(long, requires = "engines")]
    packages: Option<PathBuf>,
    /// The echo handler in a language, as NAME=FILE.wasm.
    #[arg(long = "language", value_parser = named_file, requires = "jackfield")]
    languages: Vec<(String, PathBuf)>,
    /// Measure only these groups.
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Group>,
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Duration of each run in seconds.
    #[arg(long, default_value_t = 2.0)]
    secs: f64,
    /// Rate of the open loops in messages a second.
    #[arg(long, default_value_t = 40_000)]
    rate: u32,
    /// The rows of the group `redis`, of which each is a connection.
    #[arg(long)]
    rows: Option<usize>,
    /// One round of short runs with fewer connections, which only checks that everything works.
    #[arg(long, conflicts_with_all = ["rounds", "secs"])]
    quick: bool,
    /// Write every run and every row to this file.
    #[arg(long)]
    json: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Group {
    Echo,
    Post,
    Broadcast,
    Idle,
    Connect,
    Reload,
    Start,
    /// Events of handlers in JavaScript and Python.
    Script,
    /// From the save of a script to the first event that it handles, and the memory of scripts.
    Save,
    /// Events of handlers in the other compiled languages.
    Language,
    /// From the save of a source in a compiled language to the first event, in `jackfield dev`.
    Build,
    /// Several nodes on one Redis.
    Nodes,
    /// What one Redis carries.
    Redis,
    /// The cost of an access log, throttles and a model for a message.
    EchoWith,
    /// The cost of authorizers and API keys for a connection.
    ConnectWith,
}

/// The extent of the measurement, which is the same for every server.
#[derive(Clone, Copy, Serialize)]
pub struct Scale {
    pub rounds: usize,
    pub secs: f64,
    pub rate: u32,
    pub idle_connections: usize,
}

/// The cores of the server and of the load generator, which are different so that the two do not compete.
#[derive(Clone, Copy)]
pub struct Cores {
    pub server: usize,
    pub load: usize,
}

fn main() -> Result<ExitCode> {
    let args = Args::parse();
    process::raise_open_files()?;
    let scale = if args.quick {
        Scale { rounds: 1, secs: 0.5, rate: args.rate, idle_connections: 1_000 }
    } else {
        Scale { rounds: args.rounds, secs: args.secs, rate: args.rate, idle_connections: 10_000 }
    };
    ensure!((1..=100).contains(&scale.rounds), "--rounds is from 1 to 100");
    let wanted = |group| args.only.is_empty() || args.only.contains(&group);
    let cores = two_cores()?;
    warn_if_busy();
    let scratch = Scratch::new()?;
    let function = match &args.jackfield {
        // The function runs on the core of the load generator, so that its CPU time does not slow the server.
        Some(_) if wanted(Group::ConnectWith) => {
            let mut function = Subject::plain(sibling_binary("plain")?);
            function.name = "function".into();
            Some(function.start(&scratch, false, cores.map(|cores| cores.load))?)
        }
        _ => None,
    };
    let dependencies = Dependencies {
        ticket: args.ticket.as_ref().map(|path| absolute(path)).transpose()?,
        function: function.as_ref().map(|function| function.port),
    };
    let features = feature::all(&dependencies).into_iter().filter(|feature| wanted(feature.group)).collect();
    let scripts = installation(&args)?;
    let mut subjects = subjects(&args, features)?;
    if wanted(Group::Script) {
        subjects.extend(scripts.iter().flat_map(Installation::subjects));
    }
    if wanted(Group::Language) {
        subjects.extend(languages(&args)?);
    }
    let mut operations = operations(&args, wanted)?;
    if wanted(Group::Save) {
        operations.extend(scripts.iter().flat_map(Installation::operations));
    }
    if let Some(binary) = args.jackfield.as_ref().filter(|_| wanted(Group::Build)) {
        operations.extend(build::operations(&absolute(binary)?));
    }
    for group in [Group::Nodes, Group::Redis].into_iter().filter(|group| wanted(*group)) {
        operations.extend(node_operations(&args, group, &scale)?);
    }
    let workloads: Vec<_> = workload::all(&scale).into_iter().filter(|workload| wanted(workload.group)).collect();

    server::warm_code_cache(&subjects, &scratch)?;
    let in_turn = |round: usize| workload::in_turn(&workloads, &subjects, round);
    let operations_of = |round: usize| operations.iter().filter(move |operation| round == 0 || !operation.once);
    let total = (0..scale.rounds).map(|round| in_turn(round).len() + operations_of(round).count()).sum();
    let mut progress = Progress { done: 0, total };
    let (mut runs, mut measured) = (Vec::new(), Vec::new());
    for round in 0..scale.rounds {
        for (workload, subject) in in_turn(round) {
            let run = workload::run(workload, subject, &scratch, cores, round);
            progress.report(&run.to_string());
            runs.push(run);
        }
        for operation in operations_of(round) {
            let measurements = operation.run(&scratch, round);
            let lines: Vec<String> = measurements.iter().map(Measurement::to_string).collect();
            progress.report(&lines.join("\n          "));
            measured.extend(measurements);
        }
    }

    let rows = figure::rows(&scale, &runs, &operations, &measured);
    println!("{}", table::render(&rows));
    if let Some(path) = &args.json {
        write_json(path, &Report { scale: &scale, rows: &rows, runs: &runs, operations: &measured })?;
    }
    let all_measured = runs.iter().all(Run::is_valid) && measured.iter().all(|one| one.failure.is_none());
    Ok(if all_measured { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Returns the servers to measure: the plain server, jackfield with each component with and without `reuse`, and
/// jackfield with each feature.
fn subjects(args: &Args, features: Vec<Feature>) -> Result<Vec<Subject>> {
    let mut subjects = vec![Subject::plain(sibling_binary("plain")?)];
    let Some(binary) = &args.jackfield else {
        return Ok(subjects);
    };
    for (reuse, suffix) in [(None, ""), (Some(1000), " reuse")] {
        for (target, echo, relay) in
            [("wasip2", &args.wasip2, &args.wasip2_relay), ("lean", &args.lean, &args.lean_relay)]
        {
            let Some(echo) = echo else { continue };
            let relay = relay.as_ref().map(|relay| absolute(relay)).transpose()?;
            let components = Components { echo: absolute(echo)?, relay };
            let name = format!("{target}{suffix}");
            subjects.push(Subject::jackfield(name, &absolute(binary)?, components, reuse));
        }
    }
    if let Some(without) = subjects.iter().find(|subject| subject.name == BASELINE).cloned() {
        subjects.extend(features.into_iter().map(|feature| without.with(feature)));
    }
    Ok(subjects)
}

/// Returns the servers of the handlers in other languages: each with and without `reuse`.
fn languages(args: &Args) -> Result<Vec<Subject>> {
    let Some(binary) = &args.jackfield else { return Ok(Vec::new()) };
    let binary = absolute(binary)?;
    let mut subjects = Vec::new();
    for (name, component) in &args.languages {
        let component = absolute(component)?;
        for (reuse, suffix) in [(None, ""), (Some(1000), " reuse")] {
            subjects.push(Subject::language(format!("{name}{suffix}"), &binary, component.clone(), reuse));
        }
    }
    Ok(subjects)
}

fn named_file(text: &str) -> Result<(String, PathBuf), String> {
    let (name, file) = text.split_once('=').ok_or("expected NAME=FILE.wasm")?;
    Ok((name.to_owned(), file.into()))
}

fn operations(args: &Args, wanted: impl Fn(Group) -> bool) -> Result<Vec<Operation>> {
    let (Some(binary), Some(wasip2)) = (&args.jackfield, &args.wasip2) else {
        return Ok(Vec::new());
    };
    let binary = absolute(binary)?;
    let mut operations = Vec::new();
    if wanted(Group::Start) {
        operations.push(Operation::start(binary.clone(), absolute(wasip2)?));
    }
    match &args.reload_b {
        Some(after) if wanted(Group::Reload) => {
            let before = absolute(args.reload_a.as_ref().unwrap_or(wasip2))?;
            operations.push(Operation::reload(binary, before, absolute(after)?));
        }
        None if args.only.contains(&Group::Reload) => {
            bail!("reload needs --reload-b, a component that sends another response to echo requests")
        }
        _ => {}
    }
    Ok(operations)
}

/// Returns the operations of several nodes, if there is a relay.
fn node_operations(args: &Args, group: Group, scale: &Scale) -> Result<Vec<Operation>> {
    let (Some(binary), Some(relay)) = (&args.jackfield, &args.wasip2_relay) else { return Ok(Vec::new()) };
    let node = Subject::jackfield("node".into(), &absolute(binary)?, Components::only(absolute(relay)?), None);
    Ok(match group {
        Group::Redis => {
            let rows = args.rows.unwrap_or(if args.quick { 1_000 } else { 100_000 });
            capacity::operations(&node, &Capacity { rows, secs: scale.secs })
        }
        _ => nodes::operations(&node, scale),
    })
}

/// Returns what scripts need, if there are engines.
fn installation(args: &Args) -> Result<Option<Installation>> {
    let (Some(binary), Some(engines)) = (&args.jackfield, &args.engines) else { return Ok(None) };
    let packages = args.packages.as_ref().map(|path| absolute(path)).transpose()?;
    Ok(Some(Installation { binary: absolute(binary)?, engines: absolute(engines)?, packages }))
}

fn two_cores() -> Result<Option<Cores>> {
    match process::cores()?[..] {
        [server, load, ..] => Ok(Some(Cores { server, load })),
        _ => {
            eprintln!("this machine has only one core, which server and load generator share: the figures mean little");
            Ok(None)
        }
    }
}

/// Warns if other processes use the cores. This changes ratios a little and peaks much.
fn warn_if_busy() {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load: f64 = text.split(' ').next().and_then(|load| load.parse().ok()).unwrap_or_default();
    if load > 0.5 {
        eprintln!("other processes use this machine (load average {load}): ratios are more reliable than peaks");
    }
}

/// Servers run in folders of their own, so every path in their manifests and arguments is absolute.
fn absolute(path: &Path) -> Result<PathBuf> {
    path.canonicalize().with_context(|| format!("cannot find {}", path.display()))
}

/// Returns the path of another binary of this crate, which is in the same folder as this one.
pub fn sibling_binary(name: &str) -> Result<PathBuf> {
    let this_binary = std::env::current_exe().context("cannot find the path of this binary")?;
    let path = this_binary.with_file_name(name);
    ensure!(path.exists(), "{} is missing: build all binaries of jackfield-bench", path.display());
    Ok(path)
}

struct Progress {
    done: usize,
    total: usize,
}

impl Progress {
    fn report(&mut self, result: &str) {
        self.done += 1;
        eprintln!("[{:>3}/{}] {result}", self.done, self.total);
    }
}

#[derive(Serialize)]
struct Report<'a> {
    scale: &'a Scale,
    rows: &'a [figure::Row],
    runs: &'a [Run],
    operations: &'a [Measurement],
}

fn write_json(path: &Path, report: &Report) -> Result<()> {
    let text = serde_json::to_string_pretty(report)?;
    std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}
