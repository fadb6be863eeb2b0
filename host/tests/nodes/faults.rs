//! Faults of nodes and of Redis under load, each judged by a model of all connections.
//!
//! Each round injects one fault into three nodes with many connections, which post to each other, change rooms, come and
//! go. Then everything must be as the model says, in time. `JACKFIELD_FAULT_ROUNDS` is the number of rounds,
//! `JACKFIELD_FAULT_CONNECTIONS` that of the connections, and `JACKFIELD_FAULT_SEED` selects the same faults again.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use serde_json::Value;
use tokio::task::JoinSet;

use crate::harness::{ROOMS, Server, Site, component, eventually, manifest};
use crate::redis_server::Redis;

mod client;
mod model;
mod path;

use client::Client;
use model::{Number, Outcome, SharedModel};
use path::{Heal, RedisPath};

const NODES: usize = 3;
/// Connections in a run that is not asked for more: few enough for two busy cores.
const CONNECTIONS: usize = 450;
/// So many members has a room on average.
const ROOM_MEMBERS: usize = 15;
const LEASE: Duration = Duration::from_secs(2);
/// How soon after a fault everything is as the model says.
const RECOVERY_MAX: Duration = Duration::from_secs(15);
/// How long the load goes on before a fault and after it.
const LOAD_AROUND: Duration = Duration::from_secs(1);
/// How long events of a node may have run when a fault began.
const EVENT_MAX: Duration = Duration::from_secs(2);
/// The most handshakes at the same time.
const HANDSHAKES: usize = 16;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    /// The node is started again at once.
    KillNode(usize),
    /// Stops the process for longer than its lease.
    PauseNode(usize),
    /// Redis comes back empty.
    KillRedis,
    PauseRedis,
    /// Cuts the path of one node to Redis, for less or for more than its lease.
    CutNode(usize, Heal),
    /// Redis comes back empty before or after another node has taken over.
    KillNodeAndRedis(usize),
    PauseNodeAndKillRedis(usize),
}

impl Fault {
    const KINDS: usize = 9;

    fn new(kind: usize, node: usize) -> Self {
        match kind {
            0 => Self::KillNode(node),
            1 => Self::PauseNode(node),
            2 => Self::KillRedis,
            3 => Self::PauseRedis,
            4 => Self::CutNode(node, Heal::Resume),
            5 => Self::CutNode(node, Heal::Reset),
            6 => Self::CutNode(node, Heal::Forget),
            7 => Self::KillNodeAndRedis(node),
            _ => Self::PauseNodeAndKillRedis(node),
        }
    }

    /// The node whose connections may end.
    fn node(self) -> Option<usize> {
        match self {
            Self::KillNode(node) | Self::PauseNode(node) | Self::CutNode(node, _) => Some(node),
            Self::KillNodeAndRedis(node) | Self::PauseNodeAndKillRedis(node) => Some(node),
            Self::KillRedis | Self::PauseRedis => None,
        }
    }
}

/// Random numbers that a seed determines (SplitMix64).
#[derive(Clone)]
struct Random(Arc<Mutex<u64>>);

impl Random {
    fn below(&self, limit: usize) -> usize {
        let mut state = self.0.lock().unwrap();
        *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = *state;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((bits ^ (bits >> 31)) % limit as u64) as usize
    }

    fn between(&self, from: Duration, to: Duration) -> Duration {
        from + Duration::from_millis(self.below((to - from).as_millis() as usize + 1) as u64)
    }
}

fn variable(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is {text:?}, but a number is expected")))
}

/// What all tasks of the load share.
#[derive(Clone)]
struct Scene {
    model: SharedModel,
    random: Random,
    clients: Arc<Mutex<BTreeMap<Number, Client>>>,
    addresses: Arc<Mutex<Vec<std::net::SocketAddr>>>,
    rooms: usize,
    of_node: usize,
}

impl Scene {
    fn room(&self) -> String {
        format!("room-{}", self.random.below(self.rooms))
    }

    /// A client that is open and knows its id.
    fn client(&self) -> Option<(Client, String)> {
        let clients = self.clients.lock().unwrap();
        let model = self.model.lock();
        let open: Vec<_> = model.clients.iter().filter(|(_, client)| client.is_open() && client.id.is_some()).collect();
        if open.is_empty() {
            return None;
        }
        let (number, client) = open[self.random.below(open.len())];
        Some((clients.get(number)?.clone(), client.id.clone()?))
    }

    async fn connect(&self, node: usize) {
        let (address, room) = (self.addresses.lock().unwrap()[node], self.room());
        if let Ok(client) = Client::connect(&self.model, node, address, &room).await {
            self.clients.lock().unwrap().insert(client.number, client);
        }
    }

    /// Connects clients until each node has its number of them.
    async fn fill(&self) {
        let mut missing = Vec::new();
        for node in 0..NODES {
            let model = self.model.lock();
            let open = model.clients.values().filter(|client| client.node == node && client.is_open()).count();
            missing.extend(std::iter::repeat_n(node, self.of_node.saturating_sub(open)));
        }
        futures_util::stream::iter(missing).for_each_concurrent(HANDSHAKES, |node| self.connect(node)).await;
    }

    /// Posts some messages from one client to another, without waiting between them.
    async fn post(&self) {
        let (Some((from, _)), Some((to, id))) = (self.client(), self.client()) else { return };
        let sent = (0..1 + self.random.below(3)).map(|_| {
            let message = self.model.lock().posts(to.number);
            let command = format!("post {id} !post {message} {} {id}", from.number);
            let from = from.clone();
            async move { (message, from.ask(&command).await) }
        });
        // In the order in which they were asked for.
        let mut sent: futures_util::stream::FuturesOrdered<_> = sent.collect();
        while let Some((message, answer)) = sent.next().await {
            let outcome = match answer.as_deref() {
                Some("posted") => Outcome::Queued,
                Some("GONE") => Outcome::Gone,
                _ => Outcome::Unknown,
            };
            self.model.lock().posted(message, outcome);
        }
    }

    async fn cast(&self) {
        let Some((client, _)) = self.client() else { return };
        let room = self.room();
        let message = self.model.lock().casts();
        client.ask(&format!("cast {room} !cast {message} {room}")).await;
    }

    async fn join(&self) {
        let Some((client, _)) = self.client() else { return };
        {
            let mut model = self.model.lock();
            // One change at a time, so that the last answer is the one of the last change.
            match model.clients.get(&client.number) {
                Some(found) if !found.is_room_unknown => {}
                _ => return,
            }
            model.joins(client.number, &self.room());
        }
        self.join_again(&client).await;
    }

    async fn join_again(&self, client: &Client) {
        let Some(room) = self.model.lock().clients.get(&client.number).map(|client| client.room().to_owned()) else {
            return;
        };
        if client.ask(&format!("join {room}")).await.as_deref() == Some("joined") {
            self.model.lock().joined(client.number);
        }
    }

    async fn leave_and_come(&self) {
        let Some((client, _)) = self.client() else { return };
        let node = self.model.lock().clients[&client.number].node;
        client.close();
        self.connect(node).await;
    }

    /// Runs all kinds of load until it is dropped.
    fn load(&self) -> JoinSet<()> {
        let mut tasks = JoinSet::new();
        macro_rules! repeat {
            ($count:expr, $pause:expr, $method:ident) => {
                for _ in 0..$count {
                    let scene = self.clone();
                    tasks.spawn(async move {
                        loop {
                            scene.$method().await;
                            tokio::time::sleep(Duration::from_millis($pause)).await;
                        }
                    });
                }
            };
        }
        repeat!(16, 40, post);
        repeat!(3, 150, cast);
        repeat!(6, 60, join);
        repeat!(3, 60, leave_and_come);
        tasks
    }
}

struct Cluster {
    redis: Redis,
    paths: Vec<RedisPath>,
    nodes: Vec<Server>,
    sites: Vec<Site>,
    /// How much of the log of each node was read.
    read: Vec<usize>,
    /// How often `$disconnect` has run for each connection.
    disconnects: HashMap<String, usize>,
    /// Errors in the log that were not expected.
    errors: Vec<String>,
}

impl Cluster {
    async fn start() -> Self {
        let redis = Redis::start().await;
        let (mut paths, mut sites) = (Vec::new(), Vec::new());
        for _ in 0..NODES {
            let path = RedisPath::open(redis.socket()).await;
            let backend = format!("backend = {{ url = \"redis://{}\", lease = \"{LEASE:?}\" }}", path.address);
            let grants = "grants = [\"connections\", \"connection-store\"]";
            sites.push(Site::new(&manifest(&component(ROOMS), &backend, grants)));
            paths.push(path);
        }
        let mut nodes = Vec::new();
        for site in &sites {
            nodes.push(Self::serve(site).await);
        }
        let (read, disconnects, errors) = (vec![0; NODES], HashMap::new(), Vec::new());
        Self { redis, paths, nodes, sites, read, disconnects, errors }
    }

    async fn serve(site: &Site) -> Server {
        let site = site.clone();
        tokio::task::spawn_blocking(move || site.serve()).await.unwrap()
    }

    /// Reads what the nodes have logged since the last call. `losing` is the node that may lose its lease.
    fn read_logs(&mut self, losing: Option<usize>) {
        for node in 0..NODES {
            self.read_log(node, losing);
        }
    }

    fn read_log(&mut self, node: usize, losing: Option<usize>) {
        let text = self.nodes[node].log.text();
        let new = &text[self.read[node]..];
        for line in new.lines() {
            if let Some((_, rest)) = line.split_once("ended ")
                && line.contains("$disconnect")
                && let Some(id) = rest.split(' ').next().filter(|id| id.len() == 16)
            {
                *self.disconnects.entry(id.to_owned()).or_default() += 1;
            }
            let is_lease = line.contains("has not renewed its lease in time") && losing == Some(node);
            if (line.contains("ERROR") || line.contains("panicked")) && !is_lease {
                self.errors.push(format!("node {node}: {line}"));
            }
        }
        self.read[node] = text.len();
    }

    async fn kill_node(&mut self, scene: &Scene, node: usize) {
        self.nodes[node].signal("KILL");
        self.nodes[node].wait_for_exit().await;
        // The thread that reads the log may be behind.
        tokio::time::sleep(Duration::from_millis(200)).await;
        self.read_log(node, None);
        self.read[node] = 0;
        self.nodes[node] = Self::serve(&self.sites[node]).await;
        scene.addresses.lock().unwrap()[node] = self.nodes[node].address;
    }

    async fn inject(&mut self, scene: &Scene, fault: Fault) {
        let random = &scene.random;
        match fault {
            Fault::KillNode(node) => self.kill_node(scene, node).await,
            Fault::KillNodeAndRedis(node) => {
                self.kill_node(scene, node).await;
                tokio::time::sleep(random.between(LEASE / 2, 2 * LEASE)).await;
                self.redis.kill();
                self.redis.restart().await;
            }
            Fault::PauseNodeAndKillRedis(node) => {
                self.nodes[node].signal("STOP");
                tokio::time::sleep(random.between(LEASE / 2, 2 * LEASE)).await;
                self.redis.kill();
                self.redis.restart().await;
                tokio::time::sleep(random.between(Duration::ZERO, LEASE)).await;
                self.nodes[node].signal("CONT");
            }
            Fault::PauseNode(node) => {
                self.nodes[node].signal("STOP");
                tokio::time::sleep(random.between(2 * LEASE, 3 * LEASE)).await;
                self.nodes[node].signal("CONT");
            }
            Fault::KillRedis => {
                self.redis.kill();
                tokio::time::sleep(random.between(Duration::ZERO, 2 * LEASE)).await;
                self.redis.restart().await;
            }
            Fault::PauseRedis => {
                self.redis.signal("STOP");
                tokio::time::sleep(random.between(LEASE / 4, 3 * LEASE)).await;
                self.redis.signal("CONT");
            }
            Fault::CutNode(node, heal) => {
                self.paths[node].cut();
                tokio::time::sleep(random.between(LEASE / 4, 3 * LEASE)).await;
                self.paths[node].heal(heal);
            }
        }
    }

    /// Returns how the list of all connections of a node differs from what is expected.
    async fn compare_list(&self, node: usize, expected: &BTreeMap<String, String>) -> Result<(), String> {
        let (mut found, mut cursor) = (BTreeMap::new(), String::new());
        loop {
            let path = format!("/dev/@jackfield/connections{cursor}");
            let response = self.nodes[node].request("GET", &path, "").await;
            if response.status != 200 {
                return Err(format!("the list of node {node} has status {}: {}", response.status, response.body));
            }
            let page: Value = serde_json::from_str(&response.body).map_err(|error| error.to_string())?;
            for connection in page["connections"].as_array().into_iter().flatten() {
                let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
                found.insert(text(&connection["connectionId"]), text(&connection["attributes"]["room"][0]));
            }
            match page["cursor"].as_str() {
                Some(next) => cursor = format!("?cursor={}", next.replace('=', "%3D")),
                None => break,
            }
        }
        if found == *expected {
            return Ok(());
        }
        let of = |pairs: &BTreeMap<String, String>, others: &BTreeMap<String, String>| {
            let differing = pairs.iter().filter(|(id, room)| others.get(*id) != Some(*room));
            let differing: Vec<String> = differing.map(|(id, room)| format!("{id} in {room}")).collect();
            format!("{} ({})", differing.len(), differing[..differing.len().min(5)].join(", "))
        };
        let (more, fewer) = (of(&found, expected), of(expected, &found));
        Err(format!("the list of node {node} has {more} that are not in the model, and not {fewer} that are"))
    }
}

/// Asks through a client of a node for the members of all rooms.
async fn compare_rooms(scene: &Scene, node: usize, expected: &BTreeMap<String, String>) -> Result<(), String> {
    let asking = {
        let (clients, model) = (scene.clients.lock().unwrap(), scene.model.lock());
        let mut of_node = model.clients.iter().filter(|(_, client)| client.node == node && client.is_open());
        of_node.find_map(|(number, _)| clients.get(number).cloned())
    };
    let Some(asking) = asking else {
        scene.connect(node).await;
        return Err(format!("node {node} has no connection"));
    };
    let queries = (0..scene.rooms).map(|room| {
        let asking = &asking;
        async move { (room, asking.ask(&format!("query room-{room}")).await) }
    });
    let mut queries: FuturesUnordered<_> = queries.collect();
    while let Some((room, answer)) = queries.next().await {
        let room = format!("room-{room}");
        let answer = answer.ok_or_else(|| format!("a query through node {node} has no answer"))?;
        let found: BTreeSet<&str> = answer.split(' ').filter(|id| !id.is_empty()).collect();
        let members = expected.iter().filter(|(_, of)| **of == room).map(|(id, _)| &**id);
        let members: BTreeSet<&str> = members.collect();
        if found != members {
            let differing: Vec<_> = found.symmetric_difference(&members).take(5).collect();
            return Err(format!(
                "members of {room} through node {node} differ from the model in {differing:?}: {answer}"
            ));
        }
    }
    Ok(())
}

/// Waits until every node finds exactly the open connections, each in its room.
async fn settle(scene: &Scene, cluster: &mut Cluster, fault: Fault, deadline: Instant) -> Result<(), String> {
    loop {
        let unsettled = try_to_settle(scene, cluster, fault).await;
        let Err(reason) = unsettled else { return Ok(()) };
        if Instant::now() > deadline {
            return Err(format!("after {RECOVERY_MAX:?}: {reason}"));
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn try_to_settle(scene: &Scene, cluster: &mut Cluster, fault: Fault) -> Result<(), String> {
    let unknown: Vec<Client> = {
        let (clients, model) = (scene.clients.lock().unwrap(), scene.model.lock());
        let unknown = model.clients.iter().filter(|(_, client)| client.is_open() && client.is_room_unknown);
        unknown.filter_map(|(number, _)| clients.get(number).cloned()).collect()
    };
    let unknown_count = unknown.len();
    let joining = futures_util::stream::iter(unknown);
    joining.for_each_concurrent(HANDSHAKES, |client| async move { scene.join_again(&client).await }).await;
    let still_unknown = {
        let model = scene.model.lock();
        let mut open = model.clients.values().filter(|client| client.is_open());
        open.any(|client| client.is_room_unknown || client.id.is_none())
    };
    if still_unknown {
        return Err(format!("of {unknown_count} clients without an answer some have none yet"));
    }
    let expected = scene.model.lock().expected();
    for node in 0..NODES {
        cluster.compare_list(node, &expected).await?;
        compare_rooms(scene, node, &expected).await?;
    }
    cluster.read_logs(fault.node());
    let model = scene.model.lock();
    for client in model.clients.values().filter(|client| !client.is_open()) {
        let Some(id) = &client.id else { continue };
        // No other node knew of it when Redis lost its data.
        let may_be_lost = matches!(fault, Fault::KillNodeAndRedis(node) | Fault::PauseNodeAndKillRedis(node) if node == client.node)
            && client.end.is_some_and(|end| end.code.is_some());
        if !cluster.disconnects.contains_key(id) && !may_be_lost {
            let (node, end) = (client.node, client.end);
            return Err(format!("$disconnect has not run for {id} of node {node}, which ended: {end:?}"));
        }
    }
    for (number, post) in &model.posts {
        let receiver = model.clients.get(&post.to);
        let is_open = receiver.is_some_and(model::Client::is_open);
        if post.outcome == Outcome::Queued && is_open && !model.has_received(post.to, *number) {
            return Err(format!("client {} has not received message {number}, which was queued", post.to));
        }
    }
    Ok(())
}

/// When a `$disconnect` may run twice: see docs/nodes.md.
fn may_run_twice(client: &model::Client, fault: Fault, began: Instant, ended: Instant) -> bool {
    let Some(end) = client.end else { return false };
    // A signal takes as long as this on a busy machine.
    let margin = Duration::from_secs(1);
    if fault.node() != Some(client.node) || end.at + EVENT_MAX < began {
        return false;
    }
    match fault {
        // Its handler may have run, without the row being deleted, when the node died or was stopped.
        Fault::KillNode(_) | Fault::PauseNode(_) => end.code.is_none() && end.at < began + margin,
        // The node cannot know that another one has taken over.
        Fault::CutNode(..) => end.code.is_none() && end.at < ended + EVENT_MAX,
        Fault::KillNodeAndRedis(_) => end.code.is_none() && end.at < began + margin,
        // It may have written its rows again, although another one has taken over.
        Fault::PauseNodeAndKillRedis(_) => true,
        Fault::KillRedis | Fault::PauseRedis => false,
    }
}

fn check_round(scene: &Scene, cluster: &Cluster, fault: Fault, began: Instant, ended: Instant) -> Vec<String> {
    let mut model = scene.model.lock();
    let mut violations = std::mem::take(&mut model.violations);
    violations.extend(cluster.errors.iter().cloned());
    for (number, client) in &model.clients {
        let Some(id) = &client.id else { continue };
        let count = cluster.disconnects.get(id).copied().unwrap_or(0);
        let allowed = match client.end {
            None => 0,
            // For the take-over that Redis has lost, by the node that goes on, and for the take-over after it.
            Some(_)
                if may_run_twice(client, fault, began, ended) && matches!(fault, Fault::PauseNodeAndKillRedis(_)) =>
            {
                3
            }
            Some(_) if may_run_twice(client, fault, began, ended) => 2,
            Some(_) => 1,
        };
        if count > allowed {
            violations.push(format!(
                "$disconnect has run {count} times for client {number} ({id} of node {}), which ended: {:?}, {:?} after \
                 the fault began",
                client.node,
                client.end,
                client.end.map(|end| end.at.saturating_duration_since(began))
            ));
        }
        let is_cut_off = client.end.is_some_and(|end| end.code.is_some());
        if is_cut_off && fault.node() != Some(client.node) {
            violations.push(format!(
                "client {number} of node {}, which has no fault, has ended: {:?}",
                client.node, client.end
            ));
        }
    }
    for (number, post) in &model.posts {
        if post.outcome != Outcome::Gone {
            continue;
        }
        let receiver = &model.clients[&post.to];
        if receiver.is_open() {
            violations.push(format!("message {number} to client {} is gone, but it is open", post.to));
        } else if model.has_received(post.to, *number) {
            violations.push(format!("client {} has received message {number}, which is gone", post.to));
        }
    }
    violations
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_fault_of_a_node_or_of_redis_makes_the_nodes_differ_from_the_model() {
    let _ = rlimit::increase_nofile_limit(20_000);
    let rounds = variable("JACKFIELD_FAULT_ROUNDS").map_or(Fault::KINDS, |rounds| rounds as usize);
    let connections = variable("JACKFIELD_FAULT_CONNECTIONS").map_or(CONNECTIONS, |count| count as usize);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let seed = variable("JACKFIELD_FAULT_SEED").unwrap_or(now.as_nanos() as u64 % 1_000_000);
    println!("JACKFIELD_FAULT_SEED={seed}");
    let mut cluster = Cluster::start().await;
    let scene = Scene {
        model: SharedModel::default(),
        random: Random(Arc::new(Mutex::new(seed))),
        clients: Arc::default(),
        addresses: Arc::new(Mutex::new(cluster.nodes.iter().map(|node| node.address).collect())),
        rooms: connections / ROOM_MEMBERS,
        of_node: connections / NODES,
    };
    // Each kind once, in an order of the seed; then again.
    let mut kinds: Vec<usize> = Vec::new();
    let mut recovery_max = Duration::ZERO;
    for round in 1..=rounds {
        if kinds.is_empty() {
            kinds = (0..Fault::KINDS).collect();
        }
        let kind = kinds.swap_remove(scene.random.below(kinds.len()));
        let fault = Fault::new(kind, scene.random.below(NODES));
        let filled = Instant::now();
        scene.fill().await;
        let filled = filled.elapsed();
        let load = scene.load();
        tokio::time::sleep(LOAD_AROUND).await;
        let began = Instant::now();
        cluster.inject(&scene, fault).await;
        let ended = Instant::now();
        tokio::time::sleep(LOAD_AROUND).await;
        stop(load, &scene).await;
        let settled = settle(&scene, &mut cluster, fault, ended + RECOVERY_MAX).await;
        let recovery = ended.elapsed();
        recovery_max = recovery_max.max(recovery);
        let mut violations = check_round(&scene, &cluster, fault, began, ended);
        violations.extend(settled.err());
        let count = violations.len();
        violations.truncate(20);
        assert!(
            violations.is_empty(),
            "round {round} of seed {seed}, {fault:?} for {:?}: {count} violations:\n{}",
            ended - began,
            violations.join("\n")
        );
        let (posts, open) = {
            let model = scene.model.lock();
            (model.posts.len(), model.expected().len())
        };
        println!(
            "round {round}: {fault:?} for {:.1?}, {posts} posts, {open} open, as the model {:.1?} after it; connecting \
             took {filled:.1?}",
            ended - began,
            recovery
        );
        let mut clients = scene.clients.lock().unwrap();
        let mut model = scene.model.lock();
        model.forget_checked();
        clients.retain(|number, _| model.clients.contains_key(number));
    }
    println!("as the model at the latest {recovery_max:.1?} after a fault");
    for client in scene.clients.lock().unwrap().values() {
        client.close();
    }
    eventually("no row and no index is left", || async { cluster.redis.keys().iter().all(|key| !is_of_rows(key)) })
        .await;
}

/// Lets what was asked be answered, and asks nothing more.
async fn stop(mut load: JoinSet<()>, scene: &Scene) {
    load.abort_all();
    while load.join_next().await.is_some() {}
    // Those that were asked last have an answer or none.
    for post in scene.model.lock().posts.values_mut().filter(|post| post.outcome == Outcome::Pending) {
        post.outcome = Outcome::Unknown;
    }
}

/// Whether a key has a row, an index or the rows of one node.
fn is_of_rows(key: &str) -> bool {
    key.contains("{stage:") && !key.ends_with(":taken over")
}
