//! `deployments`: lists the last deployments of a running server, and rolls back to one of them.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use axum::body::Body;
use http_body_util::{BodyExt as _, Limited};
use hyper::client::conn::http1;
use hyper::{Method, Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::net::TcpStream;

use crate::cli::{ManifestArg, admin, print_output};
use crate::config::{self, AdminClient};
use crate::gateway::{DeploymentRecord, UnavailablePlugin};
use crate::server;

/// Longest wait for the response of the server.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(30);
/// Largest response that is read.
const RESPONSE_BYTES_MAX: usize = 1024 * 1024;

/// List the last deployments of a running server, or roll back to one of them
///
/// Every successful reload is a deployment with a number; the last ten are kept. A rollback is a
/// deployment too: no connection is dropped, and it is served until a file changes. With --plugin, only
/// that plugin is rolled back, and the rest of the current deployment stays.
/// The server must have an admin listener: [admin] in the manifest.
#[derive(clap::Args)]
#[command(
    verbatim_doc_comment,
    after_help = "Examples:\n  jackfield deployments chat/jackfield.toml\n  jackfield deployments chat/jackfield.toml --rollback 3\n  jackfield deployments chat/jackfield.toml --rollback 3 --plugin chat"
)]
pub struct Deployments {
    #[command(flatten)]
    manifest: ManifestArg,
    /// Serve this deployment again
    #[arg(long, value_name = "NUMBER")]
    rollback: Option<u64>,
    /// With --rollback: roll back only this integration or authorizer
    #[arg(long, value_name = "NAME", requires = "rollback", value_parser = plugin_name)]
    plugin: Option<String>,
    /// Address of the admin listener; overrides the manifest
    #[arg(long, value_name = "ADDRESS", value_parser = config::listen_address)]
    admin: Option<SocketAddr>,
}

impl Deployments {
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        let client = AdminClient::read(&self.manifest.manifest)?;
        let Some(address) = self.admin.or(client.listen) else {
            bail!("the manifest has no admin listener; add [admin] with listen = \"127.0.0.1:3002\"");
        };
        let token = admin::read_token(&client)?;
        let text = match self.rollback {
            Some(number) => {
                let (path, what) = match &self.plugin {
                    Some(plugin) => {
                        (format!("/deployments/{number}/plugins/{plugin}/rollback"), format!("{plugin} back to"))
                    }
                    None => (format!("/deployments/{number}/rollback"), "back to".to_owned()),
                };
                let server::RolledBack { deployment } = send_request(address, Method::POST, &path, &token).await?;
                format!("rolled {what} {number}; it is served as deployment {deployment}\n")
            }
            None => {
                let server::Deployments { deployments, unavailable } =
                    send_request(address, Method::GET, "/deployments", &token).await?;
                let last = deployments.last().map(|last| last.number);
                let records = deployments.iter().rev();
                let records = records.map(|record| format_record(record, Some(record.number) == last));
                records.chain(unavailable.iter().map(format_unavailable)).collect()
            }
        };
        print_output(&text)?;
        Ok(ExitCode::SUCCESS)
    }
}

fn format_record(record: &DeploymentRecord, is_served: bool) -> String {
    let at = std::time::UNIX_EPOCH + Duration::from_millis(record.deployed_at);
    let at = humantime::format_rfc3339_seconds(at);
    let mark = if is_served { '*' } else { ' ' };
    let restores = record.restores.map(|number| format!("  restores {number}")).unwrap_or_default();
    let plugins: String = record.plugins.iter().map(|(name, version)| format!("  {name} {version}")).collect();
    let reason = record.reason.as_ref().map(|reason| format!("        {reason}\n")).unwrap_or_default();
    format!("{mark} {:>4}  {at}  {}{restores}{plugins}\n{reason}", record.number, record.content)
}

fn format_unavailable(unavailable: &UnavailablePlugin) -> String {
    // The backtrace of a component that does not start is on further lines, and in the log.
    let reason = unavailable.reason.lines().next().unwrap_or_default();
    format!("! {} is unavailable: {reason}\n", unavailable.plugin)
}

/// Parses the name of a plugin, which becomes a part of a path.
fn plugin_name(text: &str) -> Result<String, String> {
    let is_valid =
        |text: &str| text.chars().all(|character| character.is_ascii_alphanumeric() || "_-".contains(character));
    Some(text.to_owned())
        .filter(|text| !text.is_empty() && is_valid(text))
        .ok_or_else(|| "expected the name of an integration or authorizer: characters of A-Z a-z 0-9 _ -".to_owned())
}

async fn send_request<T: DeserializeOwned>(
    address: SocketAddr,
    method: Method,
    path: &str,
    token: &str,
) -> anyhow::Result<T> {
    let exchange = async {
        let stream = TcpStream::connect(address).await;
        let stream = stream.with_context(|| format!("cannot connect to {address}; is the server running?"))?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, address.to_string())
            .header(header::AUTHORIZATION, format!("Bearer {token}"))
            .body(Body::empty())
            .context("the token is not valid in an HTTP header")?;
        let response = sender.send_request(request).await?;
        let status = response.status();
        let body = Limited::new(response.into_body(), RESPONSE_BYTES_MAX).collect().await;
        Ok((status, body.map_err(|error| anyhow::anyhow!("cannot read the response: {error}"))?.to_bytes()))
    };
    let (status, body) = tokio::time::timeout(RESPONSE_TIMEOUT, exchange)
        .await
        .unwrap_or_else(|_| Err(anyhow::anyhow!("{address} did not respond within {RESPONSE_TIMEOUT:?}")))?;
    match status {
        StatusCode::OK => serde_json::from_slice(&body).context("the response is not from an admin listener"),
        StatusCode::UNAUTHORIZED => bail!("the server rejected the token; does it belong to another manifest?"),
        _ => {
            let error: Option<serde_json::Value> = serde_json::from_slice(&body).ok();
            let message = error.as_ref().and_then(|error| error["message"].as_str()).unwrap_or("no message");
            bail!("the server responded with {status}: {message}")
        }
    }
}
