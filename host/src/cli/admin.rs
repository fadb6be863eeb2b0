//! The token of the admin listener: made at the start, read by whoever asks from the same manifest.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;

use anyhow::{Context as _, bail};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;

use crate::config::{Admin, Backend, Config};
use crate::reload::shown;

/// Shorter ones can be guessed.
const TOKEN_BYTES_MIN: usize = 16;

/// The token of the environment, or a new one in a file that only the owner can read.
pub fn make_token(config: &Config, admin: &Admin) -> anyhow::Result<String> {
    if let Some(token) = token_of_environment(admin)? {
        return Ok(token);
    }
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|error| anyhow::anyhow!("the system gives no random bytes: {error}"))?;
    let token = BASE64_URL_SAFE_NO_PAD.encode(bytes);
    let path = token_file(config);
    let write = || {
        // One that is there already may have been opened to others.
        match fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        file.write_all(token.as_bytes())
    };
    write().with_context(|| format!("cannot write the admin listener's token to {}", shown(&path)))?;
    Ok(token)
}

/// The token with which a running server of this manifest is asked.
pub fn read_token(config: &Config, admin: &Admin) -> anyhow::Result<String> {
    if let Some(token) = token_of_environment(admin)? {
        return Ok(token);
    }
    let path = token_file(config);
    fs::read_to_string(&path).with_context(|| {
        format!("cannot read the token in {}, which a server makes when it starts; does one run?", shown(&path))
    })
}

fn token_of_environment(admin: &Admin) -> anyhow::Result<Option<String>> {
    let Some(name) = &admin.token_env else { return Ok(None) };
    let token = std::env::var(name).unwrap_or_default();
    if token.len() < TOKEN_BYTES_MIN {
        bail!("[admin] token_env: {name} has {} bytes, expected at least {TOKEN_BYTES_MIN}", token.len());
    }
    Ok(Some(token))
}

fn token_file(config: &Config) -> PathBuf {
    let Backend::Sled(sled) = &config.backend;
    sled.folder.join("admin-token")
}
