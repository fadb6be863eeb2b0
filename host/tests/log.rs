//! The log never stops the server: pipes that are not read, readers that have gone, floods, and the longest line.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harm;
use crate::harness::{
    ECHO, HOSTILE, HOSTILE_GRANTS, Log, Peer, Server, Site, TEST_AUTHORIZER, TEST_TIMEOUT, component, eventually,
};
use crate::metrics::Metrics;

/// The longest line of the log.
const LINE_BYTES_MAX: usize = 32 * 1024;
/// What one plugin may log in any second.
const PLUGIN_BYTES_PER_SECOND: usize = 1024 * 1024;
/// Plugins that log at once: together they log more in a second than the queue of the log and a pipe hold.
const PLUGINS: usize = 6;
/// Messages to a server whose log is full.
const MESSAGES: usize = 1000;

/// A manifest in which several plugins may log as much as they want: `guest0` with the route `a0`, and so on. All routes
/// of `guest0` have a route response. The route `bystander` is for `harm::Attack`.
fn site(sections: &str) -> Site {
    let (component, bystander) = (component(HOSTILE), component(ECHO));
    let plugin = |index| {
        format!(
            "[integrations.guest{index}]\ncomponent = {component:?}\nlog_size = \"16MiB\"\ncpu_time = \"20s\"\n\
             timeout = \"29s\"\n{HOSTILE_GRANTS}\n"
        )
    };
    let route = |index| format!("a{index} = {{ integration = \"guest{index}\", route_response = true }}\n");
    let plugins: String = (0..PLUGINS).map(plugin).collect();
    let routes: String = (0..PLUGINS).map(route).collect();
    Site::new(&format!(
        "{sections}\n{plugins}[integrations.bystander]\ncomponent = {bystander:?}\n\
         [routes]\n{routes}bystander = {{ integration = \"bystander\", route_response = true }}\n\
         \"$default\" = {{ integration = \"guest0\", route_response = true }}\n"
    ))
}

fn order(plugin: usize, order: &str) -> String {
    format!(r#"{{"action":"a{plugin}","do":"{order}"}}"#)
}

/// Every plugin logs more than a mebibyte, so more than the queue and the pipe of the log can hold.
async fn flood(peer: &mut Peer) {
    for plugin in 0..PLUGINS {
        assert_eq!(peer.ask(&order(plugin, "flood 900")).await, "flooded");
    }
}

/// The server handles messages and accepts connections.
async fn assert_serves(server: &Server, peer: &mut Peer) {
    assert_eq!(peer.ask("echo one").await, "one");
    assert_eq!(server.connect("").await.ask("echo two").await, "two");
    assert!(peer.ask(&order(0, "fail")).await.contains("Internal server error"));
    assert!(peer.ask(&order(1, "trap")).await.contains("Internal server error"));
}

async fn assert_stops(mut server: Server) {
    server.signal("TERM");
    assert_eq!(server.wait_for_exit().await, Some(0));
}

/// The number after `name=` in a log line.
fn number(line: &str, name: &str) -> usize {
    let (_, rest) = line.split_once(&format!(" {name}=")).unwrap_or_else(|| panic!("no {name} in {line}"));
    rest.split(' ').next().unwrap().parse().unwrap()
}

// ---- readers that do not read -----------------------------------------------------------------

// Seen: `2>&1 | sleep 1000` stopped the server, because every thread wrote to stderr itself and waited for the reader.
#[tokio::test]
async fn a_log_that_is_not_read_costs_no_message_no_connection_and_no_stop() {
    let name = "a log that is not read";
    for format in ["text", "json"] {
        let site = site("");
        let command = site.command(&["serve", "--log-format", format]);
        let (server, _stderr) = site.launch_unread(command);
        let mut peer = server.connect("").await;
        let attack = harm::Attack::start_on(name, server).await;
        flood(&mut peer).await;
        // The log is full, and the handler of each of these messages logs another line.
        let mut answered = 0;
        for number in 0..MESSAGES {
            let plugin = number % PLUGINS;
            answered += usize::from(peer.ask(&order(plugin, "print more")).await == "printed");
        }
        let bar = format!("messages answered, with {format}: {MESSAGES}");
        harm::measure(name, &bar, &answered.to_string(), answered == MESSAGES);
        assert_eq!(answered, MESSAGES);
        assert_serves(&attack.server, &mut peer).await;
        assert_stops(attack.end(64).await).await;
    }
}

#[tokio::test]
async fn lines_that_do_not_fit_are_counted_in_the_log_and_in_the_metrics() {
    let site = site("server = { metrics = \"127.0.0.1:0\" }");
    let command = site.command(&["serve"]);
    let (server, stderr) = site.launch_unread(command);
    let mut peer = server.connect("").await;
    // Until the log is full; a slow machine needs several rounds, because each round ends within a second elsewhere.
    for _ in 0..3 {
        flood(&mut peer).await;
        tokio::time::sleep(Duration::from_millis(1200)).await;
    }
    assert_serves(&server, &mut peer).await;
    server.log.follow(stderr);
    let dropped = server.log.wait_for_line(&["WARN log lines were dropped", "lines="]).await;
    let metrics = Metrics::for_server(&server).await;
    assert!(number(&dropped, "lines") > 0);
    peer.ask("print read again").await;
    server.log.wait_for_line(&["INFO read again"]).await;
    let text = server.log.text();
    let reported: usize =
        text.lines().filter(|line| line.contains("log lines were dropped")).map(|line| number(line, "lines")).sum();
    assert_eq!(metrics.read().await.value("jackfield_log_lines_dropped_total"), reported as f64);
    // No line is written in part.
    for line in text.lines().filter(|line| !line.starts_with("    ")) {
        assert!(line.starts_with("20") && ["INFO", "WARN", "ERROR"].contains(&line[27..34].trim()), "{line}");
    }
    assert_stops(server).await;
}

// Seen: with a reader that had gone, the first line of the log panicked in `eprintln!`.
#[tokio::test]
async fn a_reader_of_the_log_that_has_gone_costs_nothing() {
    let site = site("");
    let command = site.command(&["serve"]);
    let (server, stderr) = site.launch_unread(command);
    drop(stderr);
    let mut peer = server.connect("").await;
    flood(&mut peer).await;
    assert_serves(&server, &mut peer).await;
    let text = fs::read_to_string(server.site.manifest()).unwrap();
    fs::write(server.site.manifest(), text.replace("cpu_time = \"20s\"", "cpu_time = \"19s\"")).unwrap();
    server.signal("HUP");
    assert_serves(&server, &mut peer).await;
    assert_stops(server).await;
}

#[tokio::test]
async fn a_second_signal_ends_the_server_although_its_log_is_not_read() {
    let site = site("");
    let command = site.command(&["serve"]);
    let (mut server, _stderr) = site.launch_unread(command);
    let mut peer = server.connect("").await;
    flood(&mut peer).await;
    peer.send(&order(0, "sleep 28000")).await;
    server.signal("TERM");
    // The peer is closed when the stop has begun.
    peer.closed().await;
    server.signal("TERM");
    assert_eq!(server.wait_for_exit().await, Some(1));
}

#[tokio::test]
async fn a_server_that_cannot_start_ends_although_its_log_is_not_read() {
    let (_reader, mut output) = io::pipe().unwrap();
    fill(&mut output);
    let site = Site::new("[server]\nlisten = 5\n");
    let mut process = site.command(&["serve"]).stderr(output).stdout(Stdio::null()).spawn().unwrap();
    eventually("the process ends", || std::future::ready(process.try_wait().unwrap().is_some())).await;
    assert_eq!(process.wait().unwrap().code(), Some(1));
}

/// Fills a pipe, so that a further write to it waits for its reader.
fn fill(output: &mut io::PipeWriter) {
    const O_NONBLOCK: i32 = 0o4000;
    // The same pipe, opened once more, so that only this description of it is non-blocking.
    let path = format!("/proc/self/fd/{}", output.as_raw_fd());
    let mut pipe = File::options().write(true).custom_flags(O_NONBLOCK).open(path).unwrap();
    let full = loop {
        match pipe.write(&[b'-'; 4096]) {
            Ok(written) => assert!(written > 0),
            Err(error) => break error,
        }
    };
    assert_eq!(full.kind(), ErrorKind::WouldBlock);
}

// ---- stdout ---------------------------------------------------------------------------------

// Seen: a stdout that was not read blocked the start, and the stop waited for the lock of stdout for ever.
#[tokio::test]
async fn a_stdout_that_is_not_read_delays_neither_the_start_nor_an_event_nor_the_stop() {
    let (_reader, mut output) = io::pipe().unwrap();
    fill(&mut output);
    let site = site("[access_log]\nformat = '$context.requestId'");
    let mut command = site.command(&["serve", "--listen", "127.0.0.1:0"]);
    command.stdin(Stdio::null()).stdout(output).stderr(Stdio::piped());
    let mut process = command.spawn().unwrap();
    // Only the process itself holds the pipe open.
    drop(command);
    let log = Log::default();
    log.follow(process.stderr.take().unwrap());
    let line = log.wait_for_line(&["stdout is not read", "listening on "]).await;
    let address = line.rsplit(' ').next().unwrap().parse().unwrap();
    let server = Server { site, process, address, log, stdout: Log::default() };
    let mut peer = server.connect("").await;
    assert_serves(&server, &mut peer).await;
    assert_stops(server).await;
}

#[tokio::test]
async fn a_stdout_whose_reader_has_gone_is_reported_and_costs_nothing() {
    let site = site("[access_log]\nformat = '$context.requestId'");
    let mut command = site.command(&["serve", "--listen", "127.0.0.1:0"]);
    let (reader, output) = io::pipe().unwrap();
    command.stdin(Stdio::null()).stdout(output).stderr(Stdio::piped());
    let mut process = command.spawn().unwrap();
    drop(command);
    let log = Log::default();
    log.follow(process.stderr.take().unwrap());
    let mut stdout = io::BufReader::new(reader);
    let mut line = String::new();
    io::BufRead::read_line(&mut stdout, &mut line).unwrap();
    drop(stdout);
    let address = line.trim_start_matches("listening on ws://").split('/').next().unwrap().parse().unwrap();
    let server = Server { site, process, address, log, stdout: Log::default() };
    let mut peer = server.connect("").await;
    assert_serves(&server, &mut peer).await;
    server.log.wait_for_line(&["WARN the access log cannot be written", "Broken pipe"]).await;
    assert_stops(server).await;
}

#[tokio::test]
async fn an_access_log_on_a_full_disk_is_reported_and_its_lost_lines_are_counted() {
    let sections = "server = { metrics = \"127.0.0.1:0\" }\n\
                    access_log = { file = \"/dev/full\", rotate = \"never\", format = '$context.requestId' }";
    let server = site(sections).serve();
    let metrics = Metrics::for_server(&server).await;
    let mut peer = server.connect("").await;
    assert_serves(&server, &mut peer).await;
    server.log.wait_for_line(&["WARN the access log cannot be written", "No space left"]).await;
    // The first connection, its four messages, and the second connection with one message and perhaps its end.
    eventually("the lines are counted", async || {
        metrics.read().await.value("jackfield_access_log_lines_dropped_total") >= 7.0
    })
    .await;
    assert_stops(server).await;
}

// Seen: `eprintln!` and `println!` panic if their reader has gone.
#[test]
fn no_verb_panics_if_the_readers_of_stdout_and_stderr_have_gone() {
    let site = Site::hostile();
    let template = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/import/chat.yaml");
    let guest = component(HOSTILE);
    let verbs: [&[&str]; 12] = [
        &["--help"],
        &["frobnicate"],
        &["check"],
        &["check", "nowhere.toml"],
        &["--log-format", "json", "check", "nowhere.toml"],
        &["new", "rust", "hello"],
        &["import", template],
        &["invoke", "$default", "--body", "print hello"],
        &["invoke", "$default", "--body", "trap"],
        &["inspect", guest.to_str().unwrap()],
        &["deployments"],
        &["serve", "nowhere.toml"],
    ];
    for verb in verbs {
        let code = |close: [bool; 2]| {
            let _ = fs::remove_dir_all(site.path().join("hello"));
            let mut command = site.command(verb);
            // A pipe without a reader. An open one is a file, which never blocks.
            let output = |close: bool| {
                if close { Stdio::from(io::pipe().unwrap().1) } else { Stdio::from(tempfile::tempfile().unwrap()) }
            };
            command.stdout(output(close[0])).stderr(output(close[1]));
            command.status().unwrap().code()
        };
        let expected = code([false, false]);
        assert!(expected.is_some_and(|code| code <= 2), "{verb:?}: {expected:?}");
        for close in [[true, false], [false, true], [true, true]] {
            assert_eq!(code(close), expected, "{verb:?} {close:?}");
        }
    }
}

/// A verb other than a server waits for its reader, so that no error is lost.
#[test]
fn a_long_error_is_written_as_a_whole_to_a_slow_reader() {
    let keys: String = (0..10_000).map(|index| format!("unknown{index} = 1\n")).collect();
    let site = Site::new(&keys);
    let (reader, output) = io::pipe().unwrap();
    let mut command = site.command(&["check"]);
    let mut process = command.stderr(output).stdout(Stdio::null()).spawn().unwrap();
    drop(command);
    // Longer than a server would wait.
    std::thread::sleep(Duration::from_millis(1500));
    let text = io::read_to_string(reader).unwrap();
    assert_eq!(process.wait().unwrap().code(), Some(1));
    assert!(text.len() > 128 * 1024 && text.contains("unknown0") && text.contains("unknown9999"), "{}", text.len());
}

// ---- floods ---------------------------------------------------------------------------------

#[tokio::test]
async fn a_plugin_may_log_a_mebibyte_in_any_second_and_the_log_counts_the_rest() {
    let server = site("").serve();
    let mut peer = server.connect("").await;
    // Each line counts about 1,250 bytes with its fields.
    assert_eq!(peer.ask(&order(0, "flood 800")).await, "flooded");
    assert_eq!(peer.ask(&order(1, "print quiet")).await, "printed");
    server.log.wait_for_line(&["INFO quiet"]).await;
    let lines = |plugin: &str| {
        let text = server.log.text();
        let lines = text.lines().filter(|line| line.contains("xxxx") && line.contains(plugin));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(lines("plugin=guest0").len(), 800);
    assert!(!server.log.text().contains("were dropped"), "{}", server.log.text());

    assert_eq!(peer.ask(&order(2, "flood 5000")).await, "flooded");
    // Another plugin is not affected.
    assert_eq!(peer.ask(&order(1, "print not affected")).await, "printed");
    server.log.wait_for_line(&["INFO not affected"]).await;
    let words = ["WARN log lines of the plugin were dropped", "plugin=guest2", "lines=", "bytes="];
    server.log.wait_for_line(&words).await;
    let reports = || {
        let text = server.log.text();
        let lines = text.lines().filter(|line| words.iter().all(|word| line.contains(word)));
        lines.map(|line| (number(line, "lines"), number(line, "bytes"))).collect::<Vec<_>>()
    };
    eventually("all lines are written or counted", async || {
        let counted: usize = reports().iter().map(|(lines, _)| lines).sum();
        lines("plugin=guest2").len() + counted == 5000
    })
    .await;
    assert!(reports().iter().all(|(lines, bytes)| (1000 * lines..1400 * lines).contains(bytes)), "{:?}", reports());
    // In no second are more bytes written. A thread may be interrupted between the count and the timestamp of a line.
    let written = lines("plugin=guest2");
    let seconds = |line: &str| {
        let time = humantime::parse_rfc3339(line.split(' ').next().unwrap()).unwrap();
        time.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64()
    };
    let sizes: Vec<(f64, usize)> = written.iter().map(|line| (seconds(line), line.len() + 1)).collect();
    for (index, (start, _)) in sizes.iter().enumerate() {
        let second = sizes[index..].iter().take_while(|(time, _)| time - start < 0.99);
        let bytes: usize = second.map(|(_, size)| size).sum();
        assert!(bytes <= PLUGIN_BYTES_PER_SECOND, "{bytes} bytes in a second");
    }
}

#[tokio::test]
async fn failures_of_a_route_are_rate_limited_and_counted_and_other_routes_are_not_affected() {
    let server = site("").serve();
    let mut peer = server.connect("").await;
    let mut failed = 0;
    let lines = |route: &str| {
        let text = server.log.text();
        let lines = text.lines().filter(|line| line.contains("the handler failed") && line.contains(route));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    for _ in 0..40 {
        peer.ask(&order(0, "fail")).await;
        failed += 1;
    }
    // A burst of 20 lines, and then one each second.
    let deadline = Instant::now() + TEST_TIMEOUT;
    while !lines("route=a0").iter().any(|line| line.contains("suppressed=")) {
        assert!(Instant::now() < deadline, "no line counts the suppressed ones: {:#?}", lines("route=a0"));
        peer.ask(&order(0, "fail")).await;
        failed += 1;
    }
    peer.ask(&order(1, "fail")).await;
    server.log.wait_for_line(&["the handler failed", "route=a1"]).await;
    let lines = lines("route=a0");
    let suppressed: usize =
        lines.iter().filter(|line| line.contains("suppressed=")).map(|line| number(line, "suppressed")).sum();
    // Failures after the last line are counted by the next one.
    assert!(lines.len() + suppressed <= failed && lines.len() >= 21 && suppressed > 0, "{failed}: {lines:#?}");
    assert!(lines[..20].iter().all(|line| !line.contains("suppressed=")), "{lines:#?}");
}

#[tokio::test]
async fn failures_of_an_authorizer_are_rate_limited_too() {
    let component = component(TEST_AUTHORIZER);
    let site = Site::new(&format!(
        "[authorizers.broken]\ncomponent = {component:?}\ngrants = [\"connections\", \"connection-store\"]\n\
         [integrations.ok]\ntype = \"mock\"\n\
         [routes]\n\"$connect\" = {{ integration = \"ok\", authorizer = \"broken\" }}\n"
    ));
    let server = site.serve();
    for _ in 0..30 {
        assert_eq!(server.try_connect("?decide=fail", &[]).await.err(), Some(500));
    }
    eventually("a line counts the suppressed ones", async || {
        server.try_connect("?decide=fail", &[]).await.err();
        server.log.text().lines().any(|line| line.contains("the authorizer failed") && line.contains("suppressed="))
    })
    .await;
}

// ---- the longest line -----------------------------------------------------------------------

// Seen: a line of `wasi:logging` was as long as the guest wanted, escape sequences made a line of 8 KiB six times as
// long, and a manifest with many errors was one line of several megabytes.
#[tokio::test]
async fn no_line_is_longer_than_its_limit_whatever_it_contains() {
    for format in ["text", "json"] {
        let site = site("[connection]\nmessage_size = \"1MiB\"\nframe_size = \"none\"");
        let server = site.start(&["serve", "--log-format", format]);
        let mut peer = server.connect("").await;
        for text in ["x", "\\\"", "\\\\", "\u{1b}", "\u{202e}", "\u{1f600}"] {
            let long = text.repeat(100_000 / text.len());
            for order in ["print", "print-error", "log", "fail", "trap"] {
                peer.ask(&format!("{order} {long}")).await;
            }
        }
        peer.ask(&order(3, "log-in-context 60000 2")).await;
        let path = "%1b".repeat(2500);
        server.http(&format!("GET /{path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")).await;
        let agent = "\"".repeat(12_000);
        server.try_connect("?do=fail", &[("user-agent", &agent)]).await.err();
        let text = fs::read_to_string(server.site.manifest()).unwrap();
        let keys: String = (0..2_000).map(|index| format!("unknown{index} = 1\n")).collect();
        fs::write(server.site.manifest(), format!("{keys}{text}")).unwrap();
        server.signal("HUP");
        server.log.wait_for_line(&["unknown0"]).await;
        peer.ask(&order(5, "print the end")).await;
        server.log.wait_for_line(&["the end"]).await;
        let log = server.log.text();
        let longest = log.lines().map(str::len).max().unwrap();
        assert!((8 * 1024..LINE_BYTES_MAX).contains(&longest), "{longest}");
        assert!(log.contains("(cut)") || log.contains("bytes in all"), "{longest}");
        let guest = log.lines().filter(|line| line.contains(r#""target":"guest""#) || line.contains(" INFO xx"));
        let longest = guest.map(str::len).max().unwrap();
        assert!((8 * 1024..10 * 1024).contains(&longest), "{longest}");
        if format == "json" {
            for line in log.lines() {
                let object: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
                assert!(object["timestamp"].is_string() && object["level"].is_string(), "{line}");
            }
        }
    }
}

/// A long line is logged in pieces; none of its characters is lost.
#[tokio::test]
async fn a_long_line_of_a_guest_is_logged_in_pieces() {
    let server = site("[connection]\nmessage_size = \"1MiB\"\nframe_size = \"none\"").serve();
    let mut peer = server.connect("").await;
    let long = "0123456789".repeat(5_000);
    peer.ask(&format!("log {long}")).await;
    peer.ask("print the end").await;
    server.log.wait_for_line(&["INFO the end"]).await;
    let text = server.log.text();
    let pieces =
        text.lines().filter_map(|line| line.split_once("ERROR ")).map(|(_, rest)| rest.split(' ').next().unwrap());
    let pieces: Vec<&str> = pieces.collect();
    assert_eq!((pieces.len(), pieces.concat()), (long.len().div_ceil(8 * 1024), long));
}
