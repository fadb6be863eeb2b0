//! What the builds of C and Zig have in common: they find a compiler, run it, and convert what it has made.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail, ensure};

use super::{Job, SourceLanguage, bindings, sdk, write_output};
use crate::worker::component::to_component;
use crate::world::World;

/// A command with the arguments that select it, such as `python3 -m ziglang`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tool(Vec<String>);

impl Tool {
    /// Parses a command of words that are separated by spaces.
    pub fn parse(text: &str) -> Option<Self> {
        let words: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
        (!words.is_empty()).then_some(Self(words))
    }

    /// Returns the command that an environment variable names, if it is set.
    ///
    /// # Errors
    /// If the value is no command.
    pub fn from_variable(name: &str) -> anyhow::Result<Option<Self>> {
        let Some(value) = env::var_os(name) else { return Ok(None) };
        let tool = value.to_str().and_then(Self::parse);
        Ok(Some(tool.with_context(|| format!("{name} is {value:?}: expected a command, such as /usr/bin/clang-19"))?))
    }

    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.0[0]);
        command.args(&self.0[1..]).stdin(Stdio::null());
        command
    }

    /// Runs the tool and returns what it prints on stdout, without the end of the line. `None` if it does not exist or
    /// reports an error.
    pub fn query(&self, arguments: &[&str]) -> Option<String> {
        let output = self.command().args(arguments).stderr(Stdio::null()).output().ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        output.status.success().then(|| text.trim_end().to_owned())
    }

    /// Returns the tool with a further argument.
    pub fn with_argument(mut self, argument: &str) -> Self {
        self.0.push(argument.to_owned());
        self
    }

    /// Returns the command for messages.
    pub fn name(&self) -> String {
        self.0.join(" ")
    }
}

/// Runs a compiler, whose messages go to stderr.
///
/// # Errors
/// If it cannot be started, or reports an error.
pub fn run(mut command: Command) -> anyhow::Result<()> {
    let program = command.get_program().to_owned();
    let status = command.stdout(io::stderr()).status();
    let status = status.with_context(|| format!("cannot start {}", Path::new(&program).display()))?;
    ensure!(status.success(), "{} ended with {status}; its messages are above", Path::new(&program).display());
    Ok(())
}

/// The folders that a build needs beside the sources of the handler.
pub struct Prepared {
    /// The SDK: `include`, `src` and `zig`.
    pub sdk: PathBuf,
    /// The bindings of the contract.
    pub bindings: PathBuf,
}

impl Prepared {
    /// Finds or writes the SDK, and generates the bindings.
    pub fn new(job: &Job<'_>) -> anyhow::Result<Self> {
        let sdk = sdk_folder(job)?;
        let bindings = job.work.join("bindings");
        bindings::c(job.world, &bindings)?;
        Ok(Self { sdk, bindings })
    }

    /// Returns the arguments for a compiler of C that compile the SDK and the bindings for `world`.
    pub fn arguments(&self, world: World, linker: Linker) -> Vec<String> {
        let (world, define) = match world {
            World::RouteHandler => ("plugin", "-DJACKFIELD_PLUGIN"),
            World::RequestAuthorizer => ("authorizer", "-DJACKFIELD_AUTHORIZER"),
        };
        let path = |path: PathBuf| path.to_string_lossy().into_owned();
        let source = |name: &&str| path(self.sdk.join("src").join(name));
        let include = |folder: PathBuf| format!("-I{}", path(folder));
        let mut arguments = vec![define.into(), include(self.bindings.clone()), include(self.sdk.join("include"))];
        arguments.extend(SOURCES.iter().map(source));
        let [begin, end] = match linker {
            Linker::Clang => ["-Wl,--start-lib", "-Wl,--end-lib"].map(|option| Some(option.to_owned())),
            Linker::Zig => [None, None],
        };
        arguments.extend(begin.into_iter().chain(OPTIONAL_SOURCES.iter().map(source)).chain(end));
        // The object file describes the world.
        arguments.extend([".c", "_component_type.o"].map(|end| path(self.bindings.join(format!("{world}{end}")))));
        arguments
    }
}

/// The linker that a compiler runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Linker {
    Clang,
    /// Leaves out what is not used without options.
    Zig,
}

/// The sources of the SDK. `host.c` calls the generated bindings.
const SOURCES: &[&str] = &["arena.c", "defaults.c", "host.c", "json.c", "values.c"];
/// Sources that need much of the C library, and with it imports of WASI. They are linked only if the handler uses them.
const OPTIONAL_SOURCES: &[&str] = &["format.c", "json_double.c"];

/// Returns the SDK: the folder `sdk` of the project if there is one, else the one of this program.
fn sdk_folder(job: &Job<'_>) -> anyhow::Result<PathBuf> {
    let folder = source_folder(job.source)?;
    let in_project = [Some(folder), folder.parent()].into_iter().flatten().map(|folder| folder.join("sdk"));
    if let Some(found) = in_project.into_iter().find(|folder| folder.join("include/jackfield.h").is_file()) {
        return Ok(found);
    }
    let unpacked = job.work.join("sdk");
    sdk::write(sdk::files(SourceLanguage::C), &unpacked)?;
    Ok(unpacked)
}

/// Returns the folder that a source is or is in.
fn source_folder(source: &Path) -> anyhow::Result<&Path> {
    if source.is_dir() {
        return Ok(source);
    }
    source.parent().with_context(|| format!("{} is in no folder", source.display()))
}

/// Returns the sources with this extension: one file, or all files of a folder and its subfolders, sorted. Folders of
/// the SDK, of tests and of builds, and hidden ones, are left out.
///
/// # Errors
/// If there are none.
pub fn sources(source: &Path, extension: &str) -> anyhow::Result<Vec<PathBuf>> {
    const OTHERS: [&str; 6] = ["build", "sdk", "target", "test", "tests", "zig-out"];
    if !source.is_dir() {
        ensure!(source.is_file(), "the source {} does not exist", source.display());
        return Ok(vec![source.to_owned()]);
    }
    let (mut found, mut folders) = (Vec::new(), vec![source.to_owned()]);
    while let Some(folder) = folders.pop() {
        let entries = fs::read_dir(&folder).with_context(|| format!("cannot read the folder {}", folder.display()))?;
        for entry in entries {
            let path = entry.with_context(|| format!("cannot read the folder {}", folder.display()))?.path();
            let name = path.file_name().and_then(OsStr::to_str).unwrap_or(".");
            if path.is_dir() {
                if !name.starts_with('.') && !OTHERS.contains(&name) {
                    folders.push(path);
                }
            } else if path.extension() == Some(OsStr::new(extension)) && !name.starts_with('.') {
                found.push(path);
            }
        }
    }
    found.sort();
    if found.is_empty() {
        bail!("the source {} has no file that ends with .{extension}", source.display());
    }
    Ok(found)
}

/// Converts the core module to a component and replaces the output by it.
pub fn finish(job: &Job<'_>, module: &Path) -> anyhow::Result<()> {
    let module = fs::read(module).with_context(|| format!("cannot read {}", module.display()))?;
    write_output(job.output, &to_component(&module)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tool_is_a_command_with_arguments() {
        assert_eq!(Tool::parse(" python3  -m ziglang ").unwrap().name(), "python3 -m ziglang");
        assert_eq!(Tool::parse(" "), None);
        assert_eq!(Tool::parse("/nowhere/clang").unwrap().query(&["--version"]), None);
        assert_eq!(Tool::parse("false").unwrap().query(&[]), None);
        assert_eq!(Tool::parse("echo a").unwrap().query(&["b"]), Some("a b".into()));
    }

    #[test]
    fn a_compiler_that_fails_is_reported() {
        let error = run(Tool::parse("false").unwrap().command()).unwrap_err().to_string();
        assert_eq!(error, "false ended with exit status: 1; its messages are above");
        let error = run(Tool::parse("/nowhere/clang").unwrap().command()).unwrap_err().to_string();
        assert_eq!(error, "cannot start /nowhere/clang");
    }

    #[test]
    fn the_sources_of_a_folder_are_sorted_and_without_tests() {
        let folder = tempfile::tempdir().unwrap();
        for path in ["b.c", "a.c", "deep/c.c", "test/t.c", "sdk/s.c", ".git/g.c", "notes.txt"] {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        let found = sources(folder.path(), "c").unwrap();
        let names: Vec<_> =
            found.iter().map(|path| path.strip_prefix(folder.path()).unwrap().to_str().unwrap()).collect();
        assert_eq!(names, ["a.c", "b.c", "deep/c.c"]);
        assert_eq!(sources(&folder.path().join("test/t.c"), "c").unwrap(), [folder.path().join("test/t.c")]);
        assert!(sources(folder.path(), "zig").unwrap_err().to_string().ends_with("has no file that ends with .zig"));
        assert!(
            sources(&folder.path().join("none.c"), "c").unwrap_err().to_string().ends_with("none.c does not exist")
        );
    }
}
