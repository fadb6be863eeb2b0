//! The command line: help, usage errors, the output of every verb, and the log.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness::{CHAT, HOSTILE, HOSTILE_GRANTS, Peer, Site, TEST_TIMEOUT, component, lean_echo, manifest};

const VERBS: [&[&str]; 9] =
    [&["serve"], &["dev"], &["build"], &["check"], &["new"], &["wit"], &["import"], &["invoke"], &["inspect"]];

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
fn the_top_level_help_names_every_verb_and_the_exit_codes() {
    let site = Site::new("");
    let (code, help, stderr) = site.run(&["--help"]);
    assert_eq!((code, &*stderr), (0, ""));
    for verb in VERBS {
        assert!(help.contains(&format!("\n  {} ", verb[0])), "{verb:?} is not in:\n{help}");
    }
    assert!(
        help.contains("Exit codes: 0 success, 1 failure or a problem was found, 2 invalid command line."),
        "{help}"
    );
    // Without arguments the help is printed too, but as an error, because a script would be wrong to do that.
    let (code, stdout, stderr) = site.run(&[]);
    assert_eq!((code, &*stdout), (2, ""));
    assert!(stderr.contains("Usage: jackfield"), "{stderr}");

    let (code, version, _) = site.run(&["--version"]);
    assert_eq!((code, version), (0, format!("jackfield {}\n", env!("CARGO_PKG_VERSION"))));
}

#[test]
fn a_wrong_command_line_is_reported_on_stderr_and_exits_with_2() {
    let site = Site::new("");
    let address = "expected an address and a port such as \"127.0.0.1:3001\"";
    for (arguments, expected) in [
        (&["frobnicate"][..], "unrecognized subcommand 'frobnicate'"),
        (&["serve", "one.toml", "two.toml"], "unexpected argument 'two.toml'"),
        (&["serve", "--listen", "3002"], &format!("{address}; write \"127.0.0.1:3002\"")),
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
        (&["new", "cobol", "chat"], "invalid value 'cobol' for '<LANGUAGE>'"),
    ] {
        let (code, stdout, stderr) = site.run(arguments);
        assert_eq!((code, &*stdout), (2, ""), "{arguments:?}");
        assert!(stderr.contains(expected), "{arguments:?}: {stderr}");
    }
    // The smallest and the largest valid value: these commands get as far as reading the manifest.
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
        let expected = "error: jackfield.toml: the manifest does not exist; \
            give the path of an existing one, or create a project: jackfield new LANGUAGE NAME\n";
        assert_eq!(stderr, expected, "{verb:?}");
    }
    fs::create_dir(site.path().join("chat")).unwrap();
    let (code, _, stderr) = site.run(&["serve", "chat"]);
    assert_eq!(code, 1);
    assert!(stderr.ends_with("; give the path of the manifest in it: chat/jackfield.toml\n"), "{stderr}");
}

// ---- check -----------------------------------------------------------------------------------

#[test]
fn check_lists_what_is_served_and_writes_no_file() {
    let site = Site::hostile();
    let (code, stdout, stderr) = site.run(&["check"]);
    assert_eq!((code, &*stderr), (0, ""));
    let version = version(&component(HOSTILE));
    let granted = "jackfield:gateway/connections, jackfield:gateway/connection-store, wasi:keyvalue, wasi:http";
    let expected = format!(
        "jackfield.toml is fine: 3 routes, 1 integration\n  guest  version {version}  {}\n      granted: {granted}\n",
        component(HOSTILE).display()
    );
    assert_eq!(stdout, expected);
    let files: Vec<_> = fs::read_dir(site.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(files, ["jackfield.toml"]);
}

#[test]
fn check_shows_which_imports_have_no_grant_and_the_line_to_add() {
    let keys = "grants = [\"connection-store\"]\nallowed_hosts = [\"http://127.0.0.1:9\"]";
    let site = Site::new(&manifest(&component(HOSTILE), "", keys));
    let (code, stdout, stderr) = site.run(&["check"]);
    assert_eq!((code, &*stderr), (0, ""));
    for line in [
        "      granted: jackfield:gateway/connection-store, wasi:http",
        "      imported without a grant: jackfield:gateway/connections (calls return forbidden), wasi:keyvalue (calls \
         return access-denied); to grant it, write in [integrations.guest]: grants = [\"connections\", \
         \"connection-store\"] and buckets = [\"NAME\"]",
    ] {
        assert!(stdout.lines().any(|printed| printed == line), "no line {line:?} in\n{stdout}");
    }
}

#[test]
fn check_reports_every_problem_of_manifest_and_components_at_once() {
    let (guest, site) = (component(HOSTILE), Site::new(""));
    fs::write(site.path().join("module.wasm"), b"\0asm\x01\0\0\0").unwrap();
    let text = format!(
        r#"
[server]
lisen = "127.0.0.1:3001"

[integrations.greedy]
component = {guest:?}

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
    fs::write(site.manifest(), text).unwrap();
    let (code, stdout, stderr) = site.run(&["check"]);
    assert_eq!((code, &*stdout), (1, ""));
    let (_, problems) = stderr.split_once("error: there are 8 problems\n").unwrap_or_else(|| panic!("{stderr}"));
    let beginnings = [
        r#"jackfield.toml:3: [server] has no key "lisen"; did you mean listen?"#,
        &format!(
            "jackfield.toml:6: [integrations.greedy] {}: it imports wasi:http/outgoing-handler@0.2.12, which is not \
             granted; to grant it, write in [integrations.greedy]: allowed_hosts = [\"https://HOST\"]",
            guest.display()
        ),
        "jackfield.toml:9: [integrations.lost] lost.wasm: file not found; build it: make lost",
        r#"jackfield.toml:12: integrations.lost.memory: found "1", expected a size"#,
        "jackfield.toml:15: [integrations.module] module.wasm: it is a core module without the metadata of a world",
        "jackfield.toml:17: integrations.nothing: found no component, which is required",
        r#"jackfield.toml:20: routes.$default: found "greed", expected an existing integration"#,
        r#"jackfield.toml:21: routes: found the name "$disconect", expected $connect, $disconnect, $default"#,
    ];
    let lines: Vec<&str> = problems.lines().collect();
    assert_eq!(lines.len(), beginnings.len(), "{stderr}");
    for (line, beginning) in lines.iter().zip(beginnings) {
        assert!(line.starts_with(beginning), "{line}\ndoes not begin with\n{beginning}");
    }
}

#[test]
fn check_warns_about_settings_that_are_valid_but_probably_a_mistake() {
    let settings = "server = { page = \"page.html\" }";
    let grants = format!("{HOSTILE_GRANTS}\nbuild = \"make\"");
    let site = Site::new(&manifest(&component(HOSTILE), settings, &grants));
    let (code, stdout, stderr) = site.run(&["check"]);
    assert_eq!(code, 0, "{stderr}");
    assert!(stdout.starts_with("jackfield.toml is fine"), "{stdout}");
    let warnings: Vec<&str> = stderr.lines().collect();
    let [build, page] = warnings[..] else { panic!("{stderr}") };
    assert!(build.starts_with("warning: jackfield.toml:11: integrations.guest.build: found without watch"), "{build}");
    assert_eq!(page, "warning: jackfield.toml: server.page: page.html is not a file, so GET / returns 404");

    fs::write(site.path().join("page.html"), "").unwrap();
    let (_, _, stderr) = site.run(&["check"]);
    assert_eq!(stderr, format!("{build}\n"));
}

#[test]
fn one_problem_is_reported_in_one_line() {
    let site = Site::new("[routes\n");
    let (code, _, stderr) = site.run(&["check"]);
    assert_eq!((code, &*stderr), (1, "error: jackfield.toml:1: unclosed table, expected `]`\n"));
}

#[tokio::test]
async fn check_and_invoke_work_while_a_server_uses_the_same_manifest() {
    let server = Site::hostile().serve();
    assert_eq!(server.site.run(&["check"]).0, 0);
    assert_eq!(server.site.run(&["invoke", "$default", "--body", "row a=b"]).0, 0);
}

// ---- inspect ---------------------------------------------------------------------------------

#[test]
fn inspect_shows_what_a_component_is_and_which_grants_it_needs() {
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
        "  grants    add to [integrations.NAME]:",
        r#"            grants = ["connections", "connection-store"]"#,
        "  ungranted calls of jackfield:gateway/connections return forbidden",
        "            calls of jackfield:gateway/connection-store return access-denied",
    ] {
        assert!(stdout.lines().any(|printed| printed == line), "no line {line:?} in\n{stdout}");
    }
    assert!(stdout.contains(&format!("\n  size      {size:.1} KiB, compiled in ")), "{stdout}");

    let (_, hostile, _) = site.run(&["inspect", component(HOSTILE).to_str().unwrap()]);
    for line in [
        r#"            buckets = ["NAME"]"#,
        r#"            allowed_hosts = ["https://HOST"]"#,
        "            calls of wasi:keyvalue return access-denied",
        "            wasi:http prevents that the component loads",
    ] {
        assert!(hostile.lines().any(|printed| printed == line), "no line {line:?} in\n{hostile}");
    }
    let (code, lean, _) = site.run(&["inspect", lean_echo().to_str().unwrap()]);
    assert_eq!(code, 0);
    assert!(lean.contains("  world     jackfield:gateway/route-handler@0.1.0\n"), "{lean}");
}

#[test]
fn inspect_explains_a_file_that_is_not_a_handler() {
    let site = Site::new("");
    let inspect = |name: &str, bytes: &[u8]| {
        fs::write(site.path().join(name), bytes).unwrap();
        site.run(&["inspect", name])
    };
    let (code, stdout, _) = inspect("empty.wasm", b"\0asm\x0d\0\x01\0");
    assert_eq!(code, 0);
    for line in [
        "  world     no world of jackfield: the component can be neither an integration nor an authorizer",
        "  exports   none",
        "  imports   none",
        "  grants    none needed",
    ] {
        assert!(stdout.lines().any(|printed| printed == line), "no line {line:?} in\n{stdout}");
    }
    let (code, stdout, stderr) = inspect("notes.txt", b"notes");
    assert_eq!((code, &*stdout), (1, ""));
    let expected =
        "error: notes.txt: it is not WebAssembly: a file of 5 bytes that does not begin with \\0asm and a version\n";
    assert_eq!(stderr, expected);
    let (code, _, stderr) = inspect("module.wasm", b"\0asm\x01\0\0\0");
    assert_eq!(code, 1);
    assert!(stderr.contains("it is a core module without the metadata of a world; build it for"), "{stderr}");
    let (code, _, stderr) = site.run(&["inspect", "nowhere.wasm"]);
    assert_eq!(code, 1);
    assert!(stderr.starts_with("error: cannot read nowhere.wasm: "), "{stderr}");
}

#[test]
fn a_closed_stdout_ends_a_verb_without_an_error() {
    let site = Site::new("");
    let chat = component(CHAT);
    let mut command = site.command(&["inspect", chat.to_str().unwrap()]);
    let mut process = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // The verb compiles for some milliseconds before it writes, so stdout is closed by then.
    drop(process.stdout.take());
    let output = process.wait_with_output().unwrap();
    assert_eq!((output.status.code(), String::from_utf8(output.stderr).unwrap()), (Some(0), String::new()));
}

// ---- invoke ----------------------------------------------------------------------------------

/// Runs `invoke`. Returns the exit code, the lines of stdout before the three lines with the cost, and stderr.
/// The lines with the cost are checked here.
fn run_invoke(site: &Site, arguments: &[&str]) -> (i32, Vec<String>, String) {
    let (code, stdout, stderr) = site.run(&[&["invoke"], arguments].concat());
    let mut lines: Vec<String> = stdout.lines().map(str::to_owned).collect();
    let cost: Vec<String> = lines.drain(lines.len().saturating_sub(3)..).collect();
    let [time, cpu_time, memory] = &cost[..] else { panic!("no cost in {stdout}{stderr}") };
    let amount = |text: &str, units: &[&str]| {
        let number = text.trim_end_matches(|c: char| !c.is_ascii_digit());
        units.contains(&text[number.len()..].trim_start()) && number.parse::<f64>().is_ok_and(|number| number > 0.0)
    };
    let times = ["ns", "µs", "ms", "s"];
    let spent = time.strip_prefix("time      ").and_then(|time| time.strip_suffix(" of it to create the sandbox"));
    let (total, sandbox) = spent.and_then(|spent| spent.split_once(", ")).unwrap_or_else(|| panic!("{time}"));
    assert!(amount(total, &times) && amount(sandbox, &times), "{time}");
    assert!(cpu_time.strip_prefix("cpu time  ").is_some_and(|cpu| amount(cpu, &times)), "{cpu_time}");
    let memory = memory.strip_prefix("memory    ").unwrap_or_else(|| panic!("{memory}"));
    let cut_off = lines[0].starts_with("failed") && memory == "unknown: the handler was aborted";
    assert!(cut_off || amount(memory, &["KiB", "MiB"]), "{memory}");
    (code, lines, stderr)
}

#[test]
fn invoke_shows_the_response_and_each_post_with_its_target() {
    let grants = r#"grants = ["connections", "connection-store"]"#;
    let site = Site::new(&format!("{}sendmessage = \"guest\"", manifest(&component(CHAT), "", grants)));
    let body = r#"{"action":"sendmessage","to":"B","content":"hello"}"#;
    let (code, lines, stderr) = run_invoke(
        &site,
        &["sendmessage", "--row", "user=A", "--other", "user=B", "--other", "user=B", "--body", body],
    );
    assert_eq!((code, &*stderr), (0, ""));
    let post = r#"post      to user=B: {"type":"message","from":"A","content":"hello"}"#;
    assert_eq!(lines, ["response  200", post, post, "row       user=A"]);
}

#[test]
fn invoke_shows_which_bodies_are_not_sent_and_why() {
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
            vec!["response  403", "body      a body (not sent: the peer only receives the status)", none],
        ),
        (
            &["$connect", "--query", "do=row a=b=c"],
            vec!["response  200", "body      added (not sent: the peer only receives the status)", "row       a=b=c"],
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
        let (code, lines, stderr) = run_invoke(&site, arguments);
        assert_eq!((code, &*stderr), (0, ""), "{arguments:?}");
        assert_eq!(lines, expected, "{arguments:?}");
    }
    let (code, lines, _) = run_invoke(&site, &["$disconnect", "--code", "1001", "--body", "bye", "--row", "a=b"]);
    assert_eq!((code, lines.join("\n")), (0, "response  200\nrow       a=b".to_owned()));
}

#[test]
fn invoke_shows_the_output_of_the_handler_on_stderr() {
    let site = Site::hostile();
    let (code, _, stderr) = run_invoke(&site, &["$default", "--body", "print hello there"]);
    assert_eq!(code, 0);
    let [line] = stderr.lines().collect::<Vec<_>>()[..] else { panic!("{stderr}") };
    assert!(line.contains(" INFO hello there plugin=guest route=$default connection_id="), "{line}");
    let (_, _, stderr) = run_invoke(&site, &["$default", "--body", "log it burns"]);
    assert!(stderr.contains("ERROR it burns plugin=guest"), "{stderr}");
}

#[test]
fn invoke_exits_with_1_if_the_handler_fails() {
    let limits = format!("{HOSTILE_GRANTS}\ncpu_time = \"50ms\"\nmemory = \"4MiB\"\ntimeout = \"2s\"");
    let site = Site::new(&manifest(&component(HOSTILE), "", &limits));
    for (command, reason) in [
        ("fail", "the handler failed: as ordered: "),
        ("trap", "the handler panicked: as ordered:"),
        ("spin", "the handler used more than 50ms of CPU (cpu_time in the manifest)"),
        ("sleep 60000", "the handler ran longer than 2s (timeout in the manifest)"),
        ("status 700", "the handler returned an invalid response: status 700, expected 200 to 599"),
    ] {
        let (code, lines, _) = run_invoke(&site, &["$default", "--body", command]);
        assert_eq!(code, 1, "{command}");
        assert!(lines[0].starts_with(&format!("failed    {reason}")), "{command}: {lines:?}");
    }
    // A handler that rejects the peer has not failed.
    assert_eq!(run_invoke(&site, &["$connect", "--query", "do=status 403"]).0, 0);
}

#[test]
fn an_unknown_route_is_reported_with_the_existing_ones() {
    let site = Site::hostile();
    for route in ["join", "$defualt", ""] {
        let (code, stdout, stderr) = site.run(&["invoke", route]);
        assert_eq!((code, &*stdout), (1, ""));
        let expected =
            format!("error: jackfield.toml has no route {route:?}; its routes are: $connect, $disconnect, $default\n");
        assert_eq!(stderr, expected);
    }
}

// ---- serve -----------------------------------------------------------------------------------

#[tokio::test]
async fn serve_reports_its_address_its_versions_and_its_page() {
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
fn an_address_that_cannot_be_bound_is_reported_with_advice() {
    let site = Site::hostile();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let in_use = "another process listens there; stop it, or choose another port with";
    let (code, stdout, stderr) = site.run(&["serve", "--listen", &address]);
    assert_eq!((code, &*stdout), (1, ""));
    let expected = format!("error: cannot listen on {address}: {in_use} --listen, or listen in [server]\n");
    assert!(stderr.ends_with(&expected), "{stderr}");

    // No machine has an address of TEST-NET-1.
    let (code, _, stderr) = site.run(&["serve", "--insecure-management", "--listen", "192.0.2.1:3001"]);
    assert_eq!(code, 1);
    assert!(stderr.contains("cannot listen on 192.0.2.1:3001: this machine has no such address"), "{stderr}");

    let settings = format!("server = {{ metrics = {address:?} }}");
    let site = Site::new(&manifest(&component(HOSTILE), &settings, HOSTILE_GRANTS));
    let (code, _, stderr) = site.run(&["serve", "--listen", "127.0.0.1:0"]);
    assert_eq!(code, 1);
    let expected = format!("error: cannot listen on {address}: {in_use} metrics in [server]\n");
    assert!(stderr.ends_with(&expected), "{stderr}");
}

#[tokio::test]
async fn a_data_folder_in_use_by_another_server_is_reported() {
    let server = Site::hostile().serve();
    let (code, stdout, stderr) = server.site.run(&["serve", "--listen", "127.0.0.1:0"]);
    assert_eq!((code, &*stdout), (1, ""));
    let folder = server.site.path().join("data");
    let expected = format!(
        "error: [backend] url: the store in {} is in use by another process; stop it, or choose another folder\n",
        folder.display()
    );
    assert!(stderr.ends_with(&expected), "{stderr}");
}

#[test]
fn a_component_that_was_not_built_is_reported_with_its_build_command() {
    let site = Site::new(&manifest(Path::new("guest.wasm"), "", "build = \"make guest\"\nwatch = [\"src\"]"));
    let (code, stdout, stderr) = site.run(&["serve", "--listen", "127.0.0.1:0"]);
    assert_eq!((code, &*stdout), (1, ""));
    let expected = "jackfield.toml:5: [integrations.guest] guest.wasm: file not found; build it: make guest";
    assert_eq!(stderr, format!("error: {expected}\n"));
}

#[test]
fn a_first_build_that_fails_ends_dev_after_the_output_of_the_build() {
    let build = "build = \"echo the compiler complains; exit 3\"\nwatch = [\".\"]";
    let site = Site::new(&manifest(Path::new("guest.wasm"), "", build));
    let (code, stdout, stderr) = site.run(&["dev", "--listen", "127.0.0.1:0"]);
    assert_eq!((code, &*stdout), (1, ""));
    let lines: Vec<&str> = stderr.lines().collect();
    let [.., output, error] = lines[..] else { panic!("{stderr}") };
    assert_eq!(output, "the compiler complains");
    assert!(error.starts_with("error: the build of [integrations.guest] failed (exit status: 3)"), "{error}");
}

#[tokio::test]
async fn dev_warns_if_there_is_nothing_to_build() {
    let server = Site::hostile().start(&["dev"]);
    server.log.wait_for_line(&["WARN", "no component has a language or a build command"]).await;
}

// ---- the log ---------------------------------------------------------------------------------

#[tokio::test]
async fn with_the_log_as_json_every_line_of_stderr_is_an_object() {
    let settings = "server = { metrics = \"127.0.0.1:0\" }";
    let site = Site::new(&manifest(&component(HOSTILE), settings, &format!("{HOSTILE_GRANTS}\nbuild = \"true\"")));
    let mut server = site.start(&["serve", "--log-format", "json"]);
    let mut peer = server.connect("").await;
    for command in ["print \u{1b}[31mhello", "trap"] {
        peer.ask(command).await;
    }
    server.signal("TERM");
    assert_eq!(server.wait_for_exit().await, Some(0));
    server.log.wait_for_line(&["stopped"]).await;
    let lines = server.log.text();
    let entries: Vec<Value> =
        lines.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"))).collect();
    let output = entries.iter().find(|line| line["target"] == "guest").unwrap_or_else(|| panic!("{lines}"));
    assert_eq!(
        (&output["level"], &output["plugin"], &output["route"]),
        (&"INFO".into(), &"guest".into(), &"$default".into())
    );
    assert_eq!(output["message"], "\\u{1b}[31mhello");
    assert!(
        entries.iter().any(|line| line["level"] == "WARN" && line["message"].as_str().unwrap().contains("panicked"))
    );

    let (code, stdout, stderr) = server.site.run(&["--log-format", "json", "serve", "nowhere.toml"]);
    assert_eq!((code, &*stdout), (1, ""));
    let error: Value = serde_json::from_str(&stderr).unwrap_or_else(|_| panic!("{stderr}"));
    assert_eq!(error["level"], "ERROR");
    assert!(error["message"].as_str().unwrap().starts_with("nowhere.toml: the manifest does not exist"), "{error}");
}

#[test]
fn rust_log_filters_the_log() {
    let site = Site::hostile();
    let stderr = |filter: &str| {
        let mut command = site.command(&["invoke", "$default", "--body", "print hello"]);
        String::from_utf8(command.env("RUST_LOG", filter).output().unwrap().stderr).unwrap()
    };
    assert_eq!(stderr("warn"), "");
    assert_eq!(stderr("").lines().count(), 1);
    assert!(stderr("debug").lines().count() > 1, "{}", stderr("debug"));
    assert!(stderr("guest=nonsense").contains("guest=nonsense"), "{}", stderr("guest=nonsense"));
}

#[test]
fn colours_are_used_on_terminals_unless_no_color_is_set() {
    let site = Site::hostile();
    let arguments = ["invoke", "$default", "--body", "print hello"];
    let escape = '\u{1b}';
    for arguments in [&arguments[..], &["--help"], &["frobnicate"], &["check"], &["inspect", "nowhere.wasm"]] {
        let output = site.command(arguments).env_remove("NO_COLOR").output().unwrap();
        let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat();
        assert!(!text.is_empty() && !text.contains(escape), "{arguments:?}: {text}");
    }

    // Python runs a program on a pseudo-terminal, and prints the output of the program.
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
fn new_prints_the_next_commands() {
    let site = Site::new("");
    let (code, stdout, stderr) = site.run(&["new", "rust", "my-chat"]);
    assert_eq!((code, &*stderr), (0, ""));
    for line in ["created my-chat. Next:", "  cd my-chat", "  npx wscat -c ws://127.0.0.1:3001/dev"] {
        assert!(stdout.lines().any(|printed| printed == line), "no line {line:?} in\n{stdout}");
    }
    assert!(stdout.contains("\n  jackfield dev "), "{stdout}");

    let (code, stdout, stderr) = site.run(&["new", "rust", "my-chat"]);
    assert_eq!((code, &*stdout), (1, ""));
    assert_eq!(stderr, "error: my-chat already exists; choose another name, or move it away\n");
    let (code, _, stderr) = site.run(&["new", "rust", "My Chat"]);
    assert_eq!(code, 1);
    assert!(stderr.ends_with("; for example \"my-chat\"\n"), "{stderr}");
}

#[test]
fn new_accepts_the_usual_names_of_a_language() {
    let site = Site::new("");
    for (language, handler) in [
        ("javascript", "handler.js"),
        ("TypeScript", "handler.ts"),
        ("py", "handler.py"),
        ("golang", "main.go"),
        ("rs", "src/lib.rs"),
        ("C", "handler.c"),
        ("Zig", "handler.zig"),
    ] {
        let name = language.to_lowercase();
        let (code, _, stderr) = site.run(&["new", language, &name]);
        assert_eq!((code, &*stderr), (0, ""), "{language}");
        assert!(site.path().join(name).join(handler).is_file(), "{language}");
    }
}

/// Does what the README of a new project says in each language that needs no build: `new`, `dev`, and a change that goes
/// live while the peer stays connected.
#[tokio::test]
async fn a_new_script_project_is_served_and_changed_as_its_readme_says() {
    for (language, file, reply) in [
        ("js", "handler.js", "return event.body"),
        ("ts", "handler.ts", "return event.body"),
        ("python", "handler.py", "return event.body"),
    ] {
        let site = Site::new("");
        let (code, stdout, stderr) = site.run(&["new", language, "hello"]);
        assert_eq!((code, &*stderr), (0, ""));
        assert!(stdout.contains("\n  cd hello\n  jackfield dev "), "{stdout}");
        assert!(stdout.ends_with(&format!("\nThe handler is hello/{file}.\n")), "{stdout}");
        let project = site.path().join("hello");
        let readme = fs::read_to_string(project.join("README.md")).unwrap();
        assert!(readme.contains(&format!("change `{file}`")), "{readme}");

        let mut command = site.command(&["dev"]);
        command.current_dir(&project);
        let server = site.clone().launch(command);
        let mut peer = server.connect("").await;
        assert_eq!(peer.ask("hello").await, "hello", "{language}");
        let source = fs::read_to_string(project.join(file)).unwrap();
        assert!(source.contains(reply), "{source}");
        fs::write(project.join(file), source.replace(reply, "return \"changed\"")).unwrap();
        wait_for_answer(&mut peer, "changed").await;
        assert!(!server.log.text().contains("build command"), "{}", server.log.text());
    }
}

#[test]
fn check_says_how_to_build_a_new_project() {
    let site = Site::new("");
    site.run(&["new", "rust", "my-chat"]);
    let (code, _, stderr) = site.run(&["check", "my-chat/jackfield.toml"]);
    assert_eq!(code, 1);
    let expected = "error: my-chat/jackfield.toml:6: [integrations.my-chat] \
        my-chat/build/my-chat.wasm: file not found; \
        build it: jackfield build my-chat/jackfield.toml\n";
    assert_eq!(stderr, expected);
}

/// Does what the README of a new project describes: runs its test and `dev`, sends a message, and changes the source.
/// The change goes live while the peer stays connected.
#[tokio::test]
async fn a_new_project_is_tested_built_served_and_changed_as_its_readme_says() {
    // The folder is always the same, so that a second run reuses what the first one has built.
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("new-author");
    let project = folder.join("hello");
    fs::create_dir_all(folder.join("target")).unwrap();
    let _ = fs::remove_dir_all(&project);
    let site = Site::new("");
    let author = |arguments: &[&str]| {
        let mut command = site.command(arguments);
        command.current_dir(&project);
        set_author_environment(&mut command);
        command
    };
    let made = site.command(&["new", "rust", "hello"]).current_dir(&folder).output().unwrap();
    assert!(made.status.success(), "{made:?}");
    std::os::unix::fs::symlink(folder.join("target"), project.join("target")).unwrap();

    let mut test = Command::new("cargo");
    set_author_environment(test.arg("test").current_dir(&project));
    let tested = test.output().unwrap();
    let stdout = String::from_utf8_lossy(&tested.stdout);
    assert!(tested.status.success(), "{stdout}\n{}", String::from_utf8_lossy(&tested.stderr));
    assert!(stdout.contains("test a_message_is_sent_back ... ok"), "{stdout}");

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
    wait_for_answer(&mut peer, "changed").await;

    // After a typo, the log has the error of the compiler, and the old version stays live.
    fs::write(&source, before.replace("message.body", "message.bodi")).unwrap();
    server.log.wait_for_line(&["no field `bodi`"]).await;
    server.log.wait_for_line(&["ERROR", "the old version keeps serving"]).await;
    assert_eq!(peer.ask("hello").await, "changed");
    fs::write(&source, before).unwrap();
    wait_for_answer(&mut peer, "hello").await;
}

/// Removes the settings of the build that runs this test, and forbids cargo to use the network. The dependencies of the
/// SDK were fetched for the plugins.
pub fn set_author_environment(command: &mut Command) {
    command.env_remove("CARGO_TARGET_DIR").envs([("CARGO_NET_OFFLINE", "true"), ("CARGO_TERM_COLOR", "never")]);
}

/// Sends `hello` until the answer is that of the new version. Waits as long as a compiler takes on a busy machine.
async fn wait_for_answer(peer: &mut Peer, answer: &str) {
    let deadline = Instant::now() + 4 * TEST_TIMEOUT;
    loop {
        let found = peer.ask("hello").await;
        if found == answer {
            return;
        }
        assert!(Instant::now() < deadline, "the answer stays {found:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Returns the version of a component as the server shows it: the start of the file's hash.
fn version(component: &PathBuf) -> String {
    blake3::hash(&fs::read(component).unwrap()).to_hex()[..12].to_owned()
}
