//! `invoke`: runs one event through the handler of a route, without a server.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use cpu_time::ThreadTime;

use crate::backend::{ConnectionStore, Row};
use crate::capability::Caller;
use crate::capability::event_json::EventJson;
use crate::cli::sandbox::Sandbox;
use crate::cli::{EnginesArg, format_count, format_size, load_manifest, print_output};
use crate::config::{self, Config, MANIFEST_NAME};
use crate::connections::{Connection, Peer, Presence};
use crate::event::{Disconnect, Event, Field, now};
use crate::gateway::{Integration, RouteKey};
use crate::id::{ConnectionId, NodeId, RequestId, StageId};
use crate::payload::Payload;
use crate::reload::{Plugins, Resources, api_info, display_path};
use crate::runtime::Invocation;

/// Run one event through the handler of a route, without a server
///
/// Prints the response, the posted messages, and the time and memory used; the handler's log is on
/// stderr. The store is empty, except for the rows that --row and --other set. The exit code is 1 if
/// the handler fails. With --print-event nothing runs: the event is printed as a Lambda function
/// receives it.
#[derive(clap::Args)]
#[command(
    verbatim_doc_comment,
    after_help = "\
Examples:
  jackfield invoke '$connect' --query userId=A
  jackfield invoke sendmessage --row user=A --other user=B \\
      --body '{\"action\":\"sendmessage\",\"to\":\"B\",\"content\":\"hello\"}'
  jackfield invoke '$disconnect' --code 1001 --print-event"
)]
pub struct Invoke {
    /// The key of a route of the manifest, such as join or '$default' (quoted for the shell)
    route: String,
    /// The manifest to read
    #[arg(long, value_name = "MANIFEST", default_value = MANIFEST_NAME)]
    manifest: PathBuf,
    /// The message; for $disconnect, the reason
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    body: String,
    /// For $connect: a value of the query string; can be given several times
    #[arg(long, value_name = "NAME=VALUE", value_parser = field)]
    query: Vec<Field>,
    /// For $connect: a header; can be given several times
    #[arg(long, value_name = "NAME=VALUE", value_parser = field)]
    header: Vec<Field>,
    /// A value of the authorizer context, such as principalId=A; can be given several times
    #[arg(long, value_name = "NAME=VALUE", value_parser = field)]
    authorizer: Vec<Field>,
    /// For $disconnect: the status code
    #[arg(long, default_value_t = 1000)]
    code: u16,
    /// An attribute of the connection's row before the event; can be given several times
    #[arg(long, value_name = "NAME=VALUE", value_parser = field)]
    row: Vec<Field>,
    /// Another open connection, whose row has this attribute; can be given several times
    #[arg(long, value_name = "NAME=VALUE", value_parser = field)]
    other: Vec<Field>,
    /// The stage of the event, if the manifest has several
    #[arg(long)]
    stage: Option<String>,
    /// Print the event as API Gateway's JSON and run nothing
    #[arg(long, conflicts_with_all = ["row", "other"])]
    print_event: bool,
    #[command(flatten)]
    engines: EnginesArg,
}

fn field(text: &str) -> Result<Field, String> {
    let (name, value) = text.split_once('=').ok_or("expected NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

impl Invoke {
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        let config = load_manifest(&self.manifest)?;
        let manifest = display_path(&config.manifest);
        let (stage_name, stage) = self.stage(&config)?;
        let known: Vec<&str> = stage.routes.keys().map(RouteKey::as_str).collect();
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        let key = RouteKey::parse(&self.route).ok();
        let Some((key, route)) = key.and_then(|key| stage.routes.get_key_value(&key)) else {
            bail!("{manifest} has no route {:?}; its routes are: {known}", self.route);
        };
        if self.print_event {
            return self.print_event_json(&config, stage_name, key);
        }
        let sandbox = Sandbox::new(&config, &self.engines)?;
        let mut plugins = Plugins::new();
        if let Some(component) = config.components.get(&route.integration) {
            plugins.insert(component.name.clone(), sandbox.loader.load(&config, component, None).await?);
        }
        let mut resources = Resources::default();
        if let Some(file) = config.integrations[&route.integration].ca_file() {
            resources
                .ca_transports
                .insert(file.to_owned(), sandbox.loader.load_ca_transport(&config, file, None).await?);
        }
        let integration = sandbox.loader.integration(&config, &plugins, &resources, &route.integration);

        let name = config.components.get(&route.integration).map(|component| component.grants.store.clone());
        let (name, stage_id) = (name.unwrap_or_default(), sandbox.loader.stage_id(stage_name));
        let store = sandbox.loader.services.backend.connection_store(stage_id, &name);
        let own = self.open_connection(&sandbox, &config, store, &self.row).await?;
        if *key != RouteKey::Connect {
            own.outbox.open();
        }
        let mut others = Vec::new();
        for attribute in &self.other {
            let other = self.open_connection(&sandbox, &config, store, std::slice::from_ref(attribute)).await?;
            other.outbox.open();
            others.push((other, format!("{}={}", attribute.0, attribute.1)));
        }
        if *key == RouteKey::Disconnect {
            own.outbox.shut();
        }
        let caller = caller(&config, stage_name, key, Arc::clone(&own));
        let event = self.event(&config, key);
        // The guest runs on this thread, and nothing else runs on it until the guest is done, so the thread's CPU
        // time is that of the guest.
        let before = ThreadTime::now();
        let invocation = integration.invoke(&caller, &event).await;
        let cpu = before.elapsed();
        let mut output = Output::default();
        output.response(&invocation, key, route.route_response);
        output.posts(&own, "its own connection");
        for (other, attribute) in &others {
            output.posts(other, attribute);
        }
        if let Ok(row) = store.get(own.id).await {
            let attributes: Vec<String> =
                row.attributes.iter().map(|(name, value)| format!("{name}={value}")).collect();
            let text = if attributes.is_empty() { "no attributes".to_owned() } else { attributes.join(" ") };
            output.line("row", text);
        }
        output.cost(&integration, &invocation, cpu);
        print_output(&output.0)?;
        Ok(if invocation.result.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    fn print_event_json(&self, config: &Config, stage: &str, key: &RouteKey) -> anyhow::Result<ExitCode> {
        let id = ConnectionId::random(NodeId(0));
        let connection = Arc::new(Connection::detached(id, StageId::NONE, now(), self.peer(config)));
        let caller = caller(config, stage, key, connection);
        let event = self.event(config, key);
        let json = EventJson { caller: &caller, event: &event };
        print_output(&format!("{}\n", serde_json::to_string_pretty(&json)?))?;
        Ok(ExitCode::SUCCESS)
    }

    fn stage<'c>(&self, config: &'c Config) -> anyhow::Result<(&'c str, &'c config::Stage)> {
        let known = config.stages.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
        let found = match &self.stage {
            Some(name) => config.stages.get_key_value(name),
            None if config.stages.len() == 1 => config.stages.first_key_value(),
            None => bail!("the manifest has several stages; select one with --stage: {known}"),
        };
        let (name, stage) =
            found.with_context(|| format!("the manifest has no such stage; its stages are: {known}"))?;
        Ok((name, stage))
    }

    /// Registers a connection and stores its row, which has these attributes in `store`.
    async fn open_connection(
        &self,
        sandbox: &Sandbox,
        config: &Config,
        store: ConnectionStore<'_>,
        attributes: &[Field],
    ) -> anyhow::Result<Presence> {
        let services = &sandbox.loader.services;
        let peer = self.peer(config);
        let id = ConnectionId::random(NodeId(0));
        let memory = services.directory.connections().memory();
        let connection = Connection::new(id, store.stage, peer.clone(), &config.connection, memory);
        let presence = services.directory.connections().register(connection);
        let row = Row {
            id,
            stage: store.stage,
            connected_at: presence.connected_at,
            admitted: true,
            peer,
            attributes: Vec::new(),
        };
        services.backend.insert_row(row).await?;
        store.put(id, attributes.to_vec()).await.context("--row and --other")?;
        Ok(presence)
    }

    /// Returns the peer that sends the event.
    fn peer(&self, config: &Config) -> Peer {
        Peer {
            source_ip: "127.0.0.1".to_owned(),
            user_agent: Some(concat!("jackfield-invoke/", env!("CARGO_PKG_VERSION")).to_owned()),
            domain_name: config.server.listen.to_string(),
            authorizer: self.authorizer.clone(),
            ..Peer::default()
        }
    }

    fn event(&self, config: &Config, key: &RouteKey) -> Event {
        match key {
            RouteKey::Connect => {
                let Peer { user_agent, domain_name, .. } = self.peer(config);
                let sent = [("Host", domain_name), ("User-Agent", user_agent.unwrap_or_default())];
                let given = |name: &str| self.header.iter().any(|(other, _)| other.eq_ignore_ascii_case(name));
                let headers = sent.into_iter().filter(|(name, _)| !given(name));
                let headers = headers.map(|(name, value)| (name.to_owned(), value)).chain(self.header.clone());
                Event::Connect { headers: headers.collect(), query_string: self.query.clone().into() }
            }
            RouteKey::Disconnect => Event::Disconnect(Disconnect { status_code: self.code, reason: self.body.clone() }),
            RouteKey::Default | RouteKey::Custom(_) => {
                Event::Message { message_id: RequestId::next(), body: self.body.clone().into() }
            }
        }
    }
}

fn caller(config: &Config, stage: &str, key: &RouteKey, connection: Arc<Connection>) -> Caller {
    Caller {
        api: Arc::new(api_info(config, stage, connection.stage)),
        connection,
        route_key: key.as_str().into(),
        request_id: RequestId::next(),
        request_time: now(),
    }
}

/// The printed text: each line is a label, followed by its value in a second column.
#[derive(Default)]
struct Output(String);

impl Output {
    fn line(&mut self, label: &str, text: String) {
        let _ = writeln!(self.0, "{label:<9} {text}");
    }

    fn response(&mut self, invocation: &Invocation, key: &RouteKey, route_response: bool) {
        let response = match &invocation.result {
            Ok(response) => response,
            Err(error) => {
                let backtrace = error.backtrace().unwrap_or_default();
                return self.line("failed", format!("{}{backtrace}", error.explain()));
            }
        };
        self.line("response", response.status_code.to_string());
        for (name, value) in &response.headers {
            self.line("header", format!("{name}: {value}"));
        }
        let Some(body) = &response.body else { return };
        let note = match key {
            RouteKey::Connect => " (not sent: the peer only receives the status)",
            RouteKey::Disconnect => " (not sent: the peer is disconnected)",
            _ if !route_response => " (not sent: the route has no route_response)",
            _ => "",
        };
        self.line("body", format!("{}{note}", text(body)));
    }

    /// Adds the time, and for a component also the time of its sandbox, the CPU time and the memory.
    fn cost(&mut self, integration: &Integration, invocation: &Invocation, cpu: Duration) {
        let (total, instantiate) = (invocation.total, invocation.instantiate);
        let Integration::Component(_) = integration else { return self.line("time", format!("{total:.1?}")) };
        self.line("time", format!("{total:.1?}, {instantiate:.1?} of it to create the sandbox"));
        self.line("cpu time", format!("{cpu:.1?}"));
        self.line(
            "memory",
            match invocation.memory_bytes {
                0 => "unknown: the handler was aborted".to_owned(),
                bytes => format_size(bytes),
            },
        );
    }

    fn posts(&mut self, connection: &Connection, recipient: &str) {
        while let Some(post) = connection.outbox.take() {
            self.line("post", format!("to {recipient}: {}", text(post.payload())));
        }
        if let Some(frame) = connection.outbox.closing() {
            self.line("close", format!("{recipient}: {} {}", frame.code, frame.reason));
        }
    }
}

fn text(payload: &Payload) -> String {
    match payload {
        Payload::Text(text) => text.to_string(),
        Payload::Binary(bytes) => format!("{}, binary", format_count(bytes.len(), "byte")),
    }
}
