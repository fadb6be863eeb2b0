//! The command line, as somebody new to it meets it.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness::{CHAT, HOSTILE, HOSTILE_GRANTS, PATIENCE, Peer, Site, component, lean_echo, manifest};

const VERBS: [&[&str]; 8] =
    [&["serve"], &["dev"], &["check"], &["new"], &["new", "rust"], &["import"], &["invoke"], &["inspect"]];

// ---- help and mistakes ---------------------------------------------------------------------

#[test]
fn the_help_of_every_verb_has_an_example() {
    let site = Site::new("");
    for verb in VERBS {
        for flag in ["-h", "--help"] {
            let (code, help, stderr) = site.run(&[verb, &[flag]].concat());
            assert_eq!((code, &*stderr), (0, ""), "{verb:?}");
            let example = format!("\n  jackfield {}", verb.join(" "));
            let examples = help.split_once("\nExample").unwrap_or_else(|| panic!("{verb:?} has none:\n{help}")).1;
            assert!(examples.contains(&example), "{help}");
            assert!(help.lines().all(|line| line.len() <= 120), "{verb:?} has a long line:\n{help}");
        }
    }
}

#[test]
fn the_first_help_names_every_verb_and_the_exit_codes() {
    let site = Site::new("");
    let (code, help, stderr) = site.run(&["--help"]);
    assert_eq!((code, &*stderr), (0, ""));
    for verb in VERBS {
        assert!(help.contains(&format!("\n  {} ", verb[0])), "{verb:?} is not in:\n{help}");
    }
    assert!(
        help.contains("Exit codes: 0 done, 1 it failed or found a problem, 2 the command line was wrong."),
        "{help}"
    );
    // Whoever says nothing is helped too, but a script that does is wrong.
    let (code, stdout, told) = site.run(&[]);
    assert_eq!((code, &*stdout), (2, ""));
    assert!(told.contains("Usage: jackfield"), "{told}");

    let (code, version, _) = site.run(&["--version"]);
    assert_eq!((code, version), (0, format!("jackfield {}\n", env!("CARGO_PKG_VERSION"))));
}

#[test]
fn a_wrong_command_line_is_told_on_stderr_and_ends_with_2() {
    let site = Site::new("");
    let address = "expected an address and a port such as \"127.0.0.1:3001\"";
    for (arguments, told) in [
        (&["frobnicate"][..], "unrecognized subcommand 'frobnicate'"),
        (&["serve", "one.toml", "two.toml"], "unexpected argument 'two.toml'"),
        (&["serve", "--listen", "3002"], &format!("{address}; with that port: \"127.0.0.1:3002\"")),
        (&["serve", "--listen", "localhost:1"], &format!("{address}; localhost is a name: write \"127.0.0.1:1\"")),
        (&["dev", "--poll", "9ms"], "expected a duration from 10ms to 1h, such as 500ms"),
        (&["dev", "--poll", "61min"], "expected a duration from 10ms to 1h, such as 500ms"),
        (&["check", "--log-format", "xml"], "[possible values: text, json]"),
        (&["invoke"], "<ROUTE>"),
        (&["invoke", "$default", "--row", "user"], "expected NAME=VALUE"),
        (&["inspect"], "<FILE>"),
        (&["new"], "Usage: jackfield new"),
        (&["new", "rust"], "<NAME>"),
        (&["import"], "<TEMPLATE>"),
        (&["new", "cobol", "chat"], "unrecognized subcommand 'cobol'"),
    ] {
        let (code, stdout, stderr) = site.run(arguments);
        assert_eq!((code, &*stdout), (2, ""), "{arguments:?}");
        assert!(stderr.contains(told), "{arguments:?}: {stderr}");
    }
    // The other side of the line: these get as far as the manifest.
    for arguments in [&["serve", "--poll", "10ms", "nowhere"][..], &["dev", "--poll", "1h", "nowhere"]] {
        let (code, _, stderr) = site.run(arguments);
        assert_eq!(code, 1, "{arguments:?}");
        assert!(stderr.contains("nowhere"), "{stderr}");
    }
}

#[test]
fn without_a_manifest_every_verb_that_reads_one_says_what_to_do() {
    let site = Site::new("");
    fs::remove_file(site.manifest()).unwrap();
    for verb in [&["serve"][..], &["dev"], &["check"], &["invoke", "$default"]] {
        let (code, stdout, stderr) = site.run(verb);
        assert_eq!((code, &*stdout), (1, ""), "{verb:?}");
        let told = "error: jackfield.toml: the manifest is not there; \
            name one that is, or make a folder with one that works: jackfield new rust NAME\n";
        assert_eq!(stderr, told, "{verb:?}");
    }
    fs::create_dir(site.path().join("chat")).unwrap();
    let (code, _, stderr) = site.run(&["serve", "chat"]);
    assert_eq!(code, 1);
    assert!(stderr.ends_with("; name the manifest in it: chat/jackfield.toml\n"), "{stderr}");
}

// ---- check -----------------------------------------------------------------------------------

#[test]
fn check_says_what_is_served_and_leaves_nothing_behind() {
    let site = Site::hostile();
    let (code, stdout, stderr) = site.run(&["check"]);
    assert_eq!((code, &*stderr), (0, ""));
    let version = version(&component(HOSTILE));
    let told = format!(
        "jackfield.toml is fine: 3 routes, 1 integration\n  guest  version {version}  {}\n",
        component(HOSTILE).display()
    );
    assert_eq!(stdout, told);
    let left: Vec<_> = fs::read_dir(site.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["jackfield.toml"]);
}

#[test]
fn check_tells_every_problem_of_manifest_and_components_at_once() {
    let (chat, site) = (component(CHAT), Site::new(""));
    fs::write(site.path().join("module.wasm"), b"\0asm\x01\0\0\0").unwrap();
    let written = format!(
        r#"
[server]
lisen = "127.0.0.1:3001"

[integrations.greedy]
component = {chat:?}

[integrations.lost]
component = "lost.wasm"
build = "make lost"
watch = ["src"]
memory = "1"

[integrations.module]
component = "module.wasm"

[integrations.nothing]

[routes]
"$default" = "greed"
"$disconect" = "lost"
"#
    );
    fs::write(site.manifest(), written).unwrap();
    let (code, stdout, stderr) = site.run(&["check"]);
    assert_eq!((code, &*stdout), (1, ""));
    let (_, problems) = stderr.split_once("error: there are 8 problems\n").unwrap_or_else(|| panic!("{stderr}"));
    let beginnings = [
        r#"jackfield.toml:3: [server] has no key "lisen"; did you mean listen?"#,
        &format!(
            "jackfield.toml:6: [integrations.greedy] {}: it imports jackfield:gateway/connections@0.1.0, which is not \
             granted; it imports jackfield:gateway/connection-store@0.1.0, which is not granted; to grant it, write in \
             [integrations.greedy]: grants = [\"connections\", \"connection-store\"]",
            chat.display()
        ),
        "jackfield.toml:9: [integrations.lost] lost.wasm: it is not there; build it: make lost",
        r#"jackfield.toml:12: integrations.lost.memory: found "1", expected a size"#,
        "jackfield.toml:15: [integrations.module] module.wasm: it is a core module that carries no world's metadata",
        "jackfield.toml:17: integrations.nothing: found no component, which has no default",
        r#"jackfield.toml:20: routes.$default: found "greed", expected an integration that is there"#,
        r#"jackfield.toml:21: routes: found the name "$disconect", expected $connect, $disconnect, $default"#,
    ];
    let lines: Vec<&str> = problems.lines().collect();
    assert_eq!(lines.len(), beginnings.len(), "{stderr}");
    for (line, beginning) in lines.iter().zip(beginnings) {
        assert!(line.starts_with(beginning), "{line}\ndoes not begin with\n{beginning}");
    }
}

#[test]
fn check_warns_of_what_is_allowed_but_hardly_meant() {
    let rest = "server = { page = \"page.html\" }";
    let grants = format!("{HOSTILE_GRANTS}\nbuild = \"make\"");
    let site = Site::new(&manifest(&component(HOSTILE), rest, &grants));
    let (code, stdout, stderr) = site.run(&["check"]);
    assert_eq!(code, 0, "{stderr}");
    assert!(stdout.starts_with("jackfield.toml is fine"), "{stdout}");
    let warnings: Vec<&str> = stderr.lines().collect();
    let [build, page] = warnings[..] else { panic!("{stderr}") };
    assert!(build.starts_with("warning: jackfield.toml:11: integrations.guest.build: found without watch"), "{build}");
    assert_eq!(page, "warning: jackfield.toml: server.page: page.html is no file, so GET / finds nothing");

    fs::write(site.path().join("page.html"), "").unwrap();
    let (_, _, stderr) = site.run(&["check"]);
    assert_eq!(stderr, format!("{build}\n"));
}

#[test]
fn one_problem_is_told_in_one_line() {
    let site = Site::new("[routes\n");
    let (code, _, stderr) = site.run(&["check"]);
    assert_eq!((code, &*stderr), (1, "error: jackfield.toml:1: unclosed table, expected `]`\n"));
}

#[tokio::test]
async fn check_and_invoke_work_beside_a_server_that_uses_the_same_manifest() {
    let server = Site::hostile().serve();
    assert_eq!(server.site.run(&["check"]).0, 0);
    assert_eq!(server.site.run(&["invoke", "$default", "--body", "row a=b"]).0, 0);
}

// ---- inspect ---------------------------------------------------------------------------------

#[test]
fn inspect_tells_what_a_component_is_and_what_to_grant_it() {
    let (site, chat) = (Site::new(""), component(CHAT));
    let (code, stdout, stderr) = site.run(&["inspect", chat.to_str().unwrap()]);
    assert_eq!((code, &*stderr), (0, ""));
    let size = fs::metadata(&chat).unwrap().len() as f64 / 1024.0;
    for line in [
        &*chat.to_string_lossy(),
        &format!("  version   {}", version(&chat)),
        "  world     jackfield:gateway/route-handler@0.1.0",
        "  exports   jackfield:gateway/handler@0.1.0",
        "            jackfield:gateway/connections@0.1.0",
        "  grants    to write in [integrations.NAME]:",
        r#"            grants = ["connections", "connection-store"]"#,
    ] {
        assert!(stdout.lines().any(|told| told == line), "no line {line:?} in\n{stdout}");
    }
    assert!(stdout.contains(&format!("\n  size      {size:.1} KiB, compiled in ")), "{stdout}");

    let (_, hostile, _) = site.run(&["inspect", component(HOSTILE).to_str().unwrap()]);
    for line in [r#"            buckets = ["NAME"]"#, r#"            allowed_hosts = ["https://HOST"]"#] {
        assert!(hostile.lines().any(|told| told == line), "no line {line:?} in\n{hostile}");
    }
    let (code, lean, _) = site.run(&["inspect", lean_echo().to_str().unwrap()]);
    assert_eq!(code, 0);
    assert!(lean.contains("  world     jackfield:gateway/route-handler@0.1.0\n"), "{lean}");
}

#[test]
fn inspect_says_what_a_file_is_that_is_no_handler() {
    let site = Site::new("");
    let inspect = |name: &str, bytes: &[u8]| {
        fs::write(site.path().join(name), bytes).unwrap();
        site.run(&["inspect", name])
    };
    let (code, stdout, _) = inspect("empty.wasm", b"\0asm\x0d\0\x01\0");
    assert_eq!(code, 0);
    for line in [
        "  world     none of jackfield's: it can be neither an integration nor an authorizer",
        "  exports   none",
        "  imports   none",
        "  grants    none needed",
    ] {
        assert!(stdout.lines().any(|told| told == line), "no line {line:?} in\n{stdout}");
    }
    let (code, stdout, stderr) = inspect("notes.txt", b"notes");
    assert_eq!((code, &*stdout), (1, ""));
    let told =
        "error: notes.txt: it is no WebAssembly: a file of 5 bytes that does not begin with \\0asm and a version\n";
    assert_eq!(stderr, told);
    let (code, _, stderr) = inspect("module.wasm", b"\0asm\x01\0\0\0");
    assert_eq!(code, 1);
    assert!(stderr.contains("it is a core module that carries no world's metadata; build it for"), "{stderr}");
    let (code, _, stderr) = site.run(&["inspect", "nowhere.wasm"]);
    assert_eq!(code, 1);
    assert!(stderr.starts_with("error: nowhere.wasm cannot be read: "), "{stderr}");
}

#[test]
fn whoever_reads_no_further_ends_a_verb_without_a_complaint() {
    let site = Site::new("");
    let chat = component(CHAT);
    let mut command = site.command(&["inspect", chat.to_str().unwrap()]);
    let mut process = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // It compiles for some milliseconds before it writes.
    drop(process.stdout.take());
    let output = process.wait_with_output().unwrap();
    assert_eq!((output.status.code(), String::from_utf8(output.stderr).unwrap()), (Some(0), String::new()));
}

// ---- invoke ----------------------------------------------------------------------------------

/// The lines that `invoke` prints, but for those of the cost, which must be there.
fn invoked(site: &Site, arguments: &[&str]) -> (i32, Vec<String>, String) {
    let (code, stdout, stderr) = site.run(&[&["invoke"], arguments].concat());
    let mut lines: Vec<String> = stdout.lines().map(str::to_owned).collect();
    let cost: Vec<String> = lines.drain(lines.len().saturating_sub(3)..).collect();
    let [time, cpu_time, memory] = &cost[..] else { panic!("no cost in {stdout}{stderr}") };
    let amount = |text: &str, units: &[&str]| {
        let number = text.trim_end_matches(|c: char| !c.is_ascii_digit());
        units.contains(&text[number.len()..].trim_start()) && number.parse::<f64>().is_ok_and(|number| number > 0.0)
    };
    let times = ["ns", "µs", "ms", "s"];
    let spent = time.strip_prefix("time      ").and_then(|time| time.strip_suffix(" of it to make the sandbox"));
    let (total, sandbox) = spent.and_then(|spent| spent.split_once(", ")).unwrap_or_else(|| panic!("{time}"));
    assert!(amount(total, &times) && amount(sandbox, &times), "{time}");
    assert!(cpu_time.strip_prefix("cpu time  ").is_some_and(|cpu| amount(cpu, &times)), "{cpu_time}");
    let memory = memory.strip_prefix("memory    ").unwrap_or_else(|| panic!("{memory}"));
    let cut_off = lines[0].starts_with("failed") && memory == "not known: the handler was cut off";
    assert!(cut_off || amount(memory, &["KiB", "MiB"]), "{memory}");
    (code, lines, stderr)
}

#[test]
fn invoke_shows_the_response_and_what_was_posted_to_whom() {
    let grants = r#"grants = ["connections", "connection-store"]"#;
    let site = Site::new(&format!("{}sendmessage = \"guest\"", manifest(&component(CHAT), "", grants)));
    let body = r#"{"action":"sendmessage","to":"B","content":"hello"}"#;
    let (code, lines, stderr) =
        invoked(&site, &["sendmessage", "--row", "user=A", "--other", "user=B", "--other", "user=B", "--body", body]);
    assert_eq!((code, &*stderr), (0, ""));
    let post = r#"post      to user=B: {"type":"message","from":"A","content":"hello"}"#;
    assert_eq!(lines, ["response  200", post, post, "row       user=A"]);
}

#[test]
fn invoke_shows_what_does_not_go_back_and_why() {
    let site = Site::new(&format!("{}quiet = \"guest\"", manifest(&component(HOSTILE), "", HOSTILE_GRANTS)));
    let none = "row       no attributes";
    for (arguments, expected) in [
        (&["$default", "--body", "echo hi"][..], vec!["response  200", "body      hi", none]),
        (
            &["quiet", "--body", "echo hi"],
            vec!["response  200", "body      hi (not sent: the route has no route_response)", none],
        ),
        (
            &["$connect", "--query", "do=status 403", "--header", "Host=example.com"],
            vec!["response  403", "body      a body (not sent: the peer is told the status)", none],
        ),
        (
            &["$connect", "--query", "do=row a=b=c"],
            vec!["response  200", "body      added (not sent: the peer is told the status)", "row       a=b=c"],
        ),
        (
            &["$connect", "--query", "protocol=chat"],
            vec!["response  200", "header    sec-websocket-protocol: chat", none],
        ),
        (&["$default", "--body", "binary"], vec!["response  200", "body      4 bytes, binary", none]),
        (
            &["$default", "--body", "posts 2"],
            vec![
                "response  200",
                "body      2",
                "post      to its own connection: x",
                "post      to its own connection: x",
                none,
            ],
        ),
    ] {
        let (code, lines, stderr) = invoked(&site, arguments);
        assert_eq!((code, &*stderr), (0, ""), "{arguments:?}");
        assert_eq!(lines, expected, "{arguments:?}");
    }
    let (code, lines, _) = invoked(&site, &["$disconnect", "--code", "1001", "--body", "bye", "--row", "a=b"]);
    assert_eq!((code, lines.join("\n")), (0, "response  200\nrow       a=b".to_owned()));
}

#[test]
fn invoke_shows_what_the_handler_says_on_stderr() {
    let site = Site::hostile();
    let (code, _, stderr) = invoked(&site, &["$default", "--body", "say hello there"]);
    assert_eq!(code, 0);
    let [line] = stderr.lines().collect::<Vec<_>>()[..] else { panic!("{stderr}") };
    assert!(line.contains(" INFO hello there plugin=guest route=$default connection_id="), "{line}");
    let (_, _, stderr) = invoked(&site, &["$default", "--body", "log it burns"]);
    assert!(stderr.contains("ERROR it burns plugin=guest"), "{stderr}");
}

#[test]
fn a_handler_that_fails_under_invoke_ends_with_1() {
    let limits = format!("{HOSTILE_GRANTS}\ncpu_time = \"100ms\"\nmemory = \"4MiB\"\ntimeout = \"1s\"");
    let site = Site::new(&manifest(&component(HOSTILE), "", &limits));
    for (order, told) in [
        ("fail", "the handler failed: as told: "),
        ("trap", "the handler trapped: "),
        ("spin", "the handler used more than 100ms of CPU (cpu_time in the manifest)"),
        ("sleep 60000", "the handler ran longer than 1s (timeout in the manifest)"),
        ("status 700", "the handler answered what cannot be sent: status 700, expected 200 to 599"),
    ] {
        let (code, lines, _) = invoked(&site, &["$default", "--body", order]);
        assert_eq!(code, 1, "{order}");
        assert!(lines[0].starts_with(&format!("failed    {told}")), "{order}: {lines:?}");
    }
    // A refusal is an answer.
    assert_eq!(invoked(&site, &["$connect", "--query", "do=status 403"]).0, 0);
}

#[test]
fn a_route_that_is_not_there_is_told_with_those_that_are() {
    let site = Site::hostile();
    for route in ["join", "$defualt", ""] {
        let (code, stdout, stderr) = site.run(&["invoke", route]);
        assert_eq!((code, &*stdout), (1, ""));
        let told =
            format!("error: jackfield.toml has no route {route:?}; its routes are: $connect, $disconnect, $default\n");
        assert_eq!(stderr, told);
    }
}

// ---- serve -----------------------------------------------------------------------------------

#[tokio::test]
async fn serve_says_where_it_listens_which_versions_it_has_and_where_the_page_is() {
    let site = Site::new(&manifest(&component(HOSTILE), "server = { page = \"page.html\" }", HOSTILE_GRANTS));
    fs::write(site.path().join("page.html"), "<!doctype html>").unwrap();
    let mut command = site.command(&["serve", "--listen", "127.0.0.1:0"]);
    let mut process = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(process.stdout.take().unwrap()));
    let (listening, page) = (lines.next().unwrap().unwrap(), lines.next().unwrap().unwrap());
    assert!(Command::new("kill").arg(process.id().to_string()).status().unwrap().success());
    let output = process.wait_with_output().unwrap();
    let address = listening.strip_prefix("listening on ws://").and_then(|rest| rest.strip_suffix("/dev"));
    let address = address.unwrap_or_else(|| panic!("{listening}"));
    assert_eq!(page, format!("page on http://{address}/"));
    let log = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{log}");
    assert!(log.contains(&format!("loaded plugin=guest version={}", version(&component(HOSTILE)))), "{log}");
}

#[test]
fn what_cannot_be_listened_on_is_told_with_what_to_do() {
    let site = Site::hostile();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let another = "another process does; stop it, or take another port with";
    let (code, stdout, stderr) = site.run(&["serve", "--listen", &address]);
    assert_eq!((code, &*stdout), (1, ""));
    let told = format!("error: cannot listen on {address}: {another} --listen, or listen in [server]\n");
    assert!(stderr.ends_with(&told), "{stderr}");

    // TEST-NET-1: no machine has it.
    let (code, _, stderr) = site.run(&["serve", "--insecure-management", "--listen", "192.0.2.1:3001"]);
    assert_eq!(code, 1);
    assert!(stderr.contains("cannot listen on 192.0.2.1:3001: this machine has no such address"), "{stderr}");

    let rest = format!("server = {{ metrics = {address:?} }}");
    let site = Site::new(&manifest(&component(HOSTILE), &rest, HOSTILE_GRANTS));
    let (code, _, stderr) = site.run(&["serve", "--listen", "127.0.0.1:0"]);
    assert_eq!(code, 1);
    let told = format!("error: cannot listen on {address}: {another} metrics in [server]\n");
    assert!(stderr.ends_with(&told), "{stderr}");
}

#[tokio::test]
async fn a_data_folder_that_another_server_uses_is_told() {
    let server = Site::hostile().serve();
    let (code, stdout, stderr) = server.site.run(&["serve", "--listen", "127.0.0.1:0"]);
    assert_eq!((code, &*stdout), (1, ""));
    let folder = server.site.path().join("data");
    let told = format!(
        "error: [backend] url: the store in {} is in use by another process; stop it, or choose another folder\n",
        folder.display()
    );
    assert!(stderr.ends_with(&told), "{stderr}");
}

#[test]
fn a_component_that_was_not_built_is_told_with_its_build() {
    let site = Site::new(&manifest(Path::new("guest.wasm"), "", "build = \"make guest\"\nwatch = [\"src\"]"));
    let (code, stdout, stderr) = site.run(&["serve", "--listen", "127.0.0.1:0"]);
    assert_eq!((code, &*stdout), (1, ""));
    let told = "jackfield.toml:5: [integrations.guest] guest.wasm: it is not there; build it: make guest";
    assert_eq!(stderr, format!("error: {told}\n"));
}

#[test]
fn a_first_build_that_fails_ends_dev_behind_what_the_build_said() {
    let build = "build = \"echo the compiler complains; exit 3\"\nwatch = [\".\"]";
    let site = Site::new(&manifest(Path::new("guest.wasm"), "", build));
    let (code, stdout, stderr) = site.run(&["dev", "--listen", "127.0.0.1:0"]);
    assert_eq!((code, &*stdout), (1, ""));
    let lines: Vec<&str> = stderr.lines().collect();
    let [.., said, told] = lines[..] else { panic!("{stderr}") };
    assert_eq!(said, "the compiler complains");
    assert!(told.starts_with("error: the build of [integrations.guest] failed (exit status: 3)"), "{told}");
}

#[tokio::test]
async fn dev_warns_where_there_is_nothing_to_build() {
    let server = Site::hostile().start(&["dev"]);
    server.log.line_with(&["WARN", "no integration says how to build it"]).await;
}

// ---- the log ---------------------------------------------------------------------------------

#[tokio::test]
async fn with_the_log_as_json_every_line_of_stderr_is_an_object() {
    let rest = "server = { metrics = \"127.0.0.1:0\" }";
    let site = Site::new(&manifest(&component(HOSTILE), rest, &format!("{HOSTILE_GRANTS}\nbuild = \"true\"")));
    let mut server = site.start(&["serve", "--log-format", "json"]);
    let mut peer = server.connect("").await;
    for order in ["say \u{1b}[31mhello", "trap"] {
        peer.ask(order).await;
    }
    server.signal("TERM");
    assert_eq!(server.ended().await, Some(0));
    server.log.line_with(&["stopped"]).await;
    let lines = server.log.text();
    let told: Vec<Value> =
        lines.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"))).collect();
    let said = told.iter().find(|line| line["target"] == "guest").unwrap_or_else(|| panic!("{lines}"));
    assert_eq!(
        (&said["level"], &said["plugin"], &said["route"]),
        (&"INFO".into(), &"guest".into(), &"$default".into())
    );
    assert_eq!(said["message"], "\\u{1b}[31mhello");
    assert!(told.iter().any(|line| line["level"] == "WARN" && line["message"].as_str().unwrap().contains("trapped")));

    let (code, stdout, stderr) = server.site.run(&["--log-format", "json", "serve", "nowhere.toml"]);
    assert_eq!((code, &*stdout), (1, ""));
    let error: Value = serde_json::from_str(&stderr).unwrap_or_else(|_| panic!("{stderr}"));
    assert_eq!(error["level"], "ERROR");
    assert!(error["message"].as_str().unwrap().starts_with("nowhere.toml: the manifest is not there"), "{error}");
}

#[test]
fn rust_log_chooses_what_is_told() {
    let site = Site::hostile();
    let stderr = |filter: &str| {
        let mut command = site.command(&["invoke", "$default", "--body", "say hello"]);
        String::from_utf8(command.env("RUST_LOG", filter).output().unwrap().stderr).unwrap()
    };
    assert_eq!(stderr("warn"), "");
    assert_eq!(stderr("").lines().count(), 1);
    assert!(stderr("debug").lines().count() > 1, "{}", stderr("debug"));
    assert!(stderr("guest=nonsense").contains("guest=nonsense"), "{}", stderr("guest=nonsense"));
}

#[test]
fn colours_are_for_terminals_and_for_nobody_who_declines_them() {
    let site = Site::hostile();
    let arguments = ["invoke", "$default", "--body", "say hello"];
    let escape = '\u{1b}';
    for arguments in [&arguments[..], &["--help"], &["frobnicate"], &["check"], &["inspect", "nowhere.wasm"]] {
        let output = site.command(arguments).env_remove("NO_COLOR").output().unwrap();
        let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat();
        assert!(!text.is_empty() && !text.contains(escape), "{arguments:?}: {text}");
    }

    // Python runs a program on a terminal of its own and prints what it said there.
    let python =
        std::env::var_os("JACKFIELD_TEST_PYTHON").expect("run `cargo xtask test`, which sets JACKFIELD_TEST_PYTHON");
    let on_terminal = |no_color: Option<&str>| {
        let verb = site.command(&arguments);
        let mut command = Command::new(&python);
        command.args(["-c", "import pty, sys; pty.spawn(sys.argv[1:])"]).arg(verb.get_program()).args(verb.get_args());
        command.current_dir(site.path()).stdin(Stdio::null()).env("TERM", "xterm").env_remove("NO_COLOR");
        command.envs(
            verb.get_envs().filter(|(name, _)| *name != "NO_COLOR").filter_map(|(name, value)| Some((name, value?))),
        );
        command.envs(no_color.map(|value| ("NO_COLOR", value)));
        String::from_utf8(command.output().unwrap().stdout).unwrap()
    };
    for (no_color, coloured) in [(None, true), (Some(""), true), (Some("1"), false)] {
        let text = on_terminal(no_color);
        assert!(text.contains("hello"), "{text}");
        assert_eq!(text.contains(escape), coloured, "NO_COLOR {no_color:?}: {text}");
    }
}

// ---- new -------------------------------------------------------------------------------------

#[test]
fn new_says_what_to_type_next() {
    let site = Site::new("");
    let (code, stdout, stderr) = site.run(&["new", "rust", "my-chat"]);
    assert_eq!((code, &*stderr), (0, ""));
    for line in ["my-chat is made. Next:", "  cd my-chat", "  npx wscat -c ws://127.0.0.1:3001/dev"] {
        assert!(stdout.lines().any(|told| told == line), "no line {line:?} in\n{stdout}");
    }
    assert!(stdout.contains("\n  jackfield dev "), "{stdout}");

    let (code, stdout, stderr) = site.run(&["new", "rust", "my-chat"]);
    assert_eq!((code, &*stdout), (1, ""));
    assert_eq!(stderr, "error: my-chat is there already; take another name, or move it away\n");
    let (code, _, stderr) = site.run(&["new", "rust", "My Chat"]);
    assert_eq!(code, 1);
    assert!(stderr.ends_with("; \"my-chat\" would do\n"), "{stderr}");
}

#[test]
fn before_its_first_build_a_new_project_says_how_to_build_it() {
    let site = Site::new("");
    site.run(&["new", "rust", "my-chat"]);
    let (code, _, stderr) = site.run(&["check", "my-chat/jackfield.toml"]);
    assert_eq!(code, 1);
    let told = "error: my-chat/jackfield.toml:4: [integrations.my-chat] \
        my-chat/target/wasm32-wasip2/release/my_chat.wasm: it is not there; \
        build it: cargo build --release --target wasm32-wasip2\n";
    assert_eq!(stderr, told);
}

/// Everything that the README of a new project has its author do: its test, `dev`, a message, a
/// change that is live while the peer stays.
#[tokio::test]
async fn a_new_project_is_tested_built_served_and_changed_as_its_readme_says() {
    // Always the same folder, so that a second run finds what the first has built.
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("new-author");
    let project = folder.join("hello");
    fs::create_dir_all(folder.join("target")).unwrap();
    let _ = fs::remove_dir_all(&project);
    let site = Site::new("");
    let author = |arguments: &[&str]| {
        let mut command = site.command(arguments);
        command.current_dir(&project);
        as_an_author(&mut command);
        command
    };
    let made = site.command(&["new", "rust", "hello"]).current_dir(&folder).output().unwrap();
    assert!(made.status.success(), "{made:?}");
    std::os::unix::fs::symlink(folder.join("target"), project.join("target")).unwrap();

    let mut test = Command::new("cargo");
    as_an_author(test.arg("test").current_dir(&project));
    let tested = test.output().unwrap();
    let said = String::from_utf8_lossy(&tested.stdout);
    assert!(tested.status.success(), "{said}\n{}", String::from_utf8_lossy(&tested.stderr));
    assert!(said.contains("test a_message_comes_back ... ok"), "{said}");

    let server = site.clone().launch(author(&["dev"]));
    let checked = author(&["check"]).output().unwrap();
    assert!(checked.status.success(), "{checked:?}");
    let mut peer = server.connect("").await;
    assert_eq!(peer.ask("hello").await, "hello");

    let source = project.join("src/lib.rs");
    let before = fs::read_to_string(&source).unwrap();
    let after = before.replace("Response::reply(message.body)", "Response::reply(\"changed\")");
    assert_ne!(before, after);
    fs::write(&source, after).unwrap();
    becomes(&mut peer, "changed").await;

    // A slip of the pen: the compiler says so, and what was there stays.
    fs::write(&source, before.replace("message.body", "message.bodi")).unwrap();
    server.log.line_with(&["no field `bodi`"]).await;
    server.log.line_with(&["ERROR", "the old version keeps serving"]).await;
    assert_eq!(peer.ask("hello").await, "changed");
    fs::write(&source, before).unwrap();
    becomes(&mut peer, "hello").await;
}

/// Nothing of the build that runs this test, and nothing from the network: what the SDK needs was
/// fetched for the plugins.
fn as_an_author(command: &mut Command) {
    command.env_remove("CARGO_TARGET_DIR").envs([("CARGO_NET_OFFLINE", "true"), ("CARGO_TERM_COLOR", "never")]);
}

/// Asks until the new version answers, for as long as a compiler takes on a busy machine.
async fn becomes(peer: &mut Peer, answer: &str) {
    let deadline = Instant::now() + 4 * PATIENCE;
    loop {
        let found = peer.ask("hello").await;
        if found == answer {
            return;
        }
        assert!(Instant::now() < deadline, "the answer stays {found:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The version of a component, as the server names it.
fn version(component: &PathBuf) -> String {
    blake3::hash(&fs::read(component).unwrap()).to_hex()[..12].to_owned()
}
