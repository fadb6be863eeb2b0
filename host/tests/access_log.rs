//! The access log: one line for each event.

use std::fs;
use std::path::Path;
use std::time::Instant;

use serde_json::Value;

use crate::components::replace_file;
use crate::harness::{HOSTILE_GRANTS, Server, Site, TEST_TIMEOUT, component, eventually, manifest};

/// Returns a format with every variable, as one JSON object.
fn format() -> String {
    const NAMES: &[&str] = &[
        "requestId",
        "extendedRequestId",
        "apiId",
        "stage",
        "domainName",
        "routeKey",
        "eventType",
        "connectionId",
        "messageId",
        "connectedAt",
        "requestTime",
        "requestTimeEpoch",
        "identity.sourceIp",
        "identity.userAgent",
        "identity.user",
        "authorizer.principalId",
        "disconnectStatusCode",
        "disconnectReason",
        "status",
        "error.message",
        "error.responseType",
        "error.validationErrorString",
        "integrationLatency",
        "integration.latency",
        "integration.status",
        "integration.integrationStatus",
        "integration.error",
        "integration.requestId",
        "waf.status",
        "authorize.latency",
        "authenticate.error",
        "authorizer.status",
    ];
    let fields = NAMES.iter().map(|name| format!("\"{name}\":\"$context.{name}\""));
    format!("{{{}}}", fields.collect::<Vec<_>>().join(","))
}

/// Returns a site in which the hostile guest serves every route with a timeout of 500 ms. `access.log` gets every variable.
fn site(sections: &str) -> Site {
    let log = format!("[access_log]\nformat = '{}'\nfile = \"access.log\"\nrotate = \"never\"\n{sections}", format());
    Site::new(&manifest(&component(crate::harness::HOSTILE), &log, &format!("timeout = \"500ms\"\n{HOSTILE_GRANTS}")))
}

/// Waits until a file has `count` lines, and returns them. More lines are an error.
async fn lines(path: &Path, count: usize) -> Vec<String> {
    let deadline = Instant::now() + TEST_TIMEOUT;
    loop {
        let text = fs::read_to_string(path).unwrap_or_default();
        let lines: Vec<_> = text.lines().map(str::to_owned).collect();
        if lines.len() >= count && text.ends_with('\n') {
            assert_eq!(lines.len(), count, "{text}");
            return lines;
        }
        assert!(Instant::now() < deadline, "the file never had {count} lines:\n{text}");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}

async fn entries(server: &Server, count: usize) -> Vec<Value> {
    let lines = lines(&server.site.path().join("access.log"), count).await;
    lines.iter().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

fn assert_fields(entry: &Value, expected: &[(&str, &str)]) {
    for (name, value) in expected {
        assert_eq!(entry[name], *value, "{name} in {entry:#}");
    }
}

fn latency_in_ms(entry: &Value) -> u64 {
    entry["integrationLatency"].as_str().unwrap().parse().unwrap_or_else(|_| panic!("{entry:#}"))
}

#[tokio::test]
async fn each_event_of_a_connection_has_a_line() {
    let server = site("").serve();
    let mut peer = server.try_connect("?x=y", &[("user-agent", "a test")]).await.unwrap();
    let id = peer.id().await;
    peer.close(4321, "a \"reason\"").await;
    let entries = entries(&server, 3).await;
    let host = server.address.to_string();
    let common = [
        ("apiId", "local"),
        ("stage", "dev"),
        ("domainName", host.as_str()),
        ("connectionId", id.as_str()),
        ("identity.sourceIp", "127.0.0.1"),
        ("identity.userAgent", "a test"),
        ("status", "200"),
        ("integration.integrationStatus", "200"),
        ("integration.status", "200"),
        ("error.message", "-"),
        ("error.responseType", "-"),
        ("error.validationErrorString", "-"),
        ("integration.error", "-"),
        ("identity.user", "-"),
        ("authorizer.principalId", "-"),
        ("waf.status", "-"),
        ("authorize.latency", "-"),
        ("authenticate.error", "-"),
        ("authorizer.status", "-"),
        ("integration.requestId", "-"),
    ];
    for entry in &entries {
        assert_fields(entry, &common);
        assert_eq!(entry["requestId"], entry["extendedRequestId"]);
        assert_eq!(entry["requestId"].as_str().unwrap().len(), 16);
        assert_eq!(entry["integration.latency"], entry["integrationLatency"]);
        assert!(latency_in_ms(entry) < 500, "{entry:#}");
        assert_eq!(entry["connectedAt"], entries[0]["connectedAt"]);
        assert!(entry["requestTime"].as_str().unwrap().ends_with(" +0000"), "{entry:#}");
        let [at, connected] =
            ["requestTimeEpoch", "connectedAt"].map(|name| entry[name].as_str().unwrap().parse::<u64>());
        assert!(at.unwrap() >= connected.unwrap(), "{entry:#}");
    }
    assert_fields(&entries[0], &[("eventType", "CONNECT"), ("routeKey", "$connect"), ("messageId", "-")]);
    assert_fields(&entries[1], &[("eventType", "MESSAGE"), ("routeKey", "$default"), ("disconnectReason", "-")]);
    assert_eq!(entries[1]["messageId"].as_str().unwrap().len(), 16);
    let end = [("disconnectStatusCode", "4321"), ("disconnectReason", "a \"reason\""), ("messageId", "-")];
    assert_fields(&entries[2], &[("eventType", "DISCONNECT"), ("routeKey", "$disconnect")]);
    assert_fields(&entries[2], &end);
}

#[tokio::test]
async fn a_rejected_handshake_has_a_line_with_its_status() {
    let server = site("").serve();
    assert_eq!(server.try_connect("?do=status%20403", &[]).await.err(), Some(403));
    assert_eq!(server.try_connect("?do=fail", &[]).await.err(), Some(502));
    assert_eq!(server.try_connect("?do=sleep%2060000", &[]).await.err(), Some(504));
    let entries = entries(&server, 3).await;
    entries.iter().for_each(|entry| assert_fields(entry, &[("eventType", "CONNECT"), ("routeKey", "$connect")]));
    assert_fields(&entries[0], &[("status", "403"), ("integration.integrationStatus", "403"), ("error.message", "-")]);
    assert_fields(&entries[1], &[("status", "502"), ("error.responseType", "INTEGRATION_FAILURE")]);
    assert_fields(
        &entries[1],
        &[("integration.error", "the handler failed: as ordered: "), ("integration.status", "-")],
    );
    assert_fields(&entries[2], &[("status", "504"), ("error.responseType", "INTEGRATION_TIMEOUT")]);
    assert!(latency_in_ms(&entries[2]) >= 500, "{:#}", entries[2]);
}

#[tokio::test]
async fn a_failed_message_is_logged_with_the_error_the_peer_got_and_the_cause() {
    let models = "[models]\nnone.schema = \"none.json\"\n";
    let site = site(models);
    let text = fs::read_to_string(site.manifest()).unwrap().replace("\"$default\" =", "x =");
    fs::write(
        site.manifest(),
        format!("{text}y = {{ integration = \"guest\", models = {{ \"$default\" = \"none\" }} }}\n"),
    )
    .unwrap();
    fs::write(site.path().join("none.json"), r#"{"not":{}}"#).unwrap();
    let server = site.serve();
    let mut peer = server.connect("").await;
    for message in [
        r#"{"action":"x","do":"fail once"}"#,
        r#"{"action":"x","do":"sleep 60000"}"#,
        r#"{"action":"z"}"#,
        r#"{"action":"y","secret":"do not log"}"#,
        r#"{"action":"x","do":"status 404"}"#,
    ] {
        peer.ask(message).await;
    }
    let entries = entries(&server, 6).await;
    assert_fields(&entries[1], &[("routeKey", "x"), ("status", "500"), ("error.message", "Internal server error")]);
    assert_fields(&entries[1], &[("integration.error", "the handler failed: as ordered: once")]);
    assert_fields(&entries[2], &[("status", "504"), ("error.message", "Endpoint request timed out")]);
    assert_fields(&entries[3], &[("routeKey", "-"), ("status", "403"), ("error.message", "Forbidden")]);
    assert_fields(&entries[3], &[("integrationLatency", "-"), ("integration.status", "-")]);
    assert_fields(&entries[4], &[("routeKey", "y"), ("status", "400"), ("error.message", "Bad request body")]);
    assert_fields(&entries[4], &[("error.responseType", "BAD_REQUEST_BODY"), ("integrationLatency", "-")]);
    let why = entries[4]["error.validationErrorString"].as_str().unwrap();
    assert!(why.starts_with("model none, #/not: "), "{why}");
    assert_fields(&entries[5], &[("status", "404"), ("error.message", "-"), ("integration.status", "200")]);
    let text = fs::read_to_string(server.site.path().join("access.log")).unwrap();
    assert!(!text.contains("do not log") && !text.contains("a body"), "{text}");
}

#[tokio::test]
async fn a_throttled_event_has_a_line() {
    let throttle = "[throttle]\nconnections = { rate = 0.001, burst = 1 }\nconnection = { rate = 0.001, burst = 1 }\n";
    let server = site(throttle).serve();
    let mut peer = server.connect("").await;
    assert_eq!(server.try_connect("", &[]).await.err(), Some(429));
    peer.ask("echo one").await;
    assert!(peer.ask("echo two").await.contains("Too Many Requests"));
    let entries = entries(&server, 4).await;
    let refused = [("status", "429"), ("error.responseType", "THROTTLED"), ("integrationLatency", "-")];
    assert_fields(&entries[1], &[("eventType", "CONNECT"), ("error.message", "Too Many Requests")]);
    assert_fields(&entries[1], &refused);
    assert_fields(&entries[2], &[("status", "200")]);
    assert_fields(&entries[3], &[("routeKey", "$default"), ("error.message", "Too Many Requests")]);
    assert_fields(&entries[3], &refused);
}

#[tokio::test]
async fn input_from_a_peer_cannot_break_a_line_or_a_json_string() {
    let server = site("").serve();
    let agent = "\"}\\n{\"status\":\"forged\" \\";
    let peer = server.try_connect("", &[("user-agent", agent)]).await.unwrap();
    peer.close(1000, "a\nb\u{2028}\u{1b}[31m").await;
    let entries = entries(&server, 2).await;
    assert_fields(&entries[0], &[("identity.userAgent", agent), ("status", "200")]);
    assert_fields(&entries[1], &[("disconnectReason", "a\nb\u{2028}\u{1b}[31m")]);

    let long = "x".repeat(5000);
    server.try_connect("", &[("user-agent", long.as_str())]).await.unwrap();
    let text = fs::read_to_string(server.site.path().join("access.log")).unwrap();
    assert!(text.lines().all(|line| line.len() < 3000), "{text}");
}

#[tokio::test]
async fn without_a_file_lines_go_to_stdout_and_message_string_is_quoted() {
    let log = "[access_log]\nformat = '$context.eventType $context.error.messageString $context.requestId'";
    let server = Site::hostile_routes(log, "x = \"guest\"").serve();
    let mut peer = server.connect("").await;
    peer.ask("hello").await;
    server.stdout.wait_for_line(&["CONNECT - "]).await;
    server.stdout.wait_for_line(&["MESSAGE \"Forbidden\" "]).await;
    peer.close(1000, "").await;
    server.stdout.wait_for_line(&["DISCONNECT - "]).await;
    assert!(!server.log.text().contains("MESSAGE"), "{}", server.log.text());
}

#[tokio::test]
async fn a_rotated_file_is_named_by_date_and_the_oldest_files_are_deleted() {
    let log = "[access_log]\nfile = \"logs/access.log\"\nkeep = 2";
    let site = Site::new(&manifest(&component(crate::harness::HOSTILE), log, HOSTILE_GRANTS));
    let folder = site.path().join("logs");
    fs::create_dir(&folder).unwrap();
    for name in ["access.log.2020-01-01", "access.log.2020-01-02", "access.log.notes", "other.2020-01-01"] {
        fs::write(folder.join(name), "old").unwrap();
    }
    let server = site.serve();
    server.connect("").await.close(1000, "").await;
    let names = || {
        let mut names: Vec<_> =
            fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    };
    eventually("the oldest file is gone", async || !names().contains(&"access.log.2020-01-01".to_owned())).await;
    let names = names();
    assert_eq!(names.len(), 4, "{names:?}");
    assert_eq!([&names[0], &names[2], &names[3]], ["access.log.2020-01-02", "access.log.notes", "other.2020-01-01"]);
    assert!(names[1].starts_with("access.log.2") && names[1].len() == "access.log.2026-11-22".len(), "{names:?}");
    let lines = lines(&folder.join(&names[1]), 2).await;
    let entry: Value = serde_json::from_str(&lines[0]).unwrap();
    assert_fields(
        &entry,
        &[("ip", "127.0.0.1"), ("eventType", "CONNECT"), ("routeKey", "$connect"), ("status", "200")],
    );
}

#[tokio::test]
async fn every_event_up_to_the_stop_is_in_the_file() {
    let mut server = site("").serve();
    let mut peers = Vec::new();
    for _ in 0..10 {
        let mut peer = server.connect("").await;
        for index in 0..20 {
            assert_eq!(peer.ask(&format!("echo {index}")).await, index.to_string());
        }
        peers.push(peer);
    }
    server.signal("TERM");
    assert_eq!(server.wait_for_exit().await, Some(0));
    let text = fs::read_to_string(server.site.path().join("access.log")).unwrap();
    let count = |kind: &str| text.matches(&format!("\"eventType\":\"{kind}\"")).count();
    assert_eq!([count("CONNECT"), count("MESSAGE"), count("DISCONNECT")], [10, 200, 10]);
}

#[tokio::test]
async fn the_format_and_the_file_follow_the_manifest() {
    let server = site("").serve();
    let mut peer = server.connect("").await;
    peer.ask("echo one").await;
    entries(&server, 2).await;
    let text = fs::read_to_string(server.site.manifest()).unwrap();
    let other =
        text.replace(&format(), "$context.requestId $context.status").replace("\"access.log\"", "\"other.log\"");
    replace_file(&server.site.manifest(), &other);
    server.log.wait_for_line(&["live", "manifest="]).await;
    peer.ask("echo two").await;
    let lines = lines(&server.site.path().join("other.log"), 1).await;
    assert!(lines[0].ends_with("= 200"), "{lines:?}");
    entries(&server, 2).await;

    // A file that cannot be opened changes nothing.
    replace_file(&server.site.manifest(), other.replace("\"other.log\"", "\"jackfield.toml/x.log\""));
    let words = ["[access_log] jackfield.toml/x.log: cannot write to it", "the old version keeps serving"];
    let line = server.log.wait_for_line(&words).await;
    assert!(line.contains("jackfield.toml:4: "), "{line}");
    peer.ask("echo three").await;
    self::lines(&server.site.path().join("other.log"), 2).await;

    // Without the section no more lines are written.
    replace_file(
        &server.site.manifest(),
        text.split_once("[integrations").map(|(_, rest)| format!("[integrations{rest}")).unwrap(),
    );
    eventually("the new manifest is live", async || server.log.text().matches("live manifest=").count() == 2).await;
    peer.ask("echo four").await;
    peer.close(1000, "").await;
    self::lines(&server.site.path().join("other.log"), 2).await;
}

#[tokio::test]
async fn an_invalid_format_is_rejected_and_the_nearest_variable_is_suggested() {
    let check_stderr = |format: &str| {
        let log = format!("[access_log]\nformat = '{format}'");
        let (code, _, stderr) = Site::hostile_routes(&log, "x = \"guest\"").run(&["check"]);
        assert_eq!(code, 1, "{stderr}");
        stderr
    };
    let stderr = check_stderr("$context.requestId $context.integration.latncy");
    let expected = "jackfield.toml:2: access_log.format: found $context.integration.latncy, expected a variable of \
                    $context; did you mean $context.integration.latency?";
    assert!(stderr.contains(expected), "{stderr}");
    let stderr = check_stderr("$context.status");
    let expected = "found no request id, expected $context.requestId or $context.extendedRequestId";
    assert!(stderr.contains(expected), "{stderr}");
    let site = Site::hostile_routes("[access_log]\nfile = \"jackfield.toml/x\"", "x = \"guest\"");
    let (code, _, stderr) = site.run(&["serve"]);
    assert!(
        code == 1 && stderr.contains("jackfield.toml:2: [access_log] jackfield.toml/x: cannot write to it"),
        "{stderr}"
    );
}
