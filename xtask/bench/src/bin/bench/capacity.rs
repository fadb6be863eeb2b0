//! What one Redis carries: posts between nodes, the memory of rows, and how long a node needs for the rows of others.

use std::process::Child;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use jackfield_bench::outcome::Outcome;
use jackfield_bench::process;

use crate::nodes::Cluster;
use crate::operation::{Label, Operation};
use crate::server::{Scratch, Subject};

pub struct Capacity {
    /// The rows of the figures about rows.
    pub rows: usize,
    /// Duration of each run in seconds.
    pub secs: f64,
}

/// The rate of the first run with posts, and the factor from run to run.
const FIRST_RATE: f64 = 2_000.0;
const RATE_STEP: f64 = 1.25;
/// Runs with a higher p99 end the series.
const P99_US_MAX: f64 = 10_000.0;
/// The runs of each rate, of which one must have a low p99: other processes can delay the messages of a run.
const ATTEMPTS: usize = 3;
/// The share of messages that must arrive within a run.
const SERVED_SHARE_MIN: f64 = 0.98;
/// The connections of one node and one load generator: most systems allow a process 20,000 open files, of which a node
/// keeps a quarter.
const NODE_ROWS_MAX: usize = 12_500;
const OPEN_TIMEOUT: Duration = Duration::from_secs(300);
const TAKE_OVER_TIMEOUT: Duration = Duration::from_secs(600);
const POLL_INTERVAL: Duration = Duration::from_millis(20);

pub fn operations(node: &Subject, capacity: &Capacity) -> Vec<Operation> {
    vec![posts(node.clone(), capacity.secs), rows(node.clone(), capacity.rows)]
}

/// Posts between two nodes, faster and faster, on the cores that nodes, Redis and load generator have together.
fn posts(node: Subject, secs: f64) -> Operation {
    let labels = vec![
        Label::stated("posts between two nodes, until p99 is over 10 ms", "/s"),
        Label::stated("their p50", "ms"),
        Label::stated("CPU of both nodes, each", "us"),
        Label::stated("CPU of Redis, each", "us"),
        Label::stated("CPU of Redis, of a core", "%"),
    ];
    let measure = move |scratch: &Scratch| {
        let cluster = Cluster::start(&node, 2, scratch)?;
        let mut best = None;
        let mut rate = FIRST_RATE;
        let carries = |rate: f64| -> Result<Option<Outcome>> {
            let load = format!("--mode post --conns 64 --rate {rate} --precise --secs {secs}");
            for _ in 0..ATTEMPTS {
                let outcome = cluster.run(&cluster.nodes, &load)?;
                if outcome.p99_us <= P99_US_MAX && outcome.msg_per_s >= rate * SERVED_SHARE_MIN {
                    return Ok(Some(outcome));
                }
            }
            Ok(None)
        };
        while let Some(outcome) = carries(rate)? {
            best = Some(outcome);
            rate *= RATE_STEP;
        }
        let best = best.context("not even the first rate has a low p99: the machine is busy")?;
        let store = best.store_cpu_us_per_msg.unwrap_or_default();
        Ok(vec![best.msg_per_s, best.p50_us / 1e3, best.server_cpu_us_per_msg, store, store * best.msg_per_s / 1e4])
    };
    Operation { labels, once: true, measure: Box::new(measure) }
}

/// Rows with the attributes of a chat: their memory, how fast they are written again, and how fast they are taken over.
fn rows(node: Subject, count: usize) -> Operation {
    let labels = vec![
        Label::stated("rows with two attributes, memory of Redis each", "bytes"),
        Label::stated("rows, keys of Redis each", "keys"),
        Label::stated("idle connections with these rows, memory of their nodes each", "KiB"),
        Label::stated("all rows are in a Redis again that was emptied, after", "s"),
        Label::stated("rows of one killed node", "rows"),
        Label::stated("they are taken over, and each $disconnect has run, after", "s"),
        Label::stated("rows of all other nodes, killed together", "rows"),
        Label::stated("these are taken over, and each $disconnect has run, after", "s"),
        Label::stated("CPU of Redis, a row taken over", "us"),
    ];
    let measure = move |scratch: &Scratch| {
        // One more node, which has no connections, takes over.
        let with_rows = count.div_ceil(NODE_ROWS_MAX).max(2);
        let each = count / with_rows;
        let mut cluster = Cluster::start(&node, with_rows + 1, scratch)?;
        let memory = cluster.redis.info("memory", "used_memory")?;
        let keys = cluster.redis.number("DBSIZE")?;
        let resident = resident_kib(&cluster)?;
        let peers = open(&cluster, with_rows, each)?;
        let all = each * with_rows;
        let memory = (cluster.redis.info("memory", "used_memory")? - memory) as f64 / all as f64;
        let keys = (cluster.redis.number("DBSIZE")? - keys) as f64 / all as f64;
        let resident = resident_kib(&cluster)?.saturating_sub(resident) as f64 / all as f64;

        cluster.redis.ask("FLUSHALL")?;
        let began = Instant::now();
        wait_for(&cluster, TAKE_OVER_TIMEOUT, |rows, _| rows == all as u64).context("the rows are not back")?;
        let again = began.elapsed().as_secs_f64();

        // Waits are from the first row that is taken over, so that the lease is not in them.
        let left = (all - each) as u64;
        drop(cluster.nodes.pop());
        let one = taken_over(&cluster, left)?;
        let used = cluster.redis.cpu_time()?;
        cluster.nodes.truncate(1);
        let others = taken_over(&cluster, 0)?;
        let used = (cluster.redis.cpu_time()? - used).as_secs_f64() * 1e6 / left as f64;
        drop(peers);
        Ok(vec![memory, keys, resident, again, each as f64, one, left as f64, others, used])
    };
    Operation { labels, once: true, measure: Box::new(measure) }
}

/// Peers of a node in a process of their own.
struct Peers(Child);

impl Drop for Peers {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Opens connections on all nodes but the first one, one node after the other.
fn open(cluster: &Cluster, nodes: usize, each: usize) -> Result<Vec<Peers>> {
    let mut peers = Vec::new();
    for number in 1..=nodes {
        // Their rooms have 50 members, and each user is another one.
        let path = format!("/dev?room={number}-{{room}}&user={number}-{{user}}");
        let load = format!("--mode idle --conns {each} --warm-up-conns 0 --secs 600 --window 16 --path {path}");
        let mut command = cluster.load(&cluster.nodes[number..=number], &load)?;
        peers.push(Peers(command.spawn().context("cannot run load")?));
        let rows_now = (number * each) as u64;
        wait_for(cluster, OPEN_TIMEOUT, |rows, _| rows == rows_now).context("the connections did not open")?;
    }
    Ok(peers)
}

/// Waits until only `left` rows are there and every other one has had its `$disconnect`. Returns the seconds since the
/// first of them was taken over.
fn taken_over(cluster: &Cluster, left: u64) -> Result<f64> {
    let before = rows_and_orphans(cluster)?.0;
    ensure!(before > left, "no row is to be taken over");
    wait_for(cluster, TAKE_OVER_TIMEOUT, |rows, _| rows < before).context("no row was taken over")?;
    let began = Instant::now();
    wait_for(cluster, TAKE_OVER_TIMEOUT, |rows, orphans| rows == left && orphans == 0)
        .context("not all rows were taken over")?;
    Ok(began.elapsed().as_secs_f64())
}

fn wait_for(cluster: &Cluster, timeout: Duration, is_done: impl Fn(u64, u64) -> bool) -> Result<()> {
    let deadline = Instant::now() + timeout;
    loop {
        let (rows, orphans) = rows_and_orphans(cluster)?;
        if is_done(rows, orphans) {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "after {timeout:?} there are {rows} rows, and {orphans} taken over");
        std::thread::sleep(POLL_INTERVAL);
    }
}

fn resident_kib(cluster: &Cluster) -> Result<u64> {
    cluster.nodes.iter().map(|node| process::resident_kib(node.pid())).sum()
}

fn rows_and_orphans(cluster: &Cluster) -> Result<(u64, u64)> {
    let count = |name: &str| cluster.redis.number(&format!("HLEN jackfield:{{stage:dev}}:{name}"));
    Ok((count("rows")?, count("orphans")?))
}
