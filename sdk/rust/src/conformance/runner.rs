//! Runs the steps of a case with a driver, and compares what is returned with what the case expects.
//!
//! It uses nothing else of the SDK, so that the tests of the host can have this file and `values.rs` as modules.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::values::{REPLY_PREFIX, expand, from_bytes, map_texts, numbered, shortened, to_bytes};

/// How often a step that waits for an effect looks for it, and how long it waits in between.
const LOOKS_MAX: u32 = 1000;
const LOOK_INTERVAL: Duration = Duration::from_millis(10);

/// The content of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    Text(String),
    Binary(Vec<u8>),
}

/// What happens after a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// The handler's response.
    Text(String),
    /// The handler trapped or failed.
    Failed,
    /// The connection is closed, with this code and reason.
    Closed(u16, String),
}

/// One side that is tested: a host, or a test double.
pub trait Driver {
    /// Connects a peer of this name, or returns the status that it was rejected with.
    async fn connect(&mut self, peer: &str, query: &str, headers: &[(String, String)]) -> Result<(), u16>;

    /// Sends a message of the peer, and returns what happens. Messages that arrive before are posts.
    async fn send(&mut self, peer: &str, body: Body) -> Reply;

    /// Returns and removes the posts that the peer has received.
    async fn take_posts(&mut self, peer: &str) -> Vec<Body>;

    /// Closes the connection from the side of the peer.
    async fn close(&mut self, peer: &str, code: u16, reason: &str);

    /// Waits until the connection of the peer is closed from the other side. Returns the code and the reason.
    async fn closed(&mut self, peer: &str) -> (u16, String);

    /// Lets this time pass.
    async fn pass(&mut self, time: Duration);
}

/// All cases, and what the manifest or the test double must provide for them.
pub struct Suite(Value);

impl Suite {
    pub fn parse(json: &str) -> Self {
        Self(serde_json::from_str(json).expect("the cases are JSON"))
    }

    pub fn setup(&self) -> &Value {
        &self.0["setup"]
    }

    /// The names of all cases.
    pub fn names(&self) -> Vec<&str> {
        self.cases().map(|case| case["name"].as_str().expect("a case has a name")).collect()
    }

    /// Runs one case.
    ///
    /// # Errors
    /// Describes the step that had another result than expected.
    pub async fn run(&self, name: &str, driver: &mut impl Driver) -> Result<(), String> {
        let case = self.case(name);
        let mut run = Run { driver, ids: BTreeMap::new() };
        for (number, step) in case["steps"].as_array().expect("a case has steps").iter().enumerate() {
            run.step(step).await.map_err(|why| format!("{name}, step {}: {why}", number + 1))?;
        }
        Ok(())
    }

    /// Returns one case.
    pub fn case(&self, name: &str) -> &Value {
        self.cases().find(|case| case["name"] == name).expect("a case of that name")
    }

    fn cases(&self) -> impl Iterator<Item = &Value> {
        self.0["cases"].as_array().expect("the suite has cases").iter()
    }
}

struct Run<'d, D> {
    driver: &'d mut D,
    /// The connection id of each peer, by its name.
    ids: BTreeMap<String, String>,
}

impl<D: Driver> Run<'_, D> {
    async fn step(&mut self, step: &Value) -> Result<(), String> {
        let fields = step.as_object().expect("a step is an object");
        let peer = |key: &str| fields.get(key).and_then(Value::as_str);
        if let Some(name) = peer("connect") {
            let times = fields.get("times").and_then(Value::as_u64).map(|times| times as usize);
            let Some(times) = times else { return self.connect(name, step).await };
            for number in 0..times {
                let step = numbered(step, number, times);
                self.connect(step["connect"].as_str().expect("a name"), &step).await?;
            }
            Ok(())
        } else if let Some(name) = peer("event") {
            self.event(name, step).await
        } else if let Some(name) = peer("eventually") {
            self.eventually(name, step).await
        } else if let Some(name) = peer("send") {
            self.send(name, step).await
        } else if let Some(name) = peer("at-disconnect") {
            let document = json!({ "at-disconnect": self.calls(&step["calls"]) });
            self.expect_reply(name, document, &Value::Null).await
        } else if let Some(name) = peer("respond") {
            self.respond(name, step).await
        } else if let Some(name) = peer("disconnected") {
            self.disconnected(name, step).await
        } else if let Some(name) = peer("received") {
            self.received(name, step).await
        } else if let Some(name) = peer("close") {
            let code = step["code"].as_u64().unwrap_or(1000).try_into().expect("a close code");
            self.driver.close(name, code, step["reason"].as_str().unwrap_or_default()).await;
            Ok(())
        } else if let Some(name) = peer("closed") {
            let (code, reason) = self.driver.closed(name).await;
            let expected = expand(&json!([step["code"], step["reason"]]));
            compare(&expected, &json!([code, reason]))
        } else if let Some(milliseconds) = fields.get("pass") {
            self.driver.pass(Duration::from_millis(milliseconds.as_u64().expect("milliseconds"))).await;
            Ok(())
        } else {
            panic!("not a step: {step}")
        }
    }

    async fn connect(&mut self, name: &str, step: &Value) -> Result<(), String> {
        let mut query = step["query"].as_str().unwrap_or_default().to_owned();
        let mut add = |parameter: &str, value: &str| {
            query.push(if query.is_empty() { '?' } else { '&' });
            query.push_str(&format!("{parameter}={}", percent_encoded(value)));
        };
        if step["calls"].is_array() {
            add("calls", &self.calls(&step["calls"]).to_string());
        }
        if let Some(status) = step["status"].as_u64() {
            add("status", &status.to_string());
        }
        let headers: Vec<(String, String)> = serde_json::from_value(step["headers"].clone()).unwrap_or_default();
        match (self.driver.connect(name, &query, &headers).await, step["rejected"].as_u64()) {
            (Err(status), Some(expected)) => return compare(&json!(expected), &json!(status)),
            (Err(status), None) => return Err(format!("the peer was rejected with {status}")),
            (Ok(()), Some(status)) => return Err(format!("the peer was admitted, expected {status}")),
            (Ok(()), None) => {}
        }
        let reply = self.reply(name, json!({ "calls": [{ "call": "event" }] })).await?;
        let id = reply[0]["connection-id"].as_str().expect("an id").to_owned();
        self.ids.insert(name.to_owned(), id.clone());
        if step["calls"].is_array() {
            let results = self.reply(name, json!({ "kept": format!("connect {id}") })).await?;
            self.compare_results(&step["calls"], &results)?;
        }
        Ok(())
    }

    /// An event whose handler makes the calls of the step.
    async fn event(&mut self, name: &str, step: &Value) -> Result<(), String> {
        let document = json!({ "calls": self.calls(&step["calls"]) });
        if step["traps"] == true {
            return match self.driver.send(name, Body::Text(document.to_string())).await {
                Reply::Failed => Ok(()),
                other => Err(format!("expected a trap, found {other:?}")),
            };
        }
        let results = self.reply(name, document).await?;
        self.compare_results(&step["calls"], &results)
    }

    /// An event that is repeated until its calls have the expected results.
    async fn eventually(&mut self, name: &str, step: &Value) -> Result<(), String> {
        for _ in 1..LOOKS_MAX {
            if self.event(name, step).await.is_ok() {
                return Ok(());
            }
            self.driver.pass(LOOK_INTERVAL).await;
        }
        self.event(name, step).await
    }

    /// A message whose response has the status and the length of the step.
    async fn respond(&mut self, name: &str, step: &Value) -> Result<(), String> {
        let document = json!({ "status": step["status"], "bytes": step["bytes"] });
        let found = match self.driver.send(name, Body::Text(document.to_string())).await {
            Reply::Text(text) => json!(text.len()),
            other => json!(format!("{other:?}")),
        };
        let expected =
            if step["fails"] == true { json!(format!("{:?}", Reply::Failed)) } else { step["bytes"].clone() };
        compare(&expected, &found)
    }

    /// A message whose content selects the route.
    async fn send(&mut self, name: &str, step: &Value) -> Result<(), String> {
        let body = match &step["text"] {
            Value::Null => Body::Binary(to_bytes(step)),
            text => Body::Text(expand(text).as_str().expect("a text").to_owned()),
        };
        let reply = self.driver.send(name, body).await;
        let found = match reply {
            Reply::Text(reply) => parse_reply(&reply),
            Reply::Failed => json!("failed"),
            Reply::Closed(code, reason) => json!({ "code": code, "reason": reason }),
        };
        let expected = step.get("handled").or_else(|| step.get("closes")).expect("what is expected");
        compare(expected, &found)
    }

    /// Waits until `$disconnect` of a peer has run, and checks its calls. The peer `seen-by` reads their results.
    async fn disconnected(&mut self, name: &str, step: &Value) -> Result<(), String> {
        let by = step["seen-by"].as_str().expect("a peer that is connected");
        let key = format!("disconnect {}", self.ids[name]);
        for _ in 0..LOOKS_MAX {
            let results = self.reply(by, json!({ "kept": key })).await?;
            if !results.is_null() {
                return self.compare_results(&step["calls"], &results);
            }
            self.driver.pass(LOOK_INTERVAL).await;
        }
        Err("$disconnect has not run".to_owned())
    }

    /// Checks what a peer has received since the last such step.
    async fn received(&mut self, name: &str, step: &Value) -> Result<(), String> {
        // The reply is queued behind all earlier posts. If the connection is closed, all posts have arrived.
        self.driver.send(name, Body::Text(json!({ "calls": [] }).to_string())).await;
        let posts = self.driver.take_posts(name).await;
        let posts = posts.into_iter().map(|post| match post {
            Body::Text(text) => json!({ "text": text }),
            Body::Binary(bytes) => json!({ "binary": from_bytes(&bytes) }),
        });
        compare(&expand(&step["messages"]), &shortened(posts.collect()))
    }

    async fn expect_reply(&mut self, name: &str, document: Value, expected: &Value) -> Result<(), String> {
        let reply = self.reply(name, document).await?;
        compare(expected, &reply)
    }

    async fn reply(&mut self, name: &str, document: Value) -> Result<Value, String> {
        match self.driver.send(name, Body::Text(document.to_string())).await {
            Reply::Text(reply) => Ok(parse_reply(&reply)),
            other => Err(format!("expected a reply to {document}, found {other:?}")),
        }
    }

    /// The calls as the handler receives them: without the expected results, and with ids in place of names.
    fn calls(&self, calls: &Value) -> Value {
        let without_result = |call: &Value| {
            let fields = call.as_object().expect("a call is an object").iter().filter(|(name, _)| *name != "result");
            Value::Object(fields.map(|(name, field)| (name.clone(), field.clone())).collect::<Map<_, _>>())
        };
        let calls: Value = calls.as_array().into_iter().flatten().map(without_result).collect();
        with_ids(&calls, &self.ids)
    }

    fn compare_results(&self, calls: &Value, results: &Value) -> Result<(), String> {
        let calls = calls.as_array().map(Vec::as_slice).unwrap_or_default();
        let results = results.as_array().ok_or_else(|| format!("no results, but {results}"))?;
        for (call, result) in calls.iter().zip(results) {
            let expected = with_ids(&expand(call.get("result").unwrap_or(&json!("ok"))), &self.ids);
            compare(&expected, result).map_err(|why| format!("{}: {why}", call["call"]))?;
        }
        compare(&json!(calls.len()), &json!(results.len()))
    }
}

fn compare(expected: &Value, found: &Value) -> Result<(), String> {
    if matches(expected, found) { Ok(()) } else { Err(format!("expected {expected}, found {found}")) }
}

/// Replaces each text that names a peer, such as `@a`, by the id of its connection.
fn with_ids(value: &Value, ids: &BTreeMap<String, String>) -> Value {
    map_texts(value, &|text| {
        let id = text.strip_prefix('@').and_then(|name| ids.get(name));
        id.map_or_else(|| text.to_owned(), Clone::clone)
    })
}

/// Whether a result is the expected one. `{"by-id": LIST}` is a list that is sorted by connection id, and
/// `{"any-order": LIST}` one whose order is not specified.
fn matches(expected: &Value, found: &Value) -> bool {
    match (expected, found) {
        (Value::Object(fields), Value::Array(items)) if fields.len() == 1 => {
            if let Some(Value::Array(list)) = fields.get("by-id") {
                let id = |row: &Value| row["connection-id"].as_str().unwrap_or_default().to_owned();
                let mut list = list.clone();
                list.sort_by_key(id);
                return matches(&list.into(), found);
            }
            let Some(Value::Array(list)) = fields.get("any-order") else { return false };
            let sorted = |list: &[Value]| {
                let mut texts: Vec<String> = list.iter().map(Value::to_string).collect();
                texts.sort();
                texts
            };
            sorted(list) == sorted(items)
        }
        (Value::Object(expected), Value::Object(found)) => {
            expected.len() == found.len()
                && expected.iter().all(|(name, field)| found.get(name).is_some_and(|other| matches(field, other)))
        }
        (Value::Array(expected), Value::Array(found)) => {
            expected.len() == found.len() && expected.iter().zip(found).all(|(item, other)| matches(item, other))
        }
        _ => expected == found,
    }
}

fn parse_reply(reply: &str) -> Value {
    let json = reply.strip_prefix(REPLY_PREFIX).expect("a reply of the handler");
    serde_json::from_str(json).expect("the handler replies in JSON")
}

fn percent_encoded(text: &str) -> String {
    text.bytes()
        .map(|byte| if byte.is_ascii_alphanumeric() { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}
