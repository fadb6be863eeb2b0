//! A load generator for one server. It has one thread and builds frames itself, so that a message takes less than a
//! microsecond.
//!
//! Prints one JSON object (see `Outcome`) and ends after a limited time, whatever the server does.

mod connections;
mod histogram;
mod opening;
mod peer;
mod traffic;
mod window;

use std::time::Duration;

use anyhow::{Result, ensure};
use clap::{Parser, ValueEnum};
use jackfield_bench::process;

use crate::connections::{ConnectOptions, Connections};
use crate::opening::Opening;
use crate::traffic::{Kind, Traffic};

/// Sends messages to a WebSocket server on this machine and reports its performance.
#[derive(Parser)]
struct Args {
    #[arg(long, value_enum)]
    mode: Mode,
    #[arg(long)]
    port: u16,
    #[arg(long, default_value = "/dev")]
    path: String,
    /// A header of each upgrade request, as `Name: value`; can be repeated.
    #[arg(long)]
    header: Vec<String>,
    /// The process id of the server, whose CPU time and memory are read.
    #[arg(long)]
    pid: u32,
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
        port: args.port,
        path: args.path,
        headers: args.header,
        window: args.window,
    })?;
    let mut open = |hold| {
        let opening = Opening { warm_up: args.warm_up_conns, counted: args.conns, hold };
        opening::run(&mut connections, &opening, args.pid)
    };
    let kind = match args.mode {
        Mode::Idle => return print(open(secs)?),
        Mode::Connect => return print(open(Duration::ZERO)?),
        Mode::Echo => Kind::Echo,
        Mode::Post => Kind::Post,
        Mode::Broadcast => Kind::Broadcast,
    };
    let sender = usize::from(kind == Kind::Broadcast);
    connections.open(args.conns + sender, |_| {})?;
    let traffic = Traffic {
        kind,
        depth: args.depth,
        rate: args.rate,
        content_bytes: args.content,
        warm_up: Duration::from_secs_f64(args.warm_up_secs),
        measured: secs,
    };
    print(traffic::run(&mut connections, &traffic, args.pid)?)
}

fn print(outcome: jackfield_bench::outcome::Outcome) -> Result<()> {
    println!("{}", serde_json::to_string(&outcome)?);
    Ok(())
}
