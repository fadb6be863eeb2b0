//! Requests of the verbs to the admin listener of a running server.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail};
use axum::body::Body;
use http_body_util::{BodyExt as _, Limited};
use hyper::client::conn::http1;
use hyper::{Method, Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::net::TcpStream;

use crate::cli::{ManifestArg, admin};
use crate::config;

/// Longest wait for the response of the server.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(30);
/// Largest response that is read.
const RESPONSE_BYTES_MAX: usize = 1024 * 1024;

/// The arguments that select a running server.
#[derive(clap::Args)]
pub struct AdminArgs {
    #[command(flatten)]
    manifest: ManifestArg,
    /// Address of the admin listener; overrides the manifest
    #[arg(long, value_name = "ADDRESS", value_parser = config::listen_address)]
    admin: Option<SocketAddr>,
}

/// An admin listener and its token.
pub struct AdminClient {
    address: SocketAddr,
    token: String,
}

impl AdminClient {
    /// # Errors
    /// If there is no address, or the token cannot be read.
    pub fn new(args: &AdminArgs) -> anyhow::Result<Self> {
        Self::of(&args.manifest.manifest, args.admin)
    }

    /// The admin listener of the server with this manifest, at another address than the manifest says if there is one.
    ///
    /// # Errors
    /// As `new`.
    pub fn of(manifest: &Path, admin: Option<SocketAddr>) -> anyhow::Result<Self> {
        let client = config::AdminClient::read(manifest)?;
        let Some(address) = admin.or(client.listen) else {
            bail!("the manifest has no admin listener; add [admin] with listen = \"127.0.0.1:3002\"");
        };
        Ok(Self { address, token: admin::read_token(&client)? })
    }

    /// Sends a request and returns its JSON.
    ///
    /// # Errors
    /// If there is no response in time, or one with another status than 200; then with the message of the server.
    pub async fn send<T: DeserializeOwned>(&self, method: Method, path: &str) -> anyhow::Result<T> {
        let address = self.address;
        let exchange = async {
            let stream = TcpStream::connect(address).await;
            let stream = stream.with_context(|| format!("cannot connect to {address}; is the server running?"))?;
            let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
            tokio::spawn(connection);
            let request = Request::builder()
                .method(method)
                .uri(path)
                .header(header::HOST, address.to_string())
                .header(header::AUTHORIZATION, format!("Bearer {}", self.token))
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
}
