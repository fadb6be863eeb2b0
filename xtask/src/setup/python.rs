//! Environments of Python in the target folder, for packages from PyPI.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::Context as _;

use super::{PYTHON, Package, install_missing};
use crate::step::{step, target};

pub struct Environment {
    folder: PathBuf,
    purpose: &'static str,
}

impl Environment {
    /// Creates the environment in this folder of the target folder, unless it exists.
    pub fn new(folder: &str, purpose: &'static str) -> anyhow::Result<Self> {
        let environment = Self { folder: target().join(folder), purpose };
        if !environment.runs("") {
            install_missing(PYTHON)?;
            step(
                &format!("creating a Python environment for {purpose} in the target folder"),
                Command::new("python3").args(["-m", "venv", "--clear"]).arg(&environment.folder),
            )?;
        }
        Ok(environment)
    }

    /// Installs a package, unless it is installed in this version.
    pub fn install(&self, package: &Package) -> anyhow::Result<()> {
        let Package { name, version } = package;
        if self.runs(&format!("import importlib.metadata as m; assert m.version('{name}') == '{version}'")) {
            return Ok(());
        }
        step(
            &format!("installing {name} {version} from PyPI into the Python environment for {}", self.purpose),
            Command::new(self.python())
                .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"])
                .arg(format!("{name}=={version}")),
        )
    }

    pub fn python(&self) -> PathBuf {
        self.program("python")
    }

    /// Returns the path of a program of an installed package.
    pub fn program(&self, name: &str) -> PathBuf {
        self.folder.join("bin").join(name)
    }

    /// Returns the folder of the installed packages.
    pub fn packages(&self) -> anyhow::Result<PathBuf> {
        let versions = fs::read_dir(self.folder.join("lib")).into_iter().flatten().flatten();
        let packages = versions.map(|version| version.path().join("site-packages")).find(|folder| folder.is_dir());
        packages.with_context(|| format!("{} has no packages", Path::new(&self.folder).display()))
    }

    fn runs(&self, code: &str) -> bool {
        let status = Command::new(self.python()).args(["-c", code]).stderr(Stdio::null()).status();
        status.is_ok_and(|status| status.success())
    }
}
