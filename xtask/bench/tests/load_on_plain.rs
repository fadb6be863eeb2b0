//! Tests of the load generator with the plain server. Both are the real binaries, on a free port.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Output, Stdio};

use jackfield_bench::outcome::Outcome;

struct Plain {
    child: Child,
    port: String,
}

impl Plain {
    fn start() -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_plain"))
            .stdout(Stdio::piped())
            .spawn()
            .expect("cargo builds plain for the tests");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("stdout is piped");
        BufReader::new(stdout).read_line(&mut line).expect("plain prints its address");
        let port = line.trim().strip_prefix("listening on ws://127.0.0.1:");
        let port = port.and_then(|rest| rest.strip_suffix("/dev")).expect(&line).to_owned();
        Self { child, port }
    }

    fn load(&self, arguments: &str) -> Output {
        self.load_with(arguments, &[])
    }

    /// Runs `load` with `arguments`, which are split at spaces, and with `more`, which are not.
    fn load_with(&self, arguments: &str, more: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_load"))
            .args(["--port", &self.port, "--pid", &self.child.id().to_string()])
            .args(arguments.split(' '))
            .args(more)
            .output()
            .expect("cargo builds load for the tests")
    }

    /// Returns the outcome of a run without errors.
    fn outcome(&self, arguments: &str) -> Outcome {
        let output = self.load(arguments);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let outcome: Outcome = serde_json::from_slice(&output.stdout).expect("one JSON object");
        assert_eq!((outcome.errors, &outcome.first_error), (0, &None), "{arguments}");
        assert!(outcome.messages > 0, "{arguments}");
        outcome
    }
}

impl Drop for Plain {
    fn drop(&mut self) {
        // Both fail only if the exit code of the child was already read, and no other code reads it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn connections_go_to_several_servers_in_turn_and_messages_are_sent_in_time() {
    let (one, other) = (Plain::start(), Plain::start());
    let arguments = format!("--mode echo --conns 4 --rate 500 --precise --secs 0.5 --port {}", other.port);
    let output = one.load(&arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let outcome: Outcome = serde_json::from_slice(&output.stdout).expect("one JSON object");
    assert_eq!((outcome.errors, &outcome.first_error), (0, &None));
    assert!(outcome.messages > 0 && outcome.sent >= outcome.messages, "{outcome:?}");
}

#[test]
fn a_broadcast_is_complete_when_the_last_receiver_has_it() {
    let outcome = Plain::start().outcome("--mode broadcast --conns 20 --rate 50 --secs 0.5");
    assert!(outcome.complete_us.expect("it was broadcast") > 0.0);
    assert!(outcome.sent > 0);
}

#[test]
fn every_message_is_echoed_in_a_closed_and_in_an_open_loop() {
    let plain = Plain::start();
    plain.outcome("--mode echo --conns 4 --depth 1 --secs 0.5 --warm-up-secs 0");
    plain.outcome("--mode echo --conns 4 --depth 16 --secs 0.5 --content 3000");
    let open = plain.outcome("--mode echo --conns 4 --rate 200 --secs 1");
    assert!((100..=300).contains(&open.messages), "{} in a second", open.messages);
}

#[test]
fn the_connections_of_a_pair_post_to_each_other() {
    let plain = Plain::start();
    plain.outcome("--mode post --conns 4 --secs 0.5");
    plain.outcome("--mode post --conns 4 --rate 200 --secs 0.5");
}

#[test]
fn every_connection_in_the_room_receives_a_broadcast() {
    let plain = Plain::start();
    let outcome = plain.outcome("--mode broadcast --conns 20 --rate 50 --secs 1");
    assert_eq!(outcome.connections, 21, "the sender is an additional connection");
    assert!((500..=1500).contains(&outcome.messages), "{} of 1,000", outcome.messages);
}

#[test]
fn connections_are_counted_after_the_warm_up() {
    let plain = Plain::start();
    let idle = plain.outcome("--mode idle --conns 300 --warm-up-conns 50 --secs 0.2");
    assert_eq!((idle.messages, idle.connections), (300, 350));
    assert!(idle.rss_kib_per_conn.is_some_and(|kib| (0.0..50.0).contains(&kib)));
    let connect = plain.outcome("--mode connect --conns 300 --path /dev?room=hall");
    assert!(connect.connects_per_s.is_some_and(|rate| rate > 0.0));
}

#[test]
fn a_rejected_upgrade_is_an_error_in_the_outcome() {
    let plain = Plain::start();
    let output = plain.load("--mode connect --conns 3 --warm-up-conns 0 --path /prod");
    let outcome: Outcome = serde_json::from_slice(&output.stdout).expect("one JSON object");
    assert_eq!((outcome.messages, outcome.errors), (0, 3));
    assert!(outcome.first_error.is_some_and(|error| error.contains("404 Not Found")));
}

#[test]
fn further_headers_are_sent_with_each_upgrade() {
    let plain = Plain::start();
    // A server rejects a request with an invalid header.
    let rejected = plain.load_with("--mode connect --conns 3 --warm-up-conns 0", &["--header", "no header"]);
    let outcome: Outcome = serde_json::from_slice(&rejected.stdout).expect("one JSON object");
    assert_eq!((outcome.messages, outcome.errors), (0, 3), "{:?}", outcome.first_error);
    let accepted = plain.load_with("--mode connect --conns 3", &["--header", "A: 1", "--header", "B: 2"]);
    let outcome: Outcome = serde_json::from_slice(&accepted.stdout).expect("one JSON object");
    assert_eq!((outcome.messages, outcome.errors), (3, 0), "{:?}", outcome.first_error);
}

#[test]
fn the_plain_server_is_also_a_function_that_allows_every_request() {
    let plain = Plain::start();
    let mut stream = TcpStream::connect(format!("127.0.0.1:{}", plain.port)).expect("plain listens");
    let path = "/2015-03-31/functions/function/invocations";
    write!(stream, "POST {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{{}}")
        .expect("plain reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("plain answers and closes");
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.contains(r#""Effect":"Allow""#), "{answer}");
}

#[test]
fn an_odd_number_of_connections_cannot_make_pairs() {
    let plain = Plain::start();
    let output = plain.load("--mode post --conns 3");
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("even number"));
}
