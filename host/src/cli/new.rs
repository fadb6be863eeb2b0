//! `new`: a folder with a handler, its test and a manifest that work.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail, ensure};

use crate::cli::answer;
use crate::config::{LISTEN, STAGE};

/// Make a folder with a handler, its test and a manifest that work
#[derive(clap::Args)]
#[command(after_help = "Example:\n  jackfield new rust chat")]
pub struct New {
    #[command(subcommand)]
    language: Language,
}

#[derive(clap::Subcommand)]
enum Language {
    /// A handler in Rust
    #[command(after_help = "Example:\n  jackfield new rust chat")]
    Rust {
        /// The name of the folder, the crate and the integration: a-z 0-9 - _
        name: String,
        /// The folder of the SDK, where it is not to come from crates.io
        #[arg(long, value_name = "FOLDER")]
        sdk: Option<PathBuf>,
    },
}

impl New {
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let Language::Rust { name, sdk } = self.language;
        let folder = rust(&name, Path::new(""), &SdkSource::find(sdk.as_deref())?)?;
        answer(&next_steps(&folder))?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Where the handler gets its SDK from.
#[derive(Clone, Debug, PartialEq, Eq)]
enum SdkSource {
    /// crates.io
    Published,
    /// A folder on this machine, absolute.
    Folder(PathBuf),
}

impl SdkSource {
    /// The folder that was asked for, or else the one beside the source of this program where that
    /// is still there, or else crates.io.
    fn find(asked_for: Option<&Path>) -> anyhow::Result<Self> {
        let beside = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../sdk/rust"));
        match asked_for {
            Some(folder) => {
                let found = is_sdk(folder);
                ensure!(found, "{} is not the SDK: expected a folder with the crate {SDK_NAME}", folder.display());
                Ok(Self::Folder(fs::canonicalize(folder)?))
            }
            None if is_sdk(beside) => Ok(Self::Folder(fs::canonicalize(beside)?)),
            None => Ok(Self::Published),
        }
    }

    /// The line of the dependency in a Cargo.toml.
    fn dependency(&self) -> anyhow::Result<String> {
        let Self::Folder(folder) = self else { return Ok(format!("{SDK_NAME} = \"{SDK_VERSION}\"")) };
        let writable = folder.to_str().filter(|path| !path.contains(|c: char| c == '\'' || c.is_control()));
        let path = writable.with_context(|| format!("{} cannot be written into a Cargo.toml", folder.display()))?;
        Ok(format!("{SDK_NAME} = {{ path = '{path}' }}"))
    }
}

const SDK_NAME: &str = "jackfield-sdk";
/// The SDK is released with the host.
const SDK_VERSION: &str = concat!(env!("CARGO_PKG_VERSION_MAJOR"), ".", env!("CARGO_PKG_VERSION_MINOR"));

const RUST: &[(&str, &str)] = &[
    ("Cargo.toml", include_str!("new/rust/Cargo.toml.template")),
    (".cargo/config.toml", include_str!("new/rust/cargo-config.toml.template")),
    ("src/lib.rs", include_str!("new/rust/lib.rs.template")),
    ("tests/handler.rs", include_str!("new/rust/handler.rs.template")),
    ("jackfield.toml", include_str!("new/rust/jackfield.toml.template")),
    ("README.md", include_str!("new/rust/README.md.template")),
    (".gitignore", include_str!("new/rust/gitignore.template")),
];

/// Writes a handler in Rust to a new folder `name` in `parent`, and returns that folder.
///
/// # Errors
/// Nothing is left behind where the name cannot be a crate's, where the folder is there already,
/// or where it cannot be written.
fn rust(name: &str, parent: &Path, sdk: &SdkSource) -> anyhow::Result<PathBuf> {
    check_crate_name(name)?;
    let dependency = sdk.dependency()?;
    let filled_in = |template: &str| {
        template.replace("{{name}}", name).replace("{{crate}}", &name.replace('-', "_")).replace("{{sdk}}", &dependency)
    };
    let folder = parent.join(name);
    if folder.symlink_metadata().is_ok() {
        bail!("{} is there already; take another name, or move it away", folder.display());
    }
    fs::create_dir(&folder).with_context(|| format!("cannot make the folder {}", folder.display()))?;
    let written = RUST.iter().try_for_each(|(path, template)| write(&folder.join(path), &filled_in(template)));
    if written.is_err() {
        // It was made above, so there is nothing of the user's in it.
        let _ = fs::remove_dir_all(&folder);
    }
    written.map(|()| folder)
}

/// What to do next, for whoever has just made `folder`.
fn next_steps(folder: &Path) -> String {
    let folder = folder.display();
    format!(
        "\
{folder} is made. Next:

  cd {folder}
  rustup target add wasm32-wasip2   # once
  jackfield dev                     # builds and serves it, and again whenever it is saved

In another terminal:

  npx wscat -c ws://{LISTEN}/{STAGE}

The handler is {folder}/src/lib.rs.
"
    )
}

fn is_sdk(folder: &Path) -> bool {
    let manifest = fs::read_to_string(folder.join("Cargo.toml")).ok();
    let manifest = manifest.and_then(|text| text.parse::<toml::Table>().ok());
    let name = manifest.as_ref().and_then(|manifest| manifest.get("package")?.get("name")?.as_str());
    name == Some(SDK_NAME)
}

fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    let folder = path.parent().expect("a file of the project is in its folder");
    fs::create_dir_all(folder)
        .and_then(|()| fs::write(path, text))
        .with_context(|| format!("cannot write {}", path.display()))
}

/// Whether a crate, a folder, an integration and a Rust path can all have the name.
fn check_crate_name(name: &str) -> anyhow::Result<()> {
    const LENGTH_MAX: usize = 64;
    let is_inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_');
    let well_formed = name.starts_with(|first: char| first.is_ascii_lowercase())
        && name.len() <= LENGTH_MAX
        && name.bytes().all(is_inner);
    if !well_formed {
        let like = name.to_lowercase().replace(|c: char| !c.is_ascii() || !is_inner(c as u8), "-");
        let like = like.trim_matches(|c: char| !c.is_ascii_lowercase());
        let advice = if (1..=LENGTH_MAX).contains(&like.len()) && check_crate_name(like).is_ok() {
            format!("; {like:?} would do")
        } else {
            String::new()
        };
        bail!(
            "{name:?} cannot name a crate: expected a lower-case letter, then letters, digits, - and _, \
             {LENGTH_MAX} at most{advice}"
        );
    }
    if TAKEN_NAMES.contains(&&*name.replace('-', "_")) {
        bail!("{name:?} cannot name a crate: Rust or the SDK has that name; \"my-{name}\" would do");
    }
    Ok(())
}

/// Keywords, crates that every crate sees, and the SDK; with `_` for `-`.
const TAKEN_NAMES: &[&str] = &[
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

    /// A folder that goes with the test.
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
    fn a_new_project_has_a_manifest_without_a_problem() {
        let scratch = Scratch::new("manifest");
        let folder = rust("my-chat_2", &scratch.0, &SdkSource::Published).unwrap();
        assert_eq!(folder, scratch.0.join("my-chat_2"));

        let config = Config::load(&folder.join("jackfield.toml")).unwrap();
        assert_eq!(config.warnings, []);
        let integration = &config.components["my-chat_2"];
        assert_eq!(integration.component, folder.join("target/wasm32-wasip2/release/my_chat_2.wasm"));
        assert!(integration.watch.iter().all(|path| path.exists()), "{:?}", integration.watch);
    }

    #[test]
    fn every_gap_of_a_template_is_filled() {
        let scratch = Scratch::new("gaps");
        let folder = rust("chat", &scratch.0, &SdkSource::Published).unwrap();
        for (path, _) in RUST {
            let text = fs::read_to_string(folder.join(path)).unwrap();
            assert!(!text.contains("{{") && text.ends_with('\n'), "{path}: {text}");
        }
        assert!(fs::read_to_string(folder.join("tests/handler.rs")).unwrap().contains("use chat::Handler;"));
    }

    #[test]
    fn the_sdk_is_the_released_one_or_a_folder() {
        let scratch = Scratch::new("sdk");
        let manifest = |name: &str, sdk: &SdkSource| {
            fs::read_to_string(rust(name, &scratch.0, sdk).unwrap().join("Cargo.toml")).unwrap()
        };
        assert!(manifest("released", &SdkSource::Published).contains("\njackfield-sdk = \"0.1\"\n"));
        let folder = SdkSource::Folder("/a folder/sdk".into());
        assert!(manifest("folder", &folder).contains("\njackfield-sdk = { path = '/a folder/sdk' }\n"));
        let quoted = SdkSource::Folder("/it's/sdk".into());
        let error = rust("quoted", &scratch.0, &quoted).unwrap_err();
        assert_eq!(error.to_string(), "/it's/sdk cannot be written into a Cargo.toml");
        assert!(!scratch.names().contains(&"quoted".to_owned()));
    }

    #[test]
    fn a_folder_that_is_not_the_sdk_is_refused() {
        let scratch = Scratch::new("not-sdk");
        let told = SdkSource::find(Some(&scratch.0)).unwrap_err().to_string();
        let expected = "is not the SDK: expected a folder with the crate jackfield-sdk";
        assert_eq!(told, format!("{} {expected}", scratch.0.display()));

        let other = "[package]\nname = \"other\"\ndescription = \"like jackfield-sdk\"";
        fs::write(scratch.0.join("Cargo.toml"), other).unwrap();
        assert!(SdkSource::find(Some(&scratch.0)).is_err());
        fs::write(scratch.0.join("Cargo.toml"), "[package]\nname = \"jackfield-sdk\"").unwrap();
        assert_eq!(SdkSource::find(Some(&scratch.0)).unwrap(), SdkSource::Folder(scratch.0.clone()));
    }

    #[test]
    fn what_is_there_already_is_not_touched() {
        let scratch = Scratch::new("there");
        for name in ["folder", "file", "link"] {
            let path = scratch.0.join(name);
            match name {
                "folder" => fs::create_dir(&path).unwrap(),
                "file" => fs::write(&path, "mine").unwrap(),
                _ => std::os::unix::fs::symlink("nowhere", &path).unwrap(),
            }
            let error = rust(name, &scratch.0, &SdkSource::Published).unwrap_err();
            let expected = format!("{} is there already; take another name, or move it away", path.display());
            assert_eq!(error.to_string(), expected);
        }
        assert_eq!(fs::read_dir(scratch.0.join("folder")).unwrap().count(), 0);
        assert_eq!(fs::read_to_string(scratch.0.join("file")).unwrap(), "mine");
    }

    #[test]
    fn a_name_that_no_crate_can_have_is_refused_with_one_that_would_do() {
        let rule = "expected a lower-case letter, then letters, digits, - and _, 64 at most";
        for (name, advice) in [
            ("", ""),
            ("-", ""),
            ("42", ""),
            ("My Chat", "; \"my-chat\" would do"),
            ("2chat", "; \"chat\" would do"),
            ("../chat", "; \"chat\" would do"),
            ("chat.rs", "; \"chat-rs\" would do"),
            ("größe", "; \"gr--e\" would do"),
            ("Self", ""),
        ] {
            let error = check_crate_name(name).unwrap_err();
            assert_eq!(error.to_string(), format!("{name:?} cannot name a crate: {rule}{advice}"));
        }
        for name in ["async", "test", "std", "proc-macro", "jackfield-sdk"] {
            let error = check_crate_name(name).unwrap_err();
            let why = "Rust or the SDK has that name";
            assert_eq!(error.to_string(), format!("{name:?} cannot name a crate: {why}; \"my-{name}\" would do"));
        }
        for (name, good) in [("a".repeat(64), true), ("a".repeat(65), false), ("a-1_b".to_owned(), true)] {
            assert_eq!(check_crate_name(&name).is_ok(), good, "{name}");
        }
    }

    #[test]
    fn nothing_is_left_where_the_parent_is_not_there() {
        let scratch = Scratch::new("parent");
        let error = rust("chat", &scratch.0.join("nowhere"), &SdkSource::Published).unwrap_err();
        let expected = format!("cannot make the folder {}", scratch.0.join("nowhere/chat").display());
        assert_eq!(error.to_string(), expected);
        assert_eq!(scratch.names(), [] as [String; 0]);
    }
}
