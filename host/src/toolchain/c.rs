//! Builds handlers in C, with clang or with the clang of Zig.

use std::path::Path;

use anyhow::bail;

use super::compiler::{Linker, Prepared, finish, sources};
use super::tool::Tool;
use super::{Job, Profile, zig};
use crate::limits::C_STACK_BYTES;

/// The usual names of clang, newest first.
const NAMES: &[&str] = &["clang-22", "clang-21", "clang-20", "clang-19", "clang"];
/// Oldest version of clang whose linker has the options below.
const VERSION_MIN: u32 = 19;

/// Target of the compilers, and how they make a module that is called many times.
const TARGET: [&str; 2] = ["--target=wasm32-wasi", "-mexec-model=reactor"];

/// Builds a component from one file, or from all files `*.c` of a folder.
///
/// # Errors
/// If there is no compiler with the C library of WASI, or if it reports an error.
pub fn build(job: &Job<'_>) -> anyhow::Result<()> {
    let sources = sources(job.source, "c")?;
    let prepared = Prepared::new(job)?;
    let module = job.work.join("module.wasm");
    let compiler = compiler()?;
    let mut command = compiler.command();
    // A callback whose name is misspelled has no prototype in jackfield.h, and would never be called.
    command.args(TARGET).args([
        "-Wall",
        "-Wextra",
        "-Wmissing-prototypes",
        "-fno-strict-aliasing",
        "-ffunction-sections",
        "-fdata-sections",
    ]);
    match job.profile {
        Profile::Release => command.args(["-O2", "-DNDEBUG", "-Wl,--strip-all"]),
        Profile::Dev => command.args(["-O0", "-g"]),
    };
    command.args([&format!("-Wl,-z,stack-size={C_STACK_BYTES}"), "-Wl,--gc-sections"]);
    let linker = if is_zig(&compiler) { Linker::Zig } else { Linker::Clang };
    // Zig always places the stack first, and does not know the option.
    if linker == Linker::Clang {
        command.arg("-Wl,--stack-first");
    }
    command.args(prepared.arguments(job.world, linker)).args(sources).arg("-o").arg(&module);
    compiler.run(command)?;
    finish(job, &module)
}

/// Finds the compiler: JACKFIELD_CLANG, else the newest clang with the C library of WASI, else Zig's.
fn compiler() -> anyhow::Result<Tool> {
    if let Some(tool) = Tool::from_variable("JACKFIELD_CLANG")? {
        return match missing(&tool) {
            None => Ok(tool),
            Some(problem) => bail!("JACKFIELD_CLANG is {:?}, which {problem}; {INSTALL}", tool.name()),
        };
    }
    let mut problems = Vec::new();
    for name in NAMES {
        let tool = Tool::parse(name).expect("a name is a command");
        match missing(&tool) {
            None => return Ok(tool),
            Some(problem) if problem != NOT_FOUND => problems.push(format!("{name} {problem}")),
            Some(_) => {}
        }
    }
    if let Ok(zig) = zig::compiler() {
        return Ok(zig.with_argument("cc"));
    }
    let found = if problems.is_empty() { "found no clang".to_owned() } else { problems.join("; ") };
    bail!("C needs clang with the C library of WASI: {found}; {INSTALL}")
}

const NOT_FOUND: &str = "cannot be run";
const NOT_CLANG: &str = "is not clang";
const INSTALL: &str = "run `apt-get install --no-install-recommends clang-19 lld-19 wasi-libc \
                       libclang-rt-19-dev-wasm32`, or `pip install ziglang==0.17.1`";

/// Describes what a clang lacks. `None` if it can build components.
fn missing(tool: &Tool) -> Option<String> {
    let Some(version) = tool.query(&["--version"]) else { return Some(NOT_FOUND.into()) };
    // It has its own C library and linker.
    if is_zig(tool) {
        return None;
    }
    match major_version(&version) {
        Some(found) if found < VERSION_MIN => {
            return Some(format!("is clang {found}, expected {VERSION_MIN} or later"));
        }
        Some(_) => {}
        None => return Some(NOT_CLANG.into()),
    }
    let file = |argument: &str| tool.query(&[TARGET[0], argument]);
    let exists = |path: Option<String>| path.is_some_and(|path| Path::new(&path).is_file());
    if !exists(file("-print-file-name=crt1-reactor.o")) {
        return Some("has no C library of WASI".into());
    }
    if !exists(file("-print-libgcc-file-name")) {
        return Some("has no run-time library for wasm32".into());
    }
    let linker = file("-print-prog-name=wasm-ld");
    let is_linker = linker.and_then(|path| Tool::parse(&path)).is_some_and(|tool| tool.query(&["--version"]).is_some());
    (!is_linker).then(|| "has no linker wasm-ld".into())
}

/// Whether a tool is the clang of Zig.
fn is_zig(tool: &Tool) -> bool {
    tool.name().ends_with(" cc")
}

/// Returns the number after `clang version `.
fn major_version(text: &str) -> Option<u32> {
    let version = text.split("clang version ").nth(1)?;
    version.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_of_clang_is_read() {
        assert_eq!(major_version("Debian clang version 19.1.7 (3~deb12u1)\nTarget: x"), Some(19));
        assert_eq!(major_version("clang version 22.0.0git"), Some(22));
        assert_eq!(major_version("gcc 12"), None);
    }

    #[test]
    fn what_a_compiler_lacks_is_described() {
        assert_eq!(missing(&Tool::parse("/nowhere/clang").unwrap()).unwrap(), NOT_FOUND);
        // A program that ends with 0 and prints its arguments is no clang.
        assert_eq!(missing(&Tool::parse("echo").unwrap()).unwrap(), NOT_CLANG);
        let old = "echo clang version 9.0.1 ";
        assert_eq!(missing(&Tool::parse(old).unwrap()).unwrap(), "is clang 9, expected 19 or later");
    }
}
