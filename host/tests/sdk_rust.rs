//! The SDK of Rust as crates.io would have it: packed, unpacked in a clean folder, and used by a new project.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::cli::set_author_environment;
use crate::harness::Site;

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}\n{}", String::from_utf8_lossy(&output.stderr));
}

#[tokio::test]
async fn the_packed_crate_builds_by_itself_and_a_new_project_that_uses_it_is_served() {
    // The folder is always the same, so that a second run reuses what the first one has built.
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("new-author");
    let target = folder.join("target");
    fs::create_dir_all(&target).unwrap();
    let site = Site::new("");

    // This also builds the crate from the packed file alone.
    let mut package = Command::new("cargo");
    package.args(["package", "--allow-dirty", "--target-dir"]).arg(&target);
    package.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../sdk/rust"));
    set_author_environment(&mut package);
    run(&mut package);
    let packed = target.join("package/jackfield-sdk-0.1.0.crate");
    run(Command::new("tar").arg("-xzf").arg(&packed).arg("-C").arg(site.path()));
    let unpacked = site.path().join("jackfield-sdk-0.1.0");
    assert!(unpacked.join("wit/gateway.wit").is_file());
    assert!(!unpacked.join("tests").exists());

    let sdk = unpacked.to_str().unwrap();
    let (code, _, stderr) = site.run(&["new", "rust", "packed", "--sdk", sdk]);
    assert_eq!((code, &*stderr), (0, ""));
    let project = site.path().join("packed");
    assert!(!project.join("sdk").exists());
    std::os::unix::fs::symlink(&target, project.join("target")).unwrap();
    let mut build = site.command(&["build"]);
    set_author_environment(build.current_dir(&project));
    run(&mut build);

    let mut serve = site.command(&["serve"]);
    serve.current_dir(&project);
    let server = site.clone().launch(serve);
    assert_eq!(server.connect("").await.ask("hello").await, "hello");
}
