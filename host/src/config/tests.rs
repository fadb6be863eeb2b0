use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use proptest::prelude::*;

use super::component::Script;
use super::*;
use crate::address::{HostPattern, Network, OriginPattern};
use crate::backend::{BucketQuota, Durability, RedisOptions, SledOptions, StoreName, TlsFiles};
use crate::capability::{AllowedHost, FileGrant, Grants, Scheme};
use crate::gateway::RouteKey;
use crate::limits::EventLimits;
use crate::runtime::Language;
use crate::toolchain::SourceLanguage;
use crate::world::World;

const PATH: &str = "/project/jackfield.toml";

/// A manifest with the keys of most sections.
const WHOLE: &str = r#"
[api]
id = "chat"
stage = "prod"
route_selection_expression = "${request.body.service}/${request.body.action}"
stage_variables = { table = "users" }

[server]
listen = "0.0.0.0:0"
metrics = "[::1]:9100"
page = "page.html"
hosts = ["Chat.example.com", "*.example.org"]
trusted_proxies = ["10.0.0.0/8", "::1"]
proxy_protocol = true
connections_max = 10
source_connections_max = 4
drain = "1h"
stop_timeout = "0s"
cache = "/var/cache/jackfield"
cache_size = "1MiB"
memory_total = "8GiB"
peer_memory = "4GiB"

[connection]
message_size = "1MiB"
frame_size = "1MiB"
idle_timeout = "none"
ping_resets_idle = true
origins = ["https://app.example.com", "null"]
duration = "1h 30min"
ping_interval = "none"
write_timeout = "250ms"
outbox_messages = 1
outbox_size = "1GiB"
read_buffer = "512B"

[backend]
url = "sled:../rows"
durability = "always"

[integrations.chat]
component = "chat/target/chat.wasm"
build = "cargo build"
watch = ["chat/src", "/common"]
grants = ["connections", "connection-store"]
buckets = ["users", "rooms"]
config = { greeting = "hi" }
allowed_hosts = ["https://API.example.com/", "http://127.0.0.1:8080", { url = "https://internal.example", private = true }]
files = [{ host = "data", guest = "/data/" }, { host = "/tmp", guest = "/", write = true }]
sockets = ["127.0.0.1:6379"]
env = { RUST_LOG = "debug" }
timeout = "15min"
cpu_time = "10ms"
memory = "4GiB"
host_calls = 0
log_size = "0B"
concurrency = 256
reuse = 100

[buckets.rooms]
size = "1MiB"
keys = 10

[routes]
"$connect" = "chat"
"$disconnect" = { integration = "chat" }
"$default" = { integration = "chat", route_response = true }
"chat/join" = "chat"
"#;

#[track_caller]
fn config(text: &str) -> Config {
    Config::parse(text, Path::new(PATH)).unwrap_or_else(|errors| panic!("{}", lines(&errors)))
}

fn lines(errors: &[ConfigError]) -> String {
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

/// Returns the errors of a manifest, or its warnings if it has no errors, one in each line.
fn problems(text: &str) -> String {
    match Config::parse(text, Path::new("jackfield.toml")) {
        Ok(config) => lines(&config.warnings),
        Err(errors) => lines(&errors),
    }
}

/// Asserts the problem of an integration with the keys `text`; empty: it has none.
#[track_caller]
fn assert_integration_problem(text: &str, expected: &str) {
    let manifest = format!("[routes]\nx = \"chat\"\n[integrations.chat]\ncomponent = \"x.wasm\"\n{text}");
    let expected = if expected.is_empty() { String::new() } else { format!("jackfield.toml:5: {expected}") };
    assert_eq!(problems(&manifest), expected);
}

/// Asserts the problem of a manifest that begins with `text`; empty: it has none.
#[track_caller]
fn assert_problem(text: &str, expected: &str) {
    // Without a route there would be a warning.
    let manifest = format!("{text}\n[integrations.chat]\ncomponent = \"x.wasm\"\n[routes]\nx = \"chat\"");
    assert_eq!(problems(&manifest), expected);
}

/// The number of the first line of `WHOLE` that begins with `start`.
fn line_of(start: &str) -> u32 {
    let index = WHOLE.lines().position(|line| line.starts_with(start)).unwrap();
    u32::try_from(index).unwrap() + 1
}

#[test]
fn a_manifest_may_begin_with_a_byte_order_mark() {
    for text in ["[api]\nid = \"chat\"\nno_key = 1", "[api\n", "# a comment\n[routes]\nx = 5"] {
        assert_eq!(problems(&format!("\u{feff}{text}")), problems(text), "{text}");
    }
    assert_eq!(config("\u{feff}[api]\nid = \"chat\"").api.id, "chat");
    assert!(problems("[api]\nid = \"\u{feff}chat\"").contains("api.id"));
    let access = |text| access::AccessConfig::parse(text, Path::new(PATH), &access::AccessConfig::default());
    assert!(access("\u{feff}[api_keys]").is_ok());
}

#[test]
fn every_key_of_the_manifest_is_in_the_config() {
    let config = config(WHOLE);
    assert_eq!(config.warnings, []);
    assert_eq!(config.manifest, Path::new(PATH));
    assert_eq!(config.folder, Path::new("/project"));

    assert_eq!((&*config.api.id, config.stages.keys().next().map(String::as_str)), ("chat", Some("prod")));
    let expression = "${request.body.service}/${request.body.action}";
    assert_eq!(config.api.route_selection_expression.as_str(), expression);
    assert_eq!(config.stages["prod"].variables, BTreeMap::from([("table".to_owned(), "users".to_owned())]));

    let server = Server {
        listen: (Ipv4Addr::UNSPECIFIED, 0).into(),
        metrics: Some((Ipv6Addr::LOCALHOST, 9100).into()),
        page: Some("/project/page.html".into()),
        hosts: Some(["chat.example.com", "*.example.org"].map(|host| HostPattern::parse(host).unwrap()).to_vec()),
        trusted_proxies: ["10.0.0.0/8", "::1"].map(|proxy| Network::parse(proxy).unwrap()).to_vec(),
        proxy_protocol: true,
        connections_max: 10,
        source_connections_max: Some(4),
        drain: Duration::from_secs(60 * 60),
        stop_timeout: Duration::ZERO,
        cache: Some("/var/cache/jackfield".into()),
        cache_bytes: 1024 * 1024,
        memory_bytes: Some(8 << 30),
        peer_memory_bytes: Some(4 << 30),
    };
    assert_eq!(config.server, server);

    let connection = ConnectionLimits {
        message_bytes: 1024 * 1024,
        frame_bytes: 1024 * 1024,
        strict: false,
        idle_timeout: None,
        ping_resets_idle: true,
        duration: Some(Duration::from_secs(90 * 60)),
        ping_interval: None,
        write_timeout: Duration::from_millis(250),
        outbox_messages: 1,
        outbox_bytes: 1024 * 1024 * 1024,
        read_buffer_bytes: 512,
    };
    assert_eq!(config.connection, connection);
    let origins = ["https://app.example.com", "null"].map(|origin| OriginPattern::parse(origin).unwrap());
    assert_eq!(config.origins, Some(BTreeSet::from(origins)));
    let sled = SledOptions { folder: "/project/../rows".into(), durability: Durability::Always };
    assert_eq!(config.backend, Backend::Sled(sled));

    let chat = Component {
        script: None,
        world: World::RouteHandler,
        name: "chat".to_owned(),
        component: "/project/chat/target/chat.wasm".into(),
        component_line: line_of("component = \"chat"),
        build: Some("cargo build".to_owned()),
        watch: vec!["/project/chat/src".into(), "/common".into()],
        source: None,
        grants: Grants {
            connections: true,
            connection_store: true,
            store: StoreName::Shared,
            buckets: [
                ("rooms".to_owned(), BucketQuota { bytes: 1024 * 1024, keys: 10 }),
                ("users".to_owned(), BucketQuota::default()),
            ]
            .into(),
            config: [("greeting".to_owned(), "hi".to_owned())].into(),
            allowed_hosts: vec![
                AllowedHost { scheme: Scheme::Https, host: "api.example.com".to_owned(), port: 443, private: false },
                AllowedHost { scheme: Scheme::Http, host: "127.0.0.1".to_owned(), port: 8080, private: true },
                AllowedHost { scheme: Scheme::Https, host: "internal.example".to_owned(), port: 443, private: true },
            ],
            files: vec![
                FileGrant { host: "/project/data".into(), guest: "/data".to_owned(), write: false },
                FileGrant { host: "/tmp".into(), guest: "/".to_owned(), write: true },
            ],
            sockets: vec![(Ipv4Addr::LOCALHOST, 6379).into()],
            environment: [("RUST_LOG".to_owned(), "debug".to_owned())].into(),
        },
        limits: EventLimits {
            timeout: Duration::from_secs(15 * 60),
            cpu_time: Duration::from_millis(10),
            memory_bytes: 4 * 1024 * 1024 * 1024,
            host_calls: 0,
            log_bytes: 0,
            concurrency: Some(256),
        },
        reuse: 100,
    };
    assert_eq!(config.components, BTreeMap::from([("chat".to_owned(), chat)]));

    let route = |route_response| Route {
        integration: "chat".to_owned(),
        route_response,
        throttle: None,
        ordering: None,
        models: None,
        authorizer: None,
        api_key_required: false,
    };
    let routes = [
        (RouteKey::Connect, route(false)),
        (RouteKey::Disconnect, route(false)),
        (RouteKey::Default, route(true)),
        (RouteKey::Custom("chat/join".into()), route(false)),
    ];
    assert_eq!(config.stages["prod"].routes, BTreeMap::from(routes));
}

#[test]
fn an_empty_manifest_has_every_default() {
    let config = config("");
    assert_eq!(config.server.listen.to_string(), "127.0.0.1:3001");
    assert_eq!(config.connection, ConnectionLimits::default());
    let durability = Durability::Interval(crate::limits::FLUSH_INTERVAL);
    assert_eq!(config.backend, Backend::Sled(SledOptions { folder: "/project/data".into(), durability }));
    assert_eq!((config.components.len(), config.stages["dev"].routes.len()), (0, 0));
}

fn documentation() -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/manifest.md");
    std::fs::read_to_string(path).expect("the manifest's documentation is next to the host")
}

#[test]
fn the_defaults_are_those_of_the_documentation() {
    let documentation = documentation();
    let (_, written) = documentation.split_once("## Every default, written out\n\n```toml\n").unwrap();
    let written = config(written.strip_suffix("```\n").unwrap());
    let component = "[integrations.handler]\ncomponent = \"handler.wasm\"\n[routes]\n\"$default\" = \"handler\"";
    let mut default = config(component);
    // The line, the hash and the length depend on the text, not on its meaning.
    default.components.get_mut("handler").unwrap().component_line = written.components["handler"].component_line;
    (default.content, default.length) = (written.content, written.length);
    assert_eq!(written, default);
}

#[test]
fn the_complete_example_of_the_documentation_is_a_valid_manifest() {
    let documentation = documentation();
    let (_, example) = documentation.split_once("## A complete example\n\n```toml\n").unwrap();
    let (example, _) = example.split_once("```\n").unwrap();
    let example = config(example);
    assert!(example.warnings.is_empty(), "{:?}", example.warnings);
}

#[test]
fn the_documentation_has_exactly_the_known_keys() {
    let documentation = documentation();
    let sections = documentation.split("\n## ").filter(|section| section.starts_with('['));
    for section in sections {
        let (header, text) = section.split_once('\n').unwrap();
        let mut types = text.split("\n### ").skip(1).filter(|part| part.starts_with("type = ")).peekable();
        if types.peek().is_none() {
            check_keys(&header.replace("[routes]", "[routes.qqqqqqqq]\nintegration = 1"), keys(text));
        }
        for part in types {
            let (kind, text) = part.split_once('\n').unwrap();
            check_keys(&format!("{header}\n{kind}"), [keys(text), vec!["type"]].concat());
        }
    }
}

/// Returns the keys in the first table of keys in `text`.
fn keys(text: &str) -> Vec<&str> {
    let rows = text.lines().skip_while(|row| !row.starts_with("| key |")).take_while(|row| row.starts_with('|'));
    let cells = rows.filter_map(|row| row.strip_prefix("| `")?.split_once("` |")).map(|(cell, _)| cell);
    cells.flat_map(|cell| cell.split("`, `")).collect()
}

/// Asserts that the known keys of the section with this header are `keys`.
fn check_keys(header: &str, mut keys: Vec<&str>) {
    keys.sort_unstable();
    // The error for a key that is similar to no other lists all known keys.
    let problems = problems(&format!("{header}\nqqqqqqqq = 1"));
    let known = format!("has no key \"qqqqqqqq\"; the known keys are {}", keys.join(", "));
    assert!(problems.lines().any(|line| line.ends_with(&known)), "{header}: {keys:?}\n{problems}");
}

#[test]
fn all_problems_are_reported_together_in_the_order_of_their_lines() {
    let problems = problems(concat!(
        "[routes]\nsendmessage = \"caht\"\n\n",
        "[integrations.chat]\ntimeout = 29\n\n",
        "[server]\nlisten = \"localhost:3001\"\nport = 3001\n",
    ));
    let expected = [
        r#"jackfield.toml:2: routes.sendmessage: found "caht", expected an existing integration; did you mean "chat"?"#,
        r#"jackfield.toml:4: integrations.chat: found no component, which is required; add component = ..."#,
        r#"jackfield.toml:5: integrations.chat.timeout: found 29, expected a duration from "50ms" to "15m"; put it in quotes, with its unit: "29s" or "29ms""#,
        r#"jackfield.toml:8: server.listen: found "localhost:3001", expected an address and a port such as "127.0.0.1:3001"; localhost is a name: write "127.0.0.1:3001""#,
        r#"jackfield.toml:9: [server] has no key "port"; write it in [server] as listen = "127.0.0.1:3001""#,
    ];
    assert_eq!(problems, expected.join("\n"));
}

#[test]
fn an_unknown_key_is_an_error_at_every_level_with_a_suggestion() {
    for (text, expected) in [
        ("sever = 1", r#"1: the manifest has no key "sever"; did you mean server?"#),
        ("listen = 1", r#"1: the manifest has no key "listen"; write it in [server] as listen = "127.0.0.1:3001""#),
        ("[integration.x]", r#"1: the manifest has no key "integration"; did you mean integrations?"#),
        (
            "[api]\nrouteSelectionExpression = 1",
            r#"2: [api] has no key "routeSelectionExpression"; write it as route_selection_expression"#,
        ),
        ("[api]\nstage-variables = 1", r#"2: [api] has no key "stage-variables"; write it as stage_variables"#),
        ("[connection]\nidle_timout = 1", r#"2: [connection] has no key "idle_timout"; did you mean idle_timeout?"#),
        (
            "[backend]\nxyz = 1",
            r#"2: [backend] has no key "xyz"; the known keys are admit_without_store, ca_file, certificate_file, durability, flush_interval, key_file, lease, password_env, prefix, url, username"#,
        ),
    ] {
        assert_problem(text, &format!("jackfield.toml:{expected}"));
    }
    for (text, expected) in [
        (
            "timeoutInMillis = 1",
            r#"[integrations.chat] has no key "timeoutInMillis"; write it in [integrations.NAME] as timeout = "29s", with its unit"#,
        ),
        (
            "authorizer = 1",
            r#"[integrations.chat] has no key "authorizer"; write it in [routes] as "$connect" = { integration = "INTEGRATION", authorizer = "AUTHORIZER" }"#,
        ),
        (
            "files = [{ host = \"a\", guest = \"/a\", wirte = true }]",
            r#"[integrations.chat.files[0]] has no key "wirte"; did you mean write?"#,
        ),
        (
            "allowed_hosts = [{ url = \"http://a\", privat = true }]",
            r#"[integrations.chat.allowed_hosts[0]] has no key "privat"; did you mean private?"#,
        ),
    ] {
        assert_integration_problem(text, expected);
    }
    let routes =
        "[integrations.chat]\ncomponent = \"x\"\n[routes]\nx = { integration = \"chat\", routeResponse = true }";
    assert_eq!(
        problems(routes),
        r#"jackfield.toml:4: [routes.x] has no key "routeResponse"; write it as route_response"#
    );
}

#[test]
fn a_duration_has_a_unit_and_is_within_its_range() {
    let expected = r#"expected a duration from "10ms" to "30days" or "none""#;
    for (value, found, advice) in [
        ("600", "600", r#"; put it in quotes, with its unit: "600s" or "600ms""#),
        ("\"600\"", "\"600\"", r#"; add its unit: "600s" or "600ms""#),
        ("\"9ms\"", "\"9ms\"", ""),
        ("\"31days\"", "\"31days\"", ""),
        ("\"ten minutes\"", "\"ten minutes\"", ""),
        ("\"\"", "\"\"", ""),
        ("1.5", "1.5", ""),
        ("[]", "a list", ""),
    ] {
        let expected = format!("jackfield.toml:2: connection.idle_timeout: found {found}, {expected}{advice}");
        assert_problem(&format!("[connection]\nidle_timeout = {value}"), &expected);
    }
    for value in ["10ms", "30days", "none"] {
        assert_problem(&format!("[connection]\nidle_timeout = \"{value}\""), "");
    }
    for (value, good) in [("49ms", false), ("50ms", true), ("15min", true), ("15min 1ms", false)] {
        let expected =
            format!(r#"integrations.chat.timeout: found "{value}", expected a duration from "50ms" to "15m""#);
        assert_integration_problem(&format!("timeout = \"{value}\""), if good { "" } else { &expected });
    }
    let without_limit = r#"integrations.chat.timeout: found "none", expected a duration from "50ms" to "15m"; this limit cannot be disabled"#;
    assert_integration_problem("timeout = \"none\"", without_limit);
}

#[test]
fn a_size_has_a_unit_and_is_within_its_range() {
    let expected = r#"expected a size from "64KiB" to "4GiB", in B, KiB, MiB or GiB"#;
    for (value, advice) in [
        ("67108864", r#"; write "64MiB""#),
        ("0x10000", r#"; write "64KiB""#),
        ("128", r#"; put it in quotes, with its unit: "128MiB""#),
        ("\"128MB\"", r#"; write "128MiB""#),
        ("\"128 mib\"", r#"; write "128MiB""#),
        ("\"128m\"", r#"; write "128MiB""#),
        ("\"65535B\"", ""),
        ("\"5GiB\"", ""),
        ("\"99999999999999999999GiB\"", ""),
        ("\"GiB\"", ""),
        ("\"-1GiB\"", ""),
    ] {
        let expected = format!("integrations.chat.memory: found {value}, {expected}{advice}");
        assert_integration_problem(&format!("memory = {value}"), &expected);
    }
    for value in ["65536B", "64KiB", "4GiB", "4096MiB"] {
        assert_integration_problem(&format!("memory = \"{value}\""), "");
    }
}

#[test]
fn a_count_is_a_number_within_its_range() {
    for (value, good) in
        [("0", false), ("1", true), ("1_000_000", true), ("1000001", false), ("-1", false), ("\"5\"", false)]
    {
        let expected =
            format!("jackfield.toml:2: server.connections_max: found {}, expected a number from 1 to 1000000", value);
        assert_problem(&format!("[server]\nconnections_max = {value}"), if good { "" } else { &expected });
    }
}

#[test]
fn hosts_origins_and_proxies_have_their_form_and_hosts_are_not_empty() {
    let host = "expected a host such as \"chat.example.com\" or \"*.example.com\"";
    let origin = "expected an origin such as \"https://app.example.com\" or \"https://*.example.com\"";
    let network = "expected an address or a network such as \"10.0.0.0/8\"";
    for (text, expected) in [
        ("[server]\nhosts = [\"chat.example.com\", \"*\", \"::1\"]", String::new()),
        (
            "[server]\nhosts = []",
            "server.hosts: found no host, so every request would be rejected; list the hosts that \
                                 clients use, or remove the key"
                .to_owned(),
        ),
        ("[server]\nhosts = [5]", format!("server.hosts[0]: found 5, {host}")),
        (
            "[server]\nhosts = [\"a:80\"]",
            format!(
                "server.hosts[0]: found \"a:80\", {host}; remove the port: a host is \
                                                  admitted with every port"
            ),
        ),
        ("[server]\nhosts = \"a\"", "server.hosts: found \"a\", expected a list; write hosts = [...]".to_owned()),
        ("[connection]\norigins = [\"*\", \"null\", \"https://a:1\"]", String::new()),
        ("[connection]\norigins = []", String::new()),
        (
            "[connection]\norigins = [\"a.example\"]",
            format!(
                "connection.origins[0]: found \"a.example\", {origin}; it \
                                                            begins with https:// or http://"
            ),
        ),
        ("[server]\ntrusted_proxies = [\"127.0.0.1\", \"2001:db8::/32\"]", String::new()),
        (
            "[server]\ntrusted_proxies = [\"10.1.0.0/8\"]",
            format!(
                "server.trusted_proxies[0]: found \"10.1.0.0/8\", \
                                                                 {network}; write the first address of the network: \
                                                                 \"10.0.0.0/8\""
            ),
        ),
        (
            "[server]\ntrusted_proxies = [\"::/0\"]",
            "server.trusted_proxies: found a network of all addresses, so every client can choose its own; list only \
             your proxies"
                .to_owned(),
        ),
        (
            "[server]\nproxy_protocol = true\nlisten = \"0.0.0.0:3001\"",
            "server.proxy_protocol: found true without trusted_proxies, so only this machine can connect; list the \
             addresses of the proxies: trusted_proxies = [...]"
                .to_owned(),
        ),
        ("[server]\nproxy_protocol = true\nlisten = \"127.0.0.1:3001\"", String::new()),
        ("[server]\nproxy_protocol = \"v2\"", "server.proxy_protocol: found \"v2\", expected true or false".to_owned()),
    ] {
        let expected = if expected.is_empty() { expected } else { format!("jackfield.toml:2: {expected}") };
        assert_problem(text, &expected);
    }
    assert_eq!(config("[connection]\norigins = []").origins, Some(BTreeSet::new()), "no page may connect");
    assert_eq!(config("").origins, None);
}

#[test]
fn sizes_that_contradict_each_other_are_errors() {
    assert_problem(
        "[connection]\nframe_size = \"129KiB\"",
        "jackfield.toml:2: connection.frame_size: found 129KiB, expected at most message_size (128KiB); lower it, or \
         raise message_size",
    );
    assert_problem(
        "[connection]\nmessage_size = \"2MiB\"\noutbox_size = \"1MiB\"",
        "jackfield.toml:3: connection.outbox_size: found 1MiB, expected at least message_size (2MiB); raise it, \
         because the largest message would not fit",
    );
    for (message, expected) in [("", 128 * 1024), ("message_size = \"2MiB\"", 2 * 1024 * 1024)] {
        let without_limit = config(&format!("[connection]\nframe_size = \"none\"\n{message}")).connection;
        assert_eq!(
            (without_limit.frame_bytes, without_limit.message_bytes),
            (expected, expected),
            "a frame of a whole message"
        );
    }
    assert_problem(
        "[connection]\nmessage_size = \"none\"",
        "jackfield.toml:2: connection.message_size: found \"none\", expected a size from \"1B\" to \"16MiB\", in B, \
         KiB, MiB or GiB; this limit cannot be disabled",
    );
    let small = config("[connection]\nmessage_size = \"1KiB\"").connection;
    assert_eq!((small.frame_bytes, small.outbox_bytes), (1024, 1024 * 1024));
    let large = config("[connection]\nmessage_size = \"2MiB\"").connection;
    assert_eq!((large.frame_bytes, large.outbox_bytes), (32 * 1024, 2 * 1024 * 1024));
}

#[test]
fn an_error_in_an_expression_has_the_position_of_the_character() {
    assert_problem(
        "[api]\nroute_selection_expression = '$request.body..action'",
        "jackfield.toml:2: api.route_selection_expression: found .. (a search at every depth) at character 14, \
         expected a step to a single value: .name, ['name'] or [0]",
    );
    assert_problem(
        "[api]\nroute_selection_expression = '$request.body.#type'",
        "jackfield.toml:2: api.route_selection_expression: found .#type at character 14, expected a step of the path, \
         another variable or the end (a name with such characters needs ['name'], text needs braces around the \
         variable: ${request.body.name}text)",
    );
    assert_eq!(
        config("[api]\nroute_selection_expression = '\\$default'").api.route_selection_expression.as_str(),
        "\\$default"
    );
}

#[test]
fn the_name_of_a_stage_is_valid_in_a_path() {
    for (stage, good) in
        [("a".repeat(128), true), ("a".repeat(129), false), ("v1_x-Y".to_owned(), true), (String::new(), false)]
    {
        assert_eq!(problems(&format!("[api]\nstage = \"{stage}\"")).contains("api.stage"), !good, "{stage}");
    }
    let expected = "jackfield.toml:2: api.stage: found \"a/b\", expected 1 to 128 characters of A-Z a-z 0-9 _ -";
    assert_problem("[api]\nstage = \"a/b\"", expected);
}

#[test]
fn an_invalid_address_is_an_error_with_what_to_write() {
    for (value, advice) in [
        ("\"localhost:80\"", r#"; localhost is a name: write "127.0.0.1:80""#),
        ("\":80\"", r#"; for all addresses of this machine write "0.0.0.0:80""#),
        ("\"example.com:80\"", "; host names are not resolved here: write an IP address"),
        ("\"127.0.0.1\"", "; add the port"),
        ("\"127.0.0.1:65536\"", ""),
        ("80", r#"; write "127.0.0.1:80""#),
    ] {
        let expected = "expected an address and a port such as \"127.0.0.1:3001\"";
        let expected = format!("jackfield.toml:2: server.listen: found {value}, {expected}{advice}");
        assert_problem(&format!("[server]\nlisten = {value}"), &expected);
    }
    assert_problem(
        "[server]\nmetrics = \"127.0.0.1:3001\"",
        "jackfield.toml:2: server.metrics: found 127.0.0.1:3001, expected an address other than listen; use another \
         port",
    );
    let expected = r#"integrations.chat.sockets[0]: found "127.0.0.1:0", expected a port from 1 to 65535"#;
    assert_integration_problem("sockets = [\"127.0.0.1:0\"]", expected);
}

#[test]
fn an_allowed_host_is_a_scheme_a_host_and_a_port() {
    let every = "there is no grant for all hosts: write one entry for each";
    let scheme = "it must begin with https:// or http://";
    let after_host = "remove everything after the host: a grant covers the whole host";
    let address = "write an address in full, as in \"http://127.0.0.1:8080\"";
    let star = "a * matches every subdomain: \"https://*.example.com\"";
    let port = "a port is a number from 1 to 65535";
    for (url, advice) in [
        ("*", every),
        ("https://*", every),
        ("https://*:8080", star),
        ("api.example.com", scheme),
        ("HTTPS://example.com", scheme),
        ("ws://example.com", scheme),
        ("https://example.com/path", after_host),
        ("https://example.com?x", after_host),
        ("https://example.com//", after_host),
        ("https://example.com#x", after_host),
        ("https://me@example.com", "remove the user"),
        ("https://127.1", address),
        ("https://2130706433", address),
        ("https://0x7f000001", address),
        ("https://a.*.com", star),
        ("https://*a.com", star),
        ("https://*.127.0.0.1", address),
        ("https://example.com:0", port),
        ("https://example.com:65536", port),
        ("https://example.com:", port),
        (
            "http://localhost:8080",
            "localhost is private: write its address 127.0.0.1, or { url = ..., private = true }",
        ),
        ("http://app.localhost", "localhost is private: write its address 127.0.0.1, or { url = ..., private = true }"),
        ("https://", ""),
        ("https://example..com", ""),
        ("https://exämple.com", ""),
        ("https://[::1", ""),
    ] {
        let name = "integrations.chat.allowed_hosts[0]";
        let expected = format!("{name}: found {url:?}, expected a URL such as \"https://api.example.com\"");
        let advice = if advice.is_empty() { String::new() } else { format!("; {advice}") };
        assert_integration_problem(&format!("allowed_hosts = [{url:?}]"), &format!("{expected}{advice}"));
    }
    for (url, host, port, private) in [
        ("\"https://a.example.com\"", "a.example.com", 443, false),
        ("\"http://a_b.example.com:8080/\"", "a_b.example.com", 8080, false),
        ("\"https://*.Example.com\"", "*.example.com", 443, false),
        ("\"http://10.0.0.1\"", "10.0.0.1", 80, true),
        ("\"http://[::1]:8080\"", "[::1]", 8080, true),
        ("{ url = \"http://localhost:65535\", private = true }", "localhost", 65535, true),
        ("{ url = \"http://example.com\", private = false }", "example.com", 80, false),
    ] {
        let text = format!("[integrations.chat]\ncomponent = \"x\"\nallowed_hosts = [{url}]");
        let hosts = &config(&text).components["chat"].grants.allowed_hosts;
        assert_eq!((&*hosts[0].host, hosts[0].port, hosts[0].private), (host, port, private));
    }
}

#[test]
fn an_invalid_grant_is_an_error_with_what_to_write_instead() {
    for (grant, advice) in [
        ("connection", "; did you mean \"connections\"?"),
        ("connection_store", "; did you mean \"connection-store\"?"),
        ("logging", "; remove it: every component has it"),
        ("keyvalue", "; name the buckets instead: buckets = [\"NAME\"]"),
        ("http", "; name the hosts instead: allowed_hosts = [\"https://api.example.com\"]"),
        ("everything", ""),
    ] {
        let expected = "expected \"connections\" or \"connection-store\"";
        let expected = format!("integrations.chat.grants[0]: found {grant:?}, {expected}{advice}");
        assert_integration_problem(&format!("grants = [{grant:?}]"), &expected);
    }
    let expected = "integrations.chat.grants: found \"connections\", expected a list; write grants = [...]";
    assert_integration_problem("grants = \"connections\"", expected);
}

#[test]
fn a_guest_sees_a_folder_at_an_absolute_path_of_its_own() {
    let expected = "expected an absolute path such as \"/data\", without . and ..";
    for guest in ["data", "", "/a/../b", "/./a", "//", "/a//b"] {
        let expected = format!("integrations.chat.files[0].guest: found {guest:?}, {expected}");
        assert_integration_problem(&format!("files = [{{ host = \"x\", guest = {guest:?} }}]"), &expected);
    }
    assert_integration_problem(
        r#"files = [{ host = "x", guest = "/a" }, { host = "y", guest = "/a/" }]"#,
        "integrations.chat.files[1]: found \"/a\" a second time, expected a guest path that no other entry has",
    );
    assert_integration_problem(
        r#"files = [{ guest = "/a" }]"#,
        "integrations.chat.files[0]: found no host, which is required; add host = ...",
    );
    assert_integration_problem(
        r#"files = ["data"]"#,
        "integrations.chat.files[0]: found \"data\", expected { host = \"data\", guest = \"/data\" }",
    );
}

#[test]
fn a_value_of_config_or_environment_is_a_string() {
    let expected = "integrations.chat.config.max: found 5, expected a string; put it in quotes: \"5\"";
    assert_integration_problem("config = { max = 5 }", expected);
    let expected = "integrations.chat.env: found the name \"A=B\", expected a name without =";
    assert_integration_problem("env = { \"A=B\" = \"c\" }", expected);
}

#[test]
fn the_backend_is_a_folder_of_sled_or_a_redis() {
    for (url, advice) in [
        ("sled://data", "; remove the slashes: \"sled:data\""),
        ("data", "; for a folder write \"sled:data\""),
        ("sled:", ""),
        ("postgres:x", ""),
    ] {
        let expected = format!(
            "jackfield.toml:2: backend.url: found {url:?}, expected \"sled:FOLDER\" or \"redis://HOST:PORT\"{advice}"
        );
        assert_problem(&format!("[backend]\nurl = {url:?}"), &expected);
    }
    let advice = "write \"redis://HOST:PORT\", \"rediss://HOST:PORT\" or \"unix://PATH\"";
    for (url, found) in [
        ("redis://user:secret@host/x", "Invalid database number - InvalidClientConfig"),
        ("redis:secret", "Missing hostname - InvalidClientConfig"),
    ] {
        let expected = format!("jackfield.toml:2: backend.url: it is not a URL of Redis: {found}; {advice}");
        assert_problem(&format!("[backend]\nurl = {url:?}"), &expected);
    }
    for (engine, url, key, value) in [
        ("sled", "sled:data", "lease", "10s"),
        ("sled", "sled:data", "prefix", "chat"),
        ("sled", "sled:data", "password_env", "REDIS_PASSWORD"),
        ("sled", "sled:data", "ca_file", "ca.pem"),
        ("Redis", "redis://127.0.0.1", "durability", "always"),
        ("Redis", "redis://127.0.0.1", "flush_interval", "1s"),
    ] {
        let expected = format!(
            "jackfield.toml:3: backend.{key}: found with the url of {engine}, which has no use for it; remove the key"
        );
        assert_problem(&format!("[backend]\nurl = {url:?}\n{key} = {value:?}"), &expected);
    }
    let text = "[backend]\nurl = \"redis://user:secret@host:1/2\"\nprefix = \"chat:1\"\nlease = \"3s\"";
    let config = Config::parse(text, Path::new("/p/jackfield.toml")).unwrap();
    let options = RedisOptions {
        url: "redis://user:secret@host:1/2".to_owned(),
        username: None,
        password_env: None,
        tls: TlsFiles::default(),
        prefix: "chat:1".to_owned(),
        lease: Duration::from_secs(3),
        admit_without_store: false,
    };
    assert!(!format!("{options:?}").contains("secret"));
    assert_eq!(config.backend, Backend::Redis { options, folder: "/p/data".into() });
    let text = "[backend]\nurl = \"rediss://app@host\"\npassword_env = \"P\"\nca_file = \"ca.pem\"\n\
                certificate_file = \"/c.pem\"\nkey_file = \"key.pem\"";
    let Backend::Redis { options, .. } = Config::parse(text, Path::new("/p/jackfield.toml")).unwrap().backend else {
        panic!("the url is one of Redis")
    };
    assert_eq!(options.password_env.as_deref(), Some("P"));
    assert_eq!(options.tls.ca_file, Some("/p/ca.pem".into()));
    assert_eq!(options.tls.client, Some(("/c.pem".into(), "/p/key.pem".into())));
    for (url, keys, expected) in [
        (
            "redis://:secret@host",
            "password_env = \"P\"",
            "3: backend.password_env: found with a url that has a password; remove one of the two",
        ),
        (
            "redis://app@host",
            "username = \"b\"\npassword_env = \"P\"",
            "3: backend.username: found with a url that has a user; remove one of the two",
        ),
        (
            "redis://host",
            "username = \"b\"",
            "3: backend.username: found without password_env, so it is not used; add password_env = \"VARIABLE\", or \
             remove the key",
        ),
        (
            "redis://host",
            "username = \"a b\"\npassword_env = \"P\"",
            "3: backend.username: found \"a b\", expected the name of a user, without spaces",
        ),
        (
            "redis://host",
            "ca_file = \"ca.pem\"",
            "3: backend.ca_file: found with a url without TLS, which uses no certificates; write rediss:// in url, or \
             remove the key",
        ),
        (
            "rediss://host",
            "key_file = \"key.pem\"",
            "3: backend.key_file: found without certificate_file; add it, or remove the key",
        ),
        (
            "rediss://host/#insecure",
            "",
            "2: backend.url: it is not a URL of Redis: found #, which begins no part of it: in a password write %23, and \
             without #insecure the certificate is checked, for which ca_file can name an authority; write \
             \"redis://HOST:PORT\", \"rediss://HOST:PORT\" or \"unix://PATH\"",
        ),
    ] {
        assert_problem(&format!("[backend]\nurl = {url:?}\n{keys}"), &format!("jackfield.toml:{expected}"));
    }
    assert_problem(
        "[backend]\ndurability = \"never\"",
        "jackfield.toml:2: backend.durability: found \"never\", \
         expected \"always\" (flush before a write returns) or \"interval\" (flush once per flush_interval)",
    );
    assert_problem(
        "[backend]\ndurability = \"always\"\nflush_interval = \"1s\"",
        "jackfield.toml:3: backend.flush_interval: found together with durability = \"always\", \
         which flushes every write; remove one of the two",
    );
}

#[test]
fn a_route_has_a_key_and_an_integration() {
    for (route, expected) in [
        (
            "\"$conect\" = \"chat\"",
            "routes: found the name \"$conect\", expected $connect, $disconnect, $default, or a key that does not \
             begin with $ and is not empty; did you mean $connect?",
        ),
        (
            "a.b = \"chat\"",
            "routes.a: found a table of routes, expected an integration; a route key with a dot needs quotes: \"a.b\"",
        ),
        ("x = \"other\"", "routes.x: found \"other\", expected an existing integration; add [integrations.other]"),
        (
            "x = 5",
            "routes.x: found 5, expected the name of an integration, or { integration = \"NAME\", route_response = \
             true }",
        ),
        ("x = { route_response = true }", "routes.x: found no integration, which is required; add integration = ..."),
        ("x = {}", "routes.x: found no integration, which is required; add integration = ..."),
        (
            "\"$connect\" = { integration = \"chat\", route_response = true }",
            "routes.$connect: found route_response = true, which only applies to messages; remove it",
        ),
    ] {
        let text = format!("[integrations.chat]\ncomponent = \"x.wasm\"\n[routes]\n{route}\ny = \"chat\"");
        assert_eq!(problems(&text), format!("jackfield.toml:4: {expected}"));
    }
}

#[test]
fn routes_to_an_invalid_integration_are_no_errors() {
    let problems = problems("[integrations]\nchat = 5\n[routes]\nx = \"chat\"");
    let advice = "write [integrations.chat] on a line of its own, and below it component = \"FILE.wasm\"";
    assert_eq!(problems, format!("jackfield.toml:2: integrations.chat: found 5, expected a table; {advice}"));
}

#[test]
fn something_that_is_probably_not_intended_is_a_warning() {
    let no_route = "jackfield.toml:1: found no routes, so every message gets the error Forbidden; \
                    add [routes], and below it \"$default\" = \"INTEGRATION\"";
    assert_eq!(problems(""), no_route);
    assert_eq!(
        problems("[routes]\nx = \"a\"\n[integrations]\na.component = \"a\"\nb.component = \"b\""),
        "jackfield.toml:5: [integrations.b]: found no route that uses it; add one to [routes], such as \"$default\" \
         = \"b\"",
    );
    assert_integration_problem(
        "build = \"make\"",
        "integrations.chat.build: found without watch, so `jackfield dev` never builds; add watch = [\"src\"]",
    );
    assert_integration_problem(
        "watch = [\"src\"]",
        "integrations.chat.watch: found without build, so `jackfield dev` never builds; add build = \"cargo build \
         --release\"",
    );
    assert_integration_problem(
        "cpu_time = \"30s\"",
        "integrations.chat.cpu_time: found 30s, more than timeout (29s); lower it, or raise timeout, which ends the \
         event first",
    );
}

#[test]
fn a_component_has_a_language_and_a_source_whose_default_is_the_folder_of_the_manifest() {
    for (text, language, path) in [
        ("language = \"rust\"", SourceLanguage::Rust, "/project/chat"),
        ("language = \"zig\"\nsource = \"main.zig\"", SourceLanguage::Zig, "/project/chat/main.zig"),
        ("source = \"/go\"\nlanguage = \"go\"", SourceLanguage::Go, "/go"),
        ("source = \"../src\"\nlanguage = \"c\"", SourceLanguage::C, "/project/chat/../src"),
    ] {
        let text = format!("[integrations.chat]\ncomponent = \"build/chat.wasm\"\n{text}\n[routes]\nx = \"chat\"");
        let config = Config::parse(&text, Path::new("/project/chat/jackfield.toml")).unwrap();
        assert_eq!(config.warnings, []);
        let chat = &config.components["chat"];
        assert_eq!(chat.source, Some(Source { language, path: path.into() }));
        assert_eq!(chat.component, Path::new("/project/chat/build/chat.wasm"));
    }
}

#[test]
fn a_language_that_contradicts_another_key_or_does_not_exist_is_an_error() {
    for (text, expected) in [
        ("source = \".\"", "source: found without language; add language = \"rust\", or remove it"),
        ("source = \"a.zig\"", "source: found without language; add language = \"zig\", or remove it"),
        (
            "language = \"golang\"",
            "language: found \"golang\", expected one of \"c\", \"go\", \"rust\", \"zig\"; did you mean \"go\"?",
        ),
        (
            "language = \"Rust\"",
            "language: found \"Rust\", expected one of \"c\", \"go\", \"rust\", \"zig\"; did you mean \"rust\"?",
        ),
        (
            "language = \"ts\"",
            "language: found \"ts\", expected one of \"c\", \"go\", \"rust\", \"zig\"; remove it: a script needs no \
             build, so component names its file",
        ),
        (
            "language = \"c++\"",
            "language: found \"c++\", expected one of \"c\", \"go\", \"rust\", \"zig\"; build it with a command of \
             your own, in build and watch",
        ),
    ] {
        assert_integration_problem(text, &format!("integrations.chat.{expected}"));
    }
    let own = "remove it, because jackfield builds and watches the source; or remove language and source, to build \
               with a command of your own";
    let manifest =
        |text: &str| problems(&format!("[routes]\nx = \"chat\"\n[integrations.chat]\nlanguage = \"go\"\n{text}"));
    assert_eq!(
        manifest("component = \"x.wasm\"\nbuild = \"make\"\nwatch = [\"src\"]"),
        format!(
            "jackfield.toml:6: integrations.chat.build: found with language; {own}\n\
             jackfield.toml:7: integrations.chat.watch: found with language; {own}"
        ),
    );
    assert_eq!(
        manifest("component = \"x.ts\""),
        "jackfield.toml:4: integrations.chat.language: found with a component that is a script; remove it: a script \
         needs no build; or name the file to write, such as component = \"build/handler.wasm\"",
    );
}

#[test]
fn a_toml_syntax_error_has_its_line() {
    for (text, expected) in [
        (
            "[routes]\n$default = \"x\"",
            "2: invalid unquoted key, expected letters, numbers, `-`, `_`; a key with a $ needs quotes: \"$default\" \
             = ...",
        ),
        (
            "[api]\nroute_selection_expression = \"\\$default\"",
            "2: missing escaped value, expected `b`, `e`, `f`, `n`, `r`, `\\`, `\"`, `x`, `u`, `U`; in double quotes \
             write \\\\ for a backslash, or use single quotes: '\\$'",
        ),
        ("[api]\nid = \"a\"\nid = \"b\"", "3: duplicate key"),
        ("[api", "1: unclosed table, expected `]`"),
    ] {
        assert_eq!(problems(text), format!("jackfield.toml:{expected}"));
    }
}

#[test]
fn a_manifest_that_cannot_be_read_is_an_error_with_its_path() {
    let folder = std::env::temp_dir().join(format!("jackfield-config-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join(MANIFEST_NAME);
    let problems = || lines(&Config::load(&path).unwrap_err()).replace(&format!("{}:", path.display()), "manifest:");

    assert_eq!(
        problems(),
        "manifest: the manifest does not exist; \
         give the path of an existing one, or create a project: jackfield new LANGUAGE NAME",
    );
    let folder_error = Config::load(&folder).unwrap_err().remove(0);
    assert_eq!(folder_error.problem, "cannot read the manifest: Is a directory (os error 21)");
    assert_eq!(folder_error.advice, format!("give the path of the manifest in it: {}", path.display()));
    std::fs::write(&path, b"# \xff").unwrap();
    assert_eq!(problems(), "manifest: found bytes that are not UTF-8, expected a manifest");
    std::fs::write(&path, "#".repeat(1024 * 1024 + 1)).unwrap();
    assert_eq!(problems(), "manifest: found more than 1048576 bytes, expected a manifest");
    std::fs::write(&path, "#".repeat(1024 * 1024)).unwrap();
    assert_eq!(Config::load(&path).unwrap().folder, folder);
    std::fs::remove_dir_all(&folder).unwrap();
}

/// A change to a manifest, as a typing mistake or a faulty program makes it.
#[derive(Clone, Debug)]
enum Change {
    Delete(prop::sample::Index, usize),
    Insert(prop::sample::Index, String),
    /// Replaces the value after the `=` of a line.
    Value(prop::sample::Index, String),
    Swap(prop::sample::Index, prop::sample::Index),
}

fn change() -> impl Strategy<Value = Change> {
    let at = any::<prop::sample::Index>;
    let value = prop_oneof![
        Just("0".to_owned()),
        Just("-1".to_owned()),
        Just("1e999".to_owned()),
        Just("inf".to_owned()),
        Just("[]".to_owned()),
        Just("[[{}]]".to_owned()),
        Just("{}".to_owned()),
        Just("{ a.b.c = [1] }".to_owned()),
        Just("true".to_owned()),
        Just("1979-05-27".to_owned()),
        Just("99999999999999999999".to_owned()),
        "[0-9]{0,30}( )?(ms|s|min|h|y|B|KiB|GiB|kb)?".prop_map(|text| format!("{text:?}")),
        r"(https?|sled|rediss?)://[a-z0-9.:*@/\[\]%é]{0,12}".prop_map(|text| format!("[{text:?}]")),
        r"[$.{}\[\]\\a-zé]{0,12}".prop_map(|text| format!("'{text}'")),
        any::<String>().prop_map(|text| format!("{text:?}")),
    ];
    prop_oneof![
        1 => (at(), 1_usize..30).prop_map(|(at, length)| Change::Delete(at, length)),
        1 => (at(), r#"[\[\]{}="'.,\n$a-z0-9é]{1,5}|\PC{1,3}"#).prop_map(|(at, text)| Change::Insert(at, text)),
        4 => (at(), value).prop_map(|(at, value)| Change::Value(at, value)),
        1 => (at(), at()).prop_map(|(one, other)| Change::Swap(one, other)),
    ]
}

fn changed(text: &str, change: &Change) -> String {
    let mut characters: Vec<char> = text.chars().collect();
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    match change {
        Change::Delete(at, length) if !characters.is_empty() => {
            let at = at.index(characters.len());
            characters.drain(at..characters.len().min(at + length));
            characters.into_iter().collect()
        }
        Change::Insert(at, text) => {
            let at = at.index(characters.len() + 1);
            characters.splice(at..at, text.chars());
            characters.into_iter().collect()
        }
        Change::Value(at, value) if !lines.is_empty() => {
            let at = at.index(lines.len());
            if let Some((key, _)) = lines[at].split_once('=') {
                lines[at] = format!("{key}= {value}");
            }
            lines.join("\n")
        }
        Change::Swap(one, other) if !lines.is_empty() => {
            let (one, other) = (one.index(lines.len()), other.index(lines.len()));
            lines.swap(one, other);
            lines.join("\n")
        }
        _ => text.to_owned(),
    }
}

proptest! {
    #[test]
    fn a_changed_manifest_is_accepted_or_each_problem_has_a_line(changes in prop::collection::vec(change(), 1..4)) {
        let text = changes.iter().fold(WHOLE.to_owned(), |text, change| changed(&text, change));
        let problems = match Config::parse(&text, Path::new(PATH)) {
            Ok(config) => config.warnings,
            Err(errors) => {
                prop_assert!(!errors.is_empty());
                errors
            }
        };
        let lines = text.split('\n').count();
        for problem in problems {
            prop_assert!(problem.line.is_some_and(|line| (1..=lines).contains(&(line as usize))), "{problem}");
            prop_assert!(!problem.problem.is_empty() && !problem.problem.contains('\n'), "{problem}");
        }
    }

    #[test]
    fn any_text_is_accepted_or_rejected_without_a_panic(text in r#"([\[\]{}="'.,\n$ ]|api|routes|integrations|url|\PC){0,40}"#) {
        let _ = Config::parse(&text, Path::new(PATH));
    }
}

#[test]
fn stages_have_their_own_variables_and_can_override_routes() {
    let config = config(
        "[integrations.a]\ncomponent = \"a.wasm\"\n[integrations.b]\ncomponent = \"b.wasm\"\n\
         [routes]\nx = \"a\"\n\"$default\" = \"a\"\n\
         [stages.dev]\n[stages.prod]\nvariables = { table = \"users\" }\nbase_path = \"chat/v1\"\nroutes.x = \"b\"\n",
    );
    let target =
        |stage: &str, key: &str| config.stages[stage].routes[&RouteKey::parse(key).unwrap()].integration.clone();
    assert_eq!(config.stages.keys().collect::<Vec<_>>(), ["dev", "prod"]);
    assert_eq!([target("dev", "x"), target("prod", "x"), target("prod", "$default")], ["a", "b", "a"]);
    assert_eq!(config.stages["prod"].variables["table"], "users");
    assert_eq!(config.stages["prod"].base_path.as_deref(), Some("chat/v1"));
    assert_eq!(config.warnings, []);
}

#[test]
fn an_invalid_stage_is_an_error() {
    assert_problem(
        "[api]\nstage = \"x\"\n[stages.dev]",
        "jackfield.toml:2: api.stage: found together with [stages], which has all stages; \
         move it to the section of a stage: [stages.NAME]",
    );
    for path in ["/chat", "chat/", "a//b", "@connections", "a b"] {
        let problems = problems(&format!("[stages.dev]\nbase_path = {path:?}"));
        assert!(
            problems.starts_with(&format!("jackfield.toml:2: stages.dev.base_path: found {path:?}, expected")),
            "{problems}"
        );
    }
    let problems =
        problems("[stages.dev]\nbase_path = \"x\"\n[stages.prod]\nbase_path = \"x\"\n[stages.y]\nbase_path = \"dev\"");
    assert!(
        problems.contains("stages.prod.base_path: found \"x\", which [stages.dev] already has; give each"),
        "{problems}"
    );
    assert!(
        problems.contains("stages.y.base_path: found \"dev\", the name of another stage; use another path"),
        "{problems}"
    );
}

#[test]
fn a_connection_store_is_granted_by_its_name_or_as_the_shared_one() {
    let grants = |text: &str| {
        let text = format!("[integrations.chat]\ncomponent = \"x.wasm\"\n{text}");
        let grants = &config(&text).components["chat"].grants;
        (grants.connection_store, grants.store.clone())
    };
    assert_eq!(grants(""), (false, StoreName::Shared));
    assert_eq!(grants("grants = [\"connection-store\"]"), (true, StoreName::Shared));
    let name = "a".repeat(128);
    let named = format!("connection_store = {name:?}");
    assert_eq!(grants(&named), (true, StoreName::Named(name.as_str().into())));
    let invalid = "expected a name of 1 to 128 characters of A-Z a-z 0-9 _ -";
    for name in ["", "a b", "ü"] {
        let expected = format!("integrations.chat.connection_store: found {name:?}, {invalid}");
        assert_integration_problem(&format!("connection_store = {name:?}"), &expected);
    }
    let long = format!("connection_store = \"{name}a\"");
    let found = format!("{}...", "a".repeat(60));
    assert_integration_problem(&long, &format!("integrations.chat.connection_store: found {found:?}, {invalid}"));
    assert_integration_problem(
        "connection_store = \"a\"\ngrants = [\"connection-store\"]",
        "integrations.chat.connection_store: found together with the grant \"connection-store\", which is the shared \
         store; remove one of the two",
    );
}

#[test]
fn a_bucket_has_a_quota_of_its_own_in_every_component_that_may_open_it() {
    let quotas = |text: &str| {
        let text = format!("[integrations.a]\ncomponent = \"x\"\nbuckets = [\"b\", \"c d\"]\n{text}");
        config(&text).components["a"].grants.buckets.clone().into_values().collect::<Vec<_>>()
    };
    let default = BucketQuota { bytes: 64 * 1024 * 1024, keys: 100_000 };
    assert_eq!(quotas(""), [default, default]);
    assert_eq!(quotas("[buckets.b]\nsize = \"1KiB\""), [BucketQuota { bytes: 1024, ..default }, default]);
    assert_eq!(quotas("[buckets.\"c d\"]\nkeys = 1"), [default, BucketQuota { keys: 1, ..default }]);
    let manifest = "[authorizers.gate]\ncomponent = \"y\"\nbuckets = [\"b\"]\n[buckets.b]\nkeys = 7";
    assert_eq!(config(manifest).components["gate"].grants.buckets["b"].keys, 7);
}

#[test]
fn invalid_quotas_are_errors_and_unknown_buckets_are_warnings() {
    let size = "expected a size from \"1KiB\" to \"16384GiB\", in B, KiB, MiB or GiB";
    for (text, expected) in [
        ("[buckets.b]\nsize = \"1023B\"", format!("2: buckets.b.size: found \"1023B\", {size}")),
        ("[buckets.b]\nsize = \"none\"", format!("2: buckets.b.size: found \"none\", {size}; this limit cannot be disabled")),
        ("[buckets.b]\nkeys = 0", "2: buckets.b.keys: found 0, expected a number from 1 to 1000000000".to_owned()),
        ("[buckets.b]\nkey = 1", "2: [buckets.b] has no key \"key\"; did you mean keys?".to_owned()),
        ("[buckets.histori]\nkeys = 1", "1: [buckets.histori]: found no component that may open this bucket; did you mean [buckets.history]?".to_owned()),
        (
            "[buckets.chat]\nkeys = 1",
            "1: [buckets.chat]: found no component that may open this bucket; add it to a component: buckets = [\"chat\"]".to_owned(),
        ),
    ] {
        let manifest = format!("{text}\n[integrations.chat]\ncomponent = \"x\"\nbuckets = [\"b\", \"history\"]\n[routes]\nx = \"chat\"");
        assert_eq!(problems(&manifest), format!("jackfield.toml:{expected}"));
    }
}

#[test]
fn the_extension_of_a_component_decides_whether_it_is_a_script() {
    let component = |file: &str, keys: &str| {
        let manifest = format!("[integrations.chat]\ncomponent = {file:?}\n{keys}\n[routes]\nx = \"chat\"");
        config(&manifest).components["chat"].script.clone()
    };
    let script = |handler: Option<&str>| Script { language: Language::JavaScript, handler: handler.map(str::to_owned) };
    assert_eq!(component("chat.wasm", ""), None);
    assert_eq!(component("chat.ts", ""), Some(script(None)));
    assert_eq!(component("src/chat.mjs", "handler = \"connect\""), Some(script(Some("connect"))));
    assert_eq!(component("app.py", "").unwrap().language, Language::Python);
}

#[test]
fn a_key_that_does_not_fit_a_script_or_a_component_is_an_error() {
    let handler = "found with a component that is no script; remove it: a component of WebAssembly exports its handler \
                   by its world; to serve a script, write component = \"FILE.ts\"";
    for (file, keys, expected) in [
        ("chat.wasm", "handler = \"connect\"", format!("handler: {handler}")),
        (
            "chat.tsx",
            "",
            "component: found a file with JSX, which scripts cannot have; use a file that ends with .js, .mjs, .cjs, .ts, \
             .mts or .cts; a handler has no use for JSX"
                .to_owned(),
        ),
        (
            "chat.js",
            "files = [{ host = \"data\", guest = \"/data\" }]",
            "files: found with a script, which has no files; remove it: use the grants of the manifest, such as buckets, \
             instead"
                .to_owned(),
        ),
        (
            "chat.js",
            "sockets = [\"127.0.0.1:6379\"]",
            "sockets: found with a script, which has no sockets; remove it: use fetch with allowed_hosts instead".to_owned(),
        ),
        (
            "chat.js",
            "handler = \"chat.connect\"",
            "handler: found \"chat.connect\", expected the name of an export without \"chat\"; component names the \
             file, so write handler = \"connect\""
                .to_owned(),
        ),
        (
            "chat.js",
            "handler = \"\"",
            "handler: found \"\", expected the name of an export of the script; write only the name of the export: \
             handler = \"connect\""
                .to_owned(),
        ),
    ] {
        let manifest = format!("[integrations.chat]\ncomponent = {file:?}\n{keys}\n[routes]\nx = \"chat\"");
        let line = if keys.is_empty() { 2 } else { 3 };
        assert_eq!(problems(&manifest), format!("jackfield.toml:{line}: integrations.chat.{expected}"));
    }
}

#[test]
fn a_drain_takes_at_most_an_hour_and_is_none_by_default() {
    let drain = |text: &str| config(&format!("[server]\n{text}")).server.drain;
    assert_eq!(drain(""), Duration::ZERO);
    assert_eq!(drain("drain = \"0s\""), Duration::ZERO);
    assert_eq!(drain("drain = \"1h\""), Duration::from_secs(60 * 60));
    for text in ["1h 1ms", "60", "none"] {
        let found = problems(&format!("[server]\ndrain = {text:?}"));
        assert!(found.starts_with(&format!("jackfield.toml:2: server.drain: found {text:?}, expected")), "{found}");
    }
    let found = problems("[server]\nderegistration_delay = \"5min\"");
    assert!(found.contains("write it in [server] as drain = \"60s\""), "{found}");
}
