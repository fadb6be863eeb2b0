//! `revoke`: revokes a key of the manifest on all nodes, restores it, and lists the revoked keys.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use hyper::Method;

use crate::cli::admin_client::AdminClient;
use crate::cli::print_output;
use crate::config::{self, MANIFEST_NAME};
use crate::server;

/// Revoke a key of the manifest on all nodes
///
/// New handshakes and calls with the key are rejected from now on, on every node within 2 seconds, whatever the
/// manifests say, until it is restored with --undo. Open connections stay open. KEY is the name of the key in
/// the manifest: that of a section [api_keys.NAME], or the id of a section [access_keys.ID].
/// One running server must have an admin listener: [admin] in the manifest.
#[derive(clap::Args)]
#[command(
    verbatim_doc_comment,
    after_help = "Examples:\n  jackfield revoke alice\n  jackfield revoke alice --undo\n  jackfield revoke --list --manifest chat/jackfield.toml"
)]
pub struct Revoke {
    /// Name of the key, such as alice, or api_keys.alice if there is also an access key with that name; never the key itself
    #[arg(value_name = "KEY", value_parser = key_name, required_unless_present = "list")]
    key: Option<String>,
    /// Accept the key again
    #[arg(long)]
    undo: bool,
    /// List the revoked keys
    #[arg(long, conflicts_with_all = ["key", "undo"])]
    list: bool,
    /// The manifest to read
    #[arg(long, value_name = "MANIFEST", default_value = MANIFEST_NAME)]
    manifest: PathBuf,
    /// Address of the admin listener; overrides the manifest
    #[arg(long, value_name = "ADDRESS", value_parser = config::listen_address)]
    admin: Option<SocketAddr>,
}

impl Revoke {
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        let client = AdminClient::of(&self.manifest, self.admin)?;
        let text = match &self.key {
            Some(key) => {
                let (verb, done) = if self.undo { ("restore", "restored") } else { ("revoke", "revoked") };
                let changed: server::ChangedKey = client.send(Method::POST, &format!("/keys/{key}/{verb}")).await?;
                format!("{done} {}\n", changed.key)
            }
            None => {
                let revoked: server::RevokedKeys = client.send(Method::GET, "/keys/revoked").await?;
                let lines = revoked.keys.iter().map(|key| {
                    let at = std::time::UNIX_EPOCH + Duration::from_millis(key.at);
                    format!("{}  {}\n", humantime::format_rfc3339_seconds(at), key.key)
                });
                lines.collect()
            }
        };
        print_output(&text)?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Parses the name of a key, which becomes a part of a path.
fn key_name(text: &str) -> Result<String, String> {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    let is_name = !text.is_empty() && text.bytes().all(is_allowed) && !text.starts_with('.');
    let expected = "expected the name of a key in the manifest: characters of A-Z a-z 0-9 _ - .";
    if is_name { Ok(text.to_owned()) } else { Err(expected.to_owned()) }
}
