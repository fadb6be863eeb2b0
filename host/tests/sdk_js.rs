//! The SDK for JavaScript and TypeScript: its own tests, new projects, the packed package, and components of the stock tool.
//! `languages.rs` runs the conformance cases.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::process::Command;

use crate::harness::{Site, TEST_TIMEOUT, binary, manifest};
use crate::script_types::check_types;
use crate::sdks::installed_path;

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

/// Runs a command that finds jackfield on PATH. Returns whether it succeeds, and its output.
async fn run(command: &mut Command) -> (bool, String) {
    let jackfield = PathBuf::from(binary()).parent().unwrap().to_owned();
    let path = env::var_os("PATH").unwrap_or_default();
    let paths = [jackfield].into_iter().chain(env::split_paths(&path));
    command.env("PATH", env::join_paths(paths).unwrap()).stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(TEST_TIMEOUT, command.output()).await.expect("the command ends").unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (output.status.success(), text)
}

/// Runs `node --test` in a folder, and checks that it runs at least one test.
async fn run_tests(folder: &Path) -> (bool, String) {
    let (passes, output) = run(Command::new("node").arg("--test").current_dir(folder)).await;
    assert!(!output.contains("# tests 0"), "{output}");
    (passes, output)
}

async fn assert_tests_pass(folder: &Path) {
    let (passes, output) = run_tests(folder).await;
    assert!(passes, "{}: {output}", folder.display());
}

#[tokio::test]
async fn the_tests_of_the_sdk_and_of_the_plugins_pass() {
    for folder in ["sdk/js", "plugins/chat-js", "plugins/chat-typescript", "plugins/echo-js", "plugins/echo-ts"] {
        assert_tests_pass(&repository(folder)).await;
    }
}

#[tokio::test]
async fn an_echo_in_each_language_replies_with_the_message_or_its_content() {
    for echo in ["plugins/echo-js/echo.js", "plugins/echo-ts/echo.ts"] {
        let server = Site::new(&manifest(&repository(echo), "", "")).serve();
        let mut peer = server.connect("").await;
        assert_eq!(peer.ask("hello").await, "hello");
        assert_eq!(peer.ask(r#"{"action":"echo","content":"hello"}"#).await, "hello");
    }
}

#[tokio::test]
async fn a_new_project_has_a_test_that_passes_and_is_served_as_it_is() {
    for (language, file) in [("js", "handler.js"), ("ts", "handler.ts")] {
        let site = Site::new("");
        let (code, stdout, stderr) = site.run(&["new", language, "hello"]);
        assert_eq!((code, &*stderr), (0, ""));
        assert!(stdout.contains("node --test"), "{stdout}");
        let project = site.path().join("hello");
        assert_tests_pass(&project).await;

        // npm makes the same package of the project, without a registry.
        fs::remove_dir_all(project.join("node_modules")).unwrap();
        let (installs, output) = run(npm(&project).arg("install")).await;
        assert!(installs, "{output}");
        assert_tests_pass(&project).await;

        // A server has a `jackfield` of its own.
        let text = fs::read_to_string(project.join("jackfield.toml")).unwrap();
        fs::remove_dir_all(project.join("sdk")).unwrap();
        let served = Site::new(&text);
        for name in [file, "package.json"] {
            fs::copy(project.join(name), served.path().join(name)).unwrap();
        }
        assert_eq!(served.serve().connect("").await.ask("hello").await, "hello");
    }
}

#[tokio::test]
async fn a_test_of_a_new_project_fails_with_the_position_in_the_handler() {
    for (language, file) in [("js", "handler.js"), ("ts", "handler.ts")] {
        let site = Site::new("");
        site.run(&["new", language, "hello"]);
        let project = site.path().join("hello");
        let handler = fs::read_to_string(project.join(file)).unwrap();
        fs::write(project.join(file), handler.replace("return event.body;", "throw new Error(event.body);")).unwrap();
        let (passes, output) = run_tests(&project).await;
        let lines: Vec<&str> = handler.lines().collect();
        let line = lines.iter().position(|line| line.contains("return event.body;")).unwrap() + 1;
        assert!(!passes && output.contains(&format!("{file}:{line}:")), "{output}");
    }
}

#[tokio::test]
async fn a_syntax_error_of_a_handler_in_typescript_names_its_line() {
    let site = Site::new("");
    fs::write(site.path().join("it.ts"), "let ok: number = 1;\nlet x: = 2;\n").unwrap();
    let (code, stdout, stderr) = site.run(&["print-script", "it.ts"]);
    assert_eq!((code, &*stdout), (1, ""));
    assert!(stderr.starts_with("error: it.ts:2:8: "), "{stderr}");
    fs::write(site.path().join("it.ts"), "export const ok: number = 1;\n").unwrap();
    let (code, stdout, stderr) = site.run(&["print-script", "it.ts"]);
    assert_eq!((code, &*stderr), (0, ""));
    assert!(stdout.starts_with("export const ok = 1;\n"), "{stdout}");
    let (code, _, stderr) = site.run(&["print-script", "it.py"]);
    assert!(code == 1 && stderr.starts_with("error: it.py: expected a file that ends with .js"), "{stderr}");
    let (code, _, stderr) = site.run(&["print-script", "none.ts"]);
    assert!(code == 1 && stderr.starts_with("error: none.ts: "), "{stderr}");
}

#[tokio::test]
async fn a_handler_that_imports_what_is_for_tests_is_rejected_with_what_to_import() {
    let site = Site::new(&manifest(Path::new("it.js"), "", ""));
    fs::write(site.path().join("it.js"), "import { Host } from \"jackfield/testing\";\nnew Host();\n").unwrap();
    let (code, _, stderr) = site.run(&["check"]);
    let expected = "it is for tests that Node.js runs; a handler imports \"jackfield\"";
    assert!(code == 1 && stderr.contains("it.js:1:22") && stderr.contains(expected), "{stderr}");
}

/// npm in a folder, without a registry and without the cache and the settings of the user.
fn npm(folder: &Path) -> Command {
    let mut npm = Command::new("npm");
    npm.current_dir(folder)
        .env("npm_config_cache", folder.join(".npm"))
        .env("npm_config_userconfig", "/dev/null")
        .args(["--offline", "--no-audit", "--no-fund", "--loglevel=error"]);
    npm
}

#[tokio::test]
async fn the_packed_sdk_is_used_in_a_clean_folder() {
    let site = Site::new("");
    let folder = site.path();
    let mut pack = Command::new("node");
    let (packs, output) = run(pack.arg(repository("sdk/js/pack.mjs")).arg(folder).current_dir(folder)).await;
    assert!(packs, "{output}");
    let packed = "jackfield-0.1.0.tgz";
    assert!(folder.join(packed).is_file(), "{output}");

    site.run(&["new", "ts", "template"]);
    let project = folder.join("project");
    fs::create_dir(&project).unwrap();
    for name in ["handler.ts", "handler.test.js", "tsconfig.json"] {
        fs::copy(folder.join("template").join(name), project.join(name)).unwrap();
    }
    fs::write(project.join("package.json"), "{ \"private\": true, \"type\": \"module\" }\n").unwrap();
    let (installs, output) = run(npm(&project).arg("install").arg(folder.join(packed))).await;
    assert!(installs, "{output}");
    assert_tests_pass(&project).await;
    assert_eq!(check_types(&project), "");

    // `new` writes the same package into a project.
    let installed = project.join("node_modules/jackfield");
    assert!(!installed.is_symlink());
    assert_eq!(contents(&installed), contents(&folder.join("template/sdk")));
}

/// The files of a folder by their paths.
fn contents(folder: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let text = fs::read_to_string(&path).unwrap();
                found.insert(path.strip_prefix(folder).unwrap().to_owned(), text);
            }
        }
    }
    found
}

/// Makes a component of host/tests/componentize-js/handler.js by the stock tool. It is kept in the target folder.
async fn stock_component(options: &[&str], name: &str) -> PathBuf {
    let modules = installed_path("JACKFIELD_TEST_COMPONENTIZE_JS");
    let (source, wit) = (repository("host/tests/componentize-js/handler.js"), repository("wit"));
    let component = modules.with_file_name(name);
    // What it was made of.
    let inputs = fs::read_to_string(&source).unwrap() + &fs::read_to_string(wit.join("gateway.wit")).unwrap();
    let made_of = component.with_extension("inputs");
    if component.exists() && fs::read_to_string(&made_of).is_ok_and(|before| before == inputs) {
        return component;
    }
    let mut componentize = Command::new(modules.join(".bin/componentize-js"));
    componentize.arg("--wit").arg(wit).args(["-n", "route-handler"]).args(options);
    let output = componentize.arg("-o").arg(&component).arg(source).stdin(Stdio::null()).output().await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    fs::write(made_of, inputs).unwrap();
    component
}

#[tokio::test]
async fn a_component_of_stock_componentize_js_is_served() {
    let component = stock_component(&["-d", "http", "-d", "fetch-event"], "handler.wasm").await;
    let grants = "grants = [\"connections\", \"connection-store\"]\n";
    let text = manifest(&component, "", grants);
    let site = Site::new(&text);
    // It has 12 MB: this takes as long as the machine needs to compile them, and fills the cache.
    let (code, _, stderr) = site.run(&["check"]);
    assert_eq!(code, 0, "{stderr}");
    let server = site.serve();
    let mut peer = server.connect("").await;
    assert_eq!(peer.ask("grüße 😀").await, "grüße 😀");
    assert_eq!(peer.ask("post").await, "posted");
    assert_eq!(peer.text().await, "rows 1");
    assert_eq!(peer.ask("gone").await, "gone");
    assert_eq!(peer.ask("wait").await, "waited");
    assert!(peer.ask("throw").await.contains("Internal server error"));
    server.log.wait_for_line(&["thrown by the handler"]).await;
    server.log.wait_for_line(&["handle@", "componentize-js/handler.js:27:"]).await;
    assert_eq!(peer.ask("still").await, "still");
}

#[tokio::test]
async fn a_component_of_componentize_js_that_imports_http_is_rejected_with_the_options_to_use() {
    let component = stock_component(&[], "with-http.wasm").await;
    let (code, _, stderr) = Site::new(&manifest(&component, "", "")).run(&["check"]);
    assert_eq!(code, 1);
    assert!(stderr.contains("with componentize-js by the options -d http -d fetch-event"), "{stderr}");
}
