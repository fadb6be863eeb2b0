//! Compares jackfield with a plain server: starts both in turn, loads them, prints one table.
//!
//! Rounds are the outer loop, so that what is compared is measured within the same minute of a
//! machine that others may be using. Exit code 0 when every figure was measured, met or missed;
//! 1 when one could not be.

// What is sent to which servers.
mod workload;

// Single moments: the start, a reload.
mod moment;

// What can be switched on.
mod extra;

// What a client shows at the door.
mod credential;

// A server process, from its manifest to its end.
mod server;

// One connection that asks and waits.
mod probe;

// The figures that jackfield is held to.
mod target;

// What is made of the runs.
mod figure;

// How that is shown.
mod table;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail, ensure};
use clap::{Parser, ValueEnum};
use jackfield_bench::process;
use serde::Serialize;

use crate::extra::{BESIDE, Extra, Outside};
use crate::moment::Moment;
use crate::server::{Components, Scratch, Subject};
use crate::workload::Run;

/// Measures jackfield beside a plain server and says which figures are met.
///
/// Example: bench --jackfield target/release/jackfield --wasip2 echo.wasm --only echo --quick
#[derive(Parser)]
struct Args {
    /// The server to measure; without it only the plain server is.
    #[arg(long, requires = "wasip2")]
    jackfield: Option<PathBuf>,
    /// The echo handler built for wasm32-wasip2.
    #[arg(long)]
    wasip2: Option<PathBuf>,
    /// The relay handler built for wasm32-wasip2, which serves all but the echo.
    #[arg(long)]
    wasip2_relay: Option<PathBuf>,
    /// The echo handler built for wasm32-unknown-unknown.
    #[arg(long)]
    lean: Option<PathBuf>,
    /// The relay handler built for wasm32-unknown-unknown.
    #[arg(long)]
    lean_relay: Option<PathBuf>,
    /// What `reload` starts with; it echoes. The wasip2 handler where it is not given.
    #[arg(long)]
    reload_a: Option<PathBuf>,
    /// What `reload` swaps in: a component that answers an echo request with something else, as
    /// the chat handler does.
    #[arg(long)]
    reload_b: Option<PathBuf>,
    /// The authorizer `ticket` built for wasm32-wasip2.
    #[arg(long)]
    ticket: Option<PathBuf>,
    /// Measure these only.
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Group>,
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// How long each run is measured.
    #[arg(long, default_value_t = 2.0)]
    secs: f64,
    /// Messages a second of the open loops.
    #[arg(long, default_value_t = 40_000)]
    rate: u32,
    /// One round of short runs with fewer connections: shows that everything works, no more.
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
    /// What an access log, throttles and a model cost a message.
    EchoWith,
    /// What authorizers and API keys cost a connection.
    ConnectWith,
}

/// How much is measured. The same for every server.
#[derive(Clone, Copy, Serialize)]
pub struct Scale {
    pub rounds: usize,
    pub secs: f64,
    pub rate: u32,
    pub idle_connections: usize,
}

/// The cores that keep server and load out of each other's way.
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
        // Beside the load, so that what a function takes is not the server's.
        Some(_) if wanted(Group::ConnectWith) => {
            let mut function = Subject::plain(beside_this_binary("plain")?);
            function.name = "function".into();
            Some(function.start(&scratch, false, cores.map(|cores| cores.load))?)
        }
        _ => None,
    };
    let outside = Outside {
        ticket: args.ticket.as_ref().map(|path| absolute(path)).transpose()?,
        function: function.as_ref().map(|function| function.port),
    };
    let extras = extra::all(&outside).into_iter().filter(|extra| wanted(extra.group)).collect();
    let subjects = subjects(&args, extras)?;
    let moments = moments(&args, wanted)?;
    let workloads: Vec<_> = workload::all(&scale).into_iter().filter(|workload| wanted(workload.group)).collect();

    server::warm_code_cache(&subjects, &scratch)?;
    let in_turn = |round: usize| workload::in_turn(&workloads, &subjects, round);
    let total = (0..scale.rounds).map(|round| in_turn(round).len() + moments.len()).sum();
    let mut progress = Progress { done: 0, total };
    let (mut runs, mut timings) = (Vec::new(), Vec::new());
    for round in 0..scale.rounds {
        for (workload, subject) in in_turn(round) {
            let run = workload::run(workload, subject, &scratch, cores, round);
            progress.tell(&run.to_string());
            runs.push(run);
        }
        for moment in &moments {
            let timing = moment.time(&scratch, round);
            progress.tell(&timing.to_string());
            timings.push(timing);
        }
    }

    let rows = figure::rows(&scale, &runs, &timings);
    println!("{}", table::render(&rows));
    if let Some(path) = &args.json {
        write_json(path, &Report { scale: &scale, rows: &rows, runs: &runs, timings: &timings })?;
    }
    let all_measured = runs.iter().all(Run::is_sound) && timings.iter().all(|timing| timing.failure.is_none());
    Ok(if all_measured { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The plain server, jackfield with each component that was given, fresh and kept, and jackfield
/// with each of what can be switched on.
fn subjects(args: &Args, extras: Vec<Extra>) -> Result<Vec<Subject>> {
    let mut subjects = vec![Subject::plain(beside_this_binary("plain")?)];
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
    if let Some(without) = subjects.iter().find(|subject| subject.name == BESIDE).cloned() {
        subjects.extend(extras.into_iter().map(|extra| without.with(extra)));
    }
    Ok(subjects)
}

fn moments(args: &Args, wanted: impl Fn(Group) -> bool) -> Result<Vec<Moment>> {
    let (Some(binary), Some(wasip2)) = (&args.jackfield, &args.wasip2) else {
        return Ok(Vec::new());
    };
    let binary = absolute(binary)?;
    let mut moments = Vec::new();
    if wanted(Group::Start) {
        moments.push(Moment::Start { binary: binary.clone(), component: absolute(wasip2)? });
    }
    match &args.reload_b {
        Some(after) if wanted(Group::Reload) => {
            let before = absolute(args.reload_a.as_ref().unwrap_or(wasip2))?;
            moments.push(Moment::Reload { binary, before, after: absolute(after)? });
        }
        None if args.only.contains(&Group::Reload) => {
            bail!("reload needs --reload-b, a component that answers echo requests otherwise")
        }
        _ => {}
    }
    Ok(moments)
}

fn two_cores() -> Result<Option<Cores>> {
    match process::cores()?[..] {
        [server, load, ..] => Ok(Some(Cores { server, load })),
        _ => {
            eprintln!("there is one core only: server and load share it, so the figures mean little");
            Ok(None)
        }
    }
}

/// Others that compute take the cores away at random; the ratios bear some of that, the peaks none.
fn warn_if_busy() {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load: f64 = text.split(' ').next().and_then(|load| load.parse().ok()).unwrap_or_default();
    if load > 0.5 {
        eprintln!("others use this machine (load average {load}): trust ratios more than peaks");
    }
}

/// Servers run in folders of their own, so every path that they are told is a whole one.
fn absolute(path: &Path) -> Result<PathBuf> {
    path.canonicalize().with_context(|| format!("cannot find {}", path.display()))
}

pub fn beside_this_binary(name: &str) -> Result<PathBuf> {
    let here = std::env::current_exe().context("cannot tell where this binary is")?;
    let path = here.with_file_name(name);
    ensure!(path.exists(), "{} is missing: build all binaries of jackfield-bench", path.display());
    Ok(path)
}

struct Progress {
    done: usize,
    total: usize,
}

impl Progress {
    fn tell(&mut self, what: &str) {
        self.done += 1;
        eprintln!("[{:>3}/{}] {what}", self.done, self.total);
    }
}

#[derive(Serialize)]
struct Report<'a> {
    scale: &'a Scale,
    rows: &'a [figure::Row],
    runs: &'a [Run],
    timings: &'a [moment::Timing],
}

fn write_json(path: &Path, report: &Report) -> Result<()> {
    let text = serde_json::to_string_pretty(report)?;
    std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}
