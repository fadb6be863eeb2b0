//! `new`: creates a project folder with a working handler and manifest.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail, ensure};

use crate::cli::print_output;
use crate::config::{DEFAULT_LISTEN, DEFAULT_STAGE};

mod script;

/// Create a project folder with a working handler and manifest
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  jackfield new ts chat\n  jackfield new rust chat")]
pub struct New {
    #[command(subcommand)]
    language: Language,
}

#[derive(clap::Subcommand)]
enum Language {
    /// A handler in JavaScript, which needs no build
    #[command(after_help = "Example:\n  jackfield new js chat")]
    Js {
        /// The name of the folder and the integration: a-z 0-9 - _
        name: String,
    },
    /// A handler in TypeScript, which needs no build
    #[command(after_help = "Example:\n  jackfield new ts chat")]
    Ts {
        /// The name of the folder and the integration: a-z 0-9 - _
        name: String,
    },
    /// A handler in Python, which needs no build
    #[command(after_help = "Example:\n  jackfield new python chat")]
    Python {
        /// The name of the folder and the integration: a-z 0-9 - _
        name: String,
    },
    /// A handler in Rust, with a test
    #[command(after_help = "Example:\n  jackfield new rust chat")]
    Rust {
        /// The name of the folder, the crate and the integration: a-z 0-9 - _
        name: String,
        /// Use the SDK in this folder instead of the one from crates.io
        #[arg(long, value_name = "FOLDER")]
        sdk: Option<PathBuf>,
    },
}

impl New {
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let parent = Path::new("");
        let text = match self.language {
            Language::Js { name } => script::JAVASCRIPT.run(&name, parent)?,
            Language::Ts { name } => script::TYPESCRIPT.run(&name, parent)?,
            Language::Python { name } => script::PYTHON.run(&name, parent)?,
            Language::Rust { name, sdk } => {
                let folder = create_rust_project(&name, parent, &SdkSource::find(sdk.as_deref())?)?;
                next_steps(&folder, RUST_COMMANDS, "src/lib.rs")
            }
        };
        print_output(&text)?;
        Ok(ExitCode::SUCCESS)
    }
}

/// The source of the handler's SDK.
#[derive(Clone, Debug, PartialEq, Eq)]
enum SdkSource {
    /// crates.io
    Published,
    /// A folder on this machine, absolute.
    Folder(PathBuf),
}

impl SdkSource {
    /// Selects the source: the requested folder, else the folder in the source tree of this program if it still
    /// exists, else crates.io.
    fn find(requested: Option<&Path>) -> anyhow::Result<Self> {
        let in_source_tree = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../sdk/rust"));
        match requested {
            Some(folder) => {
                let found = is_sdk(folder);
                ensure!(found, "{} is not the SDK: expected a folder with the crate {SDK_NAME}", folder.display());
                Ok(Self::Folder(fs::canonicalize(folder)?))
            }
            None if is_sdk(in_source_tree) => Ok(Self::Folder(fs::canonicalize(in_source_tree)?)),
            None => Ok(Self::Published),
        }
    }

    /// Returns the line of the dependency in a Cargo.toml.
    ///
    /// # Errors
    /// If the path of the folder cannot be written there.
    fn dependency(&self) -> anyhow::Result<String> {
        let Self::Folder(folder) = self else { return Ok(format!("{SDK_NAME} = \"{SDK_VERSION}\"")) };
        let writable = folder.to_str().filter(|path| !path.contains(|c: char| c == '\'' || c.is_control()));
        let path = writable.with_context(|| format!("{} cannot be written into a Cargo.toml", folder.display()))?;
        Ok(format!("{SDK_NAME} = {{ path = '{path}' }}"))
    }
}

const SDK_NAME: &str = "jackfield-sdk";
/// Version of the SDK, which is released together with the host.
const SDK_VERSION: &str = concat!(env!("CARGO_PKG_VERSION_MAJOR"), ".", env!("CARGO_PKG_VERSION_MINOR"));

/// The files of a Rust project: path and template.
const RUST_FILES: &[(&str, &str)] = &[
    ("Cargo.toml", include_str!("new/rust/Cargo.toml.template")),
    (".cargo/config.toml", include_str!("new/rust/cargo-config.toml.template")),
    ("src/lib.rs", include_str!("new/rust/lib.rs.template")),
    ("tests/handler.rs", include_str!("new/rust/handler.rs.template")),
    ("jackfield.toml", include_str!("new/rust/jackfield.toml.template")),
    ("README.md", include_str!("new/rust/README.md.template")),
    (".gitignore", include_str!("new/rust/gitignore.template")),
];

/// Creates a Rust project in a new folder `name` in `parent`, and returns that folder.
///
/// # Errors
/// If the name is not a valid crate name, if the folder exists, or if it cannot be written. No files are left behind
/// then.
fn create_rust_project(name: &str, parent: &Path, sdk: &SdkSource) -> anyhow::Result<PathBuf> {
    check_crate_name(name)?;
    let dependency = sdk.dependency()?;
    let fill_in = |template: &str| {
        template.replace("{{name}}", name).replace("{{crate}}", &name.replace('-', "_")).replace("{{sdk}}", &dependency)
    };
    create_project(&parent.join(name), RUST_FILES, fill_in)
}

/// Creates a new folder with these files, whose templates `fill_in` completes, and returns the folder.
///
/// # Errors
/// If the folder exists, or if it cannot be written. No files are left behind then.
fn create_project(folder: &Path, files: &[(&str, &str)], fill_in: impl Fn(&str) -> String) -> anyhow::Result<PathBuf> {
    if folder.symlink_metadata().is_ok() {
        bail!("{} already exists; choose another name, or move it away", folder.display());
    }
    fs::create_dir(folder).with_context(|| format!("cannot create the folder {}", folder.display()))?;
    let written = files.iter().try_for_each(|(path, template)| write(&folder.join(path), &fill_in(template)));
    if written.is_err() {
        // The folder was created above, so it contains no files of the user.
        let _ = fs::remove_dir_all(folder);
    }
    written.map(|()| folder.to_owned())
}

/// What to run in a Rust project.
const RUST_COMMANDS: &str = "\
  rustup target add wasm32-wasip2   # once
  jackfield dev                     # builds and serves it, again after every change
";

/// Returns the text that explains how to continue in the new folder, whose handler is the file `handler`.
fn next_steps(folder: &Path, commands: &str, handler: &str) -> String {
    let folder = folder.display();
    format!(
        "\
created {folder}. Next:

  cd {folder}
{commands}
In another terminal:

  npx wscat -c ws://{DEFAULT_LISTEN}/{DEFAULT_STAGE}

The handler is {folder}/{handler}.
"
    )
}

/// Returns whether a folder contains the crate of the SDK.
fn is_sdk(folder: &Path) -> bool {
    let manifest = fs::read_to_string(folder.join("Cargo.toml")).ok();
    let manifest = manifest.and_then(|text| text.parse::<toml::Table>().ok());
    let name = manifest.as_ref().and_then(|manifest| manifest.get("package")?.get("name")?.as_str());
    name == Some(SDK_NAME)
}

fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    let folder = path.parent().expect("the path of a project file has a parent");
    fs::create_dir_all(folder)
        .and_then(|()| fs::write(path, text))
        .with_context(|| format!("cannot write {}", path.display()))
}

/// Checks that a name is valid for a crate, a folder, an integration and a Rust path.
fn check_crate_name(name: &str) -> anyhow::Result<()> {
    check_name(name, "crate name", RESERVED_NAMES)
}

/// Checks that a name is valid for a folder and an integration, and not one of `reserved`.
fn check_name(name: &str, what: &str, reserved: &[&str]) -> anyhow::Result<()> {
    const LENGTH_MAX: usize = 64;
    let is_inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_');
    let well_formed = name.starts_with(|first: char| first.is_ascii_lowercase())
        && name.len() <= LENGTH_MAX
        && name.bytes().all(is_inner);
    if !well_formed {
        let similar = name.to_lowercase().replace(|c: char| !c.is_ascii() || !is_inner(c as u8), "-");
        let similar = similar.trim_matches(|c: char| !c.is_ascii_lowercase());
        let advice = if (1..=LENGTH_MAX).contains(&similar.len()) && check_name(similar, what, reserved).is_ok() {
            format!("; for example {similar:?}")
        } else {
            String::new()
        };
        bail!(
            "{name:?} is not a valid {what}: expected a lower-case letter, followed by lower-case letters, digits, - and \
             _, at most {LENGTH_MAX} characters{advice}"
        );
    }
    if reserved.contains(&&*name.replace('-', "_")) {
        bail!("{name:?} is not a valid {what}: it is reserved by Rust or the SDK; for example \"my-{name}\"");
    }
    Ok(())
}

/// Rust's keywords, crates that are always in scope, and the SDK; with `_` in place of `-`.
const RESERVED_NAMES: &[&str] = &[
    "abstract",
    "alloc",
    "as",
    "async",
    "await",
    "become",
    "box",
    "break",
    "const",
    "continue",
    "core",
    "crate",
    "do",
    "dyn",
    "else",
    "enum",
    "extern",
    "false",
    "final",
    "fn",
    "for",
    "gen",
    "if",
    "impl",
    "in",
    "jackfield_sdk",
    "let",
    "loop",
    "macro",
    "match",
    "mod",
    "move",
    "mut",
    "override",
    "priv",
    "proc_macro",
    "pub",
    "ref",
    "return",
    "self",
    "static",
    "std",
    "struct",
    "super",
    "test",
    "trait",
    "true",
    "try",
    "type",
    "typeof",
    "unsafe",
    "unsized",
    "use",
    "virtual",
    "where",
    "while",
    "yield",
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    /// A temporary folder that is deleted after the test.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(test: &str) -> Self {
            let folder = std::env::temp_dir().join(format!("jackfield-new-{test}-{}", std::process::id()));
            fs::create_dir_all(&folder).unwrap();
            Self(fs::canonicalize(folder).unwrap())
        }

        fn names(&self) -> Vec<String> {
            let entries = fs::read_dir(&self.0).unwrap();
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_new_project_has_a_valid_manifest() {
        let scratch = Scratch::new("manifest");
        let folder = create_rust_project("my-chat_2", &scratch.0, &SdkSource::Published).unwrap();
        assert_eq!(folder, scratch.0.join("my-chat_2"));

        let config = Config::load(&folder.join("jackfield.toml")).unwrap();
        assert_eq!(config.warnings, []);
        let integration = &config.components["my-chat_2"];
        assert_eq!(integration.component, folder.join("target/wasm32-wasip2/release/my_chat_2.wasm"));
        assert!(integration.watch.iter().all(|path| path.exists()), "{:?}", integration.watch);
    }

    #[test]
    fn every_placeholder_of_a_template_is_replaced() {
        let scratch = Scratch::new("placeholders");
        let folder = create_rust_project("chat", &scratch.0, &SdkSource::Published).unwrap();
        for (path, _) in RUST_FILES {
            let text = fs::read_to_string(folder.join(path)).unwrap();
            assert!(!text.contains("{{") && text.ends_with('\n'), "{path}: {text}");
        }
        assert!(fs::read_to_string(folder.join("tests/handler.rs")).unwrap().contains("use chat::Handler;"));
    }

    #[test]
    fn the_sdk_is_the_released_one_or_a_folder() {
        let scratch = Scratch::new("sdk");
        let manifest = |name: &str, sdk: &SdkSource| {
            fs::read_to_string(create_rust_project(name, &scratch.0, sdk).unwrap().join("Cargo.toml")).unwrap()
        };
        assert!(manifest("released", &SdkSource::Published).contains("\njackfield-sdk = \"0.1\"\n"));
        let folder = SdkSource::Folder("/a folder/sdk".into());
        assert!(manifest("folder", &folder).contains("\njackfield-sdk = { path = '/a folder/sdk' }\n"));
        let quoted = SdkSource::Folder("/it's/sdk".into());
        let error = create_rust_project("quoted", &scratch.0, &quoted).unwrap_err();
        assert_eq!(error.to_string(), "/it's/sdk cannot be written into a Cargo.toml");
        assert!(!scratch.names().contains(&"quoted".to_owned()));
    }

    #[test]
    fn a_folder_that_is_not_the_sdk_is_rejected() {
        let scratch = Scratch::new("not-sdk");
        let error = SdkSource::find(Some(&scratch.0)).unwrap_err().to_string();
        let expected = "is not the SDK: expected a folder with the crate jackfield-sdk";
        assert_eq!(error, format!("{} {expected}", scratch.0.display()));

        let other = "[package]\nname = \"other\"\ndescription = \"like jackfield-sdk\"";
        fs::write(scratch.0.join("Cargo.toml"), other).unwrap();
        assert!(SdkSource::find(Some(&scratch.0)).is_err());
        fs::write(scratch.0.join("Cargo.toml"), "[package]\nname = \"jackfield-sdk\"").unwrap();
        assert_eq!(SdkSource::find(Some(&scratch.0)).unwrap(), SdkSource::Folder(scratch.0.clone()));
    }

    #[test]
    fn an_existing_file_or_folder_is_not_changed() {
        let scratch = Scratch::new("existing");
        for name in ["folder", "file", "link"] {
            let path = scratch.0.join(name);
            match name {
                "folder" => fs::create_dir(&path).unwrap(),
                "file" => fs::write(&path, "mine").unwrap(),
                _ => std::os::unix::fs::symlink("nowhere", &path).unwrap(),
            }
            let error = create_rust_project(name, &scratch.0, &SdkSource::Published).unwrap_err();
            let expected = format!("{} already exists; choose another name, or move it away", path.display());
            assert_eq!(error.to_string(), expected);
        }
        assert_eq!(fs::read_dir(scratch.0.join("folder")).unwrap().count(), 0);
        assert_eq!(fs::read_to_string(scratch.0.join("file")).unwrap(), "mine");
    }

    #[test]
    fn an_invalid_crate_name_is_rejected_with_a_valid_example() {
        let rule =
            "expected a lower-case letter, followed by lower-case letters, digits, - and _, at most 64 characters";
        for (name, advice) in [
            ("", ""),
            ("-", ""),
            ("42", ""),
            ("My Chat", "; for example \"my-chat\""),
            ("2chat", "; for example \"chat\""),
            ("../chat", "; for example \"chat\""),
            ("chat.rs", "; for example \"chat-rs\""),
            ("größe", "; for example \"gr--e\""),
            ("Self", ""),
        ] {
            let error = check_crate_name(name).unwrap_err();
            assert_eq!(error.to_string(), format!("{name:?} is not a valid crate name: {rule}{advice}"));
        }
        for name in ["async", "test", "std", "proc-macro", "jackfield-sdk"] {
            let error = check_crate_name(name).unwrap_err();
            let expected = format!(
                "{name:?} is not a valid crate name: it is reserved by Rust or the SDK; for example \"my-{name}\""
            );
            assert_eq!(error.to_string(), expected);
        }
        for (name, is_valid) in [("a".repeat(64), true), ("a".repeat(65), false), ("a-1_b".to_owned(), true)] {
            assert_eq!(check_crate_name(&name).is_ok(), is_valid, "{name}");
        }
    }

    #[test]
    fn nothing_is_created_if_the_parent_folder_is_missing() {
        let scratch = Scratch::new("parent");
        let error = create_rust_project("chat", &scratch.0.join("nowhere"), &SdkSource::Published).unwrap_err();
        let expected = format!("cannot create the folder {}", scratch.0.join("nowhere/chat").display());
        assert_eq!(error.to_string(), expected);
        assert_eq!(scratch.names(), [] as [String; 0]);
    }
}
