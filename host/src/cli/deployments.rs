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
use crate::gateway::DeploymentRecord;
use crate::server;

/// Longest wait for the response of the server.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(30);
/// Largest response that is read.
const RESPONSE_BYTES_MAX: usize = 1024 * 1024;

/// List the last deployments of a running server, or roll back to one of them
///
/// Every successful reload is a deployment with a number; the last ten are kept. A rollback is a
/// deployment too: no connection is dropped, and it is served until a file changes.
/// The server must have an admin listener: [admin] in the manifest.
#[derive(clap::Args)]
#[command(
    verbatim_doc_comment,
    after_help = "Examples:\n  jackfield deployments chat/jackfield.toml\n  jackfield deployments chat/jackfield.toml --rollback 3"
)]
pub struct Deployments {
    #[command(flatten)]
    manifest: ManifestArg,
    /// Serve this deployment again
    #[arg(long, value_name = "NUMBER")]
    rollback: Option<u64>,
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
                let path = format!("/deployments/{number}/rollback");
                let server::RolledBack { deployment } = send_request(address, Method::POST, &path, &token).await?;
                format!("rolled back to {number}; it is served as deployment {deployment}\n")
            }
            None => {
                let server::Deployments { deployments } =
                    send_request(address, Method::GET, "/deployments", &token).await?;
                let last = deployments.last().map(|last| last.number);
                deployments.iter().rev().map(|record| format_record(record, Some(record.number) == last)).collect()
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
    format!("{mark} {:>4}  {at}  {}{restores}{plugins}\n", record.number, record.content)
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
