//! A load generator for one server: one thread, frames made by hand, under a microsecond a message.
//!
//! Prints one JSON object (see `Outcome`) and stops by itself, whatever the server does.

// Echo, post, broadcast.
mod traffic;

// How connections open, and what they hold.
mod arrivals;

// Many peers on one thread.
mod crowd;

// One connection.
mod peer;

// What was used between begin and end.
mod window;

// How long things took.
mod histogram;

use std::time::Duration;

use anyhow::{Result, ensure};
use clap::{Parser, ValueEnum};
use jackfield_bench::process;

use crate::arrivals::Arrivals;
use crate::crowd::{Arrival, Crowd};
use crate::traffic::{Kind, Traffic};

/// Sends messages to a WebSocket server on this machine and says how it did.
#[derive(Parser)]
struct Args {
    #[arg(long, value_enum)]
    mode: Mode,
    #[arg(long)]
    port: u16,
    #[arg(long, default_value = "/dev")]
    path: String,
    /// A header of each upgrade, as `Name: value`; may be given again.
    #[arg(long)]
    header: Vec<String>,
    /// The server's process, whose CPU time and memory are read.
    #[arg(long)]
    pid: u32,
    #[arg(long, default_value_t = 64)]
    conns: usize,
    /// How long to measure; with `--mode idle`, how long to stay connected.
    #[arg(long, default_value_t = 3.0)]
    secs: f64,
    #[arg(long, default_value_t = 0.5)]
    warm_up_secs: f64,
    /// Messages under way on each connection (post: on each pair) of a closed loop.
    #[arg(long, default_value_t = 1)]
    depth: usize,
    /// An open loop: messages a second in all, whatever comes back.
    #[arg(long)]
    rate: Option<f64>,
    /// Bytes of content in each message.
    #[arg(long, default_value_t = 32)]
    content: usize,
    /// Connections that may be opening at one time.
    #[arg(long, default_value_t = 64)]
    window: usize,
    /// Connections opened before those that `idle` and `connect` count.
    #[arg(long, default_value_t = 200)]
    warm_up_conns: usize,
}

#[derive(Clone, Copy, ValueEnum)]
enum Mode {
    /// Every connection sends and gets it back.
    Echo,
    /// Connections in pairs post to each other.
    Post,
    /// One more connection sends to a room that all are in; needs --rate.
    Broadcast,
    /// Open, stay, and read the server's memory.
    Idle,
    /// Open as fast as the server admits.
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
    let mut crowd =
        Crowd::new(Arrival { port: args.port, path: args.path, headers: args.header, window: args.window })?;
    let mut arrive = |hold| {
        let arrivals = Arrivals { warm_up: args.warm_up_conns, counted: args.conns, hold };
        arrivals::run(&mut crowd, &arrivals, args.pid)
    };
    let kind = match args.mode {
        Mode::Idle => return print(arrive(secs)?),
        Mode::Connect => return print(arrive(Duration::ZERO)?),
        Mode::Echo => Kind::Echo,
        Mode::Post => Kind::Post,
        Mode::Broadcast => Kind::Broadcast,
    };
    let sender = usize::from(kind == Kind::Broadcast);
    crowd.grow(args.conns + sender, |_| {})?;
    let traffic = Traffic {
        kind,
        depth: args.depth,
        rate: args.rate,
        content_bytes: args.content,
        warm_up: Duration::from_secs_f64(args.warm_up_secs),
        measured: secs,
    };
    print(traffic::run(&mut crowd, &traffic, args.pid)?)
}

fn print(outcome: jackfield_bench::outcome::Outcome) -> Result<()> {
    println!("{}", serde_json::to_string(&outcome)?);
    Ok(())
}
