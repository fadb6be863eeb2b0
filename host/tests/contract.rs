//! The contract is frozen for each version in `wit/VERSION`: the host loads and runs what was built against it.
//!
//! The sources of `frozen/VERSION` and the folder `wit/VERSION` do not change.

use std::fs;
use std::path::{Path, PathBuf};

use wit_component::{ComponentEncoder, StringEncoding};
use wit_parser::Resolve;

use crate::harness::{HOSTILE_GRANTS, Server, Site};
use crate::wat;

/// The versions of the contract that the host loads, the newest one last.
const VERSIONS: [&str; 1] = ["0.1.0"];

fn wit() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../wit")
}

/// Returns the lines of a contract that components depend on: those without its comments.
fn without_comments(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("//"));
    lines.map(str::to_owned).collect()
}

/// Returns the contract and its dependencies below a folder, as paths relative to it.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files = vec![PathBuf::from("gateway.wit")];
    for package in fs::read_dir(folder.join("deps")).unwrap() {
        for file in fs::read_dir(package.unwrap().path()).unwrap() {
            files.push(file.unwrap().path().strip_prefix(folder).unwrap().to_owned());
        }
    }
    files.sort();
    files
}

/// Builds a component from a source of this version, against the frozen contract of the same version.
fn component(version: &str, name: &str) -> Vec<u8> {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/frozen").join(version);
    let source = fs::read_to_string(sources.join(format!("{name}.wat"))).unwrap();
    let mut resolve = Resolve::default();
    resolve.push_dir(wit().join(version)).unwrap();
    let package = resolve.push_file(sources.join("worlds.wit")).unwrap();
    let world = resolve.select_world(&[package], Some(name)).unwrap();
    let mut module = wat::to_binary(&source);
    wit_component::embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8, false).unwrap();
    ComponentEncoder::default().module(&module).unwrap().validate(true).encode().unwrap()
}

/// Serves the handler and the authorizer of a version.
fn serve(version: &str) -> Server {
    let site = Site::new(&format!(
        "[authorizers.login]\ncomponent = \"authorizer.wasm\"\n\
         [integrations.guest]\ncomponent = \"handler.wasm\"\n{HOSTILE_GRANTS}\n[routes]\n\
         \"$connect\" = {{ integration = \"guest\", authorizer = \"login\" }}\n\
         \"$default\" = {{ integration = \"guest\", route_response = true }}"
    ));
    for name in ["authorizer", "handler"] {
        fs::write(site.path().join(format!("{name}.wasm")), component(version, name)).unwrap();
    }
    site.serve()
}

#[test]
fn the_contract_equals_the_frozen_copy_of_its_version() {
    let package = without_comments(&wit().join("gateway.wit")).swap_remove(0);
    let version = package.strip_prefix("package jackfield:gateway@").unwrap().trim_end_matches(';');
    assert_eq!(version, *VERSIONS.last().unwrap(), "add the version to VERSIONS, and its folder to wit and to frozen");
    let frozen = wit().join(version);
    assert_eq!(files(&wit()), files(&frozen));
    for file in files(&frozen) {
        let (now, then) = (without_comments(&wit().join(&file)), without_comments(&frozen.join(&file)));
        assert_eq!(
            now,
            then,
            "{} differs from wit/{version}: a change of the contract needs a new version",
            file.display()
        );
    }
}

#[tokio::test]
async fn components_that_were_built_against_a_frozen_contract_load_and_run() {
    for version in VERSIONS {
        let server = serve(version);
        let mut peer = server.connect("").await;
        peer.send("hello").await;
        assert_eq!(peer.text().await, "posted", "{version}");
        let event: serde_json::Value = serde_json::from_str(&peer.text().await).unwrap();
        assert_eq!(event["body"], "hello", "{version}");
        assert_eq!(event["requestContext"]["authorizer"]["principalId"], "frozen", "{version}");
        server.log.wait_for_line(&[&format!("INFO frozen {version} plugin=guest")]).await;

        assert!(peer.ask("fail").await.contains("Internal server error"), "{version}");
        server.log.wait_for_line(&["WARN the handler failed: as ordered plugin=guest"]).await;
        server.log.wait_for_line(&["    at frozen:1"]).await;
    }
}
