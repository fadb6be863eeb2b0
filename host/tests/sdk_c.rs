//! Handlers in C and Zig: their builds, and what the SDK does on a host.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock};

use jackfield::toolchain::{Job, Profile, SourceLanguage};
use jackfield::world::World;

use crate::conformance::{run_on_host, suite};
use crate::harness::{Server, Site, manifest};

/// A project of the repository whose sources are built by the tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Project {
    pub language: SourceLanguage,
    /// The source, relative to the repository.
    pub source: &'static str,
}

pub const ECHO: [Project; 2] = [
    Project { language: SourceLanguage::C, source: "plugins/echo-c/echo.c" },
    Project { language: SourceLanguage::Zig, source: "plugins/echo-zig/echo.zig" },
];

pub const CONFORMANCE: [Project; 2] = [
    Project { language: SourceLanguage::C, source: "host/tests/guests/conformance-c/handler.c" },
    Project { language: SourceLanguage::Zig, source: "host/tests/guests/conformance-zig/handler.zig" },
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}

/// Builds a project once, and returns its component.
pub fn build(project: Project) -> PathBuf {
    static BUILT: OnceLock<Mutex<Vec<&'static str>>> = OnceLock::new();
    let name = project.source.replace('/', "-");
    let work = Path::new(env!("CARGO_TARGET_TMPDIR")).join("builds").join(name);
    let output = work.join("component.wasm");
    let mut built = BUILT.get_or_init(Mutex::default).lock().unwrap();
    if !built.contains(&project.source) {
        build_as(project.language, World::RouteHandler, Profile::Release, &root().join(project.source), &work, &output);
        built.push(project.source);
    }
    output
}

fn build_as(language: SourceLanguage, world: World, profile: Profile, source: &Path, work: &Path, output: &Path) {
    fs::create_dir_all(work).unwrap();
    let job = Job { name: "guest", world, profile, source, output, work };
    language.build(&job).unwrap();
}

fn serve(component: &Path, keys: &str) -> Server {
    Site::new(&manifest(component, "", keys)).serve()
}

#[tokio::test]
async fn the_echo_of_c_and_zig_is_the_one_of_rust() {
    for project in ECHO {
        let server = serve(&build(project), "");
        let mut peer = server.connect("").await;
        for (message, reply) in [
            ("hello", "hello"),
            (r#"{"action":"echo","content":"a\u00e4\n"}"#, "a\u{e4}\n"),
            (r#"{"action":"echo","content":"x","more":[1,{"a":null}]}"#, "x"),
            (r#"{"action":"other","content":"x"}"#, r#"{"action":"other","content":"x"}"#),
            (r#"{"action":"echo","content":1}"#, r#"{"action":"echo","content":1}"#),
            (r#"{"action":"echo","content":"\ud800"}"#, r#"{"action":"echo","content":"\ud800"}"#),
        ] {
            assert_eq!(peer.ask(message).await, reply, "{project:?}: {message}");
        }
    }
}

#[tokio::test]
async fn the_handlers_of_c_and_zig_pass_every_conformance_case() {
    for project in CONFORMANCE {
        let results = run_on_host(&suite(), &build(project)).await;
        let failures: Vec<String> = results.into_values().flatten().collect();
        assert!(failures.is_empty(), "{project:?}: {} cases failed:\n{}", failures.len(), failures.join("\n"));
    }
}
