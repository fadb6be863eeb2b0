//! The token of the admin listener: the server creates it at its start, and the other verbs read it.

use std::fs::{DirBuilder, File, Permissions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::config::{Admin, AdminClient, Config};
use crate::reload::display_path;

/// Shortest accepted token; shorter ones can be guessed.
const TOKEN_BYTES_MIN: usize = 16;
/// Random bytes of a generated token.
const TOKEN_RANDOM_BYTES: usize = 32;
/// Length of the file: the random bytes in base64 without padding.
const TOKEN_FILE_BYTES: usize = (TOKEN_RANDOM_BYTES * 4).div_ceil(3);

/// Returns the token from the environment, or else creates one in a file that only the owner can read.
pub fn make_token(config: &Config, admin: &Admin) -> anyhow::Result<String> {
    if let Some(token) = token_of_environment(admin.token_env.as_deref())? {
        return Ok(token);
    }
    let mut bytes = [0; TOKEN_RANDOM_BYTES];
    getrandom::fill(&mut bytes).map_err(|error| anyhow::anyhow!("cannot get random bytes from the system: {error}"))?;
    let token = BASE64_URL_SAFE_NO_PAD.encode(bytes);
    let path = token_file(config.backend.folder());
    write_file(&path, &token)
        .with_context(|| format!("cannot write the admin listener's token to {}", display_path(&path)))?;
    Ok(token)
}

/// Replaces the file as a whole, so that a reader never finds a part of the token, and a link or a file that is readable
/// by others is never written to. The new file can be read only by this user.
fn write_file(path: &Path, token: &str) -> anyhow::Result<()> {
    let folder = path.parent().context("it has no folder")?;
    // The store of a node is in Redis, so nothing else has created its folder.
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let mut file = tempfile::Builder::new().permissions(Permissions::from_mode(0o600)).tempfile_in(folder)?;
    file.write_all(token.as_bytes())?;
    file.persist(path)?;
    Ok(())
}

/// Returns the token for requests to a running server of this manifest.
pub fn read_token(client: &AdminClient) -> anyhow::Result<String> {
    if let Some(token) = token_of_environment(client.token_env.as_deref())? {
        return Ok(token);
    }
    let path = token_file(&client.store_folder);
    match read_file(&path) {
        Err(TokenFileError::Io(error)) => Err(error).with_context(|| {
            format!(
                "cannot read the token in {}, which a server creates when it starts; is a server running?",
                display_path(&path)
            )
        }),
        read => read.with_context(|| format!("rejected the token in {}", display_path(&path))),
    }
}

/// Why a file is not the token of a server.
#[derive(Debug, thiserror::Error)]
enum TokenFileError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(
        "found {found}, expected a file that a server created and that only its user can access; another user may have \
         placed it there: delete it, and restart the server"
    )]
    Untrusted { found: &'static str },
}

/// Reads a token that a server has written. The content of any other file is not returned: it would be sent to the
/// address of the admin listener, so a user who can place a link here would learn what this user can read.
fn read_file(path: &Path) -> Result<String, TokenFileError> {
    // Without NONBLOCK a FIFO would block until another process writes to it.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let mut file = match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(file) => File::from(file),
        Err(Errno::LOOP) => return Err(TokenFileError::Untrusted { found: "a link" }),
        Err(error) => return Err(io::Error::from(error).into()),
    };
    let metadata = file.metadata()?;
    let user = rustix::process::geteuid();
    let found = match () {
        () if !metadata.is_file() => Some("a folder, a FIFO or a device"),
        () if metadata.nlink() > 1 => Some("a file with another name"),
        () if metadata.mode() & 0o077 != 0 => Some("a file that other users can access"),
        // Root may control a server of another user.
        () if metadata.uid() != user.as_raw() && !user.is_root() => Some("a file of another user"),
        () if metadata.len() != TOKEN_FILE_BYTES as u64 => Some("a file of another length than a token has"),
        () => None,
    };
    if let Some(found) = found {
        return Err(TokenFileError::Untrusted { found });
    }
    let mut token = [0; TOKEN_FILE_BYTES];
    file.read_exact(&mut token)?;
    let is_token = token.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
    let token = String::from_utf8(token.to_vec()).ok().filter(|_| is_token);
    token.ok_or(TokenFileError::Untrusted { found: "characters that no token has" })
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
