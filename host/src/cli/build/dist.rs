//! `build -o`: a folder with everything that a server needs, which can be moved to another machine.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Deserialize;
use toml::{Table, Value};

use super::folder::DistFolder;
use crate::config::{Component, Config, MANIFEST_NAME};
use crate::reload::display_path;
use crate::script_source::{Format, PrepareOptions, Prepared, map, prepare};
use crate::worker::{Worker, WorkerOptions};

/// The keys of a component that only builds need.
const BUILD_KEYS: [&str; 4] = ["build", "language", "source", "watch"];

/// Makes the folder `target` of a manifest whose components are built. `text` is that of the manifest.
///
/// # Errors
/// If something that the manifest names cannot be copied; if `target` must not be replaced. `target` has not changed
/// then.
pub async fn make(config: &Config, text: &str, target: &Path) -> anyhow::Result<()> {
    let mut dist = Dist {
        config,
        folder: DistFolder::begin(target)?,
        copies: BTreeMap::new(),
        worker: Worker::new(WorkerOptions { executable: None, limits: config.compiler.clone() }),
    };
    let mut manifest: Table = text.parse().context("cannot read the manifest")?;
    for (name, component) in &config.components {
        let entry = dist.add_component(component).await.with_context(|| component.section())?;
        let table = component_table(&mut manifest, component).with_context(|| format!("found no section of {name}"))?;
        table.insert("component".to_owned(), entry.into());
        BUILD_KEYS.iter().for_each(|key| drop(table.remove(*key)));
        dist.add_granted_folders(component, table).with_context(|| component.section())?;
    }
    dist.add_named_files(&mut manifest)?;
    dist.rewrite_state(&mut manifest)?;
    let title = "# Made by jackfield build. The components are built, and no path leads to the project.\n\n";
    let text = format!("{title}{}", toml::to_string(&manifest).context("cannot write the manifest")?);
    dist.folder.write(MANIFEST_NAME, text.as_bytes())?;
    // It may have secrets.
    let permissions = std::fs::metadata(&config.manifest).context("cannot read the manifest")?.permissions();
    std::fs::set_permissions(dist.folder.path(MANIFEST_NAME), permissions).context("cannot write the manifest")?;
    dist.check(&text).await?;
    dist.folder.publish()
}

fn component_table<'t>(manifest: &'t mut Table, component: &Component) -> Option<&'t mut Table> {
    // Integrations and authorizers have different names.
    ["integrations", "authorizers"]
        .iter()
        .find_map(|section| manifest.get(*section)?.get(&component.name).map(|_| *section))
        .and_then(|section| manifest.get_mut(section)?.get_mut(&component.name)?.as_table_mut())
}

struct Dist<'c> {
    config: &'c Config,
    folder: DistFolder,
    /// What was copied, by its path in the project.
    copies: BTreeMap<PathBuf, String>,
    worker: Worker,
}

/// What `script_source` makes of a script in Python.
#[derive(Deserialize)]
struct PythonFiles {
    files: BTreeMap<String, String>,
    data: BTreeMap<String, String>,
    native: BTreeSet<String>,
}

impl Dist<'_> {
    /// Copies a component, or makes one file of a script. Returns its path in the folder.
    async fn add_component(&mut self, component: &Component) -> anyhow::Result<String> {
        if let Some(known) = self.copies.get(&component.component) {
            return Ok(known.clone());
        }
        let path = if component.script.is_some() {
            let prepared = self.prepare(component, &component.component, None).await?;
            for warning in &prepared.warnings {
                crate::telemetry::report_warning(&format!("{}: {warning}", component.section()));
            }
            self.add_script(component, &prepared)?
        } else {
            let path = format!("{}.wasm", component.name);
            self.folder.copy(&component.component, &path)?;
            path
        };
        self.copies.insert(component.component.clone(), path.clone());
        Ok(path)
    }

    async fn prepare(&self, component: &Component, entry: &Path, bundler: Option<&Path>) -> anyhow::Result<Prepared> {
        let options = PrepareOptions { plugin: &component.name, worker: &self.worker, bundler };
        prepare(entry, options).await.map_err(|error| anyhow::anyhow!("{}: {error}", display_path(entry)))
    }

    fn add_script(&mut self, component: &Component, prepared: &Prepared) -> anyhow::Result<String> {
        let name = &component.name;
        let kind = match prepared.format {
            Format::Python => return self.add_python(name, prepared),
            Format::Module => "module",
            Format::Commonjs => "commonjs",
        };
        let stem = Path::new(&prepared.name).file_stem().and_then(|stem| stem.to_str()).unwrap_or("handler");
        let file = format!("{stem}.js");
        let mut code = prepared.code.clone();
        if !code.ends_with('\n') {
            code.push('\n');
        }
        if let Some(source_map) = &prepared.source_map {
            // Without the comment of another tool about its own map.
            if map::path(Path::new(&file), &code).is_none() {
                code.push_str(&map::comment(&file));
            }
            self.folder.write(&format!("{name}/{file}.map"), source_map)?;
        }
        // A folder above could have a package.json.
        self.folder.write(&format!("{name}/package.json"), format!("{{ \"type\": \"{kind}\" }}\n").as_bytes())?;
        let path = format!("{name}/{file}");
        self.folder.write(&path, code.as_bytes())?;
        Ok(path)
    }

    fn add_python(&mut self, name: &str, prepared: &Prepared) -> anyhow::Result<String> {
        let PythonFiles { files, data, native } = serde_json::from_str(&prepared.code)?;
        for (path, text) in files {
            self.folder.write(&format!("{name}/{path}"), text.as_bytes())?;
        }
        for (path, text) in data {
            self.folder.write(&format!("{name}/{path}"), &BASE64.decode(text)?)?;
        }
        // Native code is not loaded; its name is what an error needs.
        for module in native {
            self.folder.write(&format!("{name}/{}.so", module.replace('.', "/")), b"")?;
        }
        Ok(format!("{name}/{}", prepared.name))
    }

    /// Copies the folders that a component may only read, and keeps those that something writes out of the folder.
    fn add_granted_folders(&mut self, component: &Component, table: &mut Table) -> anyhow::Result<()> {
        let Some(Value::Array(grants)) = table.get_mut("files") else { return Ok(()) };
        for (grant, value) in component.grants.files.iter().zip(grants) {
            let Some(host) = value.get_mut("host") else { continue };
            if !is_relative(host) {
                continue;
            }
            let mut all = self.config.components.values().flat_map(|component| &component.grants.files);
            if all.any(|other| other.write && other.host == grant.host) {
                *host = beside(host)?;
            } else {
                *host = self.add_folder(&grant.host)?.into();
            }
        }
        Ok(())
    }

    /// Copies a folder with everything below it.
    fn add_folder(&mut self, from: &Path) -> anyhow::Result<String> {
        if let Some(known) = self.copies.get(from) {
            return Ok(known.clone());
        }
        let to = self.new_name(from);
        self.copies.insert(from.to_owned(), to.clone());
        std::fs::create_dir_all(self.folder.path(&to)).with_context(|| format!("cannot create {to}"))?;
        let mut pending = vec![(from.to_owned(), to.clone())];
        while let Some((folder, to)) = pending.pop() {
            let unreadable = || format!("cannot copy {}", folder.display());
            for entry in std::fs::read_dir(&folder).with_context(unreadable)? {
                let entry = entry.with_context(unreadable)?;
                let (name, path) = (entry.file_name(), entry.path());
                let name =
                    name.to_str().with_context(|| format!("cannot copy {}: its name is no text", path.display()))?;
                let to = format!("{to}/{name}");
                let kind = entry.file_type().with_context(unreadable)?;
                // A link may lead out of the folder.
                ensure!(!kind.is_symlink(), "cannot copy {}: it is a link", path.display());
                if kind.is_dir() { pending.push((path, to)) } else { self.folder.copy(&path, &to)? }
            }
        }
        Ok(to)
    }

    /// Copies the page, the schemas of models, and files of authorities and keys.
    fn add_named_files(&mut self, manifest: &mut Table) -> anyhow::Result<()> {
        let mut values: Vec<(String, &mut Value)> = Vec::new();
        for (section, value) in manifest.iter_mut() {
            let Some(table) = value.as_table_mut() else { continue };
            let keys: &[&str] = match &**section {
                "server" => {
                    values.extend(table.get_mut("page").map(|page| ("server.page".to_owned(), page)));
                    continue;
                }
                "backend" => {
                    let files = table.iter_mut().filter(|(key, _)| matches!(&***key, "ca_file" | "certificate_file"));
                    values.extend(files.map(|(key, value)| (format!("backend.{key}"), value)));
                    continue;
                }
                "models" => &["schema"],
                "integrations" | "authorizers" => &["ca_file", "jwks"],
                _ => continue,
            };
            for (name, entry) in table.iter_mut() {
                let Some(entry) = entry.as_table_mut() else { continue };
                let found = entry.iter_mut().filter(|(key, _)| keys.contains(&&***key));
                values.extend(found.map(|(key, value)| (format!("{section}.{name}.{key}"), value)));
            }
        }
        for (key, value) in values {
            let Some(text) = value.as_str().filter(|text| !text.contains("://")) else { continue };
            let from = self.config.folder.join(text);
            *value = self.add_file(&from).with_context(|| key)?.into();
        }
        Ok(())
    }

    fn add_file(&mut self, from: &Path) -> anyhow::Result<String> {
        if let Some(known) = self.copies.get(from) {
            return Ok(known.clone());
        }
        let to = self.new_name(from);
        self.folder.copy(from, &to)?;
        self.copies.insert(from.to_owned(), to.clone());
        Ok(to)
    }

    /// Returns a path in the folder for a file or folder that is not a component.
    fn new_name(&self, from: &Path) -> String {
        let name = from.file_name().map_or_else(|| "folder".into(), |name| name.to_string_lossy());
        let taken = |path: &String| self.folder.contains(path) || self.copies.values().any(|known| known == path);
        let numbered = (1..).map(|number| format!("files/{number}/{name}"));
        std::iter::once(format!("files/{name}")).chain(numbered).find(|path| !taken(path)).unwrap_or_default()
    }

    /// Keeps what a server writes out of the folder, because the next build replaces it, and private keys, because the folder
    /// is copied: relative paths begin beside it.
    fn rewrite_state(&self, manifest: &mut Table) -> anyhow::Result<()> {
        for (section, key) in [("server", "cache"), ("access_log", "file"), ("backend", "key_file")] {
            let value = manifest.get_mut(section).and_then(|section| section.get_mut(key));
            if let Some(value) = value.filter(|value| is_relative(value)) {
                *value = beside(value)?;
            }
        }
        let backend = manifest.entry("backend").or_insert_with(|| Table::new().into());
        let backend = backend.as_table_mut().context("[backend] is a table")?;
        let url = backend.entry("url").or_insert_with(|| "sled:data".into());
        let folder = url.as_str().and_then(|url| url.strip_prefix("sled:"));
        if let Some(folder) = folder.filter(|folder| Path::new(folder).is_relative()) {
            *url = format!("sled:../{folder}").into();
        }
        Ok(())
    }

    /// Reads the manifest and the scripts of the new folder, as a server without a bundler will.
    async fn check(&self, text: &str) -> anyhow::Result<()> {
        let path = self.folder.path(MANIFEST_NAME);
        let config = Config::parse(text, &path).map_err(|problems| {
            let problems: Vec<_> = problems.iter().map(ToString::to_string).collect();
            anyhow::anyhow!("the new manifest is invalid: {}", problems.join("\n"))
        })?;
        for component in config.components.values().filter(|component| component.script.is_some()) {
            let no_bundler = self.folder.path("no-bundler");
            let again = self.prepare(component, &component.component, Some(&no_bundler)).await?;
            let original = &self.config.components[&component.name];
            if again.format == Format::Python {
                let before = self.prepare(original, &original.component, None).await?;
                if before.code != again.code {
                    bail!("{}: its files changed while they were copied; build again", component.section());
                }
            }
        }
        Ok(())
    }
}

fn is_relative(value: &Value) -> bool {
    value.as_str().is_some_and(|path| Path::new(path).is_relative())
}

/// Returns a relative path from the folder to what is beside it.
fn beside(value: &Value) -> anyhow::Result<Value> {
    let path = value.as_str().context("a path is a string")?;
    Ok(format!("../{path}").into())
}
