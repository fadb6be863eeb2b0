//! Plugins that do not load at the start, or that take long: they are unavailable, and all others serve.

use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::components::{ask_until, hostile_version, replace_file, wait_for_version};
use crate::deployments::{ADMIN, deployments};
use crate::harness::{HOSTILE_GRANTS, Peer, Server, Site, TEST_AUTHORIZER, children, component, eventually};
use crate::metrics::Metrics;
use crate::{bombs, harm, wat};

/// The hostile guest in version 1 as `guest`, and `other.wasm` as `other`, behind the route `other` of all stages and
/// `$connect` of the stage `second`.
fn site(sections: &str, other: &[u8]) -> Site {
    let site = Site::new(&format!(
        r#"
{sections}
[integrations.guest]
component = "guest.wasm"
{HOSTILE_GRANTS}
[integrations.other]
component = "other.wasm"
{HOSTILE_GRANTS}
[routes]
"$default" = {{ integration = "guest", route_response = true }}
other = {{ integration = "other", route_response = true }}
[stages.dev]
[stages.second]
routes = {{ "$connect" = "other" }}
"#
    ));
    replace_file(&site.path().join("guest.wasm"), hostile_version(1));
    replace_file(&site.path().join("other.wasm"), other);
    site
}

const OTHER: &str = r#"{"action":"other","do":"version"}"#;

/// Whether the answer to `OTHER` is API Gateway's frame.
async fn is_unavailable(peer: &mut Peer) -> bool {
    let answer = peer.ask(OTHER).await;
    answer.starts_with(r#"{"message": "Internal server error", "connectionId":""#)
}

/// A component whose start function sleeps for `time`, and whose handler answers `x` at once.
fn slow_to_start(time: Duration) -> Vec<u8> {
    let start = format!("(func $wake (call $block (call $timer (i64.const {})))) (start $wake)", time.as_nanos());
    wat::sleeping_module(&start, Duration::ZERO)
}

async fn unavailable(server: &Server) -> Vec<String> {
    let (code, listed, stderr) = deployments(server, &[]).await;
    assert_eq!(code, 0, "{stderr}");
    listed.lines().filter(|line| line.starts_with('!')).map(str::to_owned).collect()
}

// ---- the start ------------------------------------------------------------------------------

#[tokio::test]
async fn a_plugin_that_does_not_load_at_the_start_is_unavailable_and_all_others_serve() {
    let metrics = "[server]\nmetrics = \"127.0.0.1:0\"\n";
    let server = site(&format!("{metrics}{ADMIN}"), b"\0asm broken").serve();
    let line = server.log.wait_for_line(&["ERROR", "[integrations.other] other.wasm: it is neither"]).await;
    assert!(line.contains("its routes return 502 and Internal server error"), "{line}");
    let mut peer = server.connect("").await;
    assert_eq!(peer.ask("version").await, "00000001");
    assert!(is_unavailable(&mut peer).await);
    assert_eq!(server.try_connect_to("/second", &[]).await.err(), Some(502));
    let listed = unavailable(&server).await;
    assert_eq!(listed.len(), 1);
    assert!(listed[0].starts_with("! other is unavailable: ") && listed[0].contains("it is neither"), "{listed:?}");
    let metrics = Metrics::for_server(&server).await;
    assert_eq!(metrics.read().await.value("jackfield_plugins_unavailable"), 1.0);

    // It is tried again when its file changes, and the same problem is not logged again.
    replace_file(&server.site.path().join("other.wasm"), b"\0asm broken");
    replace_file(&server.site.path().join("guest.wasm"), hostile_version(2));
    wait_for_version(&mut peer, 2, 1).await;
    assert!(is_unavailable(&mut peer).await);
    replace_file(&server.site.path().join("other.wasm"), hostile_version(7));
    server.log.wait_for_line(&["live", "plugin=other"]).await;
    assert_eq!(peer.ask(OTHER).await, "00000007");
    assert!(server.try_connect_to("/second", &[]).await.is_ok());
    eventually("nothing is unavailable", || async { unavailable(&server).await.is_empty() }).await;
    assert_eq!(metrics.read().await.value("jackfield_plugins_unavailable"), 0.0);
    assert_eq!(server.log.text().matches("other.wasm: it is neither").count(), 1);
}

#[tokio::test]
async fn with_fail_fast_the_first_plugin_that_does_not_load_prevents_the_start() {
    let site = site("", b"broken");
    let mut command = site.command(&["serve", "--listen", "127.0.0.1:0", "--fail-fast"]);
    let output = command.stdin(Stdio::null()).output().unwrap();
    assert_eq!((output.status.code(), &*output.stdout), (Some(1), &b""[..]));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.contains("other.wasm: it is not WebAssembly"), "{stderr}");
}

#[tokio::test]
async fn if_no_plugin_loads_the_server_does_not_start_and_reports_every_problem() {
    let site = site("", b"broken");
    fs::write(site.path().join("guest.wasm"), "also broken").unwrap();
    let (code, stdout, stderr) = site.run(&["serve", "--listen", "127.0.0.1:0"]);
    assert_eq!((code, &*stdout), (1, ""));
    assert!(stderr.contains("the components have 2 problems"), "{stderr}");
    for file in ["guest.wasm", "other.wasm"] {
        assert!(stderr.contains(&format!("{file}: it is not WebAssembly")), "{stderr}");
    }
}

#[tokio::test]
async fn an_authorizer_that_does_not_load_rejects_every_handshake() {
    let site = Site::hostile_behind_authorizer();
    fs::write(site.path().join("login.wasm"), "broken").unwrap();
    let server = site.serve();
    server.log.wait_for_line(&["ERROR", "[authorizers.login] login.wasm: it is not WebAssembly"]).await;
    for query in ["?decide=allow&who=alice", "?decide=deny", ""] {
        assert_eq!(server.try_connect(query, &[]).await.err(), Some(500), "{query}");
    }
    server.log.wait_for_line(&["rejected handshake: the component of the authorizer has not loaded", "login"]).await;
    replace_file(&server.site.path().join("login.wasm"), fs::read(component(TEST_AUTHORIZER)).unwrap());
    server.log.wait_for_line(&["live", "plugin=login"]).await;
    assert_eq!(server.try_connect("?decide=deny", &[]).await.err(), Some(403));
    let mut peer = server.connect("?decide=allow&who=alice").await;
    assert_eq!(peer.ask("granted").await, "principalId=alice");
}

#[tokio::test]
async fn connections_whose_disconnect_plugin_has_not_loaded_get_their_disconnect_when_it_has() {
    let text = r#"
[integrations.guest]
component = "guest.wasm"
GRANTS
[integrations.last]
component = "last.wasm"
GRANTS
[routes]
"$default" = { integration = "guest", route_response = true }
"$disconnect" = "last"
"#;
    let site = Site::new(&text.replace("GRANTS", HOSTILE_GRANTS));
    let write = |name: &str, bytes: Vec<u8>| replace_file(&site.path().join(name), bytes);
    write("guest.wasm", hostile_version(1));
    write("last.wasm", hostile_version(2));
    let mut server = site.clone().serve();
    let mut peer = server.connect("").await;
    let orphan = peer.id().await;
    tokio::time::sleep(Duration::from_secs(1)).await; // the row is flushed
    server.process.kill().unwrap();
    server.process.wait().unwrap();

    write("last.wasm", b"broken".to_vec());
    let server = site.clone().serve();
    let mut closed = server.connect("").await;
    let closed_id = closed.id().await;
    closed.close(4001, "bye").await;
    let mut peer = server.connect("").await;
    for _ in 0..20 {
        assert_eq!(peer.ask(&format!("ended {orphan}")).await, "none");
        assert_eq!(peer.ask(&format!("ended {closed_id}")).await, "none");
    }
    write("last.wasm", hostile_version(2));
    assert_eq!(server.wait_for_disconnect(&orphan).await, "1006 ");
    assert_eq!(server.wait_for_disconnect(&closed_id).await, "4001 bye");
}

// ---- plugins that take long ------------------------------------------------------------------

#[tokio::test]
async fn a_plugin_that_takes_long_to_start_delays_no_other_at_the_start_and_joins_when_it_is_ready() {
    let site = site(ADMIN, &slow_to_start(Duration::from_secs(6)));
    let mut command = site.command(&["serve"]);
    command.args(["--start-wait", "100ms"]);
    let server = site.launch(command);
    let mut peer = server.connect("").await;
    assert_eq!(peer.ask("version").await, "00000001");
    assert!(is_unavailable(&mut peer).await);
    assert!(server.log.text().contains("still loading after 100ms"), "{}", server.log.text());
    assert_eq!(unavailable(&server).await, ["! other is unavailable: it is still loading"]);
    server.log.wait_for_line(&["live", "plugin=other"]).await;
    assert_eq!(peer.ask(OTHER).await, "x");
}

#[tokio::test]
async fn a_plugin_that_takes_long_to_start_delays_no_other_reload_and_no_roll_back() {
    let server = site(ADMIN, &hostile_version(7)).serve();
    let mut peer = server.connect("").await;
    assert_eq!(peer.ask(OTHER).await, "00000007");
    let replace = |name: &str, bytes: Vec<u8>| replace_file(&server.site.path().join(name), bytes);
    // Its own timeout of 29 s decides how long it may take.
    replace("other.wasm", slow_to_start(Duration::from_secs(25)));
    // A later change is noticed after the one before.
    replace("guest.wasm", hostile_version(2));
    wait_for_version(&mut peer, 2, 1).await;
    replace("guest.wasm", hostile_version(3));
    wait_for_version(&mut peer, 3, 2).await;
    let text = fs::read_to_string(server.site.manifest()).unwrap();
    let (code, stdout, stderr) = deployments(&server, &["--rollback", "2", "--plugin", "guest"]).await;
    assert_eq!((code, &*stdout), (0, "rolled guest back to 2; it is served as deployment 4\n"), "{stderr}");
    assert_eq!(peer.ask("version").await, "00000002");
    let (code, stdout, stderr) = deployments(&server, &["--rollback", "1"]).await;
    assert_eq!((code, &*stdout), (0, "rolled back to 1; it is served as deployment 5\n"), "{stderr}");
    assert_eq!(peer.ask("version").await, "00000001");
    assert_eq!(peer.ask(OTHER).await, "00000007");
    // The load that had begun before the roll-back is ignored, and a file that changes is loaded as usual.
    replace("other.wasm", hostile_version(8));
    server.log.wait_for_line(&["live", "plugin=other", "deployment=6"]).await;
    assert_eq!(peer.ask(OTHER).await, "00000008");
    assert_eq!(fs::read_to_string(server.site.manifest()).unwrap(), text);
    let live: Vec<_> =
        server.log.text().lines().filter(|line| line.contains("plugin=other")).map(str::to_owned).collect();
    assert!(live.iter().filter(|line| line.contains("live")).count() == 1, "{live:?}");
}

#[tokio::test]
async fn a_component_that_takes_long_to_compile_delays_no_roll_back() {
    const ROLL_BACK_MAX: Duration = Duration::from_secs(1);
    let server = site(ADMIN, &hostile_version(7)).serve();
    let mut peer = server.connect("").await;
    replace_file(&server.site.path().join("guest.wasm"), hostile_version(2));
    wait_for_version(&mut peer, 2, 1).await;
    replace_file(&server.site.path().join("other.wasm"), bombs::many_locals());
    let compilers = || children(server.process.id());
    eventually("the component is compiled", async || compilers().len() == 1).await;
    let compiling = compilers();
    let began = Instant::now();
    let (code, stdout, stderr) = deployments(&server, &["--rollback", "1", "--plugin", "guest"]).await;
    assert_eq!((code, &*stdout), (0, "rolled guest back to 1; it is served as deployment 3\n"), "{stderr}");
    assert_eq!(peer.ask("version").await, "00000001");
    let what = "time of a roll-back while a component is compiled";
    harm::measure_time("plugins that do not load", what, began.elapsed(), ROLL_BACK_MAX);
    assert_eq!(compilers(), compiling, "the component is no longer compiled");
    assert_eq!(peer.ask(OTHER).await, "00000007");
}

/// Found in a review: eight components that waited for a compiler kept one from loading whose code was cached.
#[tokio::test]
async fn components_that_wait_for_a_compiler_delay_no_component_whose_code_is_cached() {
    let slow = |number| format!("[integrations.a{number}]\ncomponent = \"a{number}.wasm\"\n");
    let slow: String = (0..10).map(slow).collect();
    let guest = format!("[integrations.guest]\ncomponent = \"guest.wasm\"\n{HOSTILE_GRANTS}");
    let route = "[routes]\n\"$default\" = { integration = \"guest\", route_response = true }";
    let site = Site::new(&format!("{guest}\n{route}"));
    replace_file(&site.path().join("guest.wasm"), hostile_version(1));
    let (code, _, stderr) = site.run(&["check"]);
    assert_eq!(code, 0, "{stderr}");

    replace_file(&site.manifest(), format!("{slow}{guest}\n{route}"));
    for number in 0..10 {
        // A custom section makes each of them another component.
        let bytes = [bombs::many_locals(), vec![0, 3, 1, b'n', number]].concat();
        replace_file(&site.path().join(format!("a{number}.wasm")), bytes);
    }
    let mut command = site.command(&["serve"]);
    command.args(["--start-wait", "100ms"]);
    let server = site.launch(command);
    let mut peer = server.connect("").await;
    ask_until(&mut peer, "version", "00000001").await;
    assert_eq!(children(server.process.id()).len(), 2, "no other component is compiled any more");
}

#[tokio::test]
async fn only_the_newest_load_of_a_plugin_counts() {
    let server = site(ADMIN, &hostile_version(7)).serve();
    let mut peer = server.connect("").await;
    let replace = |bytes: Vec<u8>| replace_file(&server.site.path().join("other.wasm"), bytes);
    replace(slow_to_start(Duration::from_secs(3)));
    tokio::time::sleep(Duration::from_secs(1)).await; // its load begins
    replace(hostile_version(8));
    server.log.wait_for_line(&["live", "plugin=other"]).await;
    assert_eq!(peer.ask(OTHER).await, "00000008");
    tokio::time::sleep(Duration::from_secs(4)).await; // the first load would have ended
    assert_eq!(peer.ask(OTHER).await, "00000008");
    assert_eq!(server.log.text().matches("live").count(), 1);
}

#[tokio::test]
async fn a_manifest_changes_while_a_plugin_is_unavailable() {
    let server = site("", b"broken").serve();
    let mut peer = server.connect("").await;
    let text = fs::read_to_string(server.site.manifest()).unwrap();
    let green = text.replace("[stages.dev]", "[stages.dev]\nvariables = { colour = \"green\" }");
    replace_file(&server.site.manifest(), &green);
    server.log.wait_for_line(&["live", "manifest="]).await;
    assert_eq!(peer.ask("variable colour").await, "green");
    assert!(is_unavailable(&mut peer).await);
    // A component that is new in the manifest must load.
    replace_file(&server.site.manifest(), green.replace("\"other.wasm\"", "\"missing.wasm\"").replace("green", "blue"));
    server.log.wait_for_line(&["missing.wasm: file not found", "the old version keeps serving"]).await;
    assert_eq!(peer.ask("variable colour").await, "green");
    fs::write(server.site.path().join("missing.wasm"), hostile_version(9)).unwrap();
    server.log.wait_for_line(&["live", "plugin=other"]).await;
    assert_eq!(peer.ask("variable colour").await, "blue");
    assert_eq!(peer.ask(OTHER).await, "00000009");
}

#[tokio::test]
async fn plugins_with_the_same_component_compile_it_once() {
    let unique = std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos();
    let data = format!("(data (i32.const 70000) \"{unique}\")");
    let component = wat::lean_module(&wat::digit_handler(&data, "(i32.const 7)"));
    let names: Vec<String> = (0..40).map(|number| format!("plugin-{number}")).collect();
    let integrations = names.iter().map(|name| format!("[integrations.{name}]\ncomponent = \"shared.wasm\"\n"));
    let routes = names.iter().map(|name| format!("{name} = {{ integration = \"{name}\", route_response = true }}\n"));
    let text = format!("{}[routes]\n{}", integrations.collect::<String>(), routes.collect::<String>());
    let site = Site::new(&text);
    replace_file(&site.path().join("shared.wasm"), component);
    let server = site.serve();
    let mut peer = server.connect("").await;
    for name in &names {
        assert_eq!(peer.ask(&format!(r#"{{"action":"{name}"}}"#)).await, "7");
    }
    let log = server.log.text();
    let times = log.lines().filter_map(|line| line.split_once("compile=")).map(|(_, time)| time);
    let times: std::collections::BTreeSet<&str> = times.collect();
    assert_eq!(times.len(), 1, "each compilation takes a time of its own: {times:?}");
}

// ---- lack of resources -----------------------------------------------------------------------

#[tokio::test]
async fn a_load_that_failed_for_lack_of_open_files_is_tried_again_although_no_file_changes() {
    let server = site("", &hostile_version(7)).serve();
    let mut peer = server.connect("").await;
    assert_eq!(peer.ask(OTHER).await, "00000007");

    // Fewer than the server has open, so it cannot open another one.
    limit_open_files(&server, 3);
    replace_file(&server.site.path().join("other.wasm"), hostile_version(8));
    server.log.wait_for_line(&["ERROR", "other.wasm", "Too many open files", "it is tried again"]).await;
    assert_eq!(peer.ask(OTHER).await, "00000007");
    limit_open_files(&server, 1024);
    server.log.wait_for_line(&["live", "plugin=other"]).await;
    assert_eq!(peer.ask(OTHER).await, "00000008");
}

/// Changes the limit of open files of a running server.
fn limit_open_files(server: &Server, count: usize) {
    let pid = server.process.id().to_string();
    let status = Command::new("prlimit").args(["--pid", &pid, &format!("--nofile={count}:")]).status().unwrap();
    assert!(status.success());
}
