//! The token of the admin listener: the server creates it at its start, and the other verbs read it.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;

use crate::config::{Admin, AdminClient, Backend, Config};
use crate::reload::display_path;

/// Shortest accepted token; shorter ones can be guessed.
const TOKEN_BYTES_MIN: usize = 16;

/// Returns the token from the environment, or else creates one in a file that only the owner can read.
pub fn make_token(config: &Config, admin: &Admin) -> anyhow::Result<String> {
    if let Some(token) = token_of_environment(admin.token_env.as_deref())? {
        return Ok(token);
    }
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|error| anyhow::anyhow!("cannot get random bytes from the system: {error}"))?;
    let token = BASE64_URL_SAFE_NO_PAD.encode(bytes);
    let Backend::Sled(sled) = &config.backend;
    let path = token_file(&sled.folder);
    let write = || {
        // An existing file may be readable by others.
        match fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        file.write_all(token.as_bytes())
    };
    write().with_context(|| format!("cannot write the admin listener's token to {}", display_path(&path)))?;
    Ok(token)
}

/// Returns the token for requests to a running server of this manifest.
pub fn read_token(client: &AdminClient) -> anyhow::Result<String> {
    if let Some(token) = token_of_environment(client.token_env.as_deref())? {
        return Ok(token);
    }
    let path = token_file(&client.store_folder);
    fs::read_to_string(&path).with_context(|| {
        format!(
            "cannot read the token in {}, which a server creates when it starts; is a server running?",
            display_path(&path)
        )
    })
}

fn token_of_environment(variable: Option<&str>) -> anyhow::Result<Option<String>> {
    let Some(name) = variable else { return Ok(None) };
    let token = std::env::var(name).unwrap_or_default();
    if token.len() < TOKEN_BYTES_MIN {
        bail!("[admin] token_env: {name} has {} bytes, expected at least {TOKEN_BYTES_MIN}", token.len());
    }
    Ok(Some(token))
}

fn token_file(store_folder: &Path) -> PathBuf {
    store_folder.join("admin-token")
}
