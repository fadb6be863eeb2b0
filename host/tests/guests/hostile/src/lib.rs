//! A handler that runs the commands in its messages. Most commands do harm, such as an endless loop.
//!
//! A command is a word and its argument: `spin`, `grow 100`, `post ID`. The response is the result of the command. A
//! message in JSON without a command is sent back after the key of its route.

use std::fmt::Display;
use std::io::{Read as _, Write as _};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use jackfield_sdk::prelude::*;
use jackfield_sdk::{Error, config, connection_store, kv};

mod draft;
mod holds;
mod http;
mod resources;
mod store;
mod version;

struct Hostile;

impl Plugin for Hostile {
    /// `?record=KEY` stores the whole request under that key, `?event=KEY` the event as JSON, `?protocol=NAME` accepts a subprotocol,
    /// `?header=NAME:VALUE` adds that header to the response, and `?do=COMMAND` runs a command.
    fn on_connect(context: &RequestContext, request: ConnectEvent) -> Result<Response> {
        if let Some(key) = request.query("record") {
            let line = |kind: char| move |(name, value): &(String, String)| format!("{kind} {name}={value}\n");
            let headers = request.headers.iter().map(line('H'));
            let lines: String = headers.chain(request.query_string.iter().map(line('Q'))).collect();
            kv::Bucket::open("shared")?.set(key, format!("{}\n{lines}", context.connection_id))?;
        }
        if let Some(key) = request.query("event") {
            kv::Bucket::open("shared")?.set(key, current_connection::event())?;
        }
        let response = match request.query("do") {
            Some(command) => run_command(context, command)?,
            None => Response::ok(),
        };
        let response = match request.query("protocol") {
            Some(protocol) => response.with_header("sec-websocket-protocol", protocol),
            None => response,
        };
        Ok(match request.query("header").and_then(|header| header.split_once(':')) {
            Some((name, value)) => response.with_header(name, value),
            None => response,
        })
    }

    fn on_message(context: &RequestContext, message: MessageEvent) -> Result<Response> {
        match message.body.as_text() {
            // JSON without a command.
            Some(json) if json.starts_with(['{', '[']) && command_in(json) == json => {
                reply(format!("{} {json}", context.route_key))
            }
            Some(command) => run_command(context, command_in(command)),
            None if message.body.as_bytes() == b"event" => run_command(context, "event"),
            None => run_command(context, "binary"),
        }
    }

    /// Adds a line with the code and the reason to the bucket, where a test can read it. If it runs twice for a
    /// connection, there are two lines. The reason `event=KEY` stores the event as JSON under that key.
    fn on_disconnect(context: &RequestContext, end: DisconnectEvent) -> Result<()> {
        let ends = kv::Bucket::open("ends")?;
        ends.increment("count", 1)?;
        let mut lines = ends.get(&context.connection_id)?.map_or(Vec::new(), |mut before| {
            before.push(b'\n');
            before
        });
        lines.extend(format!("{} {}", end.status_code, end.reason).into_bytes());
        ends.set(&context.connection_id, lines)?;
        if let Some(key) = end.reason.strip_prefix("event=") {
            kv::Bucket::open("shared")?.set(key, current_connection::event())?;
        }
        let row = connection_store::get(&context.connection_id)?;
        if let Some(command) = row.attribute("at-end") {
            run_command(context, command)?;
        }
        Ok(())
    }
}

export!(Hostile);

/// Returns the command of a message: the whole message, or the text `do` of a JSON object, whose other fields can
/// select
/// the route. Escape sequences are not decoded.
fn command_in(text: &str) -> &str {
    let command = text.strip_prefix('{').and_then(|object| object.split_once(r#""do":""#));
    command.and_then(|(_, rest)| rest.split_once('"')).map_or(text, |(command, _)| command)
}

fn run_command(context: &RequestContext, command: &str) -> Result<Response> {
    let (word, rest) = command.split_once(' ').unwrap_or((command, ""));
    let number = || rest.parse::<usize>().map_err(|_| Error::from(format!("{rest:?} is no number")));
    match word {
        "echo" => reply(rest),
        "binary" => Ok(Response::reply(Payload::Binary(vec![0, 1, 254, 255]))),
        "silent" => Ok(Response::ok()),
        "status" => Ok(Response::status(rest.parse().unwrap_or(0)).with_body("a body")),
        "body" => reply("x".repeat(number()?)),
        "fail" => Err(Error::from(format!("as ordered: {rest}"))),
        "trap" => panic!("as ordered: {rest}"),
        "exit" => std::process::exit(rest.parse().unwrap_or(0)),
        "spin" => loop {
            std::hint::spin_loop();
        },
        "sleep" => {
            std::thread::sleep(Duration::from_millis(number()? as u64));
            reply("awake")
        }
        // Posts to a connection before it sleeps, so that a test knows when the event runs.
        "begin" => {
            let (id, milliseconds) = rest.split_once(' ').unwrap_or((rest, ""));
            connections::post(id, "begun")?;
            std::thread::sleep(Duration::from_millis(milliseconds.parse().unwrap_or(0)));
            reply("awake")
        }
        "version" => {
            if let Ok(milliseconds) = number() {
                std::thread::sleep(Duration::from_millis(milliseconds as u64));
            }
            reply(version::number())
        }
        "later" => {
            let (milliseconds, command) = rest.split_once(' ').unwrap_or((rest, "silent"));
            std::thread::sleep(Duration::from_millis(milliseconds.parse().unwrap_or(0)));
            run_command(context, command)
        }
        "keep" => {
            let (key, command) = rest.split_once(' ').unwrap_or((rest, "silent"));
            let response = run_command(context, command)?;
            let text = response.body.as_ref().and_then(Payload::as_text).unwrap_or("nothing");
            kv::Bucket::open("shared")?.set(key, text)?;
            Ok(response)
        }
        "stamp" => reply(format_args!("{} {rest}", version::number())),
        "work" => {
            resources::work(Duration::from_millis(number()? as u64));
            reply("worked")
        }
        "steps" => {
            resources::steps(number()?);
            reply("done")
        }
        "toil" => {
            let (key, steps) = rest.split_once(' ').ok_or("a key and a number are needed")?;
            let (bucket, steps) = (kv::Bucket::open("shared")?, steps.parse()?);
            loop {
                resources::steps(steps);
                bucket.increment(key, 1)?;
            }
        }
        "naps" => {
            resources::naps(number()?);
            reply("awake")
        }
        "descend" => reply(resources::descend(number()? as u64)),
        "recurse" => reply(recurse(number()? as u64)),
        "allocate" => reply(resources::allocate(number()?)),
        "hold" => {
            let (mebibytes, milliseconds) = two_numbers(rest)?;
            let held = resources::grow(mebibytes);
            std::thread::sleep(Duration::from_millis(milliseconds as u64));
            reply(held.len())
        }
        "holds" => reply(holds::run_command(rest)),
        "grow" => reply(resources::grow(number()?).len()),
        "count" => reply(count()),
        "id" => reply(&context.connection_id),
        "print" => {
            println!("{rest}");
            reply("printed")
        }
        "flood" => {
            let line = "x".repeat(1000);
            for _ in 0..number()? {
                eprintln!("{line}");
            }
            reply("flooded")
        }
        "log" => {
            log::error(rest);
            reply("logged")
        }
        "print-error" => {
            eprint!("{rest}");
            reply("printed")
        }
        "log-in-context" => {
            let (bytes, count) = two_numbers(rest)?;
            resources::log_in_context(bytes, count);
            reply("logged")
        }
        "log-short-lines" => {
            let (count, line) = rest.split_once(' ').unwrap_or((rest, ""));
            resources::log_short_lines(line, count.parse()?);
            reply("logged")
        }
        "file" => result_text(std::fs::read_to_string(rest)),
        "open-many" => {
            let (count, path) = rest.split_once(' ').ok_or("a number and a path are needed")?;
            reply(resources::hold_many(count.parse()?, || std::fs::File::open(path)))
        }
        "dial-many" => {
            let (count, address) = rest.split_once(' ').ok_or("a number and an address are needed")?;
            reply(resources::hold_many(count.parse()?, || std::net::TcpStream::connect(address)))
        }
        "open-and-close" => {
            let (count, path) = rest.split_once(' ').ok_or("a number and a path are needed")?;
            let open = (0..count.parse()?).try_for_each(|_| std::fs::File::open(path).map(drop));
            result_text(open.map(|()| "closed"))
        }
        "write" => result_text(std::fs::write(rest, "written").map(|()| "written")),
        "folder" => result_text(std::fs::read_dir(rest).map(|entries| entries.count())),
        "remove" => result_text(std::fs::remove_file(rest).map(|()| "removed")),
        "env" => reply(std::env::var(rest).unwrap_or_else(|_| format!("no {rest}"))),
        "dial" => result_text(dial(rest)),
        "listen" => result_text(std::net::TcpListener::bind(rest).map(|_| "listening")),
        "udp" => result_text(std::net::UdpSocket::bind(rest).map(|_| "bound")),
        "fetch" => reply(http::fetch(rest)),
        "follow" => reply(http::follow(rest)),
        "config" => result_text(config::get(rest).map(|value| value.unwrap_or_else(|| "none".to_owned()))),
        "row" => {
            let (name, value) = rest.split_once('=').unwrap_or((rest, ""));
            result_text(connection_store::add(&context.connection_id, name, value).map(|()| "added"))
        }
        "add-to" => result_text(store::change(rest, connection_store::add)),
        "put-to" => result_text(store::change(rest, |id, name, value| connection_store::put(id, [(name, value)]))),
        "remove-from" => result_text(store::change(rest, |id, name, _| connection_store::remove(id, name, None))),
        "attributes-of" => result_text(connection_store::get(rest).map(|row| row.attributes.len())),
        "post-times" => {
            let mut words = rest.split(' ');
            let mut next = || words.next().unwrap_or_default();
            let (id, count, size) = (next(), next().parse().unwrap_or(0), next().parse().unwrap_or(0));
            reply(post_times(id, count, &"x".repeat(size)))
        }
        "posts" => reply(post_times(&context.connection_id, number()?, "x")),
        "row-of" => result_text(store::row(rest)),
        "query" => {
            let (name, value) = rest.split_once('=').unwrap_or((rest, ""));
            result_text(store::query(name, value))
        }
        "scan" => result_text(store::scan()),
        "attributes" => {
            let (count, bytes) = two_numbers(rest)?;
            result_text(store::attributes(&context.connection_id, count, bytes))
        }
        "match" => {
            let (name, value) = rest.split_once('=').unwrap_or((rest, ""));
            result_text(connections::post_to_matching(name, value, "matched", Some(&context.connection_id)))
        }
        "info" => result_text(connections::get(rest).map(|info| info.identity.source_ip)),
        "post-many" => reply(resources::post_many(context, number()?)),
        "post-large" => reply(resources::post_large(context, number()?)),
        "post" => {
            let (id, text) = rest.split_once(' ').unwrap_or((rest, "hello"));
            result_text(connections::post(id, text).map(|()| "posted"))
        }
        "close" => {
            let (id, frame) = rest.split_once(' ').unwrap_or((rest, ""));
            let closed = match frame.split_once(' ') {
                Some((code, reason)) => connections::delete_with(id, code.parse().unwrap_or(0), reason),
                None => connections::delete(id),
            };
            result_text(closed.map(|()| "closed"))
        }
        "ended" => {
            let end = kv::Bucket::open("ends")?.get(rest)?;
            reply(end.map_or("none".to_owned(), |end| String::from_utf8_lossy(&end).into_owned()))
        }
        "ends" => {
            let count = kv::Bucket::open("ends")?.get("count")?;
            reply(count.map_or("0".to_owned(), |count| String::from_utf8_lossy(&count).into_owned()))
        }
        "handles" => reply(resources::handles(number()?)),
        "lookups" => result_text(resources::lookups(number()?)),
        "random" => reply(resources::random(number()?)),
        "bucket" => result_text(kv::Bucket::open(rest).map(|_| "opened")),
        "set" => {
            let (key, value) = rest.split_once(' ').unwrap_or((rest, ""));
            result_text(kv::Bucket::open("shared")?.set(key, value).map(|()| "set"))
        }
        "get" => {
            let value = kv::Bucket::open("shared")?.get(rest)?;
            reply(value.map_or("none".to_owned(), |value| String::from_utf8_lossy(&value).into_owned()))
        }
        "delete" => result_text(store::delete(rest)),
        "exists" => result_text(store::exists(rest)),
        "increment" => {
            let (key, delta) = rest.split_once(' ').unwrap_or((rest, "1"));
            result_text(store::increment(key, delta.parse()?))
        }
        "many" => result_text(store::many()),
        "batch" => result_text(store::batch(number()?)),
        "set-bytes" => {
            let (key, bytes) = rest.split_once(' ').ok_or("a key and a number are needed")?;
            result_text(kv::Bucket::open("shared")?.set(key, vec![b'x'; bytes.parse()?]).map(|()| "set"))
        }
        "set-many" => {
            let (count, bytes) = two_numbers(rest)?;
            let pairs = (0..count).map(|index| (format!("many {index:03}"), vec![b'x'; bytes]));
            result_text(kv::Bucket::open("shared")?.set_many(pairs).map(|()| "set"))
        }
        "big-value" => {
            let bytes = vec![b'x'; number()?];
            result_text(kv::Bucket::open("shared")?.set("big", bytes).map(|()| "set"))
        }
        "add-one" => {
            let bucket = kv::Bucket::open("shared")?;
            bucket.update(rest, |now| {
                let now = now.and_then(|bytes| String::from_utf8(bytes).ok()?.parse().ok()).unwrap_or(0_u64);
                (now + 1).to_string().into_bytes()
            })?;
            reply("added")
        }
        "fill" => {
            let bucket = kv::Bucket::open("shared")?;
            for index in 0..number()? {
                bucket.set(&format!("key {index:05}"), "")?;
            }
            reply("filled")
        }
        "keys" => {
            let bucket = kv::Bucket::open("shared")?;
            let keys: Result<Vec<_>, _> = bucket.keys().collect();
            reply(keys?.len())
        }
        "event" => reply(current_connection::event()),
        "draft" => reply(draft::run_command(rest)),
        "agent" => reply(current_connection::context().identity.user_agent.unwrap_or_else(|| "none".to_owned())),
        "variable" => {
            let context = current_connection::context();
            reply(context.stage_variable(rest).unwrap_or("none"))
        }
        "granted" => {
            let granted = current_connection::context().authorizer;
            reply(granted.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" "))
        }
        "context" => {
            let context = current_connection::context();
            let source_ip = &context.identity.source_ip;
            reply(format!("{} {} {} {source_ip}", context.api_id, context.stage, context.domain_name))
        }
        _ => Err(Error::from(format!("no such command: {command}"))),
    }
}

fn reply(text: impl Display) -> Result<Response> {
    Ok(Response::reply(text.to_string()))
}

fn two_numbers(text: &str) -> Result<(usize, usize)> {
    let (first, second) = text.split_once(' ').ok_or("two numbers are needed")?;
    Ok((first.parse()?, second.parse()?))
}

/// Returns a response with the value or the error.
fn result_text<T: Display, E: Display>(result: std::result::Result<T, E>) -> Result<Response> {
    match result {
        Ok(value) => reply(value),
        Err(error) => reply(format!("error: {error}")),
    }
}

#[inline(never)]
#[allow(unconditional_recursion)]
fn recurse(depth: u64) -> u64 {
    let frame = std::hint::black_box([depth; 64]);
    if depth == 0 { frame[1] } else { recurse(depth - 1) + std::hint::black_box(frame)[0] }
}

/// Returns how many times this instance has run the command.
fn count() -> u32 {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    COUNT.fetch_add(1, Ordering::Relaxed) + 1
}

fn dial(address: &str) -> std::io::Result<String> {
    let mut stream = std::net::TcpStream::connect(address)?;
    stream.write_all(b"hello\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// Posts `count` times, until a post fails. Returns how many posts were queued, and the error.
fn post_times(id: &str, count: usize, text: &str) -> String {
    let mut posted = 0;
    for _ in 0..count {
        match connections::post(id, text) {
            Ok(()) => posted += 1,
            Err(error) => return format!("{posted} then {error}"),
        }
    }
    posted.to_string()
}
