//! `jackfield build`: components of all kinds, and the folder for a server.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::harness::{ECHO, Server, Site, binary, component, eventually};
use crate::python_scripts::write;

/// A project with a component that a command builds, two scripts, and every other kind of file that a manifest names.
fn project() -> Site {
    let echo = component(ECHO);
    let site = Site::new(&format!(
        r#"
[server]
page = "pages/index.html"
[models.any]
schema = "schema.json"
[integrations.built]
component = "built.wasm"
build = "cp {} built.wasm && echo copied"
watch = ["built.wasm.source"]
[integrations.typescript]
component = "src/handler.ts"
[integrations.python]
component = "app.py"
[integrations.commonjs]
component = "lambda.cjs"
[routes]
"$default" = {{ integration = "built", route_response = true, models = {{ "$default" = "any" }} }}
typescript = {{ integration = "typescript", route_response = true }}
python = {{ integration = "python", route_response = true }}
commonjs = {{ integration = "commonjs", route_response = true }}
"#,
        echo.display()
    ));
    for (path, text) in [
        ("pages/index.html", "the page"),
        ("schema.json", "{}"),
        (
            "src/handler.ts",
            "import { plugin } from \"jackfield\";\nimport { reply } from \"./reply\";\n\
             export default plugin({ message: (event) => reply(event.body as string) });\n",
        ),
        (
            "src/reply.ts",
            "interface Reply { text: string }\n\nexport function reply(body: string): string {\n  \
             if (body.includes(\"fail\")) throw new Error(\"failed on request\");\n  \
             const made: Reply = { text: \"bundled\" };\n  return made.text;\n}\n",
        ),
        (
            "app.py",
            "import lib, rooms\n\ndef handler(event, context):\n    return {'statusCode': 200, 'body': rooms.name + lib.word()}\n",
        ),
        ("rooms.py", "name = 'lobby '\n"),
        (
            "packages/lib/__init__.py",
            "import os\n\ndef word():\n    with open(os.path.join(os.path.dirname(__file__), 'word.txt')) as file:\n        \
             return file.read()\n",
        ),
        ("packages/lib/word.txt", "packed"),
        (
            "lambda.cjs",
            "const { body } = require(\"./body.json\");\nexports.handler = async () => ({ statusCode: 200, body });\n",
        ),
        ("body.json", "{ \"body\": \"required\" }"),
    ] {
        write(&site, path, text);
    }
    site
}

fn files(folder: &Path) -> Vec<String> {
    let mut pending = vec![folder.to_owned()];
    let mut files = Vec::new();
    while let Some(next) = pending.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                pending.push(path);
            } else {
                files.push(path.strip_prefix(folder).unwrap().to_str().unwrap().to_owned());
            }
        }
    }
    files.sort();
    files
}

/// The binary in a folder of its own, without the bundler and the engines that are usually beside it.
struct LonelyBinary(TempDir);

impl LonelyBinary {
    fn new() -> Self {
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let path = folder.path().join("jackfield");
        if fs::hard_link(binary(), &path).is_err() {
            fs::copy(binary(), &path).unwrap();
        }
        Self(folder)
    }

    /// Serves a manifest as on a machine that has nothing else: `PATH` is an empty folder.
    fn serve(&self, site: &Site, manifest: &str) -> Server {
        let empty = self.0.path().join("empty");
        fs::create_dir_all(&empty).unwrap();
        let engines: PathBuf = Path::new(&binary()).parent().unwrap().join("../engines");
        let mut command = Command::new(self.0.path().join("jackfield"));
        let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("cache");
        command.current_dir(site.path()).env_clear().env("PATH", empty).env("XDG_CACHE_HOME", cache);
        command.args(["serve", manifest, "--engines"]).arg(engines);
        site.clone().launch(command)
    }
}

async fn answers(server: &Server) -> [String; 4] {
    let mut peer = server.connect("").await;
    let mut answers = [const { String::new() }; 4];
    for (answer, action) in answers.iter_mut().zip(["echo", "typescript", "python", "commonjs"]) {
        *answer = peer.ask(&format!("{{\"action\": \"{action}\"}}")).await;
    }
    answers
}

#[tokio::test]
async fn a_dist_folder_is_served_on_a_machine_without_bundler_packages_and_tools() {
    let site = project();
    let (code, stdout, stderr) = site.run(&["build", "-o", "out/dist"]);
    assert_eq!((code, &*stderr), (0, "copied\n"), "{stdout}");
    assert!(stdout.starts_with("built built: built.wasm, "), "{stdout}");
    assert!(stdout.ends_with("made out/dist; serve it: jackfield serve out/dist/jackfield.toml\n"), "{stdout}");
    let expected = [
        ".jackfield-dist",
        "built.wasm",
        "commonjs/lambda.js",
        "commonjs/lambda.js.map",
        "commonjs/package.json",
        "files/index.html",
        "files/schema.json",
        "jackfield.toml",
        "python/app.py",
        "python/lib/__init__.py",
        "python/lib/word.txt",
        "python/rooms.py",
        "typescript/handler.js",
        "typescript/handler.js.map",
        "typescript/package.json",
    ];
    assert_eq!(files(&site.path().join("out/dist")), expected);

    // Another machine has only the folder.
    let elsewhere = Site::new("");
    fs::rename(site.path().join("out/dist"), elsewhere.path().join("dist")).unwrap();
    drop(site);
    let lonely = LonelyBinary::new();
    let server = lonely.serve(&elsewhere, "dist/jackfield.toml");
    assert_eq!(answers(&server).await, ["{\"action\": \"echo\"}", "bundled", "lobby packed", "required"]);
    assert_eq!(server.http("GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await.body, "the page");
    // What the server writes is beside the folder, which the next build replaces.
    assert!(elsewhere.path().join("data").is_dir());
    assert_eq!(files(&elsewhere.path().join("dist")), expected);

    // A stack has the positions in the author's files.
    server.connect("").await.send("{\"action\": \"typescript\", \"fail\": 1}").await;
    server.log.wait_for_line(&["failed on request"]).await;
    server.log.wait_for_line(&["at reply", "reply.ts:4:"]).await;
}

#[tokio::test]
async fn a_server_reloads_a_dist_folder_that_is_replaced() {
    let site = project();
    assert_eq!(site.run(&["build", "-o", "dist"]).0, 0);
    let server = site.clone().start(&["serve", "dist/jackfield.toml"]);
    assert_eq!(answers(&server).await[1..], ["bundled", "lobby packed", "required"]);
    for (path, text) in [
        ("src/reply.ts", "export const reply = () => \"rebuilt\";\n"),
        ("rooms.py", "name = 'hall '\n"),
        ("body.json", "{ \"body\": \"changed\" }"),
    ] {
        write(&site, path, text);
    }
    let (code, _, stderr) = site.run(&["build", "-o", "dist"]);
    assert_eq!(code, 0, "{stderr}");
    eventually("the new folder is served", async || {
        answers(&server).await[1..] == ["rebuilt", "hall packed", "changed"]
    })
    .await;
}

#[test]
fn paths_of_a_manifest_lead_into_the_dist_folder_or_beside_it() {
    let site = Site::new(&format!(
        r#"
[server]
cache = "cache"
[backend]
url = "sled:store/rows"
[access_log]
file = "/var/log/access.log"
[integrations.a]
component = {0:?}
files = [
  {{ host = "assets", guest = "/assets" }},
  {{ host = "uploads", guest = "/uploads" }},
  {{ host = "/usr/share", guest = "/share" }},
]
[integrations.b]
component = {0:?}
watch = ["src"]
build = "true"
files = [{{ host = "uploads", guest = "/uploads", write = true }}]
[routes]
a = "a"
b = "b"
"#,
        component(ECHO)
    ));
    write(&site, "assets/deep/a.txt", "an asset");
    let (code, _, stderr) = site.run(&["build", "-o", "dist"]);
    assert_eq!((code, &*stderr), (0, ""));
    let expected = [".jackfield-dist", "a.wasm", "files/assets/deep/a.txt", "jackfield.toml"];
    assert_eq!(files(&site.path().join("dist")), expected);
    let manifest: toml::Table = fs::read_to_string(site.path().join("dist/jackfield.toml")).unwrap().parse().unwrap();
    assert_eq!(manifest["server"]["cache"].as_str(), Some("../cache"));
    assert_eq!(manifest["backend"]["url"].as_str(), Some("sled:../store/rows"));
    assert_eq!(manifest["access_log"]["file"].as_str(), Some("/var/log/access.log"));
    let [a, b] = ["a", "b"].map(|name| manifest["integrations"][name].as_table().unwrap());
    let hosts: Vec<_> = a["files"].as_array().unwrap().iter().map(|grant| grant["host"].as_str().unwrap()).collect();
    assert_eq!(hosts, ["files/assets", "../uploads", "/usr/share"]);
    assert_eq!(b["files"][0]["host"].as_str(), Some("../uploads"));
    assert_eq!(b.keys().collect::<Vec<_>>(), ["component", "files"]);
    assert_eq!(b["component"].as_str(), Some("a.wasm"));

    // A link may lead to anything on this machine.
    std::os::unix::fs::symlink("/etc/passwd", site.path().join("assets/link")).unwrap();
    let (code, _, stderr) = site.run(&["build", "-o", "dist"]);
    assert_eq!(code, 1);
    assert!(stderr.contains("[integrations.a]: cannot copy ") && stderr.contains("it is a link"), "{stderr}");
}

#[test]
fn a_dist_folder_keeps_the_url_of_redis() {
    let component = component(ECHO);
    let site = Site::new(&format!(
        "[backend]\nurl = \"unix:///run/redis.sock\"\n[integrations.a]\ncomponent = {component:?}\n"
    ));
    let (code, _, stderr) = site.run(&["build", "-o", "dist"]);
    assert_eq!(code, 0, "{stderr}");
    let manifest = fs::read_to_string(site.path().join("dist/jackfield.toml")).unwrap();
    assert!(manifest.contains("url = \"unix:///run/redis.sock\""), "{manifest}");
}

#[test]
fn a_dist_folder_is_not_made_if_a_build_fails_or_a_file_is_missing() {
    let site = project();
    assert_eq!(site.run(&["build", "-o", "dist"]).0, 0);
    let before = files(&site.path().join("dist"));
    let fails = |expected: &str| {
        let (code, stdout, stderr) = site.run(&["build", "-o", "dist"]);
        assert_eq!((code, &*stdout), (1, ""));
        assert!(stderr.contains(expected), "{stderr}");
        assert_eq!(files(&site.path().join("dist")), before);
    };
    let manifest = fs::read_to_string(site.manifest()).unwrap();
    for (replaced, by, expected) in [
        ("echo copied", "exit 3", "error: cannot build [integrations.built]: "),
        ("pages/index.html", "none.html", "error: server.page: cannot copy "),
        ("schema.json", "none.json", "error: models.any.schema: cannot copy "),
        ("src/handler.ts", "none.ts", "error: [integrations.typescript]: "),
        ("[routes]", "[routed]", "error: jackfield.toml:"),
    ] {
        fs::write(site.manifest(), manifest.replace(replaced, by)).unwrap();
        fails(expected);
    }
    fs::write(site.manifest(), manifest).unwrap();
    write(&site, "dist/data/rows", "precious");
    let (_, _, stderr) = site.run(&["build", "-o", "dist"]);
    assert!(stderr.contains("has the file data/rows, which jackfield build -o did not write"), "{stderr}");
    let (_, _, stderr) = site.run(&["build", "-o", "."]);
    assert!(stderr.contains("was not made by jackfield build -o"), "{stderr}");
}

#[test]
fn build_runs_only_the_components_that_are_named_and_reports_every_failure() {
    let site = Site::new(
        "[integrations.a]\ncomponent = \"a.wasm\"\nbuild = \"echo a >> log && touch a.wasm\"\nwatch = [\"src\"]\n\
         [integrations.b]\ncomponent = \"b.wasm\"\nbuild = \"echo b >> log && false\"\nwatch = [\"src\"]\n\
         [integrations.c]\ncomponent = \"build/c.wasm\"\nlanguage = \"rust\"\nsource = \"nowhere\"\n\
         [integrations.d]\ncomponent = \"d.wasm\"\n\
         [routes]\na = \"a\"\nb = \"b\"\nc = \"c\"\nd = \"d\"\n",
    );
    let log = || fs::read_to_string(site.path().join("log")).unwrap();
    let (code, stdout, stderr) = site.run(&["build", "--integration", "a", "--integration", "d"]);
    assert_eq!((code, &*stderr, &*log()), (0, "", "a\n"));
    assert!(stdout.starts_with("built a: a.wasm, 0.0 KiB, in "), "{stdout}");
    let (code, _, stderr) = site.run(&["build"]);
    assert_eq!((code, &*log()), (1, "a\na\nb\n"));
    assert!(stderr.contains("error: there are 2 problems\ncannot build [integrations.b]: echo b"), "{stderr}");
    assert!(stderr.contains("\ncannot build [integrations.c]: the source nowhere does not exist\n"), "{stderr}");
    let (code, _, stderr) = site.run(&["build", "--integration", "x"]);
    assert_eq!(code, 1);
    assert_eq!(stderr, "error: found no component \"x\" in jackfield.toml, expected one of a, b, c, d\n");
    let (code, _, stderr) = site.run(&["build", "-o", "dist", "--dev"]);
    assert_eq!(code, 2, "{stderr}");
}
