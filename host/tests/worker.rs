//! Hostile and damaged components, and the child processes that compile components.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jackfield::limits::COMPILERS_MAX;
use jackfield::worker::{CodeKind, VERB, Worker, WorkerOptions};

use crate::bombs::{self, Ending};
use crate::components::{hostile_version, replace_file, wait_for_version};
use crate::harm;
use crate::harness::{ECHO, HOSTILE_GRANTS, Log, Server, Site, children, component, eventually, lean_echo, manifest};
use crate::wat;

/// How long a test waits for a process of low priority on a busy machine.
const CHILD_TIMEOUT: Duration = Duration::from_secs(300);
/// The bar for the time until the log says that a child was killed.
const REPORT_MAX: Duration = Duration::from_secs(1);

/// A manifest whose only component is `guest.wasm`, which is at first a version of the hostile guest.
fn site(sections: &str) -> Site {
    let site = Site::new(&manifest(Path::new("guest.wasm"), sections, HOSTILE_GRANTS));
    fs::write(site.path().join("guest.wasm"), hostile_version(1)).unwrap();
    site
}

fn replace_guest(server: &Server, bytes: &[u8]) {
    replace_file(&server.site.path().join("guest.wasm"), bytes);
}

/// Waits until a line of the log that has all of `words` and none of `known` appears.
async fn wait_for_new_line(log: &Log, words: &[&str], known: &[String]) -> String {
    let deadline = Instant::now() + CHILD_TIMEOUT;
    loop {
        let text = log.text();
        let is_new = |line: &&str| words.iter().all(|word| line.contains(word)) && !known.iter().any(|old| old == line);
        if let Some(line) = text.lines().find(is_new) {
            return line.to_owned();
        }
        assert!(Instant::now() < deadline, "no new line with {words:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_server_keeps_every_connection_whatever_a_component_does_to_the_compiler() {
    // The limits are small only so that the test is short.
    let compiler = "[compiler]\ncpu_time = \"1s\"\nmemory = \"256MiB\"";
    let site = harm::site("guest.wasm".as_ref(), compiler, HOSTILE_GRANTS);
    fs::write(site.path().join("guest.wasm"), hostile_version(1)).unwrap();
    let attack = harm::Attack::start_in("compile bombs and damaged components", &site).await;
    let server = &attack.server;
    let mut peers = Vec::new();
    for _ in 0..5 {
        peers.push(server.connect("").await);
    }
    let mut lines = Vec::new();
    for (name, bytes, ending) in bombs::bombs() {
        replace_guest(server, &bytes);
        let line = wait_for_new_line(&server.log, &["ERROR", "keeps serving"], &lines).await;
        let is_expected = match ending {
            Ending::Crash => line.contains("the compiler crashed") && line.contains("overflowed its stack"),
            Ending::Limit => line.contains("in [compiler] of the manifest") || line.contains("exceeds the"),
            Ending::Rejected(words) => line.contains(words),
        };
        assert!(is_expected, "{name} ({ending:?}): {line}");
        assert!(line.len() < 8 * 1024, "{name}: a line of {} bytes", line.len());
        lines.push(line);
        for peer in &mut peers {
            assert_eq!(peer.ask("version").await, "00000001", "{name}");
        }
    }
    replace_guest(server, &hostile_version(2));
    wait_for_version(&mut peers[0], 2, 1).await;
    let server = attack.end(256).await;
    let errors = server.log.text().lines().filter(|line| line.contains("ERROR")).count();
    assert_eq!(errors, lines.len(), "one line for each");
    assert_eq!(children(server.process.id()), [0; 0]);
}

#[test]
fn check_and_inspect_report_a_crash_of_the_compiler() {
    let site = site("");
    fs::write(site.path().join("guest.wasm"), bombs::foreign_interface()).unwrap();
    for arguments in [&["check"][..], &["inspect", "guest.wasm"], &["invoke", "$default"]] {
        let (code, _, stderr) = site.run(arguments);
        assert_eq!(code, 1, "{arguments:?}: {stderr}");
        assert!(stderr.contains("guest.wasm: the compiler crashed (signal: 6"), "{arguments:?}: {stderr}");
    }
}

// ---- the child ------------------------------------------------------------------------------

/// Replaces the guest with one that takes long to compile. Returns the id of the process that compiles it, when that
/// process has set its limits.
async fn compiling_child(server: &Server) -> u32 {
    replace_guest(server, &bombs::many_locals());
    let deadline = Instant::now() + CHILD_TIMEOUT;
    loop {
        let is_limited = |id: &&u32| limit(**id, "Max open files").as_deref() == Some("16");
        if let Some(id) = children(server.process.id()).iter().find(is_limited) {
            return *id;
        }
        assert!(Instant::now() < deadline, "no process compiles");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A limit of a process, from `/proc`.
fn limit(id: u32, name: &str) -> Option<String> {
    let limits = fs::read_to_string(format!("/proc/{id}/limits")).ok()?;
    let line = limits.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next().map(str::to_owned)
}

fn has_ended(id: u32) -> bool {
    // A process that has ended but was not waited for is a zombie.
    fs::read_to_string(format!("/proc/{id}/stat")).map_or(true, |stat| stat.contains(") Z "))
}

#[tokio::test]
async fn the_child_has_limits_and_neither_files_nor_secrets_of_the_server() {
    let site = site("[compiler]\ncpu_time = \"20s\"\nmemory = \"512MiB\"");
    // The server inherits a file from its own parent.
    let serve = site.command(&["serve"]);
    let mut command = Command::new("sh");
    command.args(["-c", "exec 9</dev/null; exec \"$0\" \"$@\""]).arg(serve.get_program()).args(serve.get_args());
    command.envs(serve.get_envs().filter_map(|(name, value)| Some((name, value?)))).current_dir(site.path());
    command.env("SECRET", "hunter2");
    let server = site.launch(command);
    assert!(Path::new(&format!("/proc/{}/fd/9", server.process.id())).exists());
    let id = compiling_child(&server).await;

    let mut files: Vec<_> = fs::read_dir(format!("/proc/{id}/fd"))
        .unwrap()
        .map(|file| file.unwrap().file_name().into_string().unwrap().parse::<u32>().unwrap())
        .collect();
    files.sort_unstable();
    assert_eq!(files, [0, 1, 2]);
    let environment = fs::read_to_string(format!("/proc/{id}/environ")).unwrap();
    assert!(!environment.contains("SECRET") && !environment.contains("HOME="), "{environment:?}");
    let expected = [
        ("Max cpu time", "20"),
        ("Max data size", "536870912"),
        ("Max core file size", "0"),
        ("Max file size", "0"),
        ("Max open files", "16"),
    ];
    for (name, value) in expected {
        assert_eq!(limit(id, name).as_deref(), Some(value), "{name}");
    }
    assert_eq!(fs::read_to_string(format!("/proc/{id}/oom_score_adj")).unwrap().trim(), "1000");
}

#[tokio::test]
async fn a_child_that_is_killed_is_reported_and_the_old_version_keeps_serving() {
    let server = site("").serve();
    let mut peer = server.connect("").await;
    let id = compiling_child(&server).await;
    let killed = Instant::now();
    assert!(Command::new("kill").args(["-s", "KILL", &id.to_string()]).status().unwrap().success());
    server.log.wait_for_line(&["ERROR", "guest.wasm: the system killed the compiler", "keeps serving"]).await;
    let what = "time until the log says that a child was killed";
    harm::measure_time("compilers that run wild", what, killed.elapsed(), REPORT_MAX);
    assert_eq!(peer.ask("version").await, "00000001");
}

#[tokio::test]
async fn a_child_that_takes_longer_than_its_timeout_is_ended() {
    let server = site("[compiler]\ntimeout = \"5s\"").serve();
    let id = compiling_child(&server).await;
    server.log.wait_for_line(&["ERROR", "compiling it takes longer than 5s (timeout in [compiler]"]).await;
    eventually("the child has ended", async || has_ended(id)).await;
}

#[tokio::test]
async fn a_server_that_stops_ends_its_children() {
    let mut server = site("").serve();
    let id = compiling_child(&server).await;
    server.signal("TERM");
    assert_eq!(server.wait_for_exit().await, Some(0));
    eventually("the child has ended", async || has_ended(id)).await;
}

#[tokio::test]
async fn a_server_that_is_killed_leaves_no_child_behind() {
    let mut server = site("").serve();
    let id = compiling_child(&server).await;
    server.signal("KILL");
    server.wait_for_exit().await;
    eventually("the child has ended", async || has_ended(id)).await;
}

#[tokio::test]
async fn a_server_whose_binary_was_deleted_still_compiles() {
    let site = site("");
    let binary = site.path().join("jackfield");
    fs::copy(env!("CARGO_BIN_EXE_jackfield"), &binary).unwrap();
    let serve = site.command(&["serve"]);
    let mut command = Command::new(&binary);
    command.args(serve.get_args()).current_dir(site.path());
    command.envs(serve.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let server = site.launch(command);
    fs::write(binary.with_extension("new"), "#!/bin/false\n").unwrap();
    fs::rename(binary.with_extension("new"), &binary).unwrap();
    let mut peer = server.connect("").await;
    // The number makes a component that is not in the cache of compiled code.
    let number = std::process::id() % 10_000_000 + 10_000_000;
    replace_guest(&server, &hostile_version(number));
    wait_for_version(&mut peer, number, 1).await;
}

/// The processes that compile components for this process. Only one test has any.
fn compilers() -> Vec<u32> {
    let is_compiler = |id: &u32| {
        let arguments = fs::read_to_string(format!("/proc/{id}/cmdline")).unwrap_or_default();
        arguments.contains(VERB) && !has_ended(*id)
    };
    children(std::process::id()).into_iter().filter(is_compiler).collect()
}

#[tokio::test]
async fn few_components_are_compiled_at_once_and_one_for_each_plugin() {
    let executable = Some(env!("CARGO_BIN_EXE_jackfield").into());
    let worker = Arc::new(Worker::new(WorkerOptions { executable, ..WorkerOptions::default() }));
    let bytes: Arc<[u8]> = bombs::many_locals().into();
    for (plugins, most) in [(["a", "a", "a"], 1), (["a", "b", "c"], COMPILERS_MAX)] {
        let compiling = plugins.map(|plugin| {
            let (worker, bytes) = (Arc::clone(&worker), Arc::clone(&bytes));
            tokio::spawn(async move { worker.compile(plugin, CodeKind::Component, &bytes).await.map(drop) })
        });
        eventually("as many compile as may", async || compilers().len() == most).await;
        for _ in 0..20 {
            assert!(compilers().len() <= most);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        // Dropping the future ends the process.
        compiling.iter().for_each(|task| task.abort());
        eventually("none compiles", async || compilers().is_empty()).await;
    }
}

// ---- mutants --------------------------------------------------------------------------------

/// Mutants that are loaded by one process.
const BATCH: u64 = 50;

/// xorshift64*: the same numbers in each run.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        usize::try_from(self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33).unwrap() % bound
    }
}

/// Changes a component in one to four places.
fn mutant(original: &[u8], random: &mut Random) -> Vec<u8> {
    let mut bytes = original.to_vec();
    for _ in 0..=random.below(4) {
        // Half of the changes are in the first 4 KiB, where the types and imports are.
        let range = if random.below(2) == 0 { bytes.len().min(4096) } else { bytes.len() };
        let at = 8 + random.below(range - 8);
        let length = 1 + random.below(16).min(bytes.len() - at - 1);
        match random.below(6) {
            0 => bytes[at] = u8::try_from(random.below(256)).unwrap(),
            1 => bytes[at] ^= 1 << random.below(8),
            2 => bytes[at] = bytes[at].wrapping_add(1),
            3 => drop(bytes.drain(at..at + length)),
            4 => {
                let copy = bytes[at..at + length].to_vec();
                bytes.splice(at..at, copy);
            }
            _ => {
                let from = random.below(bytes.len() - length);
                bytes.copy_within(from..from + length, at);
            }
        }
    }
    bytes
}

fn number_from_environment(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

#[test]
fn no_mutant_of_a_component_ends_the_process_that_loads_it() {
    let count = number_from_environment("JACKFIELD_MUTANTS", 200);
    let seed = number_from_environment("JACKFIELD_MUTANTS_SEED", 1);
    let small = wat::lean_module(&wat::digit_handler("", "(i32.const 7)"));
    let real = [fs::read(lean_echo()).unwrap(), fs::read(component(ECHO)).unwrap()];
    let mut random = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    for start in (0..count).step_by(usize::try_from(BATCH).unwrap()) {
        let site = Site::new("");
        let mut text = format!("[server]\ncache = {:?}\n[compiler]\ncpu_time = \"5s\"\n", site.path().join("cache"));
        for number in start..count.min(start + BATCH) {
            let original = match random.below(8) {
                index @ 0..2 => &real[index],
                _ => &small,
            };
            fs::write(site.path().join(format!("m{number}.wasm")), mutant(original, &mut random)).unwrap();
            text += &format!("[integrations.m{number}]\ncomponent = \"m{number}.wasm\"\n");
        }
        fs::write(site.manifest(), text).unwrap();
        let (code, stdout, stderr) = site.run(&["check"]);
        // A process that a signal has ended has no exit code.
        assert!(matches!(code, 0 | 1), "batch {start} of seed {seed}: exit code {code}: {stdout}{stderr}");
        assert!(!stderr.contains("loading the code panicked"), "batch {start} of seed {seed}: {stderr}");
    }
}
