//! What is true: each section of the manifest, with its defaults and its bounds.
//!
//! A value that is wrong is told and stands in by its default, so that the rest is checked too.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::Path;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::model;
use super::other_names::nearest;
use super::section::{Entry, Section};
use super::value::{self, Wrong};
use super::{Api, Backend, Component, Profile, Route, Server, Stage, allowed_host, api_key, throttle};
use crate::backend::{Durability, SledOptions};
use crate::capability::{AllowedHost, FileGrant, Grants};
use crate::gateway::{Ordering, RouteKey, RouteSelectionExpression};
use crate::limits::{self, ConnectionLimits, EventLimits};
use crate::world::World;

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;
const MILLION: usize = 1_000_000;

const ROUTE_SELECTION_EXPRESSION: &str = "$request.body.action";
pub const LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 3001);
pub const STAGE: &str = "dev";
const ACCOUNT_ID: &str = "000000000000";
const REGION: &str = "us-east-1";
/// API Gateway's bound of a stage's name.
pub const NAME_LENGTH_MAX: usize = 128;
/// API Gateway allows 50 ms to 29 s; here a slow handler may take as long as a Lambda function.
const EVENT_TIMEOUTS: RangeInclusive<Duration> = Duration::from_millis(50)..=Duration::from_secs(15 * 60);
/// An epoch, to the longest event.
const EVENT_CPU_TIMES: RangeInclusive<Duration> = limits::EPOCH_INTERVAL..=Duration::from_secs(15 * 60);
/// One page of WebAssembly, to all that 32 bits address.
const EVENT_MEMORIES: RangeInclusive<usize> = 64 * KIB..=4096 * MIB;
/// Short enough for tests, long enough for anybody.
const WAITS: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_secs(30 * 24 * 60 * 60);

pub fn api(section: &mut Section<'_>) -> Api {
    let profile = section.read("profile", Profile::parse).unwrap_or_default();
    Api {
        id: section.read("id", |id| named(id, NAME_LENGTH_MAX)).unwrap_or("local").to_owned(),
        account_id: section.read("account_id", account_id).unwrap_or(ACCOUNT_ID).to_owned(),
        profile,
        ordering: section.read("ordering", ordering).unwrap_or(profile.ordering()),
        api_key_source: section.read("api_key_selection_expression", api_key::source).unwrap_or_default(),
        region: section.read("region", |region| named(region, NAME_LENGTH_MAX)).unwrap_or(REGION).to_owned(),
        route_selection_expression: section.read("route_selection_expression", expression).unwrap_or_else(|| {
            RouteSelectionExpression::parse(ROUTE_SELECTION_EXPRESSION).expect("the default is good")
        }),
    }
}

fn account_id<'m>(value: &'m DeValue<'m>) -> Result<&'m str, Wrong> {
    let id = value::text(value)?;
    if id.len() == 12 && id.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(id);
    }
    Err(Wrong::new("12 digits in quotes", ""))
}

pub fn named<'m>(value: &'m DeValue<'m>, length_max: usize) -> Result<&'m str, Wrong> {
    let name = value::text(value)?;
    value::name(length_max)(name).map(|()| name)
}

pub fn expression(value: &DeValue<'_>) -> Result<RouteSelectionExpression, Wrong> {
    RouteSelectionExpression::parse(value::text(value)?).map_err(|error| Wrong {
        found: Some(format!("{} at character {}", error.found, error.position)),
        expected: error.expected,
        advice: String::new(),
    })
}

pub fn server(mut section: Section<'_>, folder: &Path) -> Server {
    let server = Server {
        listen: section.read("listen", value::listen_address).unwrap_or(LISTEN),
        metrics: section.read("metrics", value::listen_address),
        page: section.read("page", value::path(folder)),
        connections_max: section.read("connections_max", value::count(1..=MILLION)).unwrap_or(limits::CONNECTIONS_MAX),
        stop_timeout: section
            .read("stop_timeout", value::duration(Duration::ZERO..=Duration::from_secs(15 * 60)))
            .unwrap_or(limits::STOP_TIMEOUT),
        cache: section.read("cache", value::path(folder)),
        memory_bytes: section.read("memory_total", value::size(MIB..=MIB * MIB)),
    };
    if server.metrics.is_some_and(|metrics| metrics == server.listen && metrics.port() != 0) {
        let problem = format!("server.metrics: found {}, expected another address than that of listen", server.listen);
        section.problems.error(section.span_of("metrics"), problem, "take another port");
    }
    section.finish();
    server
}

pub fn ordering(value: &DeValue<'_>) -> Result<Ordering, Wrong> {
    match value.as_str() {
        Some("connection") => Ok(Ordering::Connection),
        Some("none") => Ok(Ordering::None),
        _ => Err(Wrong::new("\"connection\" (in their order) or \"none\" (side by side)", "")),
    }
}

pub fn connection(mut section: Section<'_>, profile: Profile, strict: bool) -> ConnectionLimits {
    let default = profile.connection();
    let message_size = section.read("message_size", value::size(1..=16 * MIB));
    let message_bytes = message_size.unwrap_or(default.message_bytes);
    let limits = ConnectionLimits {
        message_bytes,
        // What was not written follows what was.
        frame_bytes: match section.read("frame_size", value::size_or_none(1..=16 * MIB)) {
            Some(written) => written.unwrap_or(message_bytes),
            None => default.frame_bytes.min(message_bytes),
        },
        strict,
        ping_resets_idle: section.read("ping_resets_idle", value::flag).unwrap_or(default.ping_resets_idle),
        idle_timeout: section.read("idle_timeout", value::duration_or_none(WAITS)).unwrap_or(default.idle_timeout),
        duration: section.read("duration", value::duration_or_none(WAITS)).unwrap_or(default.duration),
        ping_interval: section.read("ping_interval", value::duration_or_none(WAITS)).unwrap_or(default.ping_interval),
        write_timeout: section.read("write_timeout", value::duration(WAITS)).unwrap_or(default.write_timeout),
        outbox_messages: section.read("outbox_messages", value::count(1..=MILLION)).unwrap_or(default.outbox_messages),
        outbox_bytes: section
            .read("outbox_size", value::size(1..=1024 * MIB))
            .unwrap_or(default.outbox_bytes.max(message_bytes)),
        read_buffer_bytes: section.read("read_buffer", value::size(256..=MIB)).unwrap_or(default.read_buffer_bytes),
    };
    // Held against a size that was refused, the others would be refused without reason.
    if message_size.is_some() || !section.is_written("message_size") {
        check_message_size(&section, &limits);
    }
    profile.tell_of_connection(&section, &limits);
    section.finish();
    limits
}

fn check_message_size(section: &Section<'_>, limits: &ConnectionLimits) {
    let message_size = value::written_size(limits.message_bytes);
    if limits.frame_bytes > limits.message_bytes {
        let found = value::written_size(limits.frame_bytes);
        let problem = format!("connection.frame_size: found {found}, expected at most message_size, {message_size}");
        section.problems.error(section.span_of("frame_size"), problem, "lower it, or raise message_size");
    }
    if limits.outbox_bytes < limits.message_bytes {
        let found = value::written_size(limits.outbox_bytes);
        let problem = format!("connection.outbox_size: found {found}, expected at least message_size, {message_size}");
        section.problems.error(section.span_of("outbox_size"), problem, "raise it: no such message could be sent");
    }
}

pub fn backend(mut section: Section<'_>, folder: &Path) -> Backend {
    let url = section.read("url", sled_folder).unwrap_or("data");
    let always = section.read("durability", durability_is_always).unwrap_or(false);
    let flushes = Duration::from_millis(1)..=Duration::from_secs(60);
    let interval = section.read("flush_interval", value::duration(flushes)).unwrap_or(limits::FLUSH_INTERVAL);
    if always && section.is_written("flush_interval") {
        let problem = "backend.flush_interval: found beside durability = \"always\", which flushes before each answer";
        section.problems.error(section.span_of("flush_interval"), problem.to_owned(), "leave one of the two out");
    }
    section.finish();
    let durability = if always { Durability::Always } else { Durability::Interval(interval) };
    Backend::Sled(SledOptions { folder: folder.join(url), durability })
}

fn sled_folder<'m>(value: &'m DeValue<'m>) -> Result<&'m str, Wrong> {
    let wrong = |advice: &str| Wrong::new("\"sled:FOLDER\"", advice);
    let url = value.as_str().ok_or_else(|| wrong(""))?;
    match url.split_once(':') {
        Some(("sled", folder)) if folder.starts_with("//") => Err(wrong("leave out the slashes: \"sled:data\"")),
        Some(("sled", folder)) if !folder.is_empty() && !folder.contains('\0') => Ok(folder),
        Some(("redis" | "rediss", _)) => Err(wrong("Redis is not there yet")),
        None if !url.is_empty() => Err(wrong(&format!("for a folder write \"sled:{url}\""))),
        _ => Err(wrong("")),
    }
}

fn durability_is_always(value: &DeValue<'_>) -> Result<bool, Wrong> {
    match value.as_str() {
        Some("always") => Ok(true),
        Some("interval") => Ok(false),
        _ => Err(Wrong::new("\"always\" (flush, then answer) or \"interval\" (answer, flush at flush_interval)", "")),
    }
}

/// An integration or an authorizer of type "component".
pub fn component(world: World, name: &str, section: &mut Section<'_>, folder: &Path) -> Component {
    let component = section.read_needed("component", value::path(folder));
    let integration = Component {
        world,
        name: name.to_owned(),
        component: component.unwrap_or_default(),
        component_line: section.problems.line(section.span_of("component")),
        build: section.read("build", command),
        watch: section.read_items("watch", value::path(folder)),
        grants: grants(section, folder),
        limits: event_limits(section),
        reuse: section.read("reuse", value::count(0..=MILLION)).unwrap_or(0),
    };
    let (has_build, has_watch) = (section.is_written("build"), !integration.watch.is_empty());
    if has_build != has_watch {
        let (written, missing) = if has_build { ("build", "watch") } else { ("watch", "build") };
        let problem = format!("{}: found without {missing}, so `jackfield dev` never builds", section.name_of(written));
        let advice = if has_build { "add watch = [\"src\"]" } else { "add build = \"cargo build --release\"" };
        section.problems.warning(section.span_of(written), problem, advice);
    }
    integration
}

fn command(value: &DeValue<'_>) -> Result<String, Wrong> {
    let command = value::text(value)?;
    if command.trim().is_empty() {
        return Err(Wrong::new("a command such as \"cargo build --release\"", ""));
    }
    Ok(command.to_owned())
}

fn event_limits(section: &mut Section<'_>) -> EventLimits {
    let default = EventLimits::default();
    let limits = EventLimits {
        timeout: section.read("timeout", value::duration(EVENT_TIMEOUTS)).unwrap_or(default.timeout),
        cpu_time: section.read("cpu_time", value::duration(EVENT_CPU_TIMES)).unwrap_or(default.cpu_time),
        memory_bytes: section.read("memory", value::size(EVENT_MEMORIES)).unwrap_or(default.memory_bytes),
        host_calls: section.read("host_calls", value::count(0..=10 * MILLION)).unwrap_or(default.host_calls),
        log_bytes: section.read("log_size", value::size(0..=16 * MIB)).unwrap_or(default.log_bytes),
    };
    if section.is_written("cpu_time") && limits.cpu_time > limits.timeout {
        let [cpu_time, timeout] = [limits.cpu_time, limits.timeout].map(humantime::format_duration);
        let problem = format!("{}: found {cpu_time}, more than timeout, {timeout}", section.name_of("cpu_time"));
        section.problems.warning(section.span_of("cpu_time"), problem, "the timeout comes first");
    }
    limits
}

fn grants(section: &mut Section<'_>, folder: &Path) -> Grants {
    let words = section.read_items("grants", grant);
    let mut files: Vec<FileGrant> = Vec::new();
    section.read_list("files", |section, name, item| {
        let grant = file_grant(section, name, item, folder)?;
        if files.iter().any(|other| other.guest == grant.guest) {
            let wrong = Wrong::new("a guest path of its own", "");
            section.wrong(name, item, Wrong { found: Some(format!("{:?} a second time", grant.guest)), ..wrong });
        }
        files.push(grant);
        Some(())
    });
    Grants {
        connections: words.contains(&Word::Connections),
        connection_store: words.contains(&Word::ConnectionStore),
        buckets: section.read_items("buckets", value::bucket).into_iter().collect(),
        config: section.read_texts("config", value::any_name),
        allowed_hosts: section.read_list("allowed_hosts", allowed_host_entry),
        files,
        sockets: section.read_items("sockets", value::peer_address),
        environment: section.read_texts("env", value::variable_name),
    }
}

/// What can stand in `grants`.
#[derive(Clone, Copy, PartialEq)]
enum Word {
    Connections,
    ConnectionStore,
}

fn grant(value: &DeValue<'_>) -> Result<Word, Wrong> {
    let wrong = |advice: &str| Wrong::new("\"connections\" or \"connection-store\"", advice);
    match value::text(value)? {
        "connections" => Ok(Word::Connections),
        "connection-store" => Ok(Word::ConnectionStore),
        "current-connection" | "logging" | "clocks" | "random" | "stdout" | "stderr" => {
            Err(wrong("leave it out: every component has it"))
        }
        "keyvalue" | "key-value" | "buckets" => Err(wrong("name the buckets instead: buckets = [\"NAME\"]")),
        "http" | "outgoing-http" | "outgoing-handler" => {
            Err(wrong("name the hosts instead: allowed_hosts = [\"https://api.example.com\"]"))
        }
        "filesystem" | "files" => {
            Err(wrong("name the folders instead: files = [{ host = \"data\", guest = \"/data\" }]"))
        }
        "sockets" => Err(wrong("name the addresses instead: sockets = [\"127.0.0.1:6379\"]")),
        "env" | "environment" => Err(wrong("name the variables instead: env = { NAME = \"value\" }")),
        "config" => Err(wrong("write the values instead: config = { name = \"value\" }")),
        other => match nearest(other, ["connections", "connection-store"].into_iter()) {
            Some(word) => Err(wrong(&format!("did you mean \"{word}\"?"))),
            None => Err(wrong("")),
        },
    }
}

/// `"https://api.example.com"` or `{ url = "https://internal.example", private = true }`.
fn allowed_host_entry<'m>(section: &Section<'m>, name: &str, item: &'m Spanned<DeValue<'m>>) -> Option<AllowedHost> {
    let DeValue::Table(_) = item.get_ref() else {
        return section.meaning(name, item, |url| allowed_host::parse(url, false));
    };
    let mut entry = section.table(name, item.span(), item, Wrong::new("", ""))?;
    let private = entry.read("private", value::flag).unwrap_or(false);
    let host = entry.read_needed("url", |url| allowed_host::parse(url, private));
    entry.finish();
    host
}

fn file_grant<'m>(
    section: &Section<'m>,
    name: &str,
    item: &'m Spanned<DeValue<'m>>,
    folder: &Path,
) -> Option<FileGrant> {
    let mut entry = section.table(name, item.span(), item, Wrong::new("{ host = \"data\", guest = \"/data\" }", ""))?;
    let host = entry.read_needed("host", value::path(folder));
    let guest = entry.read_needed("guest", value::guest_path);
    let write = entry.read("write", value::flag).unwrap_or(false);
    entry.finish();
    Some(FileGrant { host: host?, guest: guest?, write })
}

/// What a route can name.
pub struct Known<'s, 'm> {
    pub integrations: &'s Section<'m>,
    pub authorizers: &'s Section<'m>,
    pub models: &'s Section<'m>,
}

pub fn routes(section: &Section<'_>, known: &Known<'_, '_>) -> BTreeMap<RouteKey, Route> {
    let mut routes = BTreeMap::new();
    for entry in section.entries() {
        let key = match RouteKey::parse(entry.key) {
            Ok(key) => key,
            Err(_) => {
                let expected = "$connect, $disconnect, $default, or a key that does not begin with $ and is not empty";
                let meant = nearest(entry.key, ["$connect", "$disconnect", "$default"].into_iter());
                let advice = meant.map(|key| format!("did you mean {key}?")).unwrap_or_default();
                section.wrong_key(&entry, Wrong::new(expected, advice));
                continue;
            }
        };
        let name = section.name_of(entry.key);
        if let Some(route) = route(section, &name, &entry, known) {
            if matches!(key, RouteKey::Connect | RouteKey::Disconnect) {
                let ordering = route.ordering.is_some();
                let models = route.models.is_some();
                let of_messages =
                    [("route_response = true", route.route_response), ("ordering", ordering), ("models", models)];
                for (found, _) in of_messages.into_iter().filter(|(_, found)| *found) {
                    let problem = format!("{name}: found {found}, which only a message can have");
                    section.problems.warning(entry.key_span.clone(), problem, "leave it out");
                }
            }
            let of_connect = [("authorizer", route.authorizer.is_some()), ("api_key_required", route.api_key_required)];
            for (found, _) in of_connect.into_iter().filter(|(_, found)| *found && key != RouteKey::Connect) {
                let problem = format!("{name}: found {found}, but a peer is let in once, at $connect");
                section.problems.error(entry.key_span.clone(), problem, "write it at \"$connect\"");
            }
            if key == RouteKey::Disconnect && route.throttle.is_some() {
                let problem = format!("{name}: found throttle, but the end of a connection is never refused");
                section.problems.warning(entry.key_span, problem, "leave it out");
            }
            routes.insert(key, route);
        }
    }
    routes
}

pub fn tell_of_no_route(section: &Section<'_>) {
    if section.entries().next().is_none() {
        let problem = "found no route, so every message is answered with Forbidden".to_owned();
        section.problems.warning(section.span(), problem, "add [routes], and below it \"$default\" = \"INTEGRATION\"");
    }
}

/// `"integration"` or `{ integration = "integration", route_response = true }`.
fn route<'m>(section: &Section<'m>, name: &str, entry: &Entry<'m>, known: &Known<'_, '_>) -> Option<Route> {
    let integration = |value: &'m DeValue<'m>| integration_name(value, known.integrations);
    match entry.value.get_ref() {
        DeValue::Table(table) if is_dotted_key(table) => {
            let (key, _) = table.iter().next()?;
            let problem = format!("{name}: found a table of routes, expected an integration");
            let advice = format!("a route key with a dot stands in quotes: \"{}.{}\"", entry.key, key.get_ref());
            section.problems.error(entry.key_span.clone(), problem, advice);
            None
        }
        DeValue::Table(_) => {
            let mut table = section.table(name, entry.key_span.clone(), entry.value, Wrong::new("", ""))?;
            let integration = table.read_needed("integration", integration);
            let route_response = table.read("route_response", value::flag).unwrap_or(false);
            let throttle = throttle::rate(&mut table, "throttle").flatten();
            let ordering = table.read("ordering", ordering);
            let models = model::of_route(&mut table, known.models);
            let authorizer =
                table.read("authorizer", |value| known.authorizers.named(value::text(value)?, "an authorizer"));
            let wrong_authorizer = authorizer.is_none() && table.is_written("authorizer");
            let api_key_required = table.read("api_key_required", value::flag).unwrap_or(false);
            table.finish();
            if wrong_authorizer {
                return None;
            }
            let integration = integration?;
            Some(Route { integration, route_response, throttle, ordering, models, authorizer, api_key_required })
        }
        _ => section.meaning(name, entry.value, integration).map(|integration| Route {
            integration,
            route_response: false,
            throttle: None,
            ordering: None,
            models: None,
            authorizer: None,
            api_key_required: false,
        }),
    }
}

/// Whether `a.b = "integration"` was written, which TOML takes for a table `a` with a key `b`.
fn is_dotted_key(table: &DeTable<'_>) -> bool {
    const KEYS: &[&str] = &[
        "integration",
        "route_response",
        "throttle",
        "ordering",
        "model_selection_expression",
        "models",
        "authorizer",
        "api_key_required",
    ];
    !table.is_empty() && table.keys().all(|key| !KEYS.contains(&key.get_ref().as_ref()))
}

fn integration_name(value: &DeValue<'_>, integrations: &Section<'_>) -> Result<String, Wrong> {
    let expected = "the name of an integration, or { integration = \"NAME\", route_response = true }";
    let name = value.as_str().ok_or_else(|| Wrong::new(expected, ""))?;
    integrations.named(name, "an integration")
}

/// Tells the integrations that no route uses.
pub fn unused(section: &Section<'_>, stages: &BTreeMap<String, Stage>) {
    for entry in section.entries() {
        if !stages.values().flat_map(|stage| stage.routes.values()).any(|route| route.integration == entry.key) {
            let problem = format!("[{}]: found no route that uses it", section.name_of(entry.key));
            let advice = format!("add one to [routes], such as \"$default\" = {:?}", entry.key);
            section.problems.warning(entry.key_span, problem, advice);
        }
    }
}
