//! `invoke`: one event into a component, with no server.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use cpu_time::ThreadTime;

use crate::backend::Row;
use crate::capability::Caller;
use crate::cli::sandbox::Sandbox;
use crate::config::{Config, MANIFEST_NAME};
use crate::connections::{Connection, Peer, Presence};
use crate::event::{Disconnect, Event, Field, now};
use crate::gateway::RouteKey;
use crate::id::{ConnectionId, NodeId, RequestId};
use crate::payload::Payload;
use crate::runtime::Invocation;

/// Run one event through the handler of a route, with no server
///
/// Prints the response, what was posted to whom, the handler's log, and what it cost. The store is
/// empty but for the rows that --row and --other give.
///
/// Example: jackfield invoke sendmessage --body '{"action":"sendmessage","to":"B","content":"hello"}' --row user=A --other user=B
#[derive(clap::Args)]
pub struct Invoke {
    /// The key of a route of the manifest: $connect, $disconnect, $default or one of its own
    route: String,
    /// The manifest
    #[arg(long, default_value = MANIFEST_NAME)]
    manifest: std::path::PathBuf,
    /// The message; for $disconnect, the reason
    #[arg(long, default_value = "")]
    body: String,
    /// For $connect: a value of the query string; can be given several times
    #[arg(long, value_name = "NAME=VALUE", value_parser = field)]
    query: Vec<Field>,
    /// For $connect: a header; can be given several times
    #[arg(long, value_name = "NAME=VALUE", value_parser = field)]
    header: Vec<Field>,
    /// For $disconnect: the status code
    #[arg(long, default_value_t = 1000)]
    code: u16,
    /// An attribute that the connection's row has already; can be given several times
    #[arg(long, value_name = "NAME=VALUE", value_parser = field)]
    row: Vec<Field>,
    /// Another open connection, whose row has this attribute; can be given several times
    #[arg(long, value_name = "NAME=VALUE", value_parser = field)]
    other: Vec<Field>,
}

fn field(text: &str) -> Result<Field, String> {
    let (name, value) = text.split_once('=').ok_or("expected NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

impl Invoke {
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        let config = Config::load(&self.manifest).map_err(|problems| {
            let told: Vec<String> = problems.iter().map(ToString::to_string).collect();
            anyhow!("the manifest has problems\n{}", told.join("\n"))
        })?;
        let key = RouteKey::parse(&self.route)?;
        let Some(route) = config.routes.get(&key) else {
            let known: Vec<&str> = config.routes.keys().map(RouteKey::as_str).collect();
            bail!("the manifest has no route {key}; it has {}", known.join(", "));
        };
        let sandbox = Sandbox::new(&config)?;
        let integration = &config.integrations[&route.integration];
        let loaded = sandbox
            .loader
            .load(&config, integration, None)
            .await
            .map_err(|error| anyhow!(crate::reload::problem(&config, integration, &error)))?;

        let own = self.enter(&sandbox, &config, &self.row).await?;
        if key != RouteKey::Connect {
            own.outbox.open();
        }
        let mut others = Vec::new();
        for attribute in &self.other {
            let other = self.enter(&sandbox, &config, std::slice::from_ref(attribute)).await?;
            other.outbox.open();
            others.push((other, format!("{}={}", attribute.0, attribute.1)));
        }
        if key == RouteKey::Disconnect {
            own.outbox.shut();
        }
        let caller = Caller {
            connection: Arc::clone(&own),
            route_key: key.as_str().into(),
            request_id: RequestId::next(),
            request_time: now(),
        };
        let event = self.event(&key);
        // The guest runs on this thread: nothing else does while it is awaited.
        let before = ThreadTime::now();
        let invocation = loaded.plugin.invoke(caller, &event).await;
        let cpu = before.elapsed();
        let code = tell(&invocation, cpu, route.route_response || key == RouteKey::Connect);
        tell_posts(&own, "its own connection");
        for (other, attribute) in &others {
            tell_posts(other, attribute);
        }
        if let Ok(row) = sandbox.loader.services.backend.row(own.id).await {
            let told: Vec<String> = row.attributes.iter().map(|(name, value)| format!("{name}={value}")).collect();
            println!("row       {}", if told.is_empty() { "no attributes".to_owned() } else { told.join(" ") });
        }
        Ok(code)
    }

    /// A connection with its row.
    async fn enter(&self, sandbox: &Sandbox, config: &Config, attributes: &[Field]) -> anyhow::Result<Presence> {
        let services = &sandbox.loader.services;
        let peer = Peer {
            source_ip: "127.0.0.1".to_owned(),
            user_agent: Some(concat!("jackfield-invoke/", env!("CARGO_PKG_VERSION")).to_owned()),
            domain_name: config.server.listen.to_string(),
            authorizer: Vec::new(),
        };
        let id = ConnectionId::random(NodeId(0));
        let presence = services.connections.enter(Connection::new(id, peer.clone(), &config.connection));
        let row = Row { id, connected_at: presence.connected_at, peer, attributes: Vec::new() };
        services.backend.open_row(row).await?;
        services.backend.put(id, attributes.to_vec()).await.context("--row and --other")?;
        Ok(presence)
    }

    fn event(&self, key: &RouteKey) -> Event {
        match key {
            RouteKey::Connect => Event::Connect { headers: self.header.clone(), query_string: self.query.clone() },
            RouteKey::Disconnect => Event::Disconnect(Disconnect { status_code: self.code, reason: self.body.clone() }),
            RouteKey::Default | RouteKey::Custom(_) => {
                Event::Message { message_id: RequestId::next(), body: self.body.clone().into() }
            }
        }
    }
}

fn tell(invocation: &Invocation, cpu: Duration, goes_back: bool) -> ExitCode {
    let code = match &invocation.result {
        Ok(response) => {
            println!("response  {}", response.status_code);
            for (name, value) in &response.headers {
                println!("header    {name}: {value}");
            }
            if let Some(body) = &response.body {
                let note = if goes_back { "" } else { " (stays here: the route has no route_response)" };
                println!("body      {}{note}", shown(body));
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            println!("failed    {}{}", error.explain(), error.backtrace().unwrap_or_default());
            ExitCode::FAILURE
        }
    };
    println!(
        "time      {:.1?}, of which the sandbox {:.1?}; CPU {:.1?}; memory {:.1} KiB",
        invocation.total,
        invocation.instantiate,
        cpu,
        invocation.memory_bytes as f64 / 1024.0
    );
    code
}

fn tell_posts(connection: &Connection, who: &str) {
    while let Some(payload) = connection.outbox.take() {
        println!("post      to {who}: {}", shown(&payload));
    }
    if let Some(frame) = connection.outbox.closing() {
        println!("close     {who}: {} {}", frame.code, frame.reason);
    }
}

fn shown(payload: &Payload) -> String {
    match payload {
        Payload::Text(text) => text.to_string(),
        Payload::Binary(bytes) => format!("{} bytes, binary", bytes.len()),
    }
}
