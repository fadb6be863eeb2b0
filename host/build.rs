//! Embeds the SDKs and the contract, so that `jackfield new` can write them into a project.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

/// The folders of the repository that are embedded, and the constants with their files.
const FOLDERS: [(&str, &str); 6] = [
    ("C", "sdk/c"),
    ("GO", "sdk/go"),
    ("JAVASCRIPT", "sdk/js"),
    ("PYTHON", "sdk/python"),
    ("RUST", "sdk/rust"),
    ("WIT", "wit"),
];

/// Folders that builds and tests make or use, and that are no part of a package.
const IGNORED_FOLDERS: [&str; 8] =
    ["__pycache__", "build", "dist", "node_modules", "target", "test", "tests", "zig-out"];
/// Endings of the files of tests, and of folders that packers make.
const IGNORED_ENDINGS: [&str; 6] = ["_test.go", ".test.js", ".test.mjs", "pack.mjs", ".egg-info", ".tgz"];

fn main() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let root = root.canonicalize().expect("the repository has the folder of this crate");
    let mut text = String::new();
    for (constant, folder) in FOLDERS {
        let folder = root.join(folder);
        let mut files = Vec::new();
        add_files(&folder, Path::new(""), &mut files);
        files.sort();
        let _ = writeln!(text, "pub const {constant}: Files = &[");
        for path in files {
            let name = path.to_str().expect("the paths of an SDK are text");
            let _ = writeln!(text, "    ({name:?}, include_bytes!({:?})),", folder.join(&path));
        }
        text.push_str("];\n");
    }
    let output = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    fs::write(output.join("sdk.rs"), text).expect("cargo has created OUT_DIR");
    // Cargo looks into a folder with all its subfolders.
    for folder in ["sdk", "wit"] {
        println!("cargo::rerun-if-changed={}", root.join(folder).display());
    }
}

/// Adds the files of `folder/below`, as paths relative to `folder`. An SDK that does not exist has no files.
fn add_files(folder: &Path, below: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder.join(below)).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let text = name.to_str().expect("the names of an SDK are text");
        let path = below.join(&name);
        // `wit` is a link in the SDKs.
        let is_folder = folder.join(&path).is_dir();
        let is_ignored = text.starts_with('.') || IGNORED_ENDINGS.iter().any(|end| text.ends_with(end));
        // The frozen copies of the contract have their version as their name.
        let is_ignored_folder =
            IGNORED_FOLDERS.contains(&text) || text.starts_with(|first: char| first.is_ascii_digit());
        if is_ignored || is_folder && is_ignored_folder {
            continue;
        }
        if is_folder {
            add_files(folder, &path, files);
        } else {
            files.push(path);
        }
    }
}
