//! Reloads of components and of the manifest while the server runs.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::future::join_all;
use jackfield::limits::CONCURRENT_EVENTS_MAX;

use crate::components::{
    CORE_MODULE, EMPTY_COMPONENT, ask_until, hostile_version, hostile_with_trapping_start,
    hostile_with_unknown_contract, large_hostile, replace_file, wait_for_version,
};
use crate::harness::{ECHO, HOSTILE_GRANTS, Log, Server, Site, children, component, eventually, manifest};

/// The number of log lines that have all of these words.
fn count(log: &Log, words: &[&str]) -> usize {
    log.text().lines().filter(|line| words.iter().all(|word| line.contains(word))).count()
}

/// Waits until the log has at least `times` lines with all of these words.
async fn wait_for_lines(server: &Server, times: usize, words: &[&str]) {
    eventually(&format!("{words:?} is logged {times} times"), || async { count(&server.log, words) >= times }).await;
}

/// A manifest with the hostile guest behind every route.
fn hostile_manifest(component: &str, sections: &str) -> String {
    manifest(component.as_ref(), sections, HOSTILE_GRANTS)
}

/// A change of the manifest that a message to the hostile guest can detect.
const GREEN: &str = "[api]\nstage_variables = { colour = \"green\" }\n";

/// A site with the hostile guest in version 1 behind every route, in a file that a test can replace.
fn site() -> Site {
    let site = Site::new(&hostile_manifest("guest.wasm", ""));
    replace_file(&site.path().join("guest.wasm"), hostile_version(1));
    site
}

/// The path of the guest's component.
fn guest(server: &Server) -> PathBuf {
    server.site.path().join("guest.wasm")
}

// ---- components -----------------------------------------------------------------------------

#[tokio::test]
async fn a_component_that_is_replaced_by_a_rename_is_live_for_the_next_message() {
    let server = site().serve();
    let mut peer = server.connect("").await;
    for number in 2..5 {
        replace_file(&guest(&server), hostile_version(number));
        wait_for_version(&mut peer, number, number - 1).await;
    }
    let live = ["live", "plugin=guest", "version="];
    wait_for_lines(&server, 3, &live).await;
    assert_eq!(count(&server.log, &live), 3);
}

#[tokio::test]
async fn a_component_written_in_pieces_goes_live_when_it_is_complete() {
    let server = site().serve();
    let mut peer = server.connect("").await;
    let mut file = File::create(guest(&server)).unwrap();
    for piece in hostile_version(2).chunks(16 * 1024) {
        file.write_all(piece).unwrap();
        assert_eq!(peer.ask("version").await, "00000001");
    }
    drop(file);
    wait_for_version(&mut peer, 2, 1).await;
}

#[tokio::test]
async fn a_component_that_does_not_load_leaves_the_old_one_serving_and_is_reported_once() {
    let whole = hostile_version(2);
    let server = site().serve();
    let mut peer = server.connect("").await;
    let broken = [
        (whole[..whole.len() / 2].to_vec(), ["it is truncated or damaged", "build it again"]),
        (vec![], ["it is not WebAssembly", "a file of 0 bytes"]),
        (CORE_MODULE.to_vec(), ["it is a core module without the metadata", "build it for wasm32-wasip2"]),
        (EMPTY_COMPONENT.to_vec(), ["it exports nothing", "build it against the world"]),
        (hostile_with_unknown_contract(), ["it exports jackfield:gateway/handler@0.9.9", "build it against the world"]),
        (hostile_with_trapping_start(), ["it does not start", "trapped"]),
    ];
    for (bytes, words) in &broken {
        let words = &["jackfield.toml:5", "guest.wasm", words[0], words[1]];
        replace_file(&guest(&server), bytes);
        server.log.wait_for_line(words).await;
        assert_eq!(peer.ask("version").await, "00000001");
        // The watcher notices that the same bytes are written again, but the log must not report them again.
        replace_file(&guest(&server), bytes);
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    replace_file(&guest(&server), whole);
    wait_for_version(&mut peer, 2, 1).await;
    for (_, words) in broken {
        assert_eq!(count(&server.log, &words), 1, "{words:?}");
    }
    assert_eq!(count(&server.log, &["the old version keeps serving"]), 6);
}

#[tokio::test]
async fn a_component_that_imports_more_than_is_granted_leaves_the_old_one_serving() {
    let grants = r#"grants = ["connections", "connection-store"]"#;
    let site = Site::new(&manifest("guest.wasm".as_ref(), "", grants));
    fs::copy(component(ECHO), site.path().join("guest.wasm")).unwrap();
    let server = site.serve();
    let mut peer = server.connect("").await;
    replace_file(&guest(&server), hostile_version(1));
    let line = server.log.wait_for_line(&["wasi:http/outgoing-handler@0.2.", "is not granted"]).await;
    assert!(line.contains("jackfield.toml:5: [integrations.guest] guest.wasm"), "{line}");
    assert!(line.contains(r#"allowed_hosts = ["https://HOST"]"#), "{line}");
    assert_eq!(peer.ask("still the echo").await, "still the echo");

    // Only the grants in the manifest are missing.
    fs::write(server.site.manifest(), hostile_manifest("guest.wasm", "")).unwrap();
    server.log.wait_for_line(&["live", "manifest="]).await;
    assert_eq!(peer.ask("version").await, "00000001");
}

#[tokio::test]
async fn a_component_that_is_removed_keeps_serving_and_its_next_version_is_live() {
    let server = site().serve();
    let mut peer = server.connect("").await;
    let words = ["guest.wasm: file not found; create it", "the old version keeps serving"];
    fs::remove_file(guest(&server)).unwrap();
    wait_for_lines(&server, 1, &words).await;
    assert_eq!(peer.ask("version").await, "00000001");
    replace_file(&guest(&server), hostile_version(1));
    wait_for_lines(&server, 1, &["the component matches the served version again"]).await;

    fs::remove_file(guest(&server)).unwrap();
    wait_for_lines(&server, 2, &words).await;
    replace_file(&guest(&server), hostile_version(2));
    wait_for_version(&mut peer, 2, 1).await;
    assert_eq!(count(&server.log, &words), 2);
}

#[tokio::test]
async fn a_build_folder_that_is_removed_and_created_again_is_still_watched() {
    let site = Site::new(&hostile_manifest("target/release/guest.wasm", ""));
    let file = site.path().join("target/release/guest.wasm");
    let create = |number| {
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        replace_file(&file, hostile_version(number));
    };
    create(1);
    let server = site.serve();
    let mut peer = server.connect("").await;
    for number in 2..4 {
        fs::remove_dir_all(server.site.path().join("target")).unwrap();
        create(number);
        wait_for_version(&mut peer, number, number - 1).await;
    }
}

#[tokio::test]
async fn changes_of_a_symbolic_link_and_of_its_target_are_noticed() {
    let site = Site::new(&hostile_manifest("guest.wasm", ""));
    let path = |name: &str| site.path().join(name);
    for number in 1..3 {
        fs::create_dir(path(&format!("v{number}"))).unwrap();
        replace_file(&path(&format!("v{number}/guest.wasm")), hostile_version(number));
    }
    symlink("v1/guest.wasm", path("guest.wasm")).unwrap();
    symlink("v2/guest.wasm", path("next")).unwrap();
    let (link, next, target) = (path("guest.wasm"), path("next"), path("v2/guest.wasm"));
    let server = site.serve();
    let mut peer = server.connect("").await;
    fs::rename(next, link).unwrap();
    wait_for_version(&mut peer, 2, 1).await;
    replace_file(&target, hostile_version(3));
    wait_for_version(&mut peer, 3, 2).await;
}

#[tokio::test]
async fn with_polling_changes_are_noticed_without_inotify() {
    let server = site().start(&["serve", "--poll", "100ms"]);
    let descriptors = fs::read_dir(format!("/proc/{}/fd", server.process.id())).unwrap();
    let files = descriptors.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
    assert!(!files.into_iter().any(|file| file == Path::new("anon_inode:inotify")));
    let mut peer = server.connect("").await;
    replace_file(&guest(&server), hostile_version(2));
    wait_for_version(&mut peer, 2, 1).await;
    fs::remove_file(guest(&server)).unwrap();
    server.log.wait_for_line(&["file not found"]).await;
    replace_file(&guest(&server), hostile_version(3));
    wait_for_version(&mut peer, 3, 2).await;
}

#[tokio::test]
async fn an_event_in_flight_finishes_on_the_version_that_it_started_with() {
    let server = site().serve();
    let mut early = server.connect("").await;
    let mut late = server.connect("").await;
    early.send("version 2000").await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    replace_file(&guest(&server), hostile_version(2));
    wait_for_version(&mut late, 2, 1).await;
    early.send("version").await;
    assert_eq!(early.text().await, "00000001");
    assert_eq!(early.text().await, "00000002");
}

#[tokio::test]
async fn messages_are_answered_while_a_process_of_low_priority_compiles_a_large_component() {
    let server = site().serve();
    let mut peer = server.connect("").await;
    // The number makes a component that is not in the cache of compiled code.
    let number = std::process::id() % 10_000_000 + 2;
    replace_file(&guest(&server), large_hostile(number, 6));
    let (mut answers, mut nice) = (0, None);
    while peer.ask("version").await == "00000001" {
        nice = nice.or_else(|| child_nice_value(&server));
        answers += usize::from(nice.is_some());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(nice.as_deref(), Some("10"));
    assert!(answers > 10, "{answers} answers while it was compiled");
}

/// The nice value of the process that compiles for the server, if there is one and it has set its limits.
fn child_nice_value(server: &Server) -> Option<String> {
    let id = *children(server.process.id()).first()?;
    let limits = fs::read_to_string(format!("/proc/{id}/limits")).ok()?;
    // The process sets this limit after it has lowered its priority.
    limits.lines().find(|line| line.starts_with("Max cpu time") && !line.contains("unlimited"))?;
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    // The nice value is the 19th field of `stat`, according to proc(5). The name, which ends in `)`, is the second.
    stat.rsplit_once(") ")?.1.split(' ').nth(16).map(str::to_owned)
}

#[tokio::test]
async fn a_change_at_any_time_during_the_start_is_noticed() {
    for delay in (0..400).step_by(50) {
        let site = site();
        let (guest, manifest) = (site.path().join("guest.wasm"), site.manifest());
        let changing = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(delay));
            replace_file(&guest, hostile_version(2));
            replace_file(&manifest, hostile_manifest("guest.wasm", GREEN));
        });
        let server = site.serve();
        let mut peer = server.connect("").await;
        wait_for_version(&mut peer, 2, 1).await;
        ask_until(&mut peer, "variable colour", "green").await;
        changing.join().unwrap();
    }
}

#[tokio::test]
async fn a_component_is_replaced_while_every_sandbox_is_in_use() {
    let server = site().serve();
    let mut sleepers = join_all((0..CONCURRENT_EVENTS_MAX).map(|_| server.connect(""))).await;
    for sleeper in &mut sleepers {
        sleeper.send("version 4000").await;
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    replace_file(&guest(&server), hostile_version(2));
    server.log.wait_for_line(&["live", "plugin=guest"]).await;
    for sleeper in &mut sleepers {
        assert_eq!(sleeper.text().await, "00000001");
        assert_eq!(sleeper.ask("version").await, "00000002");
    }
}

// ---- the manifest ---------------------------------------------------------------------------

#[tokio::test]
async fn a_manifest_that_changes_is_applied_as_a_whole() {
    let server = site().serve();
    let mut peer = server.connect("").await;
    let hello = r#"{"action":"hello"}"#;
    assert_eq!(peer.ask("variable colour").await, "none");
    assert!(peer.ask("bucket second").await.starts_with("error"));
    assert_eq!(peer.ask(hello).await, format!("$default {hello}"));

    replace_file(&server.site.path().join("echo.wasm"), fs::read(component(ECHO)).unwrap());
    let api = "[api]\nid = \"changed\"\nstage_variables = { colour = \"green\" }\n";
    let grants = HOSTILE_GRANTS.replace(r#""shared""#, r#""shared", "second""#);
    let added = r#"
        hello = { integration = "echo", route_response = true }
        [integrations.echo]
        component = "echo.wasm"
        grants = ["connections", "connection-store"]
    "#;
    replace_file(&server.site.manifest(), manifest("guest.wasm".as_ref(), api, &grants) + added);
    server.log.wait_for_line(&["live", "manifest="]).await;
    assert_eq!(peer.ask("variable colour").await, "green");
    assert_eq!(peer.ask("bucket second").await, "opened");
    assert_eq!(peer.ask(hello).await, hello);
    assert!(peer.ask("context").await.starts_with("changed dev "));

    replace_file(&server.site.manifest(), hostile_manifest("guest.wasm", ""));
    wait_for_lines(&server, 2, &["live", "manifest="]).await;
    assert_eq!(peer.ask("variable colour").await, "none");
    assert!(peer.ask("bucket second").await.starts_with("error"));
    assert_eq!(peer.ask(hello).await, format!("$default {hello}"));
    assert_eq!(peer.ask("version").await, "00000001");
}

#[tokio::test]
async fn a_manifest_with_problems_changes_nothing_and_each_problem_is_reported_once() {
    let server = site().serve();
    let mut peer = server.connect("").await;
    let wrong = hostile_manifest("guest.wasm", "[api]\nstage = 7\n").replace("buckets", "bukkets");
    let absent = r#"other = { integration = "absent" }"#;
    for _ in 0..2 {
        replace_file(&server.site.manifest(), format!("{wrong}{absent}"));
        server.log.wait_for_line(&["absent"]).await;
    }
    replace_file(&server.site.manifest(), "");
    server.log.wait_for_line(&["jackfield.toml: found nothing, expected a manifest"]).await;
    fs::remove_file(server.site.manifest()).unwrap();
    server.log.wait_for_line(&["jackfield.toml: the manifest does not exist"]).await;
    assert_eq!(peer.ask("version").await, "00000001");

    replace_file(&server.site.manifest(), hostile_manifest("guest.wasm", ""));
    server.log.wait_for_line(&["the manifest matches the served version again"]).await;
    for words in
        [["jackfield.toml:3: ", "stage"], ["jackfield.toml:10: ", "bukkets"], ["jackfield.toml:18: ", "absent"]]
    {
        assert_eq!(count(&server.log, &words), 1, "{words:?}");
    }
    assert_eq!(count(&server.log, &["the old version keeps serving"]), 3);
    assert_eq!(count(&server.log, &["live"]), 0);
    assert_eq!(peer.ask("version").await, "00000001");
}

#[tokio::test]
async fn a_manifest_that_differs_only_in_comments_causes_no_reload() {
    let server = site().serve();
    let text = hostile_manifest("guest.wasm", "");
    replace_file(&server.site.manifest(), format!("# a line above\n\n{text}# and one below\n"));
    // The log line for the second change shows that the watcher has processed the first one.
    tokio::time::sleep(Duration::from_millis(500)).await;
    replace_file(&server.site.manifest(), format!("{text}other = \"guest\"\n"));
    server.log.wait_for_line(&["live", "manifest="]).await;
    assert_eq!(count(&server.log, &["live"]), 1);
}

#[tokio::test]
async fn a_manifest_that_names_a_missing_component_goes_live_when_the_component_exists() {
    let server = site().serve();
    let mut peer = server.connect("").await;
    let hello = r#"{"action":"hello"}"#;
    let added = r#"
        hello = { integration = "echo", route_response = true }
        [integrations.echo]
        component = "not/yet/there.wasm"
        grants = ["connections", "connection-store"]
    "#;
    replace_file(&server.site.manifest(), hostile_manifest("guest.wasm", "") + added);
    server.log.wait_for_line(&["[integrations.echo] not/yet/there.wasm: file not found"]).await;
    // The files of the served version are still watched.
    replace_file(&guest(&server), hostile_version(2));
    wait_for_version(&mut peer, 2, 1).await;

    fs::create_dir_all(server.site.path().join("not/yet")).unwrap();
    fs::copy(component(ECHO), server.site.path().join("not/yet/there.wasm")).unwrap();
    server.log.wait_for_line(&["live", "manifest="]).await;
    assert_eq!(peer.ask(hello).await, hello);
    assert_eq!(peer.ask("version").await, "00000002");
}

#[tokio::test]
async fn a_change_of_a_file_that_a_new_manifest_names_is_noticed_at_any_time() {
    let server = site().serve();
    let mut peer = server.connect("").await;
    for (round, delay) in (1..).zip((0..300).step_by(50)) {
        let file = format!("guest-{round}.wasm");
        replace_file(&server.site.path().join(&file), hostile_version(round * 2));
        replace_file(&server.site.manifest(), hostile_manifest(&file, ""));
        tokio::time::sleep(Duration::from_millis(delay)).await;
        replace_file(&server.site.path().join(&file), hostile_version(round * 2 + 1));
        ask_until(&mut peer, "version", &format!("{:08}", round * 2 + 1)).await;
    }
}

#[tokio::test]
async fn changes_that_need_a_restart_are_reported_and_the_others_are_applied() {
    let server = site().serve();
    let mut peer = server.connect("").await;
    let head = "[server]\nconnections_max = 5\n[backend]\nurl = \"sled:other\"\n";
    let restart_line = ["[server] connections_max, [backend] url changed", "restart the server"];
    replace_file(&server.site.manifest(), hostile_manifest("guest.wasm", head));
    server.log.wait_for_line(&restart_line).await;

    replace_file(&server.site.manifest(), hostile_manifest("guest.wasm", &format!("{head}{GREEN}")));
    server.log.wait_for_line(&["live", "manifest="]).await;
    assert_eq!(peer.ask("variable colour").await, "green");
    assert_eq!(count(&server.log, &restart_line), 1);
    assert_eq!(count(&server.log, &["live"]), 1, "only the manifest: a stage variable does not change a plugin");
    assert!(!server.site.path().join("other").exists());
}

#[tokio::test]
async fn new_limits_of_connections_apply_to_new_connections_only() {
    let server = site().serve();
    let mut before = server.connect("").await;
    replace_file(&server.site.manifest(), hostile_manifest("guest.wasm", "[connection]\nmessage_size = \"1KiB\"\n"));
    server.log.wait_for_line(&["live", "manifest="]).await;
    let long = format!("echo {}", "x".repeat(1020));
    let mut after = server.connect("").await;
    after.send(&long).await;
    assert_eq!(after.closed().await.0, 1009);
    assert_eq!(before.ask(&long).await, long[5..]);
}

#[tokio::test]
async fn sighup_reloads_manifest_and_components() {
    let server = site().start(&["serve", "--poll", "1h"]);
    let mut peer = server.connect("").await;
    replace_file(&guest(&server), hostile_version(2));
    replace_file(&server.site.manifest(), hostile_manifest("guest.wasm", GREEN));
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(peer.ask("version").await, "00000001");
    server.signal("HUP");
    wait_for_version(&mut peer, 2, 1).await;
    assert_eq!(peer.ask("variable colour").await, "green");

    // One that finds nothing new changes nothing. Its loads may still run when the next change is made.
    server.signal("HUP");
    wait_for_lines(&server, 2, &["SIGHUP", "checking the manifest"]).await;
    assert_eq!(peer.ask("version").await, "00000002");

    replace_file(&guest(&server), "broken");
    for times in 1..3 {
        server.signal("HUP");
        wait_for_lines(&server, times, &["it is not WebAssembly"]).await;
    }
    assert_eq!(peer.ask("version").await, "00000002");
}
