//! What changes while a server runs, components and the manifest, and what stays.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::future::join_all;
use jackfield::limits::EVENTS_AT_ONCE_MAX;

use crate::components::{
    CORE_MODULE, EMPTY_COMPONENT, becomes, large, of_another_contract, put, that_traps_at_its_start, until, version,
};
use crate::harness::{ECHO, HOSTILE_GRANTS, Log, Server, Site, component, eventually, manifest};

/// How many lines of the log have all of these words.
fn count(log: &Log, words: &[&str]) -> usize {
    log.text().lines().filter(|line| words.iter().all(|word| line.contains(word))).count()
}

/// Waits until so many lines have been said with all of these words.
async fn told(server: &Server, times: usize, words: &[&str]) {
    eventually(&format!("{words:?} is told {times} times"), || async { count(&server.log, words) >= times }).await;
}

fn hostile_manifest(component: &str, rest: &str) -> String {
    manifest(component.as_ref(), rest, HOSTILE_GRANTS)
}

/// Something of a manifest that the hostile guest can tell.
const GREEN: &str = "[api]\nstage_variables = { colour = \"green\" }\n";

/// The hostile guest in version 1 behind every route, in a file that a test can change.
fn site() -> Site {
    let site = Site::new(&hostile_manifest("guest.wasm", ""));
    put(&site.path().join("guest.wasm"), version(1));
    site
}

fn guest(server: &Server) -> PathBuf {
    server.site.path().join("guest.wasm")
}

// ---- components ----------------------------------------------------------------------------

#[tokio::test]
async fn a_component_that_is_replaced_by_a_rename_is_live_for_the_next_message() {
    let server = site().serve();
    let mut peer = server.connect("").await;
    for number in 2..5 {
        put(&guest(&server), version(number));
        becomes(&mut peer, number, number - 1).await;
    }
    let live = ["live", "plugin=guest", "version="];
    told(&server, 3, &live).await;
    assert_eq!(count(&server.log, &live), 3);
}

#[tokio::test]
async fn a_component_written_in_pieces_is_taken_when_it_is_whole() {
    let server = site().serve();
    let mut peer = server.connect("").await;
    let mut file = File::create(guest(&server)).unwrap();
    for piece in version(2).chunks(16 * 1024) {
        file.write_all(piece).unwrap();
        assert_eq!(peer.ask("version").await, "00000001");
    }
    drop(file);
    becomes(&mut peer, 2, 1).await;
}

#[tokio::test]
async fn a_component_that_does_not_load_leaves_the_old_one_serving_and_is_told_once() {
    let whole = version(2);
    let server = site().serve();
    let mut peer = server.connect("").await;
    let broken = [
        (whole[..whole.len() / 2].to_vec(), ["it is cut off or damaged", "build it again"]),
        (vec![], ["it is no WebAssembly", "a file of 0 bytes"]),
        (CORE_MODULE.to_vec(), ["it is a core module that carries no world", "build it for wasm32-wasip2"]),
        (EMPTY_COMPONENT.to_vec(), ["it exports nothing", "build it against the world"]),
        (of_another_contract(), ["it exports jackfield:gateway/handler@0.9.9", "build it against the world"]),
        (that_traps_at_its_start(), ["it does not start", "trapped"]),
    ];
    for (bytes, words) in &broken {
        let words = &["jackfield.toml:5", "guest.wasm", words[0], words[1]];
        put(&guest(&server), bytes);
        server.log.line_with(words).await;
        assert_eq!(peer.ask("version").await, "00000001");
        // The same once more is noticed, but nothing new.
        put(&guest(&server), bytes);
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    put(&guest(&server), whole);
    becomes(&mut peer, 2, 1).await;
    for (_, words) in broken {
        assert_eq!(count(&server.log, &words), 1, "{words:?}");
    }
    assert_eq!(count(&server.log, &["the old version keeps serving"]), 6);
}

#[tokio::test]
async fn a_component_that_asks_for_more_than_it_is_granted_leaves_the_old_one_serving() {
    let grants = r#"grants = ["connections", "connection-store"]"#;
    let site = Site::new(&manifest("guest.wasm".as_ref(), "", grants));
    fs::copy(component(ECHO), site.path().join("guest.wasm")).unwrap();
    let server = site.serve();
    let mut peer = server.connect("").await;
    put(&guest(&server), version(1));
    let line = server.log.line_with(&["wasi:keyvalue/store@0.2.0-draft", "is not granted"]).await;
    assert!(line.contains("jackfield.toml:5: [integrations.guest] guest.wasm"), "{line}");
    assert!(line.contains(r#"buckets = ["NAME"] and allowed_hosts = ["https://HOST"]"#), "{line}");
    assert_eq!(peer.ask("still the echo").await, "still the echo");

    // The lines of the manifest are all that is missing.
    fs::write(server.site.manifest(), hostile_manifest("guest.wasm", "")).unwrap();
    server.log.line_with(&["live", "manifest="]).await;
    assert_eq!(peer.ask("version").await, "00000001");
}

#[tokio::test]
async fn a_component_that_is_removed_keeps_serving_and_its_next_version_is_live() {
    let server = site().serve();
    let mut peer = server.connect("").await;
    let words = ["guest.wasm: it is not there; put it there", "the old version keeps serving"];
    fs::remove_file(guest(&server)).unwrap();
    told(&server, 1, &words).await;
    assert_eq!(peer.ask("version").await, "00000001");
    put(&guest(&server), version(1));
    told(&server, 1, &["the component is again as it is served"]).await;

    fs::remove_file(guest(&server)).unwrap();
    told(&server, 2, &words).await;
    put(&guest(&server), version(2));
    becomes(&mut peer, 2, 1).await;
    assert_eq!(count(&server.log, &words), 2);
}

#[tokio::test]
async fn a_build_folder_that_is_removed_and_made_again_is_followed() {
    let site = Site::new(&hostile_manifest("target/release/guest.wasm", ""));
    let file = site.path().join("target/release/guest.wasm");
    let make = |number| {
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        put(&file, version(number));
    };
    make(1);
    let server = site.serve();
    let mut peer = server.connect("").await;
    for number in 2..4 {
        fs::remove_dir_all(server.site.path().join("target")).unwrap();
        make(number);
        becomes(&mut peer, number, number - 1).await;
    }
}

#[tokio::test]
async fn a_link_that_is_repointed_is_followed_and_so_is_the_file_behind_it() {
    let site = Site::new(&hostile_manifest("guest.wasm", ""));
    let path = |name: &str| site.path().join(name);
    for number in 1..3 {
        fs::create_dir(path(&format!("v{number}"))).unwrap();
        put(&path(&format!("v{number}/guest.wasm")), version(number));
    }
    symlink("v1/guest.wasm", path("guest.wasm")).unwrap();
    symlink("v2/guest.wasm", path("next")).unwrap();
    let (link, next, behind) = (path("guest.wasm"), path("next"), path("v2/guest.wasm"));
    let server = site.serve();
    let mut peer = server.connect("").await;
    fs::rename(next, link).unwrap();
    becomes(&mut peer, 2, 1).await;
    put(&behind, version(3));
    becomes(&mut peer, 3, 2).await;
}

#[tokio::test]
async fn with_polling_changes_are_noticed_although_nothing_is_watched() {
    let server = site().start(&["serve", "--poll", "100ms"]);
    let descriptors = fs::read_dir(format!("/proc/{}/fd", server.process.id())).unwrap();
    let files = descriptors.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
    assert!(!files.into_iter().any(|file| file == Path::new("anon_inode:inotify")));
    let mut peer = server.connect("").await;
    put(&guest(&server), version(2));
    becomes(&mut peer, 2, 1).await;
    fs::remove_file(guest(&server)).unwrap();
    server.log.line_with(&["it is not there"]).await;
    put(&guest(&server), version(3));
    becomes(&mut peer, 3, 2).await;
}

#[tokio::test]
async fn an_event_in_flight_finishes_on_the_version_that_it_started_with() {
    let server = site().serve();
    let mut early = server.connect("").await;
    let mut late = server.connect("").await;
    early.send("version 2000").await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    put(&guest(&server), version(2));
    becomes(&mut late, 2, 1).await;
    early.send("version").await;
    assert_eq!(early.text().await, "00000001");
    assert_eq!(early.text().await, "00000002");
}

#[tokio::test]
async fn messages_are_answered_while_a_large_component_is_compiled_by_threads_that_give_way() {
    let server = site().serve();
    let mut peer = server.connect("").await;
    // One that no cache knows.
    let number = std::process::id() % 10_000_000 + 2;
    put(&guest(&server), large(number, 6));
    let (mut answers, mut nice) = (0, None);
    while peer.ask("version").await == "00000001" {
        nice = nice.or_else(|| nice_of(&server, "compile"));
        answers += usize::from(nice.is_some());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(nice.as_deref(), Some("10"));
    assert!(answers > 10, "{answers} answers while it was compiled");
}

/// The nice value of a thread of the server.
fn nice_of(server: &Server, thread: &str) -> Option<String> {
    let tasks = fs::read_dir(format!("/proc/{}/task", server.process.id())).unwrap();
    let stats = tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("stat")).ok());
    stats.filter(|stat| stat.contains(thread)).find_map(|stat| {
        // proc(5): the 19th field, where the name is the second.
        stat.rsplit_once(") ")?.1.split(' ').nth(16).map(str::to_owned)
    })
}

#[tokio::test]
async fn a_change_during_the_start_is_noticed_whenever_it_comes() {
    for delay in (0..400).step_by(50) {
        let site = site();
        let (guest, manifest) = (site.path().join("guest.wasm"), site.manifest());
        let changing = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(delay));
            put(&guest, version(2));
            put(&manifest, hostile_manifest("guest.wasm", GREEN));
        });
        let server = site.serve();
        let mut peer = server.connect("").await;
        becomes(&mut peer, 2, 1).await;
        until(&mut peer, "variable colour", "green").await;
        changing.join().unwrap();
    }
}

#[tokio::test]
async fn a_component_is_replaced_also_while_every_sandbox_is_taken() {
    let server = site().serve();
    let mut sleepers = join_all((0..EVENTS_AT_ONCE_MAX).map(|_| server.connect(""))).await;
    for sleeper in &mut sleepers {
        sleeper.send("version 4000").await;
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    put(&guest(&server), version(2));
    server.log.line_with(&["live", "plugin=guest"]).await;
    for sleeper in &mut sleepers {
        assert_eq!(sleeper.text().await, "00000001");
        assert_eq!(sleeper.ask("version").await, "00000002");
    }
}

// ---- the manifest --------------------------------------------------------------------------

#[tokio::test]
async fn a_manifest_that_changes_is_taken_as_a_whole() {
    let server = site().serve();
    let mut peer = server.connect("").await;
    let hello = r#"{"action":"hello"}"#;
    assert_eq!(peer.ask("variable colour").await, "none");
    assert!(peer.ask("bucket second").await.starts_with("error"));
    assert_eq!(peer.ask(hello).await, format!("$default {hello}"));

    put(&server.site.path().join("echo.wasm"), fs::read(component(ECHO)).unwrap());
    let api = "[api]\nid = \"changed\"\nstage_variables = { colour = \"green\" }\n";
    let grants = HOSTILE_GRANTS.replace(r#""shared""#, r#""shared", "second""#);
    let added = r#"
        hello = { integration = "echo", route_response = true }
        [integrations.echo]
        component = "echo.wasm"
        grants = ["connections", "connection-store"]
    "#;
    put(&server.site.manifest(), manifest("guest.wasm".as_ref(), api, &grants) + added);
    server.log.line_with(&["live", "manifest="]).await;
    assert_eq!(peer.ask("variable colour").await, "green");
    assert_eq!(peer.ask("bucket second").await, "opened");
    assert_eq!(peer.ask(hello).await, hello);
    assert!(peer.ask("context").await.starts_with("changed dev "));

    put(&server.site.manifest(), hostile_manifest("guest.wasm", ""));
    told(&server, 2, &["live", "manifest="]).await;
    assert_eq!(peer.ask("variable colour").await, "none");
    assert!(peer.ask("bucket second").await.starts_with("error"));
    assert_eq!(peer.ask(hello).await, format!("$default {hello}"));
    assert_eq!(peer.ask("version").await, "00000001");
}

#[tokio::test]
async fn a_manifest_with_problems_changes_nothing_and_every_one_is_told_once() {
    let server = site().serve();
    let mut peer = server.connect("").await;
    let wrong = hostile_manifest("guest.wasm", "[api]\nstage = 7\n").replace("buckets", "bukkets");
    let absent = r#"other = { integration = "absent" }"#;
    for _ in 0..2 {
        put(&server.site.manifest(), format!("{wrong}{absent}"));
        server.log.line_with(&["absent"]).await;
    }
    put(&server.site.manifest(), "");
    server.log.line_with(&["jackfield.toml: found nothing, expected a manifest"]).await;
    fs::remove_file(server.site.manifest()).unwrap();
    server.log.line_with(&["jackfield.toml: the manifest is not there"]).await;
    assert_eq!(peer.ask("version").await, "00000001");

    put(&server.site.manifest(), hostile_manifest("guest.wasm", ""));
    server.log.line_with(&["the manifest again says what is served"]).await;
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
async fn a_manifest_that_only_looks_different_is_no_reload() {
    let server = site().serve();
    let text = hostile_manifest("guest.wasm", "");
    put(&server.site.manifest(), format!("# a line above\n\n{text}# and one below\n"));
    // What comes after it is noticed after it.
    tokio::time::sleep(Duration::from_millis(500)).await;
    put(&server.site.manifest(), format!("{text}other = \"guest\"\n"));
    server.log.line_with(&["live", "manifest="]).await;
    assert_eq!(count(&server.log, &["live"]), 1);
}

#[tokio::test]
async fn a_manifest_that_names_a_missing_component_is_live_when_that_is_there() {
    let server = site().serve();
    let mut peer = server.connect("").await;
    let hello = r#"{"action":"hello"}"#;
    let added = r#"
        hello = { integration = "echo", route_response = true }
        [integrations.echo]
        component = "not/yet/there.wasm"
        grants = ["connections", "connection-store"]
    "#;
    put(&server.site.manifest(), hostile_manifest("guest.wasm", "") + added);
    server.log.line_with(&["[integrations.echo] not/yet/there.wasm: it is not there"]).await;
    // What is served goes on being followed.
    put(&guest(&server), version(2));
    becomes(&mut peer, 2, 1).await;

    fs::create_dir_all(server.site.path().join("not/yet")).unwrap();
    fs::copy(component(ECHO), server.site.path().join("not/yet/there.wasm")).unwrap();
    server.log.line_with(&["live", "manifest="]).await;
    assert_eq!(peer.ask(hello).await, hello);
    assert_eq!(peer.ask("version").await, "00000002");
}

#[tokio::test]
async fn a_change_of_what_a_new_manifest_names_is_noticed_whenever_it_comes() {
    let server = site().serve();
    let mut peer = server.connect("").await;
    for (round, delay) in (1..).zip((0..300).step_by(50)) {
        let file = format!("guest-{round}.wasm");
        put(&server.site.path().join(&file), version(round * 2));
        put(&server.site.manifest(), hostile_manifest(&file, ""));
        tokio::time::sleep(Duration::from_millis(delay)).await;
        put(&server.site.path().join(&file), version(round * 2 + 1));
        until(&mut peer, "version", &format!("{:08}", round * 2 + 1)).await;
    }
}

#[tokio::test]
async fn what_only_a_start_reads_is_told_and_the_rest_is_taken() {
    let server = site().serve();
    let mut peer = server.connect("").await;
    let head = "[server]\nconnections_max = 5\n[backend]\nurl = \"sled:other\"\n";
    let told = ["[server] connections_max, [backend] url changed", "restart the server"];
    put(&server.site.manifest(), hostile_manifest("guest.wasm", head));
    server.log.line_with(&told).await;

    put(&server.site.manifest(), hostile_manifest("guest.wasm", &format!("{head}{GREEN}")));
    server.log.line_with(&["live", "manifest="]).await;
    assert_eq!(peer.ask("variable colour").await, "green");
    assert_eq!(count(&server.log, &told), 1);
    assert_eq!(
        count(&server.log, &["live"]),
        1,
        "the manifest alone: a variable of a stage is none of a plugin's terms"
    );
    assert!(!server.site.path().join("other").exists());
}

#[tokio::test]
async fn new_limits_of_connections_hold_for_those_that_come_after() {
    let server = site().serve();
    let mut before = server.connect("").await;
    put(&server.site.manifest(), hostile_manifest("guest.wasm", "[connection]\nmessage_size = \"1KiB\"\n"));
    server.log.line_with(&["live", "manifest="]).await;
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
    server.signal("HUP");
    told(&server, 1, &["SIGHUP", "were looked at"]).await;
    put(&guest(&server), version(2));
    put(&server.site.manifest(), hostile_manifest("guest.wasm", GREEN));
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(peer.ask("version").await, "00000001");
    server.signal("HUP");
    becomes(&mut peer, 2, 1).await;
    assert_eq!(peer.ask("variable colour").await, "green");

    put(&guest(&server), "broken");
    for times in 1..3 {
        server.signal("HUP");
        told(&server, times, &["it is no WebAssembly"]).await;
    }
    assert_eq!(peer.ask("version").await, "00000002");
}
