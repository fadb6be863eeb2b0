//! `deployments`: what a running server served last, and the way back.

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

use crate::cli::{ManifestArg, admin, answer, load_manifest};
use crate::config;
use crate::gateway::Record;
use crate::server;

const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
const ANSWER_BYTES_MAX: usize = 1024 * 1024;

/// List what a running server served last, or roll back to one of them
///
/// Every reload that is accepted is a deployment with a number; the last ten are kept. A roll-back
/// is one too: no connection is dropped, and what it brings back is served until a file changes.
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
    /// Where the admin listener is, whatever the manifest says
    #[arg(long, value_name = "ADDRESS", value_parser = config::listen_address)]
    admin: Option<SocketAddr>,
}

impl Deployments {
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        let config = load_manifest(&self.manifest.manifest)?;
        let Some(admin) = &config.admin else {
            bail!("the manifest has no admin listener; add [admin], and below it listen = \"127.0.0.1:3002\"");
        };
        let token = admin::read_token(&config, admin)?;
        let address = self.admin.unwrap_or(admin.listen);
        let text = match self.rollback {
            Some(number) => {
                let path = format!("/deployments/{number}/rollback");
                let server::RolledBack { deployment } = ask(address, Method::POST, &path, &token).await?;
                format!("rolled back to {number}; it is served as deployment {deployment}\n")
            }
            None => {
                let server::Deployments { deployments } = ask(address, Method::GET, "/deployments", &token).await?;
                let last = deployments.last().map(|last| last.number);
                deployments.iter().rev().map(|record| line(record, Some(record.number) == last)).collect()
            }
        };
        answer(&text)?;
        Ok(ExitCode::SUCCESS)
    }
}

fn line(record: &Record, served: bool) -> String {
    let at = std::time::UNIX_EPOCH + Duration::from_millis(record.deployed_at);
    let at = humantime::format_rfc3339_seconds(at);
    let mark = if served { '*' } else { ' ' };
    let restores = record.restores.map(|number| format!("  restores {number}")).unwrap_or_default();
    let plugins: String = record.plugins.iter().map(|(name, version)| format!("  {name} {version}")).collect();
    format!("{mark} {:>4}  {at}  {}{restores}{plugins}\n", record.number, record.content)
}

async fn ask<T: DeserializeOwned>(address: SocketAddr, method: Method, path: &str, token: &str) -> anyhow::Result<T> {
    let asked = async {
        let stream = TcpStream::connect(address).await;
        let stream = stream.with_context(|| format!("nobody listens on {address}; does the server run?"))?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, address.to_string())
            .header(header::AUTHORIZATION, format!("Bearer {token}"))
            .body(Body::empty())
            .context("the token cannot stand in a header")?;
        let response = sender.send_request(request).await?;
        let status = response.status();
        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
        Ok((status, body.map_err(|error| anyhow::anyhow!("the answer cannot be read: {error}"))?.to_bytes()))
    };
    let (status, body) = tokio::time::timeout(ANSWER_TIMEOUT, asked)
        .await
        .unwrap_or_else(|_| Err(anyhow::anyhow!("{address} did not answer within {ANSWER_TIMEOUT:?}")))?;
    match status {
        StatusCode::OK => serde_json::from_slice(&body).context("the answer is none of an admin listener"),
        StatusCode::UNAUTHORIZED => bail!("the server does not know the token; is it one of another manifest?"),
        _ => {
            let told: Option<serde_json::Value> = serde_json::from_slice(&body).ok();
            let message = told.as_ref().and_then(|told| told["message"].as_str()).unwrap_or("no message");
            bail!("the server answered {status}: {message}")
        }
    }
}
