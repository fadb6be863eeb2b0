//! `[admin]`: the listener for operators.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use toml::de::DeTable;

use super::problem::Problems;
use super::section::Section;
use super::{ConfigError, backend, text_of, value};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admin {
    pub listen: SocketAddr,
    /// The environment variable with the token; `None`: the server generates a token.
    pub token_env: Option<String>,
}

/// What a client of the admin listener needs of a manifest, which may have any error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdminClient {
    /// `None`: the manifest names no address.
    pub listen: Option<SocketAddr>,
    /// The environment variable with the token; `None`: the token is in a file of the server.
    pub token_env: Option<String>,
    /// The folder of the store, where the server puts its token.
    pub store_folder: PathBuf,
}

impl AdminClient {
    /// Reads the manifest at `path`. It may have errors, or be no TOML in other sections: an operator rolls back because
    /// of them. Needs no secret.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = text_of(super::read(path), path)?;
        let problems = Problems::new(path, &text);
        let (table, _) = DeTable::parse_recoverable(&text);
        let mut root = Section::root(&problems, table.get_ref());
        let manifest = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let folder = manifest.parent().unwrap_or(Path::new("/"));
        let store_folder = backend::backend(root.section("backend"), folder).folder().to_owned();
        let mut section = root.section("admin");
        let listen = section.read("listen", value::listen_address);
        Ok(Self { listen, token_env: section.read("token_env", value::environment_variable), store_folder })
    }
}

pub fn admin(mut section: Section<'_>) -> Option<Admin> {
    let listen = section.read("listen", value::listen_address);
    let token_env = section.read("token_env", value::environment_variable);
    if token_env.is_some() && !section.contains("listen") {
        let problem = "admin.token_env: found without listen, so it is not used".to_owned();
        section.problems.warning(section.span_of("token_env"), problem, "add listen = \"127.0.0.1:3002\"");
    }
    section.finish();
    Some(Admin { listen: listen?, token_env })
}
