//! The SDKs and the contract that this program was built with, as the files of their folders.

use std::path::Path;

use super::{SourceLanguage, write_if_changed};

/// The path of each file below its folder, with `/` between names, and its content.
pub type Files = &'static [(&'static str, &'static [u8])];

mod embedded {
    use super::Files;
    include!(concat!(env!("OUT_DIR"), "/sdk.rs"));
}

/// The files of the contract: `gateway.wit`, and the packages that it imports in `deps`.
pub const CONTRACT: Files = embedded::WIT;

/// An SDK. C and Zig have the same one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sdk {
    C,
    Go,
    JavaScript,
    Python,
    Rust,
}

impl From<SourceLanguage> for Sdk {
    fn from(language: SourceLanguage) -> Self {
        match language {
            SourceLanguage::C | SourceLanguage::Zig => Self::C,
            SourceLanguage::Go => Self::Go,
            SourceLanguage::Rust => Self::Rust,
        }
    }
}

/// Returns the files of an SDK.
pub fn files(sdk: impl Into<Sdk>) -> Files {
    match sdk.into() {
        Sdk::C => embedded::C,
        Sdk::Go => embedded::GO,
        Sdk::JavaScript => embedded::JAVASCRIPT,
        Sdk::Python => embedded::PYTHON,
        Sdk::Rust => embedded::RUST,
    }
}

/// Writes files into a folder, which need not exist. Files that have their content already are not changed.
///
/// # Errors
/// If a file cannot be written.
pub fn write(files: Files, folder: &Path) -> anyhow::Result<()> {
    files.iter().try_for_each(|(path, content)| write_if_changed(&folder.join(path), content))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(files: Files) -> Vec<&'static str> {
        files.iter().map(|(path, _)| *path).collect()
    }

    #[test]
    fn the_contract_is_embedded_without_its_frozen_copies() {
        let names = names(CONTRACT);
        assert!(names.contains(&"gateway.wit") && names.contains(&"deps/wasi-config/config.wit"), "{names:?}");
        assert!(names.iter().all(|name| !name.starts_with("0.")), "{names:?}");
    }

    #[test]
    fn the_sdk_of_rust_has_its_contract_and_no_tests() {
        let names = names(files(SourceLanguage::Rust));
        for name in ["Cargo.toml", "README.md", "src/lib.rs", "src/testing/double.rs", "wit/gateway.wit"] {
            assert!(names.contains(&name), "{name}: {names:?}");
        }
        assert!(names.iter().all(|name| !name.starts_with("tests/")), "{names:?}");
    }
}
