//! Components that are scripts in Python: loaded by the real engine, live as they are saved.

use std::fs;
use std::path::Path;

use crate::components::{ask_until, replace_file};
use crate::harness::{Server, Site};

/// A manifest whose integration is the script `app.py` with every grant, for messages. `keys` are further keys of the
/// integration.
fn manifest(keys: &str) -> String {
    format!(
        "[integrations.app]\ncomponent = \"app.py\"\ngrants = [\"connections\", \"connection-store\"]\n\
         buckets = [\"state\"]\n{keys}\n\n[buckets.state]\n\n\
         [routes]\n\"$default\" = {{ integration = \"app\", route_response = true }}\n"
    )
}

/// The same, and the script also handles `$connect` and `$disconnect`.
fn site_with_connect(source: &str, keys: &str) -> Site {
    let routes = "\"$connect\" = { integration = \"app\" }\n\"$disconnect\" = { integration = \"app\" }\n";
    let site = Site::new(&(manifest(keys) + routes));
    write(&site, "app.py", source);
    site
}

/// A site with the script `app.py`. `keys` are further keys of the integration.
pub fn site(source: &str, keys: &str) -> Site {
    let site = Site::new(&manifest(keys));
    write(&site, "app.py", source);
    site
}

pub fn write(site: &Site, path: &str, text: &str) {
    let path = site.path().join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn save(server: &Server, source: &str) {
    replace_file(&server.site.path().join("app.py"), source);
}

fn answering(text: &str) -> String {
    format!(
        "from jackfield import plugin\n\n\ndef message(event, context):\n    return {text:?} + \" \" + event.text()\n\n\n\
         handler = plugin(message=message)\n"
    )
}

/// Runs `check` on a script that does not load, and returns what it says.
fn rejected(source: &str) -> String {
    let (code, _, stderr) = site(source, "").run(&["check"]);
    assert_eq!(code, 1, "{stderr}");
    assert!(stderr.contains("[integrations.app] app.py"), "{stderr}");
    stderr
}

#[tokio::test]
async fn a_script_in_python_is_live_as_it_is_saved_and_one_with_an_error_is_not() {
    let server = site(&answering("first"), "").serve();
    let mut peer = server.connect("").await;
    assert_eq!(peer.ask("a äöü").await, "first a äöü");
    save(&server, &answering("second"));
    ask_until(&mut peer, "b", "second b").await;

    save(&server, "def handler(event, context)\n    pass\n");
    server.log.wait_for_line(&["ERROR", "[integrations.app] app.py", "SyntaxError", "line 1"]).await;
    assert_eq!(peer.ask("c").await, "second c");
    save(&server, "raise ValueError(\"not today\")\n");
    server.log.wait_for_line(&["ERROR", "ValueError: not today"]).await;
    assert_eq!(peer.ask("d").await, "second d");
    save(&server, &answering("third"));
    ask_until(&mut peer, "e", "third e").await;
}

#[tokio::test]
async fn a_text_that_the_host_cannot_take_is_an_exception_that_can_be_caught() {
    let source = "from jackfield import connections, kv, log, plugin, store\n\
                  BAD = '\\ud83d'\n\
                  def message(event, context):\n    \
                      log.info(f'logged {BAD}')\n    \
                      print(f'printed {BAD}')\n    \
                      own = context.connection_id\n    \
                      calls = {\n        \
                          'post': lambda: connections.post_to_connection(own, BAD),\n        \
                          'add': lambda: store.add(own, 'a', BAD),\n        \
                          'put': lambda: store.put(own, [('a', 'b'), (BAD, 'c')]),\n        \
                          'get': lambda: kv.bucket('state').get(BAD),\n    \
                      }\n    \
                      if event.text() == 'return':\n        return BAD\n    \
                      try:\n        calls[event.text()]()\n    \
                      except UnicodeEncodeError:\n        return 'caught'\n\
                  handler = plugin(message=message)\n";
    let server = site(source, "").serve();
    let mut peer = server.connect("").await;
    for call in ["post", "add", "put", "get"] {
        assert_eq!(peer.ask(call).await, "caught", "{call}");
    }
    server.log.wait_for_line(&["INFO", r"logged \ud83d"]).await;
    server.log.wait_for_line(&["INFO", r"printed \ud83d"]).await;
    assert!(peer.ask("return").await.contains("Internal server error"));
    server.log.wait_for_line(&["the handler failed: UnicodeEncodeError", "surrogates not allowed"]).await;
}

#[tokio::test]
async fn an_argument_of_another_type_is_an_exception_with_the_line_of_the_script() {
    let source = "from jackfield import connections, plugin, store\n\
                  def message(event, context):\n    \
                      room = store.get(context.connection_id).get('room')\n    \
                      connections.post_to_matching('room', room, event.text())\n\
                  handler = plugin(message=message)\n";
    let server = site(source, "").serve();
    let mut peer = server.connect("").await;
    assert!(peer.ask("hello").await.contains("Internal server error"));
    server.log.wait_for_line(&["the handler failed: TypeError: value is a str, not NoneType"]).await;
    server.log.wait_for_line(&["app.py\", line 4, in message", "post_to_matching"]).await;
}

#[test]
fn a_syntax_error_shows_the_line_and_a_caret() {
    let stderr = rejected("import json\ndef handler(event, context)\n    pass\n");
    let lines: Vec<&str> = stderr.lines().map(str::trim_end).collect();
    let at = lines.iter().position(|line| line.trim() == "File \"app.py\", line 2").expect(&stderr);
    assert_eq!(lines[at + 1].trim(), "def handler(event, context)");
    assert_eq!(lines[at + 2].find('^'), lines[at + 1].find("def").map(|start| start + 27), "{stderr}");
}

#[test]
fn what_a_script_cannot_have_is_refused_by_name() {
    for (source, words) in [
        ("import sqlite3\n", &["sqlite3", "type = \"lambda\"", "app.py\", line 1"][..]),
        ("import numpy\n", &["numpy", "pip install --target packages", "type = \"lambda\""]),
        ("import secrets\nKEY = secrets.token_hex()\n", &["secure randomness", "move it into the handler", "line 2"]),
        ("import time\ntime.sleep(1)\n", &["waiting", "move it into the handler"]),
        ("from jackfield import store\nstore.get('x')\n", &["jackfield.store", "move it into the handler"]),
        ("def connect(event, context): pass\n", &["has no 'handler'", "it has connect"]),
    ] {
        let stderr = rejected(source);
        assert!(words.iter().all(|word| stderr.contains(word)), "{source}: {stderr}");
    }
}

#[tokio::test]
async fn sockets_and_threads_are_refused_when_they_are_used() {
    let source = "import asyncio, socket, threading\n\
                  def listen(): socket.socket().bind(('127.0.0.1', 0))\n\
                  def datagram(): socket.socket(type=socket.SOCK_DGRAM)\n\
                  def redis(): socket.create_connection(('127.0.0.1', 6379)).sendall(b'*1\\r\\n$4\\r\\nPING\\r\\n')\n\
                  def mysql(): socket.create_connection(('127.0.0.1', 3306)).recv(1)\n\
                  def thread(): threading.Thread(target=print).start()\n\
                  def asynchronous(): asyncio.run(asyncio.open_connection('127.0.0.1', 80))\n\
                  def handler(event, context):\n    \
                      globals().get(event['body'], print)()\n    \
                      return {'statusCode': 200, 'body': 'ok'}\n";
    let server = site(source, "handler = \"handler\"").serve();
    let mut peer = server.connect("").await;
    assert_eq!(peer.ask("none").await, "ok");
    for (message, text) in [
        ("thread", "has no threads"),
        ("listen", "socket.bind needs sockets"),
        ("datagram", "a socket that is no stream needs sockets"),
        ("redis", "which is no request of HTTP, needs sockets"),
        ("mysql", "to receive before a request of HTTP was sent needs sockets"),
        ("asynchronous", "with asyncio.to_thread"),
    ] {
        assert!(peer.ask(message).await.contains("Internal server error"), "{message}");
        server.log.wait_for_line(&["the handler failed", text]).await;
    }
}

#[tokio::test]
async fn the_remaining_time_counts_down_the_timeout_of_the_manifest() {
    let source = "import time\n\
                  def handler(event, context):\n    \
                      before = context.get_remaining_time_in_millis()\n    time.sleep(0.05)\n    \
                      after = context.get_remaining_time_in_millis()\n    \
                      return {'statusCode': 200, 'body': str([before > 0, before - after >= 45, before])}\n";
    for (keys, most) in [("timeout = \"9s\"", 9_000), ("", 29_000)] {
        let server = site(source, keys).serve();
        let answer = server.connect("").await.ask("x").await;
        let rest = answer.strip_prefix("[True, True, ").and_then(|rest| rest.strip_suffix(']')).expect(&answer);
        let remaining: u32 = rest.parse().unwrap();
        assert!((most - 3_000..=most).contains(&remaining), "{answer}");
    }
}

#[tokio::test]
async fn an_exception_is_logged_with_its_traceback_and_ends_only_its_event() {
    let source = "import sys\n\n\ndef look(up):\n    return up[\"missing\"]\n\n\ndef handler(event, context):\n    \
                  if event[\"body\"] == \"exit\":\n        sys.exit(3)\n    \
                  if event[\"body\"] == \"key\":\n        look({})\n    \
                  return {\"statusCode\": 200, \"body\": \"fine\"}\n";
    let server = site(source, "").serve();
    let mut peer = server.connect("").await;
    assert!(peer.ask("key").await.contains("Internal server error"));
    server.log.wait_for_line(&["the handler failed: KeyError: 'missing'"]).await;
    server.log.wait_for_line(&["File \"app.py\", line 12, in handler: look({})"]).await;
    server.log.wait_for_line(&["File \"app.py\", line 5, in look: return up[\"missing\"]"]).await;
    assert!(peer.ask("exit").await.contains("Internal server error"));
    server.log.wait_for_line(&["the handler failed: SystemExit", "3"]).await;
    assert_eq!(peer.ask("x").await, "fine");
}

#[tokio::test]
async fn an_endless_loop_and_memory_without_end_are_stopped_by_the_limits() {
    let source = "def handler(event, context):\n    \
                  while event[\"body\"] == \"loop\":\n        pass\n    \
                  kept = []\n    \
                  while event[\"body\"] == \"memory\":\n        kept.append(bytearray(1 << 20))\n    \
                  return {\"statusCode\": 200, \"body\": \"fine\"}\n";
    let server = site(source, "cpu_time = \"300ms\"").serve();
    let mut peer = server.connect("").await;
    for (message, words) in [("loop", "CPU"), ("memory", "MemoryError")] {
        assert!(peer.ask(message).await.contains("Internal server error"));
        server.log.wait_for_line(&["the handler", words]).await;
        assert_eq!(peer.ask("x").await, "fine");
    }
}

#[tokio::test]
async fn recursion_without_end_is_an_exception_that_can_be_caught() {
    let source = r#"
import json

class Endless:
    def __getattr__(self, name):
        return getattr(self, name + "x"[:0] + "y")
    def __str__(self):
        return str(self)
    def __add__(self, other):
        return self + other

def function(): return function()
def attribute(): return Endless().any
def text(): return str(Endless())
def add(): return Endless() + 1
def mapped(value=1): return list(map(mapped, [value]))
def key(value=1): return sorted([value], key=key)

def nested(levels):
    value = []
    for _ in range(levels):
        value = [value]
    return value

def handler(event, context):
    assert json.loads("[" * 1000 + "]" * 1000) == nested(999)
    assert json.dumps(nested(999)) == repr(nested(999)) == "[" * 1000 + "]" * 1000
    try:
        globals()[event["body"]]()
    except RecursionError:
        return {"statusCode": 200, "body": "caught"}
"#;
    let server = site(source, "").serve();
    let mut peer = server.connect("").await;
    for function in ["function", "attribute", "text", "add", "mapped", "key"] {
        assert_eq!(peer.ask(function).await, "caught", "{function}: {}", server.log.text());
    }
}

#[tokio::test]
async fn randomness_clock_and_environment_are_those_of_each_event() {
    let source = "import json, os, random, secrets, time, uuid\n\
                  LOADED = [random.random(), time.time(), os.environ[\"STAGE\"]]\n\
                  def handler(event, context):\n    \
                      found = [random.random(), str(uuid.uuid4()), secrets.token_hex(8), time.time()]\n    \
                      return {\"statusCode\": 200, \"body\": json.dumps([LOADED, found])}\n";
    let server = site(source, "env = { STAGE = \"dev\" }").serve();
    let mut peer = server.connect("").await;
    let first: serde_json::Value = serde_json::from_str(&peer.ask("a").await).unwrap();
    let second: serde_json::Value = serde_json::from_str(&peer.ask("b").await).unwrap();
    assert_eq!(first[0], second[0], "the top level runs once");
    assert_eq!(first[0][2], "dev");
    for index in 0..3 {
        assert_ne!(first[1][index], second[1][index], "{first}");
    }
    let [loaded, one, two] = [&first[0][1], &first[1][3], &second[1][3]].map(|time| time.as_f64().unwrap());
    assert!(1.7e9 < loaded && loaded <= one && one <= two, "{first} {second}");
}

#[tokio::test]
async fn an_async_handler_waits_for_tasks_and_timeouts() {
    let source = "import asyncio\n\
                  async def number(n):\n    await asyncio.sleep(0.02)\n    return n\n\
                  async def handler(event, context):\n    \
                      if event[\"body\"] == \"never\":\n        await asyncio.get_running_loop().create_future()\n    \
                      found = await asyncio.gather(number(1), number(2))\n    \
                      try:\n        async with asyncio.timeout(0.01):\n            await asyncio.sleep(30)\n    \
                      except TimeoutError:\n        found.append(\"timeout\")\n    \
                      asyncio.create_task(asyncio.sleep(30))\n    await asyncio.sleep(0)\n    \
                      return {\"statusCode\": 200, \"body\": str(found)}\n";
    let server = site(source, "").serve();
    let mut peer = server.connect("").await;
    assert_eq!(peer.ask("x").await, "[1, 2, 'timeout']");
    server.log.wait_for_line(&["WARN", "1 of its tasks had not ended"]).await;
    assert!(peer.ask("never").await.contains("Internal server error"));
    server.log.wait_for_line(&["waits for something that never happens"]).await;
    server.log.wait_for_line(&["File \"app.py\", line 7, in handler"]).await;
}

#[tokio::test]
async fn a_lambda_function_with_boto3_posts_through_the_host() {
    let source = "import boto3, json, os\nfrom botocore.exceptions import ClientError\n\
                  client = boto3.client(\"apigatewaymanagementapi\", endpoint_url=\"https://x.execute-api.eu-west-1.amazonaws.com/dev\")\n\
                  def connect(event, context):\n    return {\"statusCode\": 200}\n\
                  def send(event, context):\n    \
                      request = event[\"requestContext\"]\n    \
                      if request[\"routeKey\"] != \"$default\":\n        return connect(event, context)\n    \
                      client.post_to_connection(ConnectionId=request[\"connectionId\"], Data=event[\"body\"].encode())\n    \
                      codes = []\n    \
                      try:\n        client.post_to_connection(ConnectionId=\"L0SM9cOFvHcCIhw=\", Data=b\"x\")\n    \
                      except client.exceptions.GoneException as error:\n        codes.append(error.response[\"Error\"][\"Code\"])\n    \
                      try:\n        client.get_connection(ConnectionId=\"L0SM9cOFvHcCIhw=\")\n    \
                      except ClientError as error:\n        codes.append(error.response[\"ResponseMetadata\"][\"HTTPStatusCode\"])\n    \
                      codes.append(context.aws_request_id == request[\"requestId\"])\n    \
                      return {\"statusCode\": 200, \"body\": json.dumps(codes)}\n";
    let server = site_with_connect(source, "handler = \"send\"").serve();
    let mut peer = server.connect("").await;
    peer.send("hello").await;
    assert_eq!(peer.text().await, "hello");
    assert_eq!(peer.text().await, "[\"GoneException\", 410, true]");
}

#[tokio::test]
async fn the_package_jackfield_reaches_every_host_function() {
    let source = "from jackfield import NoSuchConnectionError, config, connections, kv, plugin, store\n\
                  def connect(event, context):\n    \
                      store.add(context.connection_id, \"room\", event.query[\"room\"])\n    \
                      return {\"statusCode\": 403} if event.query[\"room\"] == \"closed\" else None\n\
                  def message(event, context):\n    \
                      if event.text() == \"all\":\n        return str(connections.post_to_matching(\"room\", \"a\", b\"\\x00\"))\n    \
                      state = kv.bucket(\"state\")\n    \
                      state.set(\"empty\", b\"\")\n    assert state.get(\"empty\") == b\"\"\n    \
                      state.set(\"k\", \"v\")\n    state.update(\"u\", lambda old: (old or b\"\") + b\"1\")\n    \
                      try:\n        store.get(\"L0SM9cOFvHcCIhw=\")\n    \
                      except NoSuchConnectionError as error:\n        status = error.status_code\n    \
                      row = store.get(context.connection_id)\n    \
                      return str([state.get_text(\"k\"), state.get(\"u\"), state.increment(\"n\", 2), status, row.get(\"room\"), \
                  config.get(\"greeting\"), context.source_ip, connections.get_connection(context.connection_id).source_ip])\n\
                  handler = plugin(connect=connect, message=message)\n";
    let server = site_with_connect(source, "config = { greeting = \"hi\" }").serve();
    let mut peer = server.connect("?room=a").await;
    assert_eq!(peer.ask("x").await, "['v', b'1', 2, 404, 'a', 'hi', '127.0.0.1', '127.0.0.1']");
    assert_eq!(server.try_connect("?room=closed", &[]).await.err(), Some(403));
    peer.send("all").await;
    assert_eq!(peer.next().await.unwrap().into_data()[..], [0]);
    assert_eq!(peer.text().await, "1");
}

#[tokio::test]
async fn modules_and_packages_beside_the_script_are_loaded_and_followed() {
    let source = "import importlib.metadata\nimport rooms\nimport words\n\
                  def handler(event, context):\n    \
                      return {\"statusCode\": 200, \"body\": f\"{rooms.NAME} {words.LIST} {importlib.metadata.version('words')}\"}\n";
    let site = site(source, "");
    write(&site, "rooms.py", "NAME = \"blue\"\n");
    write(
        &site,
        "packages/words/__init__.py",
        "from importlib.resources import files\nfrom .deep import nothing\ntry:\n    from . import _fast\n\
         except ImportError:\n    LIST = files(__name__).joinpath(\"list.txt\").read_text().split()\n",
    );
    write(&site, "packages/words/deep/__init__.py", "nothing = None\n");
    write(&site, "packages/words/list.txt", "a b");
    write(&site, "packages/words/_fast.cpython-314-x86_64-linux-gnu.so", "native code");
    write(&site, "packages/words-1.5.dist-info/METADATA", "Metadata-Version: 2.1\nName: words\nVersion: 1.5\n");
    let server = site.serve();
    let mut peer = server.connect("").await;
    assert_eq!(peer.ask("x").await, "blue ['a', 'b'] 1.5");
    replace_file(&server.site.path().join("rooms.py"), "NAME = \"red\"\n");
    ask_until(&mut peer, "y", "red ['a', 'b'] 1.5").await;
}

#[tokio::test]
async fn an_authorizer_may_be_a_script_in_python_of_either_style() {
    let native = "from jackfield import DENY, UNAUTHORIZED, Allow, authorizer\n\
                  def check(event, context):\n    \
                      token = event.query.get(\"token\")\n    \
                      if token is None: return UNAUTHORIZED\n    \
                      return Allow(\"user\", {\"token\": token}) if token == \"good\" else DENY\n\
                  handler = authorizer(check)\n";
    let lambda = "def handler(event, context):\n    \
                      token = (event[\"queryStringParameters\"] or {}).get(\"token\")\n    \
                      if token is None: raise Exception(\"Unauthorized\")\n    \
                      effect = \"Allow\" if token == \"good\" else \"Deny\"\n    \
                      statement = {\"Action\": \"execute-api:Invoke\", \"Effect\": effect, \"Resource\": event[\"methodArn\"]}\n    \
                      return {\"principalId\": \"user\", \"context\": {\"token\": token},\n            \
                              \"policyDocument\": {\"Version\": \"2012-10-17\", \"Statement\": [statement]}}\n";
    let app = "def handler(event, context):\n    \
               return {\"statusCode\": 200, \"body\": str(event[\"requestContext\"].get(\"authorizer\"))}\n";
    for source in [native, lambda] {
        let site = Site::new(
            "[authorizers.door]\ntype = \"component\"\ncomponent = \"door.py\"\n\n\
             [integrations.app]\ncomponent = \"app.py\"\n\n[routes]\n\
             \"$connect\" = { integration = \"app\", authorizer = \"door\" }\n\
             \"$default\" = { integration = \"app\", route_response = true }\n",
        );
        write(&site, "door.py", source);
        write(&site, "app.py", app);
        let server = site.serve();
        assert_eq!(server.try_connect("", &[]).await.err(), Some(401));
        assert_eq!(server.try_connect("?token=bad", &[]).await.err(), Some(403));
        let mut peer = server.connect("?token=good").await;
        let answer = peer.ask("x").await;
        assert!(answer.contains("'principalId': 'user'") && answer.contains("'token': 'good'"), "{answer}");
    }
}

#[tokio::test]
async fn what_a_script_prints_and_logs_is_in_the_log() {
    let source = "import logging\nprint(\"at the top level\")\n\
                  def handler(event, context):\n    \
                      print(\"in\", \"the event\")\n    logging.getLogger(\"mine\").warning(\"careful %s\", 1)\n    \
                      print(\"no end\", end=\"\")\n    return {\"statusCode\": 200, \"body\": \"x\"}\n";
    let server = site(source, "").serve();
    let mut peer = server.connect("").await;
    peer.ask("x").await;
    server.log.wait_for_line(&["INFO", "at the top level"]).await;
    server.log.wait_for_line(&["INFO", "in the event"]).await;
    server.log.wait_for_line(&["WARN", "mine: careful 1"]).await;
    server.log.wait_for_line(&["INFO", "no end"]).await;
}

#[test]
fn without_the_python_engine_the_error_names_the_command_that_makes_it() {
    let site = site(&answering("echo"), "");
    fs::create_dir(site.path().join("empty")).unwrap();
    let (code, _, stderr) = site.run(&["check", "--engines", "empty"]);
    assert_eq!(code, 1, "{stderr}");
    assert!(stderr.contains("Python engine") && stderr.contains("cargo xtask engines"), "{stderr}");
    assert!(Path::new(site.path()).join("app.py").exists());
}
