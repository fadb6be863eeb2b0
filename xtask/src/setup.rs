//! What a machine needs beside rustup: looked for, and installed where it is missing.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};

use crate::step::{root, step, target};

pub const COMFORTABLE: &str = "wasm32-wasip2";
pub const LEAN: &str = "wasm32-unknown-unknown";

/// The clients against which the tests run, in the versions that they were last seen with: for
/// `@connections` the AWS SDKs, for sockets `websockets` and wscat.
const OF_PYPI: &[Package] = &[
    Package { name: "boto3", version: "1.44.5" },
    Package { name: "websockets", version: "17.4" },
    // AWS's runtime of Python functions, which tests put behind a route.
    Package { name: "awslambdaric", version: "4.2.2" },
];
const OF_NPM: &[Package] = &[
    Package { name: "@aws-sdk/client-apigatewaymanagementapi", version: "3.1168.0" },
    Package { name: "wscat", version: "6.1.0" },
];

struct Package {
    name: &'static str,
    version: &'static str,
}

/// A command that succeeds where a tool is, and Debian's package of it.
struct Tool {
    seen_by: &'static [&'static str],
    package: &'static str,
}

const COMPILER: &[Tool] = &[
    Tool { seen_by: &["cc", "--version"], package: "gcc" },
    Tool { seen_by: &["make", "--version"], package: "make" },
];
const PYTHON: &[Tool] = &[
    Tool { seen_by: &["python3", "--version"], package: "python3" },
    Tool { seen_by: &["python3", "-c", "import venv, ensurepip"], package: "python3-venv" },
];
const NODE: &[Tool] = &[
    Tool { seen_by: &["node", "--version"], package: "nodejs" },
    Tool { seen_by: &["npm", "--version"], package: "npm" },
];
/// Debian has one version of it at a time, so none is pinned.
const BROWSER: &[Tool] = &[Tool { seen_by: &["chromium", "--version"], package: "chromium" }];
/// What the browser is called on other systems.
const BROWSERS: &[&str] = &["chromium", "chromium-browser", "google-chrome"];

/// What builds need: a C compiler and make, since the host has C in it, and Rust's wasm targets.
pub fn builds() -> anyhow::Result<()> {
    tools(COMPILER)?;
    // `targets` in rust-toolchain.toml installs nothing where rustup's automatic installs are off.
    let sysroot = Command::new("rustc").current_dir(root()).args(["--print", "sysroot"]).output();
    let sysroot = sysroot.context("cannot run rustc; https://rustup.rs installs it")?.stdout;
    let installed = PathBuf::from(String::from_utf8_lossy(&sysroot).trim()).join("lib/rustlib");
    if [COMFORTABLE, LEAN].iter().all(|target| installed.join(target).exists()) {
        return Ok(());
    }
    rustup("installing the wasm targets with rustup", &["target", "add", COMFORTABLE, LEAN])
}

/// What the check of the formatting needs.
pub fn rustfmt() -> anyhow::Result<()> {
    if succeeds(&["cargo", "fmt", "--version"]) {
        return Ok(());
    }
    rustup("installing rustfmt with rustup", &["component", "add", "rustfmt"])
}

/// A Python with boto3 and websockets, in a folder of the build.
pub fn python() -> anyhow::Result<PathBuf> {
    let folder = target().join("test-python");
    let python = folder.join("bin/python");
    let asked = |code: &str| {
        let status = Command::new(&python).args(["-c", code]).stderr(Stdio::null()).status();
        status.is_ok_and(|status| status.success())
    };
    if !asked("") {
        tools(PYTHON)?;
        step(
            "making a Python environment in the build folder",
            Command::new("python3").args(["-m", "venv", "--clear"]).arg(&folder),
        )?;
    }
    for Package { name, version } in OF_PYPI {
        if asked(&format!("import importlib.metadata as m; assert m.version('{name}') == '{version}'")) {
            continue;
        }
        step(
            &format!("installing {name} {version} into the Python environment of the build folder, from PyPI"),
            Command::new(&python)
                .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"])
                .arg(format!("{name}=={version}")),
        )?;
    }
    Ok(python)
}

/// A folder of npm packages with the AWS SDK and wscat, in a folder of the build.
pub fn node_modules() -> anyhow::Result<PathBuf> {
    let folder = target().join("test-node");
    let modules = folder.join("node_modules");
    tools(NODE)?;
    for Package { name, version } in OF_NPM {
        let installed = fs::read_to_string(modules.join(name).join("package.json"));
        if installed.is_ok_and(|text| text.contains(&format!("\"version\": \"{version}\""))) {
            continue;
        }
        fs::create_dir_all(&folder).with_context(|| format!("cannot make the folder {}", folder.display()))?;
        step(
            &format!("installing {name} {version} into the build folder, from npm"),
            Command::new("npm")
                .current_dir(&folder)
                .args(["install", "--no-audit", "--no-fund", "--loglevel=error", "--prefix"])
                .arg(&folder)
                .arg(format!("{name}@{version}")),
        )?;
    }
    Ok(modules)
}

/// The command of a Chromium that needs no screen.
pub fn browser() -> anyhow::Result<&'static str> {
    let installed = BROWSERS.iter().find(|name| succeeds(&[name, "--version"]));
    if let Some(name) = installed {
        return Ok(name);
    }
    tools(BROWSER)?;
    Ok(BROWSERS[0])
}

/// Installs those that are missing, where the machine is a Debian and this is its root.
fn tools(needed: &[Tool]) -> anyhow::Result<()> {
    let missing: Vec<&str> = needed.iter().filter(|tool| !succeeds(tool.seen_by)).map(|tool| tool.package).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let packages = missing.join(" ");
    let root = Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout == b"0\n");
    if !root || !succeeds(&["apt-get", "--version"]) {
        bail!("{packages} must be installed first; on Debian: sudo apt-get install {packages}");
    }
    let apt = |arguments: &[&str]| {
        let mut command = Command::new("apt-get");
        command.args(["-qq", "-y"]).args(arguments).env("DEBIAN_FRONTEND", "noninteractive");
        command
    };
    step("reading Debian's lists of packages", &mut apt(&["update"]))?;
    step(&format!("installing {packages} with apt-get"), apt(&["install"]).args(missing))
}

fn succeeds(command: &[&str]) -> bool {
    let [program, arguments @ ..] = command else { return false };
    let mut command = Command::new(program);
    command.current_dir(root()).args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

fn rustup(what: &str, arguments: &[&str]) -> anyhow::Result<()> {
    step(what, Command::new("rustup").current_dir(root()).args(arguments))
}
