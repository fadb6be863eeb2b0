//! The package for Python: its own tests, the package as a registry takes it, new projects, and components that stock
//! componentize-py has built.

use std::collections::hash_map::DefaultHasher;
use std::fs;
use std::hash::{Hash as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::harness::Site;
use crate::sdks::installed_path;

/// Runs a command that must succeed, and returns what it wrote.
fn succeed(command: &mut Command) -> String {
    let (success, text) = output(command);
    assert!(success, "{command:?}:\n{text}");
    text
}

fn output(command: &mut Command) -> (bool, String) {
    // Nothing is written into the folders of the sources.
    let output = command.env("PYTHONDONTWRITEBYTECODE", "1").env_remove("PYTHONPATH").output().unwrap();
    let text = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap()).concat();
    (output.status.success(), text)
}

/// The Python of the tests, with the tools that the package is tested and packed with.
fn tool(module: &str) -> Command {
    let mut command = Command::new(installed_path("JACKFIELD_TEST_PYTHON"));
    command.args(["-m", module]);
    command
}

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

/// Creates a project as `jackfield new python hello` does.
fn new_project(site: &Site) -> PathBuf {
    let (code, stdout, stderr) = site.run(&["new", "python", "hello"]);
    assert_eq!((code, &*stderr), (0, ""));
    assert!(stdout.contains("\n  python3 -m unittest "), "{stdout}");
    site.path().join("hello")
}

/// Runs `check` in a project, which must have nothing to say.
fn check(site: &Site, project: &Path) {
    let output = site.command(&["check"]).current_dir(project).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
}

#[test]
fn the_package_and_the_plugins_in_python_pass_their_tests() {
    for (folder, tests) in [("sdk/python", 20), ("plugins/echo-python", 2), ("plugins/chat-python", 4)] {
        let text = succeed(Command::new("python3").args(["-m", "unittest"]).current_dir(repository(folder)));
        let ran = text.lines().find_map(|line| line.strip_prefix("Ran ")?.split(' ').next()?.parse::<u32>().ok());
        assert!(ran.is_some_and(|ran| ran >= tests) && !text.contains("skipped"), "{folder}: {text}");
    }
}

#[test]
fn the_package_has_the_types_that_it_says() {
    let package = repository("sdk/python");
    succeed(tool("mypy").args(["--strict", "--cache-dir=/dev/null", "jackfield"]).current_dir(package));
}

#[test]
fn a_new_project_in_python_passes_its_test_with_each_tool() {
    let site = Site::new("");
    let project = new_project(&site);
    let text = succeed(Command::new("python3").args(["-m", "unittest"]).current_dir(&project));
    assert!(text.contains("Ran 1 test") && text.ends_with("OK\n"), "{text}");
    let text = succeed(tool("pytest").args(["-p", "no:cacheprovider"]).current_dir(&project));
    assert!(text.contains("1 passed"), "{text}");
    succeed(tool("mypy").args(["--strict", "--cache-dir=/dev/null", "handler.py", "tests"]).current_dir(&project));
    check(&site, &project);

    // The test is one that can fail.
    let handler = fs::read_to_string(project.join("handler.py")).unwrap();
    fs::write(project.join("handler.py"), handler.replace("return event.body", "return \"other\"")).unwrap();
    let (success, text) = output(Command::new("python3").args(["-m", "unittest"]).current_dir(&project));
    assert!(!success && text.contains("'other' != 'hello'"), "{text}");
}

#[tokio::test]
async fn the_packed_package_works_in_a_clean_environment() {
    let site = Site::new("");
    let project = new_project(&site);
    fs::remove_dir_all(project.join("sdk")).unwrap();
    let packed = site.path().join("packed");
    succeed(tool("build").args(["--no-isolation", "--outdir"]).arg(&packed).arg(repository("sdk/python")));
    let [wheel, sdist] = ["jackfield-0.1.0-py3-none-any.whl", "jackfield-0.1.0.tar.gz"].map(|name| packed.join(name));

    // The wheel, in a virtual environment beside the handler.
    succeed(Command::new("python3").args(["-m", "venv", ".venv"]).current_dir(&project));
    let python = project.join(".venv/bin/python");
    let quiet = ["--quiet", "--disable-pip-version-check", "--no-index"];
    succeed(Command::new(&python).args(["-m", "pip", "install"]).args(quiet).arg(&wheel));
    let text = succeed(Command::new(&python).args(["-m", "unittest"]).current_dir(&project));
    assert!(text.contains("Ran 1 test") && text.ends_with("OK\n"), "{text}");
    let mypy = |file: &str| {
        let mut command = tool("mypy");
        command.args(["--strict", "--cache-dir=/dev/null", "--python-executable"]).arg(&python).arg(file);
        output(command.current_dir(&project))
    };
    assert_eq!(mypy("handler.py"), (true, "Success: no issues found in 1 source file\n".to_owned()));
    let wrong = "from jackfield import Context, DisconnectEvent, plugin, store\n\n\n\
                 def message(event: DisconnectEvent, context: Context) -> None:\n    store.add(1, \"a\", \"b\")\n\n\n\
                 handler = plugin(message=message)\n";
    fs::write(project.join("wrong.py"), wrong).unwrap();
    let (success, text) = mypy("wrong.py");
    assert!(!success && text.contains("wrong.py:5") && text.contains("wrong.py:8"), "{text}");

    // The source archive, with its tests.
    let unpacked = site.path().join("unpacked");
    fs::create_dir(&unpacked).unwrap();
    succeed(Command::new("tar").arg("-xzf").arg(&sdist).args(["--strip-components=1", "-C"]).arg(&unpacked));
    let text = succeed(Command::new("python3").args(["-m", "unittest"]).current_dir(&unpacked));
    assert!(text.ends_with("OK (skipped=4)\n"), "{text}");
    let installed = project.join("packages");
    let install = ["install", "--no-build-isolation", "--no-deps", "--target"];
    succeed(tool("pip").args(install).arg(&installed).args(quiet).arg(&sdist));
    fs::remove_dir_all(project.join(".venv")).unwrap();
    let test = "import sys; sys.path.insert(0, 'packages'); import unittest; unittest.main(None, verbosity=2)";
    let text = succeed(Command::new("python3").args(["-c", test, "tests.test_handler"]).current_dir(&project));
    assert!(text.ends_with("OK\n"), "{text}");

    // A server has the package itself, and says nothing about the installed one.
    fs::write(project.join("requirements.txt"), "jackfield>=0.1\n").unwrap();
    fs::write(installed.join("jackfield/__init__.py"), "raise ImportError('not this one')\n").unwrap();
    check(&site, &project);
    let mut command = site.command(&["serve"]);
    command.current_dir(&project);
    let server = site.clone().launch(command);
    assert_eq!(server.connect("").await.ask("hello").await, "hello");
    let text = server.log.text();
    let is_warning = |line: &&str| line.contains("WARN") && !line.contains("admitted, as on API Gateway");
    assert_eq!(text.lines().find(is_warning), None, "{text}");
}

/// What docs/python.md says about components of componentize-py.
#[tokio::test]
async fn a_component_of_stock_componentize_py_is_served_as_the_page_says() {
    let page = fs::read_to_string(repository("docs/python.md")).unwrap();
    let section = &page[page.find("## Components of componentize-py").expect("the page has the section")..];
    let block = |kind: &str| {
        let start = section.find(&format!("```{kind}\n")).expect("the section has a block") + kind.len() + 4;
        section[start..start + section[start..].find("```").unwrap()].to_owned()
    };
    let (manifest, source) = (block("toml"), block("python"));
    let command = manifest.lines().find_map(|line| line.strip_prefix("build = \"")?.strip_suffix('"'));
    let command = command.expect("the manifest has a build command");

    let site = Site::new(&manifest);
    fs::write(site.path().join("app.py"), &source).unwrap();
    let (code, stdout, _) = site.run(&["wit", "--manifest", "jackfield.toml"]);
    assert!(code == 0 && stdout.contains("with the world app"), "{stdout}");
    build_stock_component(&site, command, &source);

    let server = site.serve();
    let mut peer = server.connect("").await;
    assert_eq!(peer.ask("hello äöü").await, "hello äöü");
    assert!(peer.ask("").await.contains("Internal server error"));
    server.log.wait_for_line(&["WARN", "the handler failed: an empty message"]).await;
    assert_eq!(peer.ask("again").await, "again");
    assert!(!server.log.text().contains("panicked"), "{}", server.log.text());
}

/// Builds the component with the command of the page, or takes the one that an earlier test built of the same files.
fn build_stock_component(site: &Site, command: &str, source: &str) {
    let wit = ["worlds.wit", "deps/jackfield-gateway/gateway.wit"].map(|file| {
        fs::read_to_string(site.path().join("wit").join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
    });
    let mut hasher = DefaultHasher::new();
    (source, command, wit).hash(&mut hasher);
    let built = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("componentize-py-{:016x}.wasm", hasher.finish()));
    let component = site.path().join("build/app.wasm");
    if built.exists() {
        fs::create_dir(site.path().join("build")).unwrap();
        fs::copy(&built, &component).unwrap();
        return;
    }
    let tool = installed_path("JACKFIELD_TEST_COMPONENTIZE_PY");
    let arguments = command.strip_prefix("componentize-py ").expect("the command runs componentize-py").split(' ');
    succeed(Command::new(tool).args(arguments).current_dir(site.path()));
    // No other test sees a part of the file.
    let partial = built.with_extension(format!("{}.partial", std::process::id()));
    fs::copy(&component, &partial).unwrap();
    fs::rename(&partial, &built).unwrap();
}
