//! What operators see of several nodes, and what they do with all of them.

use std::fs;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::connect;
use crate::components::{hostile_version, replace_file, wait_for_version};
use crate::deployments::{ADMIN, admin_address, deployments};
use crate::harness::{HOSTILE_GRANTS, Server, Site, eventually, manifest};
use crate::metrics::Metrics;
use crate::redis_server::Redis;

const METRICS: &str = "[server]\nmetrics = \"127.0.0.1:0\"\n";
const COLOUR: &str = "[api]\nstage_variables = { colour = \"green\" }\n";
/// A lease that no test outlasts, so that it is not renewed in one.
const LONG: &str = "300s";
/// Longer than a roll-back waits for a node, and the rest of the command, on a busy machine.
const BOUND: Duration = Duration::from_secs(25);

/// A node with a guest of its own in this version, metrics and an admin listener.
fn site(redis: &Redis, lease: &str, version: u32) -> Site {
    let backend = redis.section().replace("4s", lease);
    let text = manifest("guest.wasm".as_ref(), &format!("{backend}\n{METRICS}{ADMIN}{COLOUR}"), HOSTILE_GRANTS);
    let site = Site::new(&text);
    replace_file(&site.path().join("guest.wasm"), hostile_version(version));
    site
}

fn node_with(redis: &Redis, lease: &str, version: u32) -> Server {
    site(redis, lease, version).serve()
}

fn node(redis: &Redis) -> Server {
    node_with(redis, "4s", 1)
}

/// Replaces the guest of a node and waits until it is served.
async fn replace_guest(node: &Server, version: u32, before: u32) {
    replace_file(&node.site.path().join("guest.wasm"), hostile_version(version));
    wait_for_version(&mut node.connect("").await, version, before).await;
}

/// Stops the process of a node, and waits until all its threads have stopped: the signal alone returns earlier.
async fn pause(node: &Server) {
    node.signal("STOP");
    let is_stopped = |task: fs::DirEntry| {
        let stat = fs::read_to_string(task.path().join("stat")).unwrap_or_default();
        // The state follows the name, which ends in `)`, according to proc(5).
        stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with('T'))
    };
    eventually("it has stopped", || async {
        let mut tasks = fs::read_dir(format!("/proc/{}/task", node.process.id())).unwrap();
        tasks.all(|task| task.is_ok_and(is_stopped))
    })
    .await;
}

async fn version(node: &Server) -> String {
    node.connect("").await.ask("version").await
}

/// Runs `jackfield status` against a node. Returns the exit code, stdout and stderr.
async fn status(node: &Server, arguments: &[&str]) -> (i32, String, String) {
    let address = admin_address(node).await;
    let mut all = vec!["status", "--admin", &address];
    all.extend(arguments);
    node.site.run(&all)
}

/// The list of nodes that a node prints as JSON.
async fn list(node: &Server) -> Value {
    let (code, stdout, stderr) = status(node, &["--json"]).await;
    assert_eq!(code, 0, "{stderr}");
    serde_json::from_str(&stdout).unwrap()
}

/// The entry of a node in a list.
fn entry<'l>(list: &'l Value, node: &Server) -> &'l Value {
    let address = node.address.to_string();
    let nodes = list["nodes"].as_array().unwrap();
    nodes.iter().find(|node| node["listen"] == *address).unwrap_or_else(|| panic!("no {address} in {list:#}"))
}

/// The content that a node serves.
async fn content(node: &Server) -> String {
    entry(&list(node).await, node)["content"].as_str().unwrap().to_owned()
}

/// Waits until a node lists as many nodes, all of which serve something.
async fn wait_for_nodes(node: &Server, count: usize) {
    eventually("the nodes are listed", || async {
        let list = list(node).await;
        let nodes = list["nodes"].as_array().unwrap();
        nodes.len() == count && nodes.iter().all(|node| node["content"] != "")
    })
    .await;
}

#[tokio::test]
async fn any_node_lists_all_nodes_with_what_they_serve() {
    let redis = Redis::start().await;
    let one = node(&redis);
    // What is read only at the start, and comments, are no difference.
    let other = site(&redis, "4s", 1);
    let text = fs::read_to_string(other.manifest()).unwrap();
    fs::write(other.manifest(), text.replace("[server]\n", "# Here.\n[server]\nconnections_max = 99\n")).unwrap();
    let other = other.serve();
    let (_first, _) = connect(&other).await;
    let (_second, _) = connect(&other).await;
    // It is in the record that is written with the next renewal.
    eventually("the connections are listed", || async {
        let list = list(&one).await;
        list["nodes"].as_array().unwrap().len() == 2 && entry(&list, &other)["connections"] == 2
    })
    .await;
    let list = list(&one).await;
    let (own, its) = (entry(&list, &one), entry(&list, &other));
    assert_eq!((&list["store"], &list["problem"], &list["drift"]), (&"redis".into(), &Value::Null, &false.into()));
    assert_eq!((&list["node"], own["connections"].as_u64()), (&own["node"], Some(0)));
    assert_ne!(own["node"], its["node"]);
    for node in [own, its] {
        assert_eq!(node["version"], env!("CARGO_PKG_VERSION"));
        assert_eq!(node["host"], fs::read_to_string("/proc/sys/kernel/hostname").unwrap().trim());
        assert_eq!((&node["content"], &node["manifest"]), (&own["content"], &own["manifest"]));
        assert!(node["renewedMillisAgo"].as_u64().unwrap() <= node["leaseMillis"].as_u64().unwrap(), "{node:#}");
        assert!(node["roundTripMicros"].as_u64().is_some_and(|time| time < 1_000_000), "{node:#}");
        assert_eq!((&node["differs"], &node["unsavedRows"]), (&Value::Null, &0.into()));
    }
    let (code, text, stderr) = status(&one, &[]).await;
    assert_eq!(code, 0, "{stderr}");
    let lines: Vec<_> = text.lines().collect();
    let content = own["content"].as_str().unwrap();
    assert_eq!(lines.len(), 4, "{text}");
    assert!(lines[0].starts_with("   node ") && lines[0].contains(" connections "), "{text}");
    let line = |address: String| lines.iter().find(|line| line.contains(&address)).unwrap().to_string();
    assert!(line(one.address.to_string()).starts_with(&format!(" * {} ", own["node"])), "{text}");
    assert!(line(other.address.to_string()).starts_with(&format!("   {} ", its["node"])), "{text}");
    assert_eq!(lines[3], format!("2 nodes serve {content}"));
}

#[tokio::test]
async fn a_node_whose_files_or_manifest_differ_is_marked_at_once() {
    let redis = Redis::start().await;
    let (one, other) = (node_with(&redis, LONG, 1), node_with(&redis, LONG, 1));
    wait_for_nodes(&one, 2).await;
    let before = content(&one).await;
    replace_guest(&other, 2, 1).await;
    eventually("the files differ", || async { entry(&list(&one).await, &other)["differs"] == "files" }).await;
    let (code, text, stderr) = status(&one, &[]).await;
    assert_eq!(code, 0, "{stderr}");
    let its = list(&one).await;
    let (number, content) = (&entry(&its, &other)["node"], entry(&its, &other)["content"].as_str().unwrap());
    let marked = text.lines().find(|line| line.starts_with('!')).unwrap_or_else(|| panic!("{text}"));
    assert!(marked.contains(content) && marked.ends_with("other files"), "{text}");
    let last = format!("drift: 1 node serves {before}, but node {number} {content}");
    assert_eq!(text.lines().last(), Some(&*last));

    let manifest = other.site.manifest();
    let text = fs::read_to_string(&manifest).unwrap();
    fs::write(&manifest, text.replace("green", "blue")).unwrap();
    eventually("the manifest differs", || async { entry(&list(&one).await, &other)["differs"] == "manifest" }).await;
    fs::write(&manifest, text).unwrap();
    replace_guest(&one, 2, 1).await;
    eventually("there is no drift", || async { list(&one).await["drift"] == false }).await;
}

#[tokio::test]
async fn a_roll_back_by_content_is_made_by_all_nodes() {
    let redis = Redis::start().await;
    let (one, other) = (node(&redis), node(&redis));
    let first = content(&one).await;
    replace_guest(&one, 2, 1).await;
    // The numbers of the two nodes differ.
    replace_guest(&other, 3, 1).await;
    replace_guest(&other, 2, 3).await;
    let mut peer = other.connect("").await;
    wait_for_nodes(&one, 2).await;

    let (code, stdout, stderr) = deployments(&one, &["--rollback", &first[..6]]).await;
    assert_eq!(code, 0, "{stdout}{stderr}");
    assert!(stdout.contains("rolled back; it is served as deployment 3\n"), "{stdout}");
    assert!(stdout.contains("rolled back; it is served as deployment 4\n"), "{stdout}");
    assert_eq!(stdout.lines().last(), Some(&*format!("2 nodes rolled back to {first}")));
    assert_eq!((version(&one).await, peer.ask("version").await), ("00000001".to_owned(), "00000001".to_owned()));
    eventually("there is no drift", || async {
        let list = list(&one).await;
        list["drift"] == false && entry(&list, &other)["content"] == *first
    })
    .await;

    // A number is that of the node that is asked.
    let (code, stdout, stderr) = deployments(&one, &["--rollback", "2"]).await;
    assert_eq!(code, 0, "{stdout}{stderr}");
    assert_eq!((version(&one).await, peer.ask("version").await), ("00000002".to_owned(), "00000002".to_owned()));
    let (code, stdout, stderr) = deployments(&other, &["--rollback", &first, "--plugin", "guest"]).await;
    assert_eq!(code, 0, "{stdout}{stderr}");
    assert_eq!((version(&one).await, peer.ask("version").await), ("00000001".to_owned(), "00000001".to_owned()));
    // Of one node only.
    let (code, stdout, stderr) = deployments(&other, &["--rollback", "3", "--this-node"]).await;
    assert_eq!((code, &*stdout), (0, "rolled back to 3; it is served as deployment 7\n"), "{stderr}");
    assert_eq!((version(&one).await, peer.ask("version").await), ("00000001".to_owned(), "00000002".to_owned()));
}

#[tokio::test]
async fn a_roll_back_names_the_nodes_that_do_not_have_the_content() {
    let redis = Redis::start().await;
    let one = node(&redis);
    let first = content(&one).await;
    replace_guest(&one, 2, 1).await;
    let late = node_with(&redis, "4s", 2);
    wait_for_nodes(&late, 2).await;
    // Also if the node that is asked does not have it itself.
    for (asked, number) in [(&one, 3), (&late, 4)] {
        let (code, stdout, stderr) = deployments(asked, &["--rollback", &first[..4]]).await;
        assert_eq!(code, 1, "{stdout}{stderr}");
        let line = |node: &Server| {
            let address = node.address.to_string();
            stdout.lines().find(|line| line.contains(&address)).unwrap_or_else(|| panic!("{stdout}")).to_owned()
        };
        let taken = format!("rolled back; it is served as deployment {number}");
        assert!(line(&one).starts_with("  node ") && line(&one).ends_with(&taken), "{stdout}");
        let missing = "the content is in none of its last deployments";
        assert!(line(&late).starts_with("! node ") && line(&late).ends_with(missing), "{stdout}");
        let problem = format!("1 of 2 nodes rolled back to {first}; see jackfield status");
        assert!(stderr.contains(&problem), "{stderr}");
        assert_eq!((version(&one).await, version(&late).await), ("00000001".to_owned(), "00000002".to_owned()));
    }
    for (name, problem) in [
        (
            "0000000000000",
            "no deployment has a content that begins with 0000000000000: the last 10 of each node are kept",
        ),
        ("77", "deployment 77 is not kept: the last 10 are"),
    ] {
        let (code, stdout, stderr) = deployments(&one, &["--rollback", name]).await;
        assert_eq!((code, &*stdout), (1, ""), "{stderr}");
        assert!(stderr.contains(problem), "{stderr}");
    }
    for name in ["12x", "abc", "ABCD", "+7", ""] {
        let (code, _, stderr) = deployments(&one, &["--rollback", name]).await;
        assert_eq!(code, 2, "{name}: {stderr}");
        assert!(stderr.contains("at least four characters of its content hash"), "{stderr}");
    }
}

#[tokio::test]
async fn a_stopped_node_delays_neither_the_list_nor_a_roll_back_for_long() {
    let redis = Redis::start().await;
    let (one, stopped) = (node_with(&redis, LONG, 1), node_with(&redis, LONG, 1));
    let first = content(&one).await;
    wait_for_nodes(&one, 2).await;
    pause(&stopped).await;
    let began = Instant::now();
    let (code, text, stderr) = status(&one, &[]).await;
    assert_eq!(code, 0, "{stderr}");
    let line = text.lines().find(|line| line.contains(&stopped.address.to_string())).unwrap();
    assert!(line.starts_with('!') && line.ends_with("no answer"), "{text}");
    let (code, stdout, stderr) = deployments(&one, &["--rollback", &first]).await;
    assert!(began.elapsed() < BOUND, "{:?}", began.elapsed());
    assert_eq!(code, 1, "{stdout}{stderr}");
    assert!(stdout.contains("did not answer; whether it has rolled back is unknown"), "{stdout}");
    assert!(stdout.contains("rolled back; it is served as deployment 2"), "{stdout}");
    assert!(stderr.contains("1 of 2 nodes rolled back"), "{stderr}");

    // It handles the requests that have waited, so they are not without an effect.
    stopped.signal("CONT");
    stopped.log.wait_for_line(&["another node requests a roll-back", &first]).await;
    eventually("it answers", || async { entry(&list(&one).await, &stopped)["roundTripMicros"].is_u64() }).await;
}

#[tokio::test]
async fn a_killed_node_is_listed_until_its_lease_ends() {
    let redis = Redis::start().await;
    let (one, killed) = (node(&redis), node(&redis));
    let metrics = Metrics::for_server(&one).await;
    wait_for_nodes(&one, 2).await;
    eventually("both are counted", || async { metrics.read().await.value("jackfield_nodes") == 2.0 }).await;
    assert_eq!(redis.command(&["--scan", "--pattern", "*:record"]).lines().count(), 2);
    killed.signal("KILL");
    eventually("it is not listed any more", || async { list(&one).await["nodes"].as_array().unwrap().len() == 1 })
        .await;
    eventually("it is not counted", || async { metrics.read().await.value("jackfield_nodes") == 1.0 }).await;
    assert_eq!(redis.command(&["--scan", "--pattern", "*:record"]).lines().count(), 1);
}

#[tokio::test]
async fn a_node_that_stops_says_so_and_then_removes_its_record() {
    let redis = Redis::start().await;
    let one = node_with(&redis, LONG, 1);
    let other = site(&redis, LONG, 1);
    let text = fs::read_to_string(other.manifest()).unwrap();
    fs::write(other.manifest(), text.replace("[server]\n", "[server]\ndrain = \"10min\"\n")).unwrap();
    let mut other = other.serve();
    let (mut peer, _) = connect(&other).await;
    let (_second, _) = connect(&other).await;
    wait_for_nodes(&one, 2).await;
    assert_eq!(entry(&list(&one).await, &other)["stopping"], false);
    other.signal("TERM");
    eventually("it stops", || async { entry(&list(&one).await, &other)["stopping"] == true }).await;
    let (_, text, _) = status(&one, &[]).await;
    let line = text.lines().find(|line| line.contains(&other.address.to_string())).unwrap();
    assert!(line.ends_with("  stops"), "{text}");
    // It serves the connections that it has, and what operators request.
    assert_eq!(peer.ask("echo still here").await, "still here");
    let content = content(&one).await;
    let (code, stdout, stderr) = deployments(&one, &["--rollback", &content]).await;
    assert_eq!(code, 0, "{stdout}{stderr}");
    // The second signal ends the drain.
    other.signal("TERM");
    assert_eq!(other.wait_for_exit().await, Some(0));
    assert_eq!(list(&one).await["nodes"].as_array().unwrap().len(), 1);
    assert_eq!(redis.command(&["--scan", "--pattern", "*:record"]).lines().count(), 1);
}

#[tokio::test]
async fn the_metrics_of_a_node_count_its_posts_to_others_by_outcome() {
    let redis = Redis::start().await;
    let (one, other) = (node_with(&redis, LONG, 1), node_with(&redis, LONG, 1));
    let metrics = Metrics::for_server(&one).await;
    let (mut local, local_id) = connect(&one).await;
    let (mut peer, id) = connect(&other).await;
    let posts = async || {
        let now = metrics.read().await;
        let outcomes = ["delivered", "gone", "refused"];
        let by_outcome =
            outcomes.map(|outcome| now.value(&format!("jackfield_node_posts_total{{outcome={outcome:?}}}")));
        (by_outcome, now.value("jackfield_node_posts_unanswered_total"))
    };
    assert_eq!(one.post(&local_id, "local").await.status, 200);
    assert_eq!(local.text().await, "local");
    let before = metrics.read().await;
    assert_eq!(posts().await, ([0.0; 3], 0.0));
    let sent = "jackfield_bus_messages_total{direction=\"sent\"}";
    assert_eq!(before.value(sent), 0.0, "a local post needs no message");
    assert_eq!(one.post(&id, "hello").await.status, 200);
    assert_eq!(peer.text().await, "hello");
    peer.close(1000, "").await;
    eventually("it is gone", || async { one.post(&id, "hello").await.status == 410 }).await;
    let ([delivered, gone, refused], unanswered) = posts().await;
    assert!(delivered >= 1.0 && gone == 1.0 && refused == 0.0 && unanswered == 0.0, "{delivered} {gone} {refused}");
    let after = metrics.read().await;
    assert!(after.value(sent) >= 2.0);
    assert_eq!(after.value(sent), after.value("jackfield_bus_messages_total{direction=\"received\"}"));

    let (_peer, id) = connect(&other).await;
    pause(&other).await;
    assert_eq!(one.post(&id, "hello").await.status, 429);
    assert_eq!(posts().await, ([delivered, gone, refused], 1.0));
    one.log.wait_for_line(&["WARN", "a node does not answer"]).await;

    let now = metrics.read().await;
    assert_eq!(now.value("jackfield_redis_up"), 1.0);
    assert_eq!(now.value("jackfield_redis_outages_total"), 0.0);
    assert_eq!(now.value("jackfield_unsaved_rows"), 0.0);
    let lease = now.value("jackfield_lease_remaining_seconds");
    assert!(lease > 0.0 && lease <= 300.0, "{lease}");
}

#[tokio::test]
async fn a_message_that_this_version_does_not_know_is_counted_and_dropped() {
    let redis = Redis::start().await;
    let one = node(&redis);
    let metrics = Metrics::for_server(&one).await;
    let number = list(&one).await["node"].to_string();
    let channel = redis.command(&["pubsub", "channels", &format!("*:channel:{number}")]);
    redis.command(&["publish", &channel, "not a message"]);
    let dropped = "jackfield_bus_messages_dropped_total{reason=\"unreadable\"}";
    eventually("it is counted", || async { metrics.read().await.value(dropped) == 1.0 }).await;
    assert_eq!(list(&one).await["nodes"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn without_redis_a_node_lists_itself_and_says_why() {
    let mut redis = Redis::start().await;
    let one = node(&redis);
    let metrics = Metrics::for_server(&one).await;
    let first = content(&one).await;
    redis.kill();
    eventually("the node notices", || async { metrics.read().await.value("jackfield_redis_up") == 0.0 }).await;
    assert_eq!(metrics.read().await.value("jackfield_redis_outages_total"), 1.0);
    let (code, stdout, stderr) = status(&one, &[]).await;
    assert_eq!(code, 1, "{stdout}");
    assert!(stderr.contains("the other nodes are unknown: the store failed: Redis does not answer"), "{stderr}");
    assert!(stdout.contains(&one.address.to_string()) && stdout.contains(&first), "{stdout}");
    // A roll-back of all nodes changes nothing then; one of this node works.
    let (code, _, stderr) = deployments(&one, &["--rollback", &first]).await;
    assert_eq!(code, 1);
    assert!(stderr.contains("the other nodes are unknown") && stderr.contains("--this-node"), "{stderr}");
    let (code, stdout, stderr) = deployments(&one, &["--rollback", &first, "--this-node"]).await;
    assert_eq!(code, 0, "{stdout}{stderr}");
    redis.restart().await;
    eventually("it is listed again", || async {
        let (code, ..) = status(&one, &[]).await;
        code == 0
    })
    .await;
    assert_eq!(metrics.read().await.value("jackfield_redis_up"), 1.0);
}

#[tokio::test]
async fn with_sled_the_list_has_one_node() {
    let text = manifest("guest.wasm".as_ref(), &format!("{METRICS}{ADMIN}"), HOSTILE_GRANTS);
    let site = Site::new(&text);
    replace_file(&site.path().join("guest.wasm"), hostile_version(1));
    let server = site.serve();
    let metrics = Metrics::for_server(&server).await;
    let (_peer, _) = connect(&server).await;
    let list = list(&server).await;
    let own = entry(&list, &server);
    assert_eq!((&list["store"], &list["drift"], &list["node"]), (&"sled".into(), &false.into(), &0.into()));
    assert_eq!(
        (&own["connections"], &own["differs"], &own["roundTripMicros"]),
        (&1.into(), &Value::Null, &Value::Null)
    );
    let content = own["content"].as_str().unwrap();
    let (code, text, stderr) = status(&server, &[]).await;
    assert_eq!(code, 0, "{stderr}");
    assert!(!text.contains('!') && text.lines().count() == 3, "{text}");
    assert_eq!(text.lines().last(), Some(&*format!("1 node serves {content}")));
    let manifest = own["manifest"].as_str().unwrap();
    let info = format!("jackfield_deployment_info{{content=\"{content}\",manifest=\"{manifest}\"}}");
    assert_eq!(metrics.read().await.value(&info), 1.0);
    // The metric of an older deployment does not stay.
    replace_guest(&server, 2, 1).await;
    let (code, stdout, stderr) = deployments(&server, &[]).await;
    assert_eq!(code, 0, "{stderr}");
    let served = stdout.split_whitespace().nth(3).unwrap();
    assert_ne!(served, content);
    let (_, text) = metrics.get("/metrics").await;
    let infos: Vec<_> = text.lines().filter(|line| line.starts_with("jackfield_deployment_info{")).collect();
    assert!(infos.len() == 1 && infos[0].contains(served), "{infos:?}");
    assert!(!text.contains("jackfield_nodes") && !text.contains("jackfield_redis_up"), "{text}");
}
