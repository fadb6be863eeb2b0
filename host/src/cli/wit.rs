//! `wit`: writes the contract, and the worlds that fit the components of a manifest.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};

use crate::cli::{format_count, load_manifest, print_output};
use crate::config::{Component, Config, MANIFEST_NAME};
use crate::toolchain::sdk::CONTRACT;
use crate::world::World;

/// Write the contract as WIT files, for tools that make components
///
/// If there is a manifest, also writes a world for each of its components that is no script. It
/// imports only what the manifest grants. Files that were changed are not overwritten.
#[derive(clap::Args)]
#[command(
    verbatim_doc_comment,
    after_help = "\
Examples:
  jackfield wit
  jackfield wit --manifest chat/jackfield.toml chat/wit
  jackfield wit && componentize-py -d wit -w chat componentize app -o chat.wasm"
)]
pub struct Wit {
    /// The folder to write
    #[arg(value_name = "DIR", default_value = "wit")]
    folder: PathBuf,
    /// The manifest with the components; the default is jackfield.toml, if it exists
    #[arg(long, value_name = "MANIFEST")]
    manifest: Option<PathBuf>,
    /// Overwrite changed files
    #[arg(long)]
    force: bool,
}

impl Wit {
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let default = PathBuf::from(MANIFEST_NAME);
        let manifest = self.manifest.or_else(|| default.exists().then_some(default));
        let config = manifest.as_deref().map(load_manifest).transpose()?;
        let worlds = config.as_ref().map(worlds).unwrap_or_default();
        let mut files: BTreeMap<String, Vec<u8>> = BTreeMap::new();
        for (path, content) in CONTRACT {
            // The package of the worlds is the one of the folder; all others are its dependencies.
            let is_dependency = path.contains('/') || worlds.is_empty();
            let path = if is_dependency { (*path).to_owned() } else { format!("deps/jackfield-gateway/{path}") };
            files.insert(path, content.to_vec());
        }
        if !worlds.is_empty() {
            files.insert(WORLDS_FILE.to_owned(), worlds_file(&worlds).into_bytes());
        }
        write(&self.folder, &files, self.force)?;
        print_output(&summary(&self.folder, &files, &worlds))?;
        Ok(ExitCode::SUCCESS)
    }
}

const WORLDS_FILE: &str = "worlds.wit";

/// The world of one component.
struct ComponentWorld {
    /// Its name in WIT.
    name: String,
    text: String,
}

/// Returns a world for each component that is no script.
fn worlds(config: &Config) -> Vec<ComponentWorld> {
    let mut worlds: Vec<ComponentWorld> = Vec::new();
    for component in config.components.values().filter(|component| component.script.is_none()) {
        let plain = world_name(&component.name);
        let numbered = (2..).map(|number| format!("{plain}{number}"));
        let is_free = |name: &String| worlds.iter().all(|world| world.name != *name);
        let name = std::iter::once(plain.clone()).chain(numbered).find(is_free).unwrap_or_default();
        let text = world(&name, component);
        worlds.push(ComponentWorld { name, text });
    }
    worlds
}

/// Returns the name of a component as WIT can have it: words of lower-case letters and digits, with `-` between them.
fn world_name(name: &str) -> String {
    let mut wit = String::new();
    for word in name.to_ascii_lowercase().split(['-', '_']).filter(|word| !word.is_empty()) {
        // A word begins with a letter.
        let separator = match word.starts_with(|first: char| first.is_ascii_digit()) {
            true if wit.is_empty() => "component",
            true => "",
            false if wit.is_empty() => "",
            false => "-",
        };
        let _ = write!(wit, "{separator}{word}");
    }
    if wit.is_empty() { "component".to_owned() } else { wit }
}

fn world(name: &str, component: &Component) -> String {
    let grants = &component.grants;
    let mut text = format!("/// {} of the manifest.\nworld %{name} {{\n", component.section());
    let mut import = |interface: &str| {
        let _ = writeln!(text, "  import {interface};");
    };
    import("jackfield:gateway/current-connection@0.1.0");
    if grants.connections {
        import("jackfield:gateway/connections@0.1.0");
    }
    if grants.connection_store {
        import("jackfield:gateway/connection-store@0.1.0");
    }
    if !grants.buckets.is_empty() {
        ["store", "atomics", "batch"].iter().for_each(|name| import(&format!("wasi:keyvalue/{name}@0.2.0-draft2")));
    }
    if !grants.config.is_empty() {
        import("wasi:config/store@0.2.0-rc.1");
    }
    import("wasi:logging/logging@0.1.0-draft");
    if !grants.allowed_hosts.is_empty() {
        text.push_str("  // allowed_hosts grants wasi:http/outgoing-handler, which the tools of a language have.\n");
    }
    let export = match component.world {
        World::RouteHandler => "handler",
        World::RequestAuthorizer => "authorizer",
    };
    let _ = writeln!(text, "\n  export jackfield:gateway/{export}@0.1.0;\n}}");
    text
}

const TITLE: &str = "// Made by jackfield wit, which replaces this file unless it is changed: ";

/// Returns the file with the worlds. Its first line has a hash of the rest.
fn worlds_file(worlds: &[ComponentWorld]) -> String {
    let worlds: Vec<&str> = worlds.iter().map(|world| &*world.text).collect();
    let text = format!("package jackfield:components;\n\n{}", worlds.join("\n"));
    format!("{TITLE}{}\n{text}", hash(&text))
}

fn hash(text: &str) -> String {
    blake3::hash(text.as_bytes()).to_hex()[..16].to_owned()
}

/// Whether the content is a file with worlds as `wit` has written it.
fn is_unchanged(content: &[u8]) -> bool {
    let text = std::str::from_utf8(content).ok().and_then(|text| text.strip_prefix(TITLE));
    text.and_then(|text| text.split_once('\n')).is_some_and(|(found, text)| found == hash(text))
}

/// Writes the files into a folder.
///
/// # Errors
/// If a file has another content that is not of this program; nothing is written then. If a file cannot be written.
fn write(folder: &Path, files: &BTreeMap<String, Vec<u8>>, force: bool) -> anyhow::Result<()> {
    for (path, content) in files {
        let file = folder.join(path);
        let displayed = file.display();
        match fs::read(&file) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(error).with_context(|| format!("cannot read {displayed}")),
            Ok(found) if found == *content || force || is_unchanged(&found) => {}
            Ok(_) => {
                bail!("{displayed} exists with another content; move it away, name another folder, or add --force")
            }
        }
    }
    // Both would be the package of the folder.
    let other = if files.contains_key(WORLDS_FILE) { "gateway.wit" } else { WORLDS_FILE };
    if folder.join(other).exists() {
        let other = folder.join(other);
        bail!("{} exists, and would be part of the same package; remove it, or name another folder", other.display());
    }
    for (path, content) in files {
        let file = folder.join(path);
        let parent = file.parent().context("a file is in a folder")?;
        let written = fs::create_dir_all(parent).and_then(|()| fs::write(&file, content));
        written.with_context(|| format!("cannot write {}", file.display()))?;
    }
    Ok(())
}

fn summary(folder: &Path, files: &BTreeMap<String, Vec<u8>>, worlds: &[ComponentWorld]) -> String {
    let (folder, count) = (folder.display(), format_count(files.len(), "file"));
    if worlds.is_empty() {
        let names = World::ALL.map(World::name).join(" and ");
        return format!("wrote the contract to {folder}, {count}, with the worlds {names}\n");
    }
    let names: Vec<&str> = worlds.iter().map(|world| &*world.name).collect();
    let noun = if names.len() == 1 { "world" } else { "worlds" };
    format!("wrote the contract to {folder}, {count}, with the {noun} {}\n", names.join(", "))
}

#[cfg(test)]
mod tests {
    use wit_parser::{Resolve, WorldItem};

    use super::*;

    #[test]
    fn names_of_components_become_names_of_wit() {
        for (name, expected) in [
            ("chat", "chat"),
            ("my_Chat", "my-chat"),
            ("a--b_", "a-b"),
            ("chat-2", "chat2"),
            ("2chat", "component2chat"),
            ("_", "component"),
        ] {
            assert_eq!(world_name(name), expected);
        }
    }

    /// Returns the imports and exports of each world in a folder.
    fn parse(folder: &Path) -> BTreeMap<String, (Vec<String>, Vec<String>)> {
        let mut resolve = Resolve::default();
        let (package, _) = resolve.push_dir(folder).unwrap();
        let names = |resolve: &Resolve, items: &mut dyn Iterator<Item = &WorldItem>| -> Vec<String> {
            let id = |item: &WorldItem| match item {
                WorldItem::Interface { id, .. } => resolve.id_of(*id),
                _ => None,
            };
            items.filter_map(id).collect()
        };
        let worlds = resolve.packages[package].worlds.iter();
        let world = |(name, id): (&String, &wit_parser::WorldId)| {
            let world = &resolve.worlds[*id];
            (name.clone(), (names(&resolve, &mut world.imports.values()), names(&resolve, &mut world.exports.values())))
        };
        worlds.map(world).collect()
    }

    const MANIFEST: &str = "
        [authorizers.login]
        component = \"login.wasm\"
        buckets = [\"users\"]
        [integrations.import]
        component = \"a.wasm\"
        [integrations.chat]
        component = \"chat.wasm\"
        grants = [\"connections\", \"connection-store\"]
        config = { greeting = \"hello\" }
        allowed_hosts = [\"https://example.com\"]
        [integrations.Chat]
        component = \"chat.wasm\"
        [integrations.script]
        component = \"handler.js\"
        [routes]
        import = \"import\"
    ";

    fn run(folder: &Path, manifest: Option<&str>, force: bool) -> anyhow::Result<()> {
        let path = folder.join("api.toml");
        fs::write(&path, manifest.unwrap_or_default()).unwrap();
        let wit = Wit { folder: folder.join("wit"), manifest: manifest.is_some().then_some(path), force };
        wit.run().map(drop)
    }

    #[test]
    fn a_world_imports_what_is_granted_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        run(folder.path(), Some(MANIFEST), false).unwrap();
        let worlds = parse(&folder.path().join("wit"));
        let names: Vec<&str> = worlds.keys().map(String::as_str).collect();
        assert_eq!(names, ["chat", "chat2", "import", "login"]);
        let always = ["jackfield:gateway/current-connection@0.1.0", "wasi:logging/logging@0.1.0-draft"];
        for (name, granted, export) in [
            ("import", &[][..], "jackfield:gateway/handler@0.1.0"),
            (
                "chat2",
                &[
                    "jackfield:gateway/connections@0.1.0",
                    "jackfield:gateway/connection-store@0.1.0",
                    "wasi:config/store@0.2.0-rc.1",
                ],
                "jackfield:gateway/handler@0.1.0",
            ),
            (
                "login",
                &[
                    "wasi:keyvalue/store@0.2.0-draft2",
                    "wasi:keyvalue/atomics@0.2.0-draft2",
                    "wasi:keyvalue/batch@0.2.0-draft2",
                ],
                "jackfield:gateway/authorizer@0.1.0",
            ),
        ] {
            let (imports, exports) = &worlds[name];
            let mut imports = imports.clone();
            // The types are imported because other interfaces use them.
            imports.retain(|import| import != "jackfield:gateway/types@0.1.0");
            imports.sort();
            let mut expected: Vec<String> = granted.iter().chain(&always).map(|name| (*name).to_owned()).collect();
            expected.sort();
            assert_eq!(imports, expected, "{name}");
            assert_eq!(*exports, [export], "{name}");
        }
    }

    #[test]
    fn without_a_manifest_the_folder_is_the_contract_itself() {
        let folder = tempfile::tempdir().unwrap();
        run(folder.path(), None, false).unwrap();
        let worlds = parse(&folder.path().join("wit"));
        assert!(worlds.contains_key("route-handler") && worlds.contains_key("request-authorizer"), "{worlds:?}");
        assert_eq!(
            fs::read(folder.path().join("wit/gateway.wit")).unwrap(),
            include_bytes!("../../../wit/gateway.wit")
        );
        let error = run(folder.path(), Some(MANIFEST), false).unwrap_err().to_string();
        assert!(error.contains("gateway.wit exists, and would be part of the same package"), "{error}");
    }

    #[test]
    fn changed_files_are_not_overwritten_and_own_ones_are() {
        let folder = tempfile::tempdir().unwrap();
        run(folder.path(), Some(MANIFEST), false).unwrap();
        let worlds = folder.path().join("wit/worlds.wit");
        let first = fs::read_to_string(&worlds).unwrap();
        let other = MANIFEST.replace("buckets = [\"users\"]", "");
        run(folder.path(), Some(&other), false).unwrap();
        let second = fs::read_to_string(&worlds).unwrap();
        assert_ne!(first, second);

        fs::write(&worlds, format!("{second}// mine\n")).unwrap();
        let error = run(folder.path(), Some(MANIFEST), false).unwrap_err().to_string();
        assert!(error.contains("worlds.wit exists with another content"), "{error}");
        run(folder.path(), Some(MANIFEST), true).unwrap();
        assert_eq!(fs::read_to_string(&worlds).unwrap(), first);

        let contract = folder.path().join("wit/deps/jackfield-gateway/gateway.wit");
        fs::write(&contract, "package other:one;\n").unwrap();
        fs::remove_file(&worlds).unwrap();
        assert!(run(folder.path(), Some(MANIFEST), false).is_err());
        // Nothing was written.
        assert!(!worlds.exists());
    }
}
