//! Messages that are checked against a model, and the files of the models.

use std::fs;

use futures_util::SinkExt as _;
use serde_json::Value;
use tokio_tungstenite::tungstenite::Message;

use crate::components::replace_file;
use crate::harness::{Peer, Server, Site};

const TEXT: &str = r#"{"type":"object","required":["text"],"properties":{"text":{"type":"string","maxLength":5}}}"#;
const NUMBER: &str = r#"{"type":"object","required":["number"],"properties":{"number":{"type":"integer"}}}"#;

const ROUTES: &str = r#"
"$default" = { integration = "guest", route_response = true }
send = { integration = "guest", route_response = true, models = { "$default" = "text" } }
choose = { integration = "guest", route_response = true, model_selection_expression = "$request.body.kind", models = { text = "text", number = "number" } }
"#;

fn site() -> Site {
    let models = "[models]\ntext.schema = \"schemas/text.json\"\nnumber.schema = \"schemas/number.json\"\n";
    let site = Site::hostile_routes(models, ROUTES);
    fs::create_dir(site.path().join("schemas")).unwrap();
    fs::write(site.path().join("schemas/text.json"), TEXT).unwrap();
    fs::write(site.path().join("schemas/number.json"), NUMBER).unwrap();
    site
}

/// Sends a message to the route `send` with this JSON value as its text. Its handler returns the connection's id.
async fn send(peer: &mut Peer, text: &str) -> String {
    peer.ask(&format!(r#"{{"action":"send","do":"id","text":{text}}}"#)).await
}

/// Asserts that a frame is the error frame for a bad request body, to the byte.
fn assert_rejected(frame: &str, connection_id: &str) {
    let parsed: Value = serde_json::from_str(frame).unwrap_or_else(|_| panic!("{frame}"));
    let message_id = parsed["messageId"].as_str().unwrap_or_else(|| panic!("{frame}"));
    assert!(message_id.len() == 16 && message_id.ends_with('='), "{frame}");
    let expected = format!(
        "{{\"message\" : \"Bad request body\", \"connectionId\": \"{connection_id}\", \"messageId\": \"{message_id}\"}}"
    );
    assert_eq!(frame, expected);
}

#[tokio::test]
async fn a_message_that_does_not_match_its_model_is_rejected_and_its_handler_is_not_called() {
    let server = site().serve();
    let mut peer = server.connect("").await;
    let id = peer.id().await;
    assert_eq!(send(&mut peer, "\"12345\"").await, id);
    for bad in ["\"123456\"", "5", "null"] {
        assert_rejected(&send(&mut peer, bad).await, &id);
    }
    assert_rejected(&peer.ask(r#"{"action":"send","do":"set called yes"}"#).await, &id);
    assert_eq!(peer.ask("get called").await, "none");
    assert_eq!(peer.ask(r#"{"action":"send","text":"ok","do":"set called yes"}"#).await, "set");
    assert_eq!(peer.ask("get called").await, "yes");
}

#[tokio::test]
async fn the_model_selection_expression_selects_the_model_and_unmatched_messages_are_rejected() {
    let server = site().serve();
    let mut peer = server.connect("").await;
    let id = peer.id().await;
    let mut choose = async |rest: &str| peer.ask(&format!(r#"{{"action":"choose","do":"id",{rest}}}"#)).await;
    assert_eq!(choose(r#""kind":"text","text":"a""#).await, id);
    assert_eq!(choose(r#""kind":"number","number":1"#).await, id);
    for bad in [
        r#""kind":"text","number":1"#,
        r#""kind":"number","text":"a""#,
        r#""kind":"other","text":"a","number":1"#,
        r#""text":"a","number":1"#,
    ] {
        assert_rejected(&choose(bad).await, &id);
    }
}

#[tokio::test]
async fn a_message_that_is_not_json_passes_only_on_a_route_without_a_model() {
    let server = site().serve();
    let mut peer = server.connect("").await;
    assert_eq!(peer.ask("echo not JSON").await, "not JSON");

    let routes =
        "\"$default\" = { integration = \"guest\", models = { \"$default\" = \"any\" }, route_response = true }";
    let site = Site::hostile_routes("models.any.schema = \"any.json\"", routes);
    fs::write(site.path().join("any.json"), "{}").unwrap();
    let server = site.serve();
    let mut peer = server.connect("").await;
    let id = peer.ask(r#"{"do":"id"}"#).await;
    for bad in ["echo not JSON", "", "{", "{} {}"] {
        assert_rejected(&peer.ask(bad).await, &id);
    }
    peer.socket.send(Message::binary(b"{}".to_vec())).await.unwrap();
    assert_rejected(&peer.text().await, &id);
    assert_eq!(peer.ask("[1]").await, "$default [1]");
    // The parser accepts 127 levels.
    for (depth, accepted) in [(127, true), (128, false)] {
        let nested = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        let answer = peer.ask(&nested).await;
        assert_eq!(answer.starts_with("$default"), accepted, "{depth}: {answer}");
    }
}

#[tokio::test]
async fn the_log_says_why_a_message_was_rejected_and_has_none_of_its_contents() {
    let server = site().serve();
    let mut peer = server.connect("").await;
    let id = peer.id().await;
    assert_rejected(&send(&mut peer, "\"a secret\"").await, &id);
    let words = ["INFO rejected message with Bad request body", "model text", &id, "route=send", "request_id="];
    let line = server.log.wait_for_line(&words).await;
    assert!(line.contains("#/properties/text/maxLength: the value is longer than 5 characters"), "{line}");
    assert!(!server.log.text().contains("a secret"), "{}", server.log.text());
}

#[tokio::test]
async fn a_large_message_is_checked_like_a_small_one() {
    let server = site().serve();
    let mut peer = server.connect("").await;
    let id = peer.id().await;
    let padding = "x".repeat(31_000);
    // The message is sent in fragments, because a frame may have 32 KiB at most. It is so large that a separate thread
    // checks it.
    for (padding, text, accepted) in [(padding.repeat(4), "ok", true), (padding.repeat(4), "too long", false)] {
        let message = format!(r#"{{"action":"send","do":"id","text":"{text}","padding":"{padding}"}}"#);
        let mut wire = crate::wire::Wire::open(&server, "").await;
        let mut rest = message.as_bytes();
        let mut first = crate::wire::TEXT;
        while !rest.is_empty() {
            let (part, after) = rest.split_at(rest.len().min(30_000));
            let fin = if after.is_empty() { crate::wire::FIN } else { 0 };
            wire.send(&crate::wire::frame(fin | first, part)).await;
            (first, rest) = (crate::wire::CONTINUATION, after);
        }
        let answer = wire.text().await;
        assert_eq!(!answer.contains("Bad request body"), accepted, "{answer}");
    }
    assert_eq!(send(&mut peer, "\"ok\"").await, id);
}

// ---- files ----------------------------------------------------------------------------------

#[tokio::test]
async fn a_schema_that_changes_is_live_for_the_next_message() {
    let server = site().serve();
    let mut peer = server.connect("").await;
    let id = peer.id().await;
    assert_rejected(&send(&mut peer, "\"123456\"").await, &id);
    replace_file(&schema(&server), TEXT.replace('5', "6"));
    server.log.wait_for_line(&["live", "models=text"]).await;
    assert_eq!(send(&mut peer, "\"123456\"").await, id);
    assert_rejected(&send(&mut peer, "\"1234567\"").await, &id);
}

#[tokio::test]
async fn a_schema_that_does_not_compile_leaves_the_old_one_in_use_and_is_reported_once() {
    let server = site().serve();
    let mut peer = server.connect("").await;
    let id = peer.id().await;
    for (broken, words) in [
        ("{", "it is not JSON"),
        (r#"{"type":"strin"}"#, "at #/type: \"strin\" is not valid"),
        (
            r#"{"$ref":"http://127.0.0.1:9/x.json"}"#,
            "leads out of the file, and other documents are not fetched; put the schema",
        ),
        (r#"{"pattern":"("}"#, "at #/pattern"),
    ] {
        replace_file(&schema(&server), broken);
        let place = "jackfield.toml:2: [models.text] schemas/text.json: ";
        let line = server.log.wait_for_line(&["ERROR", place, words]).await;
        assert!(line.ends_with("; the old version keeps serving"), "{line}");
        assert_eq!(send(&mut peer, "\"12345\"").await, id);
        assert_rejected(&send(&mut peer, "\"123456\"").await, &id);
    }
    replace_file(&schema(&server), TEXT);
    server.log.wait_for_line(&["the models and authorities match the served version again"]).await;
    fs::remove_file(schema(&server)).unwrap();
    server.log.wait_for_line(&["schemas/text.json: file not found; create it, or name another file"]).await;
    assert_rejected(&send(&mut peer, "\"123456\"").await, &id);
    replace_file(&schema(&server), TEXT.replace('5', "6"));
    server.log.wait_for_line(&["live", "models=text"]).await;
    assert_eq!(send(&mut peer, "\"123456\"").await, id);
    assert_eq!(server.log.text().matches("the old version keeps serving").count(), 5);
}

#[tokio::test]
async fn a_manifest_with_a_broken_schema_goes_live_once_the_schema_is_fixed() {
    let server = site().serve();
    let mut peer = server.connect("").await;
    let id = peer.id().await;
    let manifest = fs::read_to_string(server.site.manifest()).unwrap();
    fs::write(server.site.path().join("schemas/new.json"), "{").unwrap();
    replace_file(&server.site.manifest(), manifest.replace("schemas/text.json", "schemas/new.json"));
    server
        .log
        .wait_for_line(&["[models.text] schemas/new.json: it is not JSON", "the old version keeps serving"])
        .await;
    assert_rejected(&send(&mut peer, "\"123456\"").await, &id);
    replace_file(&server.site.path().join("schemas/new.json"), "{}");
    server.log.wait_for_line(&["live", "manifest=jackfield.toml"]).await;
    assert_eq!(send(&mut peer, "\"123456\"").await, id);
}

#[tokio::test]
async fn check_and_serve_reject_a_schema_that_does_not_compile() {
    let site = site();
    let (code, stdout, _) = site.run(&["check"]);
    assert!(code == 0 && stdout.contains("3 routes"), "{stdout}");
    fs::write(site.path().join("schemas/text.json"), r#"{"type":"strin"}"#).unwrap();
    fs::remove_file(site.path().join("schemas/number.json")).unwrap();
    for verb in ["check", "serve"] {
        let (code, _, stderr) = site.run(&[verb]);
        assert_eq!(code, 1, "{stderr}");
        let broken = "jackfield.toml:2: [models.text] schemas/text.json: at #/type: \"strin\" is not valid";
        let missing = "jackfield.toml:3: [models.number] schemas/number.json: file not found; create it";
        assert!(stderr.contains(broken) && stderr.contains(missing), "{verb}: {stderr}");
    }
}

#[tokio::test]
async fn a_schema_may_have_32_kib_and_no_more() {
    let site = site();
    let padded = |bytes: usize| format!("{TEXT}{}", " ".repeat(bytes - TEXT.len()));
    fs::write(site.path().join("schemas/text.json"), padded(32 * 1024)).unwrap();
    let (code, _, stderr) = site.run(&["check"]);
    assert_eq!(code, 0, "{stderr}");
    fs::write(site.path().join("schemas/text.json"), padded(32 * 1024 + 1)).unwrap();
    let (code, _, stderr) = site.run(&["check"]);
    assert!(
        code == 1 && stderr.contains("[models.text] schemas/text.json: the file is larger than 32768 bytes"),
        "{stderr}"
    );
}

fn schema(server: &Server) -> std::path::PathBuf {
    server.site.path().join("schemas/text.json")
}
