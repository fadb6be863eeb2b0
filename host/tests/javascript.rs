//! What a handler in JavaScript may expect: the module `jackfield`, Lambda's conventions, timers, failures and the log.
//! The handlers are in `host/tests/scripts`.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use tokio::sync::Mutex;

use crate::components::replace_file;
use crate::harness::{Peer, Server, Site, eventually};

/// A handler of `host/tests/scripts`, and its keys in the manifest.
fn integration(name: &str, file: &str, keys: &str) -> String {
    format!("[integrations.{name}]\ncomponent = {file:?}\n{keys}\n")
}

/// Returns a site with the files, served by this manifest.
fn site(files: &[&str], manifest: &str) -> Site {
    let site = Site::new(manifest);
    for file in files {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts").join(file);
        fs::copy(source, site.path().join(file)).unwrap();
    }
    site
}

/// Serves one file, whose routes are selected by the `action` of a message. `routes` are keys of its other routes.
fn serve(file: &str, actions: &[&str], keys: &str, routes: &str) -> Server {
    let mut manifest = integration("it", file, keys) + "[routes]\n" + routes;
    for action in actions {
        manifest += &format!("\n{action:?} = {{ integration = \"it\", route_response = true }}");
    }
    site(&[file], &manifest).serve()
}

async fn ask(peer: &mut Peer, action: &str) -> String {
    peer.ask(&json!({ "action": action, "text": "hello" }).to_string()).await
}

async fn ask_json(peer: &mut Peer, action: &str) -> Value {
    let answer = ask(peer, action).await;
    serde_json::from_str(&answer).unwrap_or_else(|_| panic!("{action}: {answer}"))
}

// ---- the module jackfield ------------------------------------------------------------------------

const GRANTS: &str = "grants = [\"connections\", \"connection-store\"]\nbuckets = [\"notes\"]";

#[tokio::test]
async fn the_functions_of_a_plugin_get_events_and_return_responses() {
    let actions = ["text", "bytes", "nothing", "full", "unexpected", "context", "row", "post", "bucket"];
    let routes = "\"$connect\" = \"it\"\n\"$disconnect\" = \"it\"";
    let server = serve("ours.js", &actions, GRANTS, routes);
    assert_eq!(server.try_connect("?refuse=1", &[]).await.err(), Some(403));
    let mut peer = server.connect("?user=ada").await;
    assert_eq!(ask(&mut peer, "text").await, "plain");
    peer.send(r#"{"action":"bytes"}"#).await;
    assert_eq!(peer.next().await.unwrap().into_data().as_ref(), [0, 255]);
    assert_eq!(ask(&mut peer, "full").await, "whole");
    assert!(ask(&mut peer, "unexpected").await.contains("Internal server error"));
    server.log.wait_for_line(&["the handler returned { answer: 42 }", "{ statusCode, headers, body }"]).await;
    let context = json!(["context", "dev", "message", "context", "string", true, true]);
    assert_eq!(ask_json(&mut peer, "context").await, context);
    peer.close(3001, "bye").await;
    server.log.wait_for_line(&["closed with 3001 bye"]).await;
}

#[tokio::test]
async fn connections_store_and_buckets_are_promises_and_their_errors_have_a_status() {
    let server = serve("ours.js", &["row", "post", "bucket"], GRANTS, "\"$connect\" = \"it\"");
    let mut peer = server.connect("?user=ada").await;
    assert_eq!(ask_json(&mut peer, "row").await, json!(["ada", ["b"], [true], null]));
    peer.send(r#"{"action":"post"}"#).await;
    let mut frames = Vec::new();
    for _ in 0..3 {
        frames.push(peer.next().await.unwrap().into_data().to_vec());
    }
    frames.sort();
    assert_eq!(frames[0], [1, 2]);
    assert_eq!(frames[1], br#"[["GoneError",410],true,"GoneError",1,"string"]"#);
    assert_eq!(frames[2], b"posted");
    let bucket = json!(["one!", "one!", "b", null, ["a", "b", "c"], 7, false, ["KvError", 404]]);
    assert_eq!(ask_json(&mut peer, "bucket").await, bucket);
}

#[tokio::test]
async fn an_authorizer_in_javascript_allows_denies_and_reports_unknown_peers() {
    for (handler, failing, agent) in [("", "fail", "none"), ("handler = \"lambda\"", "condition", "")] {
        let manifest = format!(
            "[authorizers.login]\ncomponent = \"authorizers.mjs\"\n{handler}\n{}[routes]\n\
             \"$connect\" = {{ integration = \"it\", authorizer = \"login\" }}\n\
             \"$default\" = {{ integration = \"it\", route_response = true }}\n",
            integration("it", "context.mjs", "")
        );
        let site = site(&["authorizers.mjs", "context.mjs"], &manifest);
        let server = site.serve();
        let mut peer = server.connect("?user=ada").await;
        let context: Value = serde_json::from_str(&peer.ask("context").await).unwrap();
        assert_eq!(
            (&context["principalId"], &context["level"], &context["admin"]),
            (&json!("ada"), &json!("3"), &json!("false"))
        );
        if !agent.is_empty() {
            assert_eq!(context["agent"], agent);
        }
        for (query, status) in [("?user=mallory", 403), ("", 401), (&*format!("?user={failing}"), 500)] {
            assert_eq!(server.try_connect(query, &[]).await.err(), Some(status), "{handler} {query}");
        }
        if handler.is_empty() {
            server.log.wait_for_line(&["cannot decide"]).await;
        } else {
            assert!(server.try_connect("?user=all", &[]).await.is_ok());
            assert_eq!(server.try_connect("?user=other", &[]).await.err(), Some(403));
            server.log.wait_for_line(&["a Condition", "decide in the authorizer"]).await;
        }
    }
}

// ---- Lambda ---------------------------------------------------------------------------------

#[tokio::test]
async fn lambda_functions_run_unmodified() {
    let exports = ["asynchronous", "callback", "late", "failing", "binary", "nothing", "unknown"];
    let mut manifest = String::new();
    for name in exports {
        let keys = format!("handler = {name:?}\nenv = {{ PREFIX = \"blue\" }}");
        manifest += &integration(name, "lambda.cjs", &keys);
    }
    manifest += "[routes]\n";
    for name in exports {
        manifest += &format!("{name:?} = {{ integration = {name:?}, route_response = true }}\n");
    }
    let server = site(&["lambda.cjs"], &manifest).serve();
    let mut peer = server.connect("").await;
    assert_eq!(ask(&mut peer, "asynchronous").await, "blue asynchronous MESSAGE false hello true true");
    assert_eq!(ask(&mut peer, "callback").await, "waited true");
    assert_eq!(ask(&mut peer, "late").await, "late");
    peer.send(r#"{"action":"binary"}"#).await;
    assert_eq!(peer.next().await.unwrap().into_data().as_ref(), [0, 255]);
    for (name, words) in [
        ("failing", ["TypeError: the callback got this error", ""]),
        ("nothing", ["the function returned undefined", "an object with a statusCode"]),
        ("unknown", ["the key \"surprise\"", "isBase64Encoded"]),
    ] {
        assert!(ask(&mut peer, name).await.contains("Internal server error"), "{name}");
        server.log.wait_for_line(&words).await;
    }
    server.log.wait_for_line(&["at ", "(lambda.cjs:"]).await;
}

/// A manifest with one timeout, whose two functions return the time that is left, in both styles.
fn remaining(timeout: &str) -> String {
    let names = ["remaining", "remainingOfCallback"];
    let function = |name: &&str| integration(name, "lambda.cjs", &format!("handler = {name:?}\n{timeout}"));
    let route = |name: &&str| format!("{name} = {{ integration = {name:?}, route_response = true }}\n");
    let functions: String = names.iter().map(function).collect();
    functions + "[routes]\n" + &names.iter().map(route).collect::<String>()
}

#[tokio::test]
async fn a_lambda_function_asks_how_much_of_its_timeout_is_left() {
    for (timeout, range) in [("timeout = \"9s\"", 1..=9_000), ("", 9_001..=29_000)] {
        let server = site(&["lambda.cjs"], &remaining(timeout)).serve();
        let mut peer = server.connect("").await;
        for name in ["remaining", "remainingOfCallback"] {
            let left = ask_json(&mut peer, name).await;
            let (start, later) = (left[0].as_i64().unwrap(), left[1].as_i64().unwrap());
            assert!(range.contains(&start) && start - later >= 49, "{name} {timeout}: {left}");
        }
        let peer = Mutex::new(peer);
        // Another timeout counts from the next save of the manifest, though the file is the same.
        replace_file(&server.site.manifest(), remaining("timeout = \"30s\""));
        for name in ["remaining", "remainingOfCallback"] {
            let longer = async || ask_json(&mut *peer.lock().await, name).await[0].as_i64().unwrap() > 29_000;
            eventually("the new timeout counts", longer).await;
        }
    }
}

// ---- time ----------------------------------------------------------------------------------

#[tokio::test]
async fn timers_wait_and_run_in_the_order_of_node() {
    let server = serve("time.js", &["order", "unref"], "", "");
    let mut peer = server.connect("").await;
    let expected = json!([["microtask", "immediate", "10", "tick", "tick", "40"], true]);
    assert_eq!(ask_json(&mut peer, "order").await, expected);
    assert_eq!(ask(&mut peer, "unref").await, "not held");
}

#[tokio::test]
async fn the_top_level_runs_at_load_time_and_each_instance_has_other_random_numbers() {
    let server = serve("time.js", &["load", "random"], "", "");
    let mut peer = server.connect("").await;
    assert_eq!(ask_json(&mut peer, "load").await, json!([true, true, true, true, "awaited"]));
    let mut numbers = Vec::new();
    for _ in 0..4 {
        numbers.push(ask(&mut peer, "random").await);
    }
    numbers.sort();
    numbers.dedup();
    assert_eq!(numbers.len(), 4, "{numbers:?}");
}

#[tokio::test]
async fn what_needs_an_event_throws_at_load_time_and_says_to_move_it() {
    let import = "import { connections, store, kv, config } from \"jackfield\";\n";
    for (source, what) in [
        ("setTimeout(() => {}, 1);", "a timer"),
        ("setInterval(() => {}, 1);", "a timer"),
        ("setImmediate(() => {});", "a timer"),
        ("crypto.randomUUID();", "secure randomness"),
        ("crypto.getRandomValues(new Uint8Array(1));", "secure randomness"),
        ("await fetch(\"http://127.0.0.1/\");", "fetch"),
        ("await connections.postToConnection(\"a\", \"b\");", "connections.postToConnection"),
        ("await store.scan();", "store.scan"),
        ("await kv.bucket(\"notes\").get(\"a\");", "kv"),
        ("await config.get(\"a\");", "config.get"),
        ("await new Promise(() => {});", "top-level await never settles"),
        ("Promise.reject(new Error(\"lost\"));", "lost"),
    ] {
        let manifest = integration("it", "load.js", GRANTS) + "[routes]\n\"$default\" = \"it\"\n";
        let site = site(&[], &manifest);
        fs::write(site.path().join("load.js"), format!("{import}{source}\nexport const handler = async () => {{}};\n"))
            .unwrap();
        let (code, _, stderr) = site.run(&["check"]);
        assert_eq!(code, 1, "{source}: {stderr}");
        assert!(stderr.contains(what) && stderr.contains("load.js"), "{source}: {stderr}");
        if !what.contains("lost") {
            assert!(stderr.contains("into the handler"), "{source}: {stderr}");
        }
    }
}

// ---- failures ------------------------------------------------------------------------------

#[tokio::test]
async fn every_way_to_fail_is_logged_with_its_reason_and_the_next_event_runs() {
    let failing = [
        ("thrown", "RangeError: thrown at once", "(failures.js:10:"),
        ("rejected", "Error: outer", "caused by TypeError: inner"),
        ("value", "an object was thrown that is no Error: { code: 7 }", ""),
        ("text", "a string was thrown that is no Error: 'no room'; throw new Error(...)", ""),
        ("unhandled", "a promise was rejected and nothing handles it: SyntaxError: nobody waits", "(failures.js:23:"),
        ("timer", "Error: in a timer", "(failures.js:28:"),
        ("never", "the handler's promise never settles", ""),
        ("misspelled", "TypeError: not a function: event.txt", "at misspelled (failures.js:34:"),
        ("loop", "more than 500ms of CPU (cpu_time in the manifest): wasm trap: interrupt", ""),
        ("uncaught", "RangeError: Maximum call stack size exceeded", "at deep (failures.js:5:"),
        ("surrogate", "Error: half \u{fffd} a pair", ""),
    ];
    let succeeding = ["handled", "dropped", "recursion", "json", "half"];
    let actions: Vec<_> = failing.iter().map(|failing| failing.0).chain(succeeding).collect();
    let server = serve("failures.js", &actions, "cpu_time = \"500ms\"", "");
    let mut peer = server.connect("").await;
    for (action, message, stack) in failing {
        assert!(ask(&mut peer, action).await.contains("Internal server error"), "{action}");
        server.log.wait_for_line(&[message]).await;
        server.log.wait_for_line(&[stack]).await;
        assert_eq!(ask(&mut peer, "handled").await, "fine");
    }
    assert_eq!(ask(&mut peer, "dropped").await, "quick");
    server.log.wait_for_line(&["1 timers or requests were pending", "await"]).await;
    assert_eq!(ask(&mut peer, "recursion").await, "RangeError after deep");
    assert_eq!(ask(&mut peer, "json").await, "RangeError");
    assert_eq!(ask(&mut peer, "half").await, "half \u{fffd} a pair");
    let log = server.log.text();
    assert!(!log.contains("this timer ran") && !log.contains("jackfield_js_engine.wasm"), "{log}");
}

#[tokio::test]
async fn a_handler_can_catch_that_its_memory_is_used_up() {
    let server = serve("failures.js", &["memory", "hog", "handled"], "memory = \"32MiB\"", "");
    let mut peer = server.connect("").await;
    assert!(ask(&mut peer, "memory").await.contains("memory"));
    assert_eq!(ask(&mut peer, "handled").await, "fine");
    // One that does not catch it has the limit in the log.
    assert!(ask(&mut peer, "hog").await.contains("Internal server error"));
    let words = "InternalError: out of memory: the handler requested more than 33554432 bytes of memory (memory in the manifest)";
    server.log.wait_for_line(&[words]).await;
    server.log.wait_for_line(&["at hog (failures.js:"]).await;
}

// ---- the log -------------------------------------------------------------------------------

#[tokio::test]
async fn console_writes_to_the_log_with_levels_and_values_as_node_formats_them() {
    let manifest = integration("it", "console.js", "")
        + "[routes]\n\"$default\" = { integration = \"it\", route_response = true }\n";
    let server = site(&["console.js"], &manifest).serve();
    let mut peer = server.connect("").await;
    assert_eq!(peer.ask("x").await, "logged");
    for (level, text) in [
        ("INFO", "at the top level"),
        ("INFO", "one is 1.5 of {\"a\":1}, 42 and [ 1 ]%"),
        (
            "INFO",
            "{ a: { b: { c: [Object] } } } [ 1, 'two', undefined, null, -0 ] Map(1) { 'k' => Set(1) { 1 } } Point { x: 3 }",
        ),
        ("WARN", "TypeError: shown with its stack"),
        ("ERROR", "Symbol(s) 10n [Function: named] 1970-01-01T00:00:00.000Z /x/g Uint8Array(2) [ 0, 0 ]"),
        ("ERROR", "{ self: [Circular] } [Object: null prototype] {} { a: [Getter] } it's"),
    ] {
        server.log.wait_for_line(&[level, text]).await;
    }
}
