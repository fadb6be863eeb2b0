//! A load generator for one server. It has one thread and builds frames itself, so that a message takes less than a
//! microsecond.
//!
//! Prints one JSON object (see `Outcome`) and ends after a limited time, whatever the server does.

mod connections;
mod dialect;
mod histogram;
mod opening;
mod peer;
mod timer;
mod traffic;
mod window;

use std::time::Duration;

use anyhow::{Result, ensure};
use clap::{Parser, ValueEnum};
use jackfield_bench::process;

use crate::connections::{ConnectOptions, Connections};
use crate::dialect::Dialect;
use crate::opening::Opening;
use crate::traffic::{Kind, Traffic};
use crate::window::Pids;

/// Sends messages to a WebSocket server on this machine and reports its performance.
#[derive(Parser)]
struct Args {
    #[arg(long, value_enum)]
    mode: Mode,
    /// Can be repeated: connections go to the servers in turn.
    #[arg(long, required = true)]
    port: Vec<u16>,
    /// In it, `{user}` is the number of the connection, and `{room}` is the same for 50 of them.
    #[arg(long, default_value = "/dev")]
    path: String,
    /// A header of each upgrade request, as `Name: value`; can be repeated.
    #[arg(long)]
    header: Vec<String>,
    /// The process id of the server, whose CPU time and memory are read. Can be repeated: those of all are added.
    #[arg(long, required = true)]
    pid: Vec<u32>,
    /// The process id of a store that the servers have in common, whose CPU time is read.
    #[arg(long)]
    store_pid: Option<u32>,
    #[arg(long, value_enum, default_value = "actions")]
    dialect: Dialect,
    /// Sends the messages of an open loop in time and not up to a millisecond later, which needs more CPU time.
    #[arg(long)]
    precise: bool,
    #[arg(long, default_value_t = 64)]
    conns: usize,
    /// Duration of the measurement in seconds; with `--mode idle`, how long the connections are held.
    #[arg(long, default_value_t = 3.0)]
    secs: f64,
    #[arg(long, default_value_t = 0.5)]
    warm_up_secs: f64,
    /// Unanswered messages of each connection (post: of each pair) in a closed loop.
    #[arg(long, default_value_t = 1)]
    depth: usize,
    /// Makes an open loop with this total rate in messages a second, independent of the responses.
    #[arg(long)]
    rate: Option<f64>,
    /// Bytes of content in each message.
    #[arg(long, default_value_t = 32)]
    content: usize,
    /// Connections that may be opening at the same time.
    #[arg(long, default_value_t = 64)]
    window: usize,
    /// Connections that `idle` and `connect` open before those that they count.
    #[arg(long, default_value_t = 200)]
    warm_up_conns: usize,
}

#[derive(Clone, Copy, ValueEnum)]
enum Mode {
    /// Every connection sends messages and receives them back.
    Echo,
    /// The two connections of each pair post to each other.
    Post,
    /// As `post`, and each handler reports how long its call took.
    TimedPost,
    /// One additional connection sends messages to a room with all the others; needs --rate.
    Broadcast,
    /// Opens connections, holds them, and reads the server's memory.
    Idle,
    /// Opens connections as fast as the server admits them.
    Connect,
}

fn main() -> Result<()> {
    let args = Args::parse();
    ensure!((1..=100_000).contains(&args.conns), "--conns is from 1 to 100,000");
    ensure!(args.secs > 0.0 && args.secs <= 600.0, "--secs is at most 600");
    ensure!((0.0..=60.0).contains(&args.warm_up_secs), "--warm-up-secs is at most 60");
    ensure!((1..=1024).contains(&args.depth), "--depth is from 1 to 1,024");
    ensure!(args.rate.is_none_or(|rate| (1.0..=5e6).contains(&rate)), "--rate is from 1 to 5,000,000");
    ensure!((17..=30_000).contains(&args.content), "--content is from 17, the size of a stamp, to 30,000");
    ensure!(args.window > 0, "--window is at least 1");
    process::raise_open_files()?;

    let secs = Duration::from_secs_f64(args.secs);
    let mut connections = Connections::new(ConnectOptions {
        ports: args.port,
        path: args.path,
        headers: args.header,
        window: args.window,
        precise: args.precise,
    })?;
    let pids = Pids { servers: args.pid, store: args.store_pid };
    let mut open = |hold| {
        let opening = Opening { warm_up: args.warm_up_conns, counted: args.conns, hold };
        opening::run(&mut connections, &opening, &pids)
    };
    let kind = match args.mode {
        Mode::Idle => return print(open(secs)?),
        Mode::Connect => return print(open(Duration::ZERO)?),
        Mode::Echo => Kind::Echo,
        Mode::Post => Kind::Post,
        Mode::TimedPost => Kind::TimedPost,
        Mode::Broadcast => Kind::Broadcast,
    };
    let sender = usize::from(kind == Kind::Broadcast);
    connections.open(args.conns + sender, |_| {})?;
    let traffic = Traffic {
        kind,
        dialect: args.dialect,
        depth: args.depth,
        rate: args.rate,
        content_bytes: args.content,
        warm_up: Duration::from_secs_f64(args.warm_up_secs),
        measured: secs,
    };
    print(traffic::run(&mut connections, &traffic, &pids)?)
}

fn print(outcome: jackfield_bench::outcome::Outcome) -> Result<()> {
    println!("{}", serde_json::to_string(&outcome)?);
    Ok(())
}
