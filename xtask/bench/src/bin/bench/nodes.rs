//! Several nodes on one Redis, all on this machine: posts between nodes, connections with a row, and broadcasts.
//!
//! The processes are on no cores of their own: they share all cores with each other and with the load generator.

use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use jackfield_bench::outcome::Outcome;

use crate::operation::{Label, Operation};
use crate::redis::Redis;
use crate::server::{Scratch, Server, Subject};
use crate::target::Target::{AtLeast, AtMost};
use crate::{Scale, sibling_binary};

/// The posts a second of the figures about their time.
const POST_RATE: u32 = 2_000;
/// The peers between which they are posted.
const POST_PEERS: usize = 64;
const BROADCAST_RECEIVERS: usize = 3_000;
const BROADCAST_NODES: usize = 3;
/// The broadcasts a second: 15,000 deliveries a second.
const BROADCAST_RATE: u32 = 5;

/// Nodes with one store.
pub struct Cluster {
    pub nodes: Vec<Server>,
    pub redis: Redis,
}

impl Cluster {
    pub fn start(node: &Subject, count: usize, scratch: &Scratch) -> Result<Self> {
        let redis = Redis::start(&scratch.folder("redis")?)?;
        let start = |number| node.node(number, &redis.url()).start(scratch, true, None);
        let nodes = (1..=count).map(start).collect::<Result<_>>()?;
        Ok(Self { nodes, redis })
    }

    /// The load generator for these of the nodes. The CPU time of all nodes is counted.
    pub fn load(&self, nodes: &[Server], arguments: &str) -> Result<Command> {
        let mut command = Command::new(sibling_binary("load")?);
        command.args(arguments.split_whitespace()).arg("--store-pid").arg(self.redis.pid().to_string());
        for node in nodes {
            command.args(["--port", &node.port.to_string()]);
        }
        for node in &self.nodes {
            command.args(["--pid", &node.pid().to_string()]);
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Ok(command)
    }

    /// Runs the load generator on these of the nodes.
    pub fn run(&self, nodes: &[Server], arguments: &str) -> Result<Outcome> {
        let output = self.load(nodes, arguments)?.output().context("cannot run load")?;
        ensure!(output.status.success(), "load failed: {}", String::from_utf8_lossy(&output.stderr).trim());
        let outcome: Outcome =
            serde_json::from_slice(&output.stdout).context("the output of load is not an outcome")?;
        let first = outcome.first_error.as_deref().unwrap_or("unknown");
        ensure!(outcome.errors == 0, "{} errors; the first: {first}", outcome.errors);
        ensure!(outcome.messages > 0, "there was no response");
        Ok(outcome)
    }
}

pub fn operations(node: &Subject, scale: &Scale) -> Vec<Operation> {
    vec![
        posts(node.clone(), scale.secs),
        connects(node.clone(), scale.idle_connections),
        broadcasts(node.clone(), scale.secs),
    ]
}

fn posts(node: Subject, secs: f64) -> Operation {
    let labels = vec![
        Label::of_nodes("post to another node at 2000/s, p50", "ms", AtMost(0.4)),
        Label::of_nodes("post to another node at 2000/s, p99", "ms", AtMost(2.0)),
        Label::of_nodes("its host call, p50", "ms", AtMost(0.4)),
        Label::of_nodes("its host call, p99", "ms", AtMost(2.0)),
        Label::stated("CPU of both nodes, a post to another node", "us"),
        Label::stated("CPU of Redis, a post to another node", "us"),
        Label::stated("post to the same node at 2000/s, p50", "ms"),
        Label::stated("post to the same node at 2000/s, p99", "ms"),
        Label::stated("CPU of the node, a post to the same node", "us"),
    ];
    let measure = move |scratch: &Scratch| {
        let cluster = Cluster::start(&node, 2, scratch)?;
        let run = |nodes: &[Server], mode: &str| {
            let load = format!("--mode {mode} --conns {POST_PEERS} --rate {POST_RATE} --precise --secs {secs}");
            cluster.run(nodes, &load)
        };
        let other = run(&cluster.nodes, "post")?;
        let timed = run(&cluster.nodes, "timed-post")?;
        let same = run(&cluster.nodes[..1], "post")?;
        Ok(vec![
            other.p50_us / 1e3,
            other.p99_us / 1e3,
            timed.call_p50_us.context("no handler reported its call")? / 1e3,
            timed.call_p99_us.context("no handler reported its call")? / 1e3,
            other.server_cpu_us_per_msg,
            other.store_cpu_us_per_msg.unwrap_or_default(),
            same.p50_us / 1e3,
            same.p99_us / 1e3,
            same.server_cpu_us_per_msg,
        ])
    };
    Operation { labels, once: false, measure: Box::new(measure) }
}

fn connects(node: Subject, count: usize) -> Operation {
    let labels = vec![
        Label::of_nodes("connections opened on one node, a row each", "/s", AtLeast(3000.0)),
        Label::stated("CPU of the node, a connection", "us"),
        Label::stated("CPU of Redis, a connection", "us"),
        Label::stated("connections opened on one node, a row with two attributes each", "/s"),
        Label::stated("CPU of Redis, a connection with two attributes", "us"),
    ];
    let measure = move |scratch: &Scratch| {
        let mut values = Vec::new();
        for query in ["", "?room={room}&user={user}"] {
            let cluster = Cluster::start(&node, 2, scratch)?;
            let load = format!("--mode connect --conns {count} --path /dev{query}");
            let outcome = cluster.run(&cluster.nodes[..1], &load)?;
            values.push(outcome.connects_per_s.context("connections were opened")?);
            if query.is_empty() {
                values.push(outcome.server_cpu_us_per_msg);
            }
            values.push(outcome.store_cpu_us_per_msg.unwrap_or_default());
        }
        Ok(values)
    };
    Operation { labels, once: false, measure: Box::new(measure) }
}

fn broadcasts(node: Subject, secs: f64) -> Operation {
    // A message to each of the two other nodes, and an answer of each.
    let messages = 2.0 * (BROADCAST_NODES - 1) as f64;
    let labels = vec![
        Label::of_nodes("broadcast to 3000 on 3 nodes, messages and answers", "PUBLISH", AtMost(messages)),
        Label::stated("broadcast to 3000 on 3 nodes, until the last one has it", "ms"),
        Label::stated("CPU of all nodes, a delivery", "us"),
        Label::stated("CPU of Redis, a broadcast to 3000", "us"),
    ];
    let measure = move |scratch: &Scratch| {
        let cluster = Cluster::start(&node, BROADCAST_NODES, scratch)?;
        let before = cluster.redis.calls("publish")?;
        let load =
            format!("--mode broadcast --conns {BROADCAST_RECEIVERS} --rate {BROADCAST_RATE} --precise --secs {secs}");
        let outcome = cluster.run(&cluster.nodes, &load)?;
        let published = cluster.redis.calls("publish")? - before;
        Ok(vec![
            published as f64 / outcome.sent as f64,
            outcome.complete_us.context("no broadcast was complete")? / 1e3,
            outcome.server_cpu_us_per_msg,
            outcome.store_cpu_us_per_msg.unwrap_or_default() * BROADCAST_RECEIVERS as f64,
        ])
    };
    Operation { labels, once: false, measure: Box::new(measure) }
}
