//! `new`: creates a project folder with a working handler, a manifest, a test and the SDK.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail, ensure};
use clap::builder::{PossibleValue, PossibleValuesParser};

use crate::cli::print_output;
use crate::config::{DEFAULT_LISTEN, DEFAULT_STAGE};
use crate::toolchain::sdk::{self, Sdk};
use templates::{TEMPLATES, Template};

mod templates;

/// Create a project folder with a working handler and manifest
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  jackfield new ts chat\n  jackfield new go chat")]
pub struct New {
    /// The language of the handler
    #[arg(value_name = "LANGUAGE", value_parser = languages(), ignore_case = true)]
    language: String,
    /// The name of the folder and the integration, and of a crate or module: a-z 0-9 - _
    #[arg(value_name = "NAME")]
    name: String,
    /// For rust: use the SDK in this folder instead of a copy in the project
    #[arg(long, value_name = "FOLDER")]
    sdk: Option<PathBuf>,
}

fn languages() -> PossibleValuesParser {
    let value = |template: &Template| {
        PossibleValue::new(template.key).aliases(template.aliases.iter().copied()).help(template.help)
    };
    TEMPLATES.iter().map(value).collect::<Vec<_>>().into()
}

impl New {
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let template = TEMPLATES.iter().find(|template| template.has_name(&self.language));
        let template = template.context("clap accepts only the names of templates")?;
        let folder = template.create(&self.name, Path::new(""), self.sdk.as_deref())?;
        print_output(&next_steps(&folder, template.commands, template.handler))?;
        Ok(ExitCode::SUCCESS)
    }
}

/// The folder of the SDK in a project.
const SDK_FOLDER: &str = "sdk";

impl Template {
    /// Whether `language` is the key or an alias of this template, without regard to case.
    fn has_name(&self, language: &str) -> bool {
        [self.key].iter().chain(self.aliases).any(|name| name.eq_ignore_ascii_case(language))
    }

    /// Creates a project in a new folder `name` in `parent`, and returns that folder.
    ///
    /// # Errors
    /// If the name is not valid, if the folder exists, or if it cannot be written. No files are left behind then.
    fn create(&self, name: &str, parent: &Path, sdk: Option<&Path>) -> anyhow::Result<PathBuf> {
        check_name(name, self.name_kind, self.reserved_names)?;
        let sdk_path = match sdk {
            Some(folder) => sdk_folder(self, folder)?,
            None => SDK_FOLDER.to_owned(),
        };
        let folder = parent.join(name);
        if folder.symlink_metadata().is_ok() {
            bail!("{} already exists; choose another name, or move it away", folder.display());
        }
        fs::create_dir(&folder).with_context(|| format!("cannot create the folder {}", folder.display()))?;
        let write = || -> anyhow::Result<()> {
            for (path, template) in self.files {
                let [path, text] = [path, template].map(|text| self.fill_in(text, name, &sdk_path));
                write(&folder.join(path), &text)?;
            }
            match self.sdk {
                Some(files) if sdk.is_none() => sdk::write(sdk::files(files), &folder.join(SDK_FOLDER))?,
                _ => {}
            }
            if self.sdk == Some(Sdk::JavaScript) { link_package(&folder) } else { Ok(()) }
        };
        let written = write();
        if written.is_err() {
            // The folder was created above, so it contains no files of the user.
            let _ = fs::remove_dir_all(&folder);
        }
        written.map(|()| folder)
    }

    /// Replaces the placeholders in a path or a text of the template.
    fn fill_in(&self, text: &str, name: &str, sdk: &str) -> String {
        let crate_name = name.replace('-', "_");
        let values = [("{{name}}", name), ("{{crate}}", &crate_name), ("{{file}}", self.handler), ("{{sdk}}", sdk)];
        values.into_iter().fold(text.to_owned(), |text, (placeholder, value)| text.replace(placeholder, value))
    }
}

/// Makes the SDK a package of the project, as `npm install` would do it, so that Node.js and editors find it.
///
/// # Errors
/// If the link cannot be created.
fn link_package(folder: &Path) -> anyhow::Result<()> {
    let link = folder.join("node_modules/jackfield");
    fs::create_dir(folder.join("node_modules"))
        .and_then(|()| std::os::unix::fs::symlink(Path::new("..").join(SDK_FOLDER), &link))
        .with_context(|| format!("cannot create the link {}", link.display()))
}

/// Returns the path of an SDK that the user has named, as a Cargo.toml can have it in single quotes.
///
/// # Errors
/// If the folder is not the SDK for Rust, or if its path cannot be written there.
fn sdk_folder(template: &Template, folder: &Path) -> anyhow::Result<String> {
    ensure!(template.sdk == Some(Sdk::Rust), "--sdk is only for rust; change the copy in the folder {SDK_FOLDER}");
    let found = is_sdk(folder);
    ensure!(found, "{} is not the SDK: expected a folder with the crate {SDK_NAME}", folder.display());
    let folder = fs::canonicalize(folder)?;
    let writable = folder.to_str().filter(|path| !path.contains(|c: char| c == '\'' || c.is_control()));
    let path = writable.with_context(|| format!("{} cannot be written into a Cargo.toml", folder.display()))?;
    Ok(path.to_owned())
}

const SDK_NAME: &str = "jackfield-sdk";

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
        bail!("{name:?} is not a valid {what}: it is reserved by the language or the SDK; for example \"my-{name}\"");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn template(key: &str) -> &'static Template {
        TEMPLATES.iter().find(|template| template.key == key).unwrap()
    }

    #[test]
    fn a_new_project_of_each_language_has_a_valid_manifest_and_no_placeholders() {
        let parent = tempfile::tempdir().unwrap();
        for template in TEMPLATES {
            let name = format!("my-{}_2", template.key);
            let folder = template.create(&name, parent.path(), None).unwrap();
            assert_eq!(folder, parent.path().join(&name));
            let config = Config::load(&folder.join("jackfield.toml")).unwrap();
            assert_eq!(config.warnings, []);
            let component = &config.components[&name];
            assert!(component.source.is_some() || component.script.is_some(), "{component:?}");
            assert!(folder.join(template.handler).is_file());
            // The routes that are comments are valid as they are.
            let manifest = fs::read_to_string(folder.join("jackfield.toml")).unwrap().replace("# \"$", "\"$");
            let config = Config::parse(&manifest, &folder.join("jackfield.toml")).unwrap();
            assert!(config.stages.values().all(|stage| stage.routes.len() == 3), "{manifest}");
            for (path, _) in template.files {
                let text = fs::read_to_string(folder.join(template.fill_in(path, &name, ""))).unwrap();
                assert!(!text.contains("{{") && text.ends_with('\n'), "{path}: {text}");
            }
            // A user finds the test and what a build leaves behind: both are named, or ignored by git.
            assert!(template.help.ends_with("with a test"), "{}", template.help);
            assert_eq!(template.commands.lines().filter(|line| line.contains(" # runs its test")).count(), 1);
            let readme = fs::read_to_string(folder.join("README.md")).unwrap();
            assert!(readme.contains("`jackfield build -o dist`"), "{readme}");
            let ignored = fs::read_to_string(folder.join(".gitignore")).unwrap();
            for written in ["/data", "/dist"] {
                assert!(ignored.lines().any(|line| line == written), "{}: {ignored}", template.key);
            }
            let error = template.create(&name, parent.path(), None).unwrap_err().to_string();
            assert!(error.ends_with("already exists; choose another name, or move it away"), "{error}");
            let error = template.create("My Chat", parent.path(), None).unwrap_err().to_string();
            assert!(error.ends_with("; for example \"my-chat\""), "{error}");
        }
    }

    #[test]
    fn the_sdk_is_a_copy_in_the_project_or_the_folder_that_was_named() {
        let parent = tempfile::tempdir().unwrap();
        let manifest = |name: &str, sdk: Option<&Path>| {
            let folder = template("rust").create(name, parent.path(), sdk).unwrap();
            assert_eq!(folder.join("sdk/wit/gateway.wit").exists(), sdk.is_none());
            fs::read_to_string(folder.join("Cargo.toml")).unwrap()
        };
        assert!(manifest("copy", None).contains("\njackfield-sdk = { path = 'sdk' }\n"));
        let sdk = parent.path().canonicalize().unwrap().join("a folder");
        fs::create_dir(&sdk).unwrap();
        fs::write(sdk.join("Cargo.toml"), "[package]\nname = \"jackfield-sdk\"").unwrap();
        let line = format!("\njackfield-sdk = {{ path = '{}' }}\n", sdk.display());
        assert!(manifest("folder", Some(&sdk)).contains(&line));

        let quoted = parent.path().canonicalize().unwrap().join("it's");
        fs::rename(&sdk, &quoted).unwrap();
        let error = template("rust").create("quoted", parent.path(), Some(&quoted)).unwrap_err();
        assert_eq!(error.to_string(), format!("{} cannot be written into a Cargo.toml", quoted.display()));
        assert!(!parent.path().join("quoted").exists());
        let error = template("ts").create("scripted", parent.path(), Some(&quoted)).unwrap_err();
        assert_eq!(error.to_string(), "--sdk is only for rust; change the copy in the folder sdk");
    }

    #[test]
    fn a_folder_that_is_not_the_sdk_is_rejected() {
        let folder = tempfile::tempdir().unwrap();
        let rejected = || template("rust").create("chat", folder.path(), Some(folder.path())).unwrap_err().to_string();
        let expected = "is not the SDK: expected a folder with the crate jackfield-sdk";
        assert_eq!(rejected(), format!("{} {expected}", folder.path().display()));
        let other = "[package]\nname = \"other\"\ndescription = \"like jackfield-sdk\"";
        fs::write(folder.path().join("Cargo.toml"), other).unwrap();
        assert_eq!(rejected(), format!("{} {expected}", folder.path().display()));
    }

    #[test]
    fn an_existing_file_or_folder_is_not_changed() {
        let parent = tempfile::tempdir().unwrap();
        for name in ["folder", "file", "link"] {
            let path = parent.path().join(name);
            match name {
                "folder" => fs::create_dir(&path).unwrap(),
                "file" => fs::write(&path, "mine").unwrap(),
                _ => std::os::unix::fs::symlink("nowhere", &path).unwrap(),
            }
            let error = template("rust").create(name, parent.path(), None).unwrap_err();
            let expected = format!("{} already exists; choose another name, or move it away", path.display());
            assert_eq!(error.to_string(), expected);
        }
        assert_eq!(fs::read_dir(parent.path().join("folder")).unwrap().count(), 0);
        assert_eq!(fs::read_to_string(parent.path().join("file")).unwrap(), "mine");
    }

    #[test]
    fn an_invalid_crate_name_is_rejected_with_a_valid_example() {
        let check = |name: &str| check_name(name, "crate name", template("rust").reserved_names);
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
            let error = check(name).unwrap_err();
            assert_eq!(error.to_string(), format!("{name:?} is not a valid crate name: {rule}{advice}"));
        }
        for name in ["async", "test", "std", "proc-macro", "jackfield-sdk"] {
            let error = check(name).unwrap_err();
            let expected = format!(
                "{name:?} is not a valid crate name: it is reserved by the language or the SDK; for example \"my-{name}\""
            );
            assert_eq!(error.to_string(), expected);
        }
        for (name, is_valid) in [("a".repeat(64), true), ("a".repeat(65), false), ("a-1_b".to_owned(), true)] {
            assert_eq!(check(&name).is_ok(), is_valid, "{name}");
        }
    }

    #[test]
    fn nothing_is_created_if_the_parent_folder_is_missing() {
        let parent = tempfile::tempdir().unwrap();
        let error = template("rust").create("chat", &parent.path().join("nowhere"), None).unwrap_err();
        let expected = format!("cannot create the folder {}", parent.path().join("nowhere/chat").display());
        assert_eq!(error.to_string(), expected);
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 0);
    }
}
