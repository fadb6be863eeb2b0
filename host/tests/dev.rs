//! `jackfield dev`: a change of the sources starts a build, and a successful build goes live.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::components::{ask_until, hostile_version, replace_file, wait_for_version};
use crate::harness::{
    ECHO, HOSTILE_GRANTS, Log, Peer, Server, Site, TEST_TIMEOUT, children, component, eventually, manifest,
    project_component,
};

/// Returns a project whose build is a shell script, which makes `guest.wasm` from `src/guest.wasm`.
fn project(script: &str) -> Site {
    project_that_watches("src", script)
}

fn project_that_watches(watch: &str, script: &str) -> Site {
    let build = format!("build = \"./build.sh\"\nwatch = [{watch:?}]\n{HOSTILE_GRANTS}");
    let site = Site::new(&manifest("guest.wasm".as_ref(), "", &build));
    fs::create_dir(site.path().join("src")).unwrap();
    replace_file(&site.path().join("src/guest.wasm"), hostile_version(1));
    fs::write(site.path().join("build.sh"), format!("#!/bin/sh\nset -e\n{script}\n")).unwrap();
    fs::set_permissions(site.path().join("build.sh"), fs::Permissions::from_mode(0o755)).unwrap();
    site
}

fn source(server: &Server) -> PathBuf {
    server.site.path().join("src/guest.wasm")
}

fn count(log: &Log, words: &[&str]) -> usize {
    log.text().lines().filter(|line| words.iter().all(|word| line.contains(word))).count()
}

async fn wait_for_file(path: &Path) {
    eventually(&format!("{} exists", path.display()), || async { path.exists() }).await;
}

#[tokio::test]
async fn dev_builds_what_is_not_built_and_builds_again_when_a_source_changes() {
    let server = project("cp src/guest.wasm guest.wasm").start(&["dev"]);
    let mut peer = server.connect("").await;
    assert_eq!(peer.ask("version").await, "00000001");
    for number in 2..4 {
        replace_file(&source(&server), hostile_version(number));
        wait_for_version(&mut peer, number, number - 1).await;
    }
    assert_eq!(count(&server.log, &["building [integrations.guest]: ./build.sh"]), 3);
}

#[tokio::test]
async fn a_failed_build_shows_the_compilers_output_and_the_old_version_keeps_serving() {
    let site = project("cp src/guest.wasm guest.wasm\n. ./src/check.sh");
    replace_file(&site.path().join("src/check.sh"), "true");
    let server = site.start(&["dev"]);
    let mut peer = server.connect("").await;
    let check = server.site.path().join("src/check.sh");

    replace_file(&check, "echo 'error[E0308]: mismatched types' >&2; echo '  --> src/lib.rs:1'; exit 3");
    replace_file(&source(&server), hostile_version(2));
    let failed = ["the build of [integrations.guest] failed (exit status: 3)", "the old version keeps serving"];
    server.log.wait_for_line(&failed).await;
    server.log.wait_for_line(&["error[E0308]: mismatched types"]).await;
    server.log.wait_for_line(&["  --> src/lib.rs:1"]).await;
    // The failed build has replaced the component's file. The watcher reports that, but the file is not loaded.
    eventually("the second version is built", || async {
        fs::read(server.site.path().join("guest.wasm")).unwrap() == hostile_version(2)
    })
    .await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(peer.ask("version").await, "00000001");

    replace_file(&check, "true");
    wait_for_version(&mut peer, 2, 1).await;
}

#[tokio::test]
async fn a_first_build_that_fails_ends_dev_with_the_compilers_output() {
    let (code, stdout, stderr) = project("echo 'error: no such crate' >&2; exit 101").run(&["dev"]);
    assert_eq!((code, stdout.as_str()), (1, ""));
    assert!(stderr.contains("\nerror: no such crate\n"), "{stderr}");
    assert!(stderr.contains("error: the build of [integrations.guest] failed (exit status: 101)"), "{stderr}");
}

#[tokio::test]
async fn other_changes_go_live_during_a_build_and_a_new_source_change_is_built_after_it() {
    let site =
        project("cp src/guest.wasm half\ntouch begun\nwhile [ -e hold ]; do sleep 0.02; done\nmv half guest.wasm");
    let other = "other = { integration = \"other\", route_response = true }\n\
                 [integrations.other]\ncomponent = \"other.wasm\"\n";
    let text = fs::read_to_string(site.manifest()).unwrap();
    fs::write(site.manifest(), format!("{text}{other}{HOSTILE_GRANTS}")).unwrap();
    fs::copy(component(ECHO), site.path().join("other.wasm")).unwrap();
    let server = site.start(&["dev"]);
    let path = |name: &str| server.site.path().join(name);
    let mut peer = server.connect("").await;

    fs::remove_file(path("begun")).unwrap();
    fs::write(path("hold"), "").unwrap();
    replace_file(&source(&server), hostile_version(2));
    wait_for_file(&path("begun")).await;
    replace_file(&source(&server), hostile_version(3));
    let question = r#"{"action":"other"}"#;
    assert_eq!(peer.ask(question).await, question);
    replace_file(&path("other.wasm"), hostile_version(7));
    eventually("the other component is live", || async { count(&server.log, &["live", "plugin=other"]) == 1 }).await;
    replace_file(&server.site.manifest(), format!("[api]\nid = \"new\"\n{text}{other}{HOSTILE_GRANTS}"));
    eventually("the manifest is live", || async { count(&server.log, &["live", "manifest="]) == 1 }).await;
    assert_eq!(peer.ask("version").await, "00000001");

    fs::remove_file(path("hold")).unwrap();
    ask_until(&mut peer, "version", "00000003").await;
    assert_eq!(count(&server.log, &["building [integrations.guest]"]), 3);
}

#[tokio::test]
async fn a_stop_ends_a_running_build_and_every_process_it_started() {
    let site = project("cp src/guest.wasm guest.wasm\n. ./src/then.sh");
    replace_file(&site.path().join("src/then.sh"), "true");
    let mut server = site.start(&["dev"]);
    replace_file(
        &server.site.path().join("src/then.sh"),
        "sleep 1000 & echo $! > sleeper.new; mv sleeper.new sleeper; wait",
    );
    let note = server.site.path().join("sleeper");
    wait_for_file(&note).await;
    let sleeper = fs::read_to_string(&note).unwrap().trim().to_owned();
    assert!(is_running(&sleeper));
    server.signal("TERM");
    assert_eq!(server.wait_for_exit().await, Some(0));
    eventually("the sleeper has ended", || async { !is_running(&sleeper) }).await;
}

#[tokio::test]
async fn a_stop_during_the_first_build_ends_it() {
    let site = project("echo $$ > builder.new; mv builder.new builder; sleep 1000");
    let mut process = site.command(&["dev"]).stderr(Stdio::null()).spawn().unwrap();
    wait_for_file(&site.path().join("builder")).await;
    let builder = fs::read_to_string(site.path().join("builder")).unwrap().trim().to_owned();
    let status = std::process::Command::new("kill").arg(process.id().to_string()).status().unwrap();
    assert!(status.success());
    let ended = tokio::task::spawn_blocking(move || process.wait().unwrap());
    assert_eq!(tokio::time::timeout(TEST_TIMEOUT, ended).await.unwrap().unwrap().code(), Some(0));
    eventually("the build has ended", || async { !is_running(&builder) }).await;
}

#[tokio::test]
async fn a_build_that_writes_among_its_own_sources_does_not_restart_itself_forever() {
    let server = project_that_watches(".", "cp src/guest.wasm guest.wasm").start(&["dev"]);
    let mut peer = server.connect("").await;
    replace_file(&source(&server), hostile_version(2));
    wait_for_version(&mut peer, 2, 1).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let builds = count(&server.log, &["building [integrations.guest]"]);
    assert!(builds <= 4, "each change starts one build, and the files it writes start one more: {builds}");
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(count(&server.log, &["building [integrations.guest]"]), builds);
}

#[tokio::test]
async fn a_new_integration_in_the_manifest_is_built_and_then_live() {
    let server = project("cp src/guest.wasm guest.wasm").start(&["dev"]);
    let mut peer = server.connect("").await;
    let path = |name: &str| server.site.path().join(name);
    fs::create_dir(path("second")).unwrap();
    let text = fs::read_to_string(server.site.manifest()).unwrap();
    let second = "second = { integration = \"second\", route_response = true }\n\
                  [integrations.second]\ncomponent = \"second.wasm\"\n\
                  build = \"cp second/code.wasm second.wasm\"\nwatch = [\"second\"]\n";
    replace_file(&server.site.manifest(), format!("{text}{second}{HOSTILE_GRANTS}"));
    server.log.wait_for_line(&["the build of [integrations.second] failed", "the old version keeps serving"]).await;
    assert_eq!(peer.ask("version").await, "00000001");

    fs::copy(component(ECHO), path("second/code.wasm")).unwrap();
    server.log.wait_for_line(&["live", "manifest="]).await;
    let question = r#"{"action":"second"}"#;
    assert_eq!(peer.ask(question).await, question);
}

#[tokio::test]
async fn while_two_users_chat_the_handlers_source_is_changed_and_rebuilt_and_both_stay_connected() {
    let source = chat_source();
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("chat-target");
    let site = Site::new(&format!(
        r#"
[integrations.chat]
component = "{target}/wasm32-wasip2/release/chat.wasm"
build = "cd {source} && CARGO_TARGET_DIR={target} cargo build --release --target wasm32-wasip2"
watch = ["{source}/chat/src"]
grants = ["connections", "connection-store"]

[routes]
"$connect" = "chat"
"$disconnect" = "chat"
sendmessage = {{ integration = "chat", route_response = true }}
"#,
        source = source.display(),
        target = target.display(),
    ));
    let server = site.start(&["dev"]);
    let mut a = server.connect("?userId=A").await;
    let mut b = server.connect("?userId=B").await;
    assert_eq!(a.text().await, r#"{"type":"joined","user":"B"}"#);
    let chat = async |a: &mut Peer, b: &mut Peer| {
        a.send(r#"{"action":"sendmessage","to":"B","content":"hello"}"#).await;
        assert_eq!(b.text().await, r#"{"type":"message","from":"A","content":"hello"}"#);
    };
    chat(&mut a, &mut b).await;

    let (file, question) = (source.join("chat/src/lib.rs"), r#"{"action":"sendmessage","to":"C","content":"hello"}"#);
    let answer = |words: &str| format!(r#"{{"type":"error","message":"C {words}"}}"#);
    assert_eq!(a.ask(question).await, answer("is not here"));
    let code = fs::read_to_string(&file).unwrap();
    replace_file(&file, format!("{code}\nthis is not Rust"));
    let failed = ["the build of [integrations.chat] failed", "the old version keeps serving"];
    for _ in rounds() {
        chat(&mut a, &mut b).await;
        if count(&server.log, &failed) == 1 {
            break;
        }
    }
    assert!(server.log.text().contains("error: could not compile `chat`"));

    replace_file(&file, code.replace("is not here", "has gone home"));
    for _ in rounds() {
        chat(&mut a, &mut b).await;
        let found = a.ask(question).await;
        if found == answer("has gone home") {
            break;
        }
        assert_eq!(found, answer("is not here"));
    }
    b.close(1000, "").await;
    assert_eq!(a.text().await, r#"{"type":"left","user":"B"}"#);
}

/// Repeats for some minutes, because a real compiler is slow and shares the machine with other tests. Then it panics.
fn rounds() -> impl Iterator {
    let deadline = Instant::now() + 8 * TEST_TIMEOUT;
    std::iter::from_fn(move || {
        assert!(Instant::now() < deadline, "the build did not finish in time");
        std::thread::sleep(Duration::from_millis(100));
        Some(())
    })
}

/// Returns a copy of the chat plugin's source that uses the real SDK. The copy and its target folder are always at the
/// same place, so that only the first run builds everything.
fn chat_source() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (plugins, copy) = (here.join("../plugins"), Path::new(env!("CARGO_TARGET_TMPDIR")).join("chat-source"));
    let _ = fs::remove_dir_all(&copy);
    for folder in ["chat/src", ".cargo"] {
        fs::create_dir_all(copy.join(folder)).unwrap();
    }
    for file in ["Cargo.lock", ".cargo/config.toml", "chat/Cargo.toml", "chat/src/lib.rs"] {
        fs::copy(plugins.join(file), copy.join(file)).unwrap();
    }
    let sdk = here.join("../sdk/rust").canonicalize().unwrap();
    let workspace = fs::read_to_string(plugins.join("Cargo.toml")).unwrap();
    let workspace = workspace.replace("../sdk/rust", sdk.to_str().unwrap());
    let lines = workspace.lines().map(|line| if line.starts_with("members") { "members = [\"chat\"]" } else { line });
    fs::write(copy.join("Cargo.toml"), lines.collect::<Vec<_>>().join("\n")).unwrap();
    copy
}

/// Returns whether a process exists and is not a zombie, which is an exited process that its parent has not waited for.
fn is_running(id: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with('Z'))
}

/// The compilation of this component takes longer than the watcher needs to report its file.
#[tokio::test]
async fn a_component_that_was_built_is_loaded_once() {
    let server = project("cp src/guest.wasm guest.wasm").start(&["dev"]);
    let mut large = fs::read(project_component("plugins/echo-go/build/echo.wasm")).unwrap();
    // A custom section that no earlier run had, so that the code is not in the cache.
    let mark = std::process::id().to_le_bytes();
    large.extend([0, 6, 1, b'x'].into_iter().chain(mark));
    let live = count(&server.log, &["live", "plugin=guest"]);
    replace_file(&source(&server), large);
    let mut compilers = BTreeSet::new();
    let deadline = Instant::now() + TEST_TIMEOUT;
    while count(&server.log, &["live", "plugin=guest"]) == live {
        assert!(Instant::now() < deadline, "the component is not live");
        let is_compiler = |id: &u32| {
            fs::read_to_string(format!("/proc/{id}/cmdline")).is_ok_and(|command| command.contains("compile-component"))
        };
        compilers.extend(children(server.process.id()).into_iter().filter(is_compiler));
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    assert_eq!(compilers.len(), 1, "{compilers:?}");
}
