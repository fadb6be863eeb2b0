//! Scripts in Python with packages, and what packages need: HTTP, and files beside their modules.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::components::replace_file;
use crate::engine::Playground;
use crate::harness::{Server, Site};
use crate::python_scripts::{site, write};
use crate::sdks::installed_path;

/// The keys of an integration that may send requests to these origins; the first one is in `SERVER`.
fn allowed(origins: &[&str]) -> String {
    format!("allowed_hosts = {origins:?}\nenv = {{ SERVER = {:?} }}\n", origins[0])
}

async fn ask(server: &Server, message: &str) -> String {
    server.connect("").await.ask(message).await
}

#[tokio::test]
async fn clients_of_the_standard_library_send_requests_through_the_host() {
    let source = r#"
import asyncio, http.client, json, os, urllib.error, urllib.parse, urllib.request

SERVER = os.environ["SERVER"]

def get():
    echoed = json.load(urllib.request.urlopen(f"{SERVER}/echo?a=1", timeout=20))
    return [echoed["method"], echoed["path"], echoed["headers"]["user-agent"][:13]]

def post():
    request = urllib.request.Request(f"{SERVER}/echo", data="äöü".encode(), headers={"X-Mine": "yes"})
    with urllib.request.urlopen(request) as response:
        echoed = json.load(response)
        return [echoed["method"], echoed["body"], echoed["headers"]["x-mine"], response.headers["content-length"].isdigit()]

def several_on_one_connection():
    connection = http.client.HTTPConnection(urllib.parse.urlsplit(SERVER).netloc)
    found = []
    for body in (iter([b"a" * 70_000, b"b", b""]), b"whole"):
        connection.request("PUT", "/echo", body)
        echoed = json.load(connection.getresponse())["body"]
        found.append([len(echoed), echoed[-1]])
    connection.request("HEAD", "/echo")
    response = connection.getresponse()
    return [*found, response.status, response.read().decode()]

def status():
    found = []
    for code in (204, 304, 404, 500):
        try:
            with urllib.request.urlopen(f"{SERVER}/status/{code}") as response:
                found.append([response.status, len(response.read())])
        except urllib.error.HTTPError as error:
            found.append(error.code)
    return found

def redirect():
    return urllib.request.urlopen(f"{SERVER}/loop/3").read().decode()

def chunks():
    response = urllib.request.urlopen(f"{SERVER}/chunks")
    first = response.read1().decode()
    urllib.request.urlopen(f"{SERVER}/go-on").read()
    return first + response.read().decode()

def many_that_are_not_read():
    for _ in range(20):
        urllib.request.urlopen(f"{SERVER}/echo")
    return "many"

async def asynchronous():
    return (await asyncio.to_thread(urllib.request.urlopen, f"{SERVER}/status/200")).status

def handler(event, context):
    result = globals()[event["body"]]()
    if event["body"] == "asynchronous":
        result = asyncio.run(result)
    return {"statusCode": 200, "body": json.dumps(result)}
"#;
    let playground = Playground::start().await;
    let server = site(source, &allowed(&[&playground.origin])).serve();
    for (function, answer) in [
        ("get", r#"["GET", "/echo?a=1", "Python-urllib"]"#),
        ("post", r#"["POST", "\u00e4\u00f6\u00fc", "yes", true]"#),
        ("several_on_one_connection", r#"[[70001, "b"], [5, "e"], 200, ""]"#),
        ("status", "[[204, 0], 304, 404, 500]"),
        ("redirect", r#""arrived""#),
        ("chunks", r#""first second""#),
        ("many_that_are_not_read", r#""many""#),
        ("asynchronous", "200"),
    ] {
        assert_eq!(ask(&server, function).await, answer, "{function}: {}", server.log.text());
    }
}

#[tokio::test]
async fn errors_of_requests_are_those_of_sockets_and_a_host_that_is_not_allowed_is_named_with_the_line_to_add() {
    let source = r#"
import http.client, os, socket, ssl, urllib.error, urllib.request

SERVER = os.environ["SERVER"]

def refused():
    urllib.request.urlopen("http://127.0.0.1:9/")

def late():
    urllib.request.urlopen(f"{SERVER}/never", timeout=0.05)

def denied():
    urllib.request.urlopen("https://api.example.com/secret?key=1")

def other_host():
    urllib.request.urlopen(urllib.request.Request(SERVER, headers={"Host": "other.example"}))

def upgrade():
    urllib.request.urlopen(urllib.request.Request(SERVER, headers={"Upgrade": "websocket"}))

def client_certificate():
    ssl.create_default_context().load_cert_chain("cert.pem")

def handler(event, context):
    try:
        globals()[event["body"]]()
    except Exception as error:
        reason = getattr(error, "reason", None)
        return {"statusCode": 200, "body": f"{type(error).__name__} {type(reason).__name__}: {reason or error}"}
"#;
    let playground = Playground::start().await;
    let server = site(source, &allowed(&[&playground.origin, "http://127.0.0.1:9"])).serve();
    for (function, words) in [
        ("refused", &["URLError ConnectionRefusedError", "http://127.0.0.1:9 failed"][..]),
        ("late", &["TimeoutError", "failed: the host"]),
        ("denied", &["ForbiddenError", r#"allowed_hosts = ["https://api.example.com"]"#]),
        ("other_host", &["URLError OSError", "Host: other.example"]),
        ("upgrade", &["URLError OSError", "an upgrade of HTTP"]),
        ("client_certificate", &["OSError", "this use of TLS"]),
    ] {
        let answer = ask(&server, function).await;
        assert!(words.iter().all(|word| answer.contains(word)), "{function}: {answer}");
        assert!(!answer.contains("secret"), "{answer}");
    }
    let source = "import urllib.request\nurllib.request.urlopen('http://127.0.0.1:9/')\n";
    let (code, _, stderr) = site(source, "").run(&["check"]);
    assert_eq!(code, 1);
    assert!(stderr.contains("move it into the handler"), "{stderr}");
}

#[tokio::test]
async fn packages_read_the_files_beside_their_modules() {
    let source = "import words\n\ndef handler(event, context):\n    return {'statusCode': 200, 'body': words.read()}\n";
    let package = r#"
import importlib.resources, os, pathlib

FOLDER = os.path.dirname(os.path.abspath(__file__))

def read():
    found = [open(os.path.join(FOLDER, "list.txt")).read()]
    found.append(pathlib.Path(__file__).with_name("list.txt").read_text())
    found.append(importlib.resources.files("words").joinpath("binary.dat").read_bytes().hex())
    with importlib.resources.as_file(importlib.resources.files("words") / "list.txt") as path:
        found.append(path.exists() and path.name)
    found.append(sorted(os.listdir(FOLDER)))
    found.append([os.path.isfile(f"{FOLDER}/list.txt"), os.path.isdir(FOLDER), os.path.exists(f"{FOLDER}/missing")])
    found.append([path.name for path in pathlib.Path(FOLDER).glob("*.txt")])
    try:
        open(f"{FOLDER}/list.txt", "a")
    except PermissionError:
        found.append("read-only")
    return repr(found)
"#;
    let site = site(source, "");
    write(&site, "packages/words/__init__.py", package);
    write(&site, "packages/words/list.txt", "ä b");
    fs::write(site.path().join("packages/words/binary.dat"), [0, 255, 128]).unwrap();
    let server = site.serve();
    assert_eq!(
        ask(&server, "x").await,
        "['ä b', 'ä b', '00ff80', 'list.txt', ['__init__.py', 'binary.dat', 'list.txt'], [True, True, False], \
         ['list.txt'], 'read-only']"
    );
}

const WORDS: &str = "import importlib.metadata\nimport words\n\ndef handler(event, context):\n    \
    return {'statusCode': 200, 'body': words.TEXT + importlib.metadata.version('words')}\n";

/// Writes a version of the package `words` as a file that pip installs without a network.
fn write_wheel(site: &Site, version: &str) {
    let code = "import sys, zipfile\n\
                folder, version = sys.argv[1:]\n\
                with zipfile.ZipFile(f'{folder}/words-{version}-py3-none-any.whl', 'w') as wheel:\n    \
                    info = f'words-{version}.dist-info'\n    \
                    wheel.writestr('words/__init__.py', 'TEXT = \"words \"\\n')\n    \
                    wheel.writestr(f'{info}/METADATA', f'Metadata-Version: 2.1\\nName: words\\nVersion: {version}\\n')\n    \
                    wheel.writestr(f'{info}/WHEEL', 'Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n')\n    \
                    wheel.writestr(f'{info}/RECORD', '')\n";
    let folder = site.path().join("wheels");
    fs::create_dir_all(&folder).unwrap();
    let made =
        Command::new(installed_path("JACKFIELD_TEST_PYTHON")).args(["-c", code]).arg(folder).arg(version).status();
    assert!(made.unwrap().success());
}

fn requirements(text: &str) -> String {
    format!("--no-index\n--find-links wheels\n{text}\n")
}

/// Starts `dev` with only these programs on the path.
fn dev(site: Site, path: &Path) -> Server {
    let mut command = site.command(&["dev"]);
    command.env("PATH", path);
    site.launch(command)
}

#[tokio::test]
async fn dev_installs_what_requirements_txt_lists_and_installs_another_version_when_it_changes() {
    let site = site(WORDS, "");
    for version in ["1.5", "1.6"] {
        write_wheel(&site, version);
    }
    write(&site, "requirements.txt", &requirements("words==1.5"));
    let python = installed_path("JACKFIELD_TEST_PYTHON");
    let server = dev(site, python.parent().unwrap());
    assert_eq!(ask(&server, "x").await, "words 1.5", "{}", server.log.text());
    assert!(server.site.path().join("packages/words/__init__.py").exists());

    let mut peer = server.connect("").await;
    replace_file(&server.site.path().join("requirements.txt"), requirements("words==1.6"));
    server.log.wait_for_line(&["live", "app"]).await;
    assert_eq!(peer.ask("x").await, "words 1.6");

    replace_file(&server.site.path().join("requirements.txt"), requirements("words==1.7"));
    server.log.wait_for_line(&["ERROR", "cannot install the packages", "exit status: 1"]).await;
    server.log.wait_for_line(&["WARN", "words==1.7 (1.6 is installed)", "pip install --upgrade --target"]).await;
    assert_eq!(peer.ask("x").await, "words 1.6");
}

#[tokio::test]
async fn dev_without_an_installer_says_so_and_serve_installs_nothing() {
    let without = site(WORDS, "");
    write(&without, "requirements.txt", "words==1.5\n");
    let empty = without.path().join("empty");
    fs::create_dir(&empty).unwrap();
    let server = dev_that_has_no_component(without, &empty);
    assert!(server.contains("neither uv nor python3 is on PATH"), "{server}");
    assert!(server.contains("pip install --target packages -r requirements.txt"), "{server}");

    let site = site("def handler(event, context):\n    return {'statusCode': 200, 'body': 'works'}\n", "");
    write_wheel(&site, "1.5");
    write(&site, "requirements.txt", &requirements("words==1.5\nboto3"));
    let (code, _, stderr) = site.run(&["check"]);
    assert_eq!(code, 0, "{stderr}");
    let warning = "requirements.txt lists packages that are not installed beside the script: words==1.5; \
                   run `pip install --target packages -r requirements.txt`";
    assert!(stderr.contains(warning), "{stderr}");
    let server = site.serve();
    assert_eq!(ask(&server, "x").await, "works");
    server.log.wait_for_line(&["WARN", warning]).await;
    assert!(!server.site.path().join("packages").exists());
}

/// Runs `dev`, whose only component does not load, to its end. Returns what it wrote to stderr.
fn dev_that_has_no_component(site: Site, path: &Path) -> String {
    let mut command = site.command(&["dev", "--listen", "127.0.0.1:0"]);
    let output = command.env("PATH", path).output().unwrap();
    assert!(!output.status.success());
    String::from_utf8(output.stderr).unwrap()
}
