//! The types of the module `jackfield`, which a new project in TypeScript gets.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use crate::harness::Site;
use crate::sdks::installed_path;

const TYPES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../sdk/js/types/index.d.ts");

/// Checks a folder with a tsconfig.json. Returns the errors.
pub fn check_types(folder: &Path) -> String {
    let mut command = Command::new("node");
    command.arg(installed_path("JACKFIELD_TEST_NODE_MODULES").join("typescript/bin/tsc"));
    let output = command.arg("-p").arg(folder).output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn handlers_in_typescript_have_the_types_that_they_use() {
    let site = Site::new("");
    let (code, _, stderr) = site.run(&["new", "ts", "hello"]);
    assert_eq!((code, &*stderr), (0, ""));
    let project = site.path().join("hello");
    assert_eq!(check_types(&project), "");
    let source = fs::read_to_string(project.join("handler.ts")).unwrap();
    fs::write(project.join("handler.ts"), source.replace("event.body", "event.bodi")).unwrap();
    assert!(check_types(&project).contains("Property 'bodi' does not exist"));

    let host = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folders =
        ["../plugins/chat-typescript", "../plugins/echo-ts", "tests/guests/conformance-ts", "../sdk/js/tests"];
    for folder in folders {
        assert_eq!(check_types(&host.join(folder)), "", "{folder}");
    }
}

#[tokio::test]
async fn the_types_declare_what_the_module_exports() {
    let types = fs::read_to_string(TYPES).unwrap();
    let declared: BTreeSet<&str> = types
        .lines()
        .filter_map(|line| line.trim_start().strip_prefix("export "))
        .filter_map(|line| ["const ", "function ", "class "].iter().find_map(|kind| line.strip_prefix(kind)))
        .filter_map(|line| line.split(|character: char| !character.is_ascii_alphanumeric()).next())
        .collect();
    let site = Site::new(
        "[integrations.all]\ncomponent = \"all.js\"\n\
         [routes]\n\"$default\" = { integration = \"all\", route_response = true }",
    );
    let source = "import * as all from \"jackfield\";\n\
                  const names = () => Object.keys(all).filter((name) => name !== \"default\").sort().join(\" \");\n\
                  export default all.plugin({ message: names });\n";
    fs::write(site.path().join("all.js"), source).unwrap();
    let server = site.serve();
    let exported = server.connect("").await.ask("names").await;
    assert_eq!(exported.split(' ').collect::<BTreeSet<_>>(), declared);
}
