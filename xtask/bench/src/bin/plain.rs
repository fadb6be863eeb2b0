//! The server with which jackfield is compared: the same messages, handled in process by axum.
//!
//! It is as fast as axum can be without tricks: small read buffers, no Nagle algorithm, one thread for its one core,
//! and batched writes (it reads all frames that are ready, queues their responses, and flushes once). It has no
//! sandbox, no limits and no store.

use std::borrow::Cow;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use anyhow::{Context, Result};
use axum::Router;
use axum::extract::ws::{Message, Utf8Bytes, WebSocket, WebSocketUpgrade};
use axum::extract::{Query, State};
use axum::response::Response;
use axum::routing::{any, post};
use axum::serve::ListenerExt;
use clap::Parser;
use futures_util::{FutureExt, SinkExt, StreamExt};
use jackfield_bench::process;
use serde::Deserialize;
use tokio::sync::mpsc;

/// Most frames that are read, or posts that are queued, between two flushes.
const BATCH: usize = 64;
/// Connections that wait for `accept`; the default limit of Linux.
const ACCEPT_BACKLOG: u32 = 4096;
/// A connection with more unsent bytes is closed.
const WRITE_BUFFER_BYTES_MAX: usize = 1 << 20;

/// The path of a function in Lambda's Invoke API. The function is an authorizer, whose cost for jackfield is measured.
const FUNCTION_PATH: &str = "/2015-03-31/functions/function/invocations";
const ALLOW_POLICY: &str = r#"{"principalId":"bench","policyDocument":{"Version":"2012-10-17","Statement":[{"Action":"execute-api:Invoke","Effect":"Allow","Resource":"*"}]}}"#;

/// A WebSocket server without sandboxes, to compare jackfield with.
#[derive(Parser)]
struct Args {
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Size of the read buffer of each connection in bytes.
    #[arg(long, default_value_t = 4096)]
    read_buffer: usize,
    /// Posts that can be queued for a connection; further ones are rejected.
    #[arg(long, default_value_t = 256)]
    queue: usize,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let args = Args::parse();
    process::raise_open_files()?;
    let socket = tokio::net::TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(args.listen).with_context(|| format!("cannot listen on {}", args.listen))?;
    let listener = socket.listen(ACCEPT_BACKLOG)?;
    let address = listener.local_addr().context("cannot read the address just bound")?;
    let listener = listener.tap_io(|stream| {
        // This fails only on a stream that is already closed, and then the next read fails as well.
        let _ = stream.set_nodelay(true);
    });

    let registry = Arc::new(Registry::new(&args));
    let app = Router::new().route("/dev", any(upgrade)).route(FUNCTION_PATH, post(authorize)).with_state(registry);
    println!("listening on ws://{address}/dev");
    axum::serve(listener, app).await.context("the listener failed")
}

/// All connections, by id and by room.
struct Registry {
    read_buffer_bytes: usize,
    queue: usize,
    next_id: AtomicU64,
    outboxes: Mutex<HashMap<Arc<str>, Outbox>>,
    rooms: Mutex<HashMap<String, HashMap<Arc<str>, Outbox>>>,
}

type Outbox = mpsc::Sender<Utf8Bytes>;

impl Registry {
    fn new(args: &Args) -> Self {
        Self {
            read_buffer_bytes: args.read_buffer,
            queue: args.queue,
            next_id: AtomicU64::new(0),
            outboxes: Mutex::default(),
            rooms: Mutex::default(),
        }
    }

    /// Adds a connection, which is removed when its registration is dropped.
    fn register(self: &Arc<Self>) -> (Registration, mpsc::Receiver<Utf8Bytes>) {
        let (outbox, posted) = mpsc::channel(self.queue);
        // The ids have the length of jackfield's, so that messages have the same size.
        let id: Arc<str> = format!("{:015x}=", self.next_id.fetch_add(1, Ordering::Relaxed)).into();
        lock(&self.outboxes).insert(id.clone(), outbox.clone());
        (Registration { registry: self.clone(), id, outbox, rooms: Vec::new() }, posted)
    }

    /// Queues the message for a connection. Returns false if there is no such connection or its queue is full.
    fn post(&self, to: &str, content: String) -> bool {
        lock(&self.outboxes).get(to).is_some_and(|outbox| outbox.try_send(content.into()).is_ok())
    }

    /// Queues one message for every connection in the room. All of them share its bytes.
    fn broadcast(&self, room: &str, content: String) {
        let content = Utf8Bytes::from(content);
        let rooms = lock(&self.rooms);
        for outbox in rooms.get(room).into_iter().flat_map(HashMap::values) {
            // A connection with a full queue does not get the message, and the others do not wait for it.
            let _ = outbox.try_send(content.clone());
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no code panics while holding a lock of the registry")
}

/// The entries of one connection in the registry and in its rooms, which are removed when this is dropped.
struct Registration {
    registry: Arc<Registry>,
    id: Arc<str>,
    outbox: Outbox,
    rooms: Vec<String>,
}

impl Registration {
    fn join(&mut self, room: String) {
        let mut rooms = lock(&self.registry.rooms);
        rooms.entry(room.clone()).or_default().insert(self.id.clone(), self.outbox.clone());
        self.rooms.push(room);
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        lock(&self.registry.outboxes).remove(&self.id);
        let mut rooms = lock(&self.registry.rooms);
        for room in &self.rooms {
            rooms.get_mut(room).map(|members| members.remove(&self.id));
        }
    }
}

#[derive(Deserialize)]
struct ConnectQuery {
    room: Option<String>,
}

async fn upgrade(
    request: WebSocketUpgrade,
    Query(query): Query<ConnectQuery>,
    State(registry): State<Arc<Registry>>,
) -> Response {
    request
        .read_buffer_size(registry.read_buffer_bytes)
        .max_write_buffer_size(WRITE_BUFFER_BYTES_MAX)
        .on_upgrade(move |socket| serve(socket, registry, query.room))
}

/// Returns the response of an authorizer function that admits every peer.
async fn authorize() -> &'static str {
    ALLOW_POLICY
}

/// The connection was closed or has failed.
struct Closed;

impl From<axum::Error> for Closed {
    fn from(_: axum::Error) -> Self {
        Self
    }
}

async fn serve(mut socket: WebSocket, registry: Arc<Registry>, room: Option<String>) {
    let (mut registration, mut posted) = registry.register();
    if let Some(room) = room {
        registration.join(room);
    }
    // Allocates with the first post, so an idle connection needs no memory for it.
    let mut batch = Vec::new();
    loop {
        // Both futures are cancel safe: a post stays in the queue, and a frame in the buffer.
        let served = tokio::select! {
            biased;
            _ = posted.recv_many(&mut batch, BATCH) => send(&mut socket, &mut batch).await,
            first = socket.next() => receive(&mut socket, first, &mut registration).await,
        };
        if served.is_err() {
            return;
        }
    }
}

async fn send(socket: &mut WebSocket, batch: &mut Vec<Utf8Bytes>) -> Result<(), Closed> {
    for content in batch.drain(..) {
        socket.feed(Message::Text(content)).await?;
    }
    Ok(socket.flush().await?)
}

type Received = Option<Result<Message, axum::Error>>;

/// Handles the first frame and the ones after it that are ready, then flushes once.
async fn receive(socket: &mut WebSocket, first: Received, registration: &mut Registration) -> Result<(), Closed> {
    let mut received = first;
    for more in (0..BATCH).rev() {
        let message = received.ok_or(Closed)??;
        if let Message::Text(text) = &message
            && let Some(answer) = answer(text, registration)
        {
            socket.feed(Message::Text(answer.into())).await?;
        }
        if more == 0 {
            break;
        }
        match socket.next().now_or_never() {
            Some(next) => received = next,
            None => break,
        }
    }
    Ok(socket.flush().await?)
}

/// The requests of the measured handlers. A missing field is empty.
#[derive(Deserialize)]
struct Request<'a> {
    #[serde(borrow)]
    action: Cow<'a, str>,
    #[serde(borrow, default)]
    to: Cow<'a, str>,
    #[serde(borrow, default)]
    room: Cow<'a, str>,
    #[serde(default)]
    content: String,
}

fn answer(text: &str, registration: &mut Registration) -> Option<String> {
    let Ok(request) = serde_json::from_str::<Request>(text) else {
        return Some(r#"{"error":"not a request"}"#.into());
    };
    match &*request.action {
        "echo" => Some(request.content),
        "whoami" => Some(format!(r#"{{"connectionId":"{}"}}"#, registration.id)),
        "sendmessage" => {
            let queued = registration.registry.post(&request.to, request.content);
            (!queued).then(|| r#"{"error":"gone"}"#.into())
        }
        "join" => {
            registration.join(request.room.into_owned());
            None
        }
        "broadcast" => {
            registration.registry.broadcast(&request.room, request.content);
            None
        }
        _ => Some(r#"{"error":"no such action"}"#.into()),
    }
}
