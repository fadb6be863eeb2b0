//! What jackfield is compared with: the same words on the wire, answered in process by axum.
//!
//! It is meant to be as fast as axum can honestly be: small read buffers, no Nagle, one thread
//! for the one core that it is given, and batched writes (frames that are ready are all taken in,
//! their answers are fed, and one flush sends them). It has no sandbox, no limits and no store.

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

/// Frames that are taken in, or posts that are fed, between two flushes.
const BATCH: usize = 64;
/// Connections that wait for `accept`; Linux's own ceiling by default.
const BACKLOG: u32 = 4096;
/// A peer that lets this much pile up is cut off.
const WRITE_BUFFER_BYTES_MAX: usize = 1 << 20;

/// Where Lambda's Invoke API has a function: here one that authorizes, for what that costs jackfield.
const FUNCTION_PATH: &str = "/2015-03-31/functions/function/invocations";
const EVERYBODY_MAY: &str = r#"{"principalId":"bench","policyDocument":{"Version":"2012-10-17","Statement":[{"Action":"execute-api:Invoke","Effect":"Allow","Resource":"*"}]}}"#;

/// A WebSocket server without sandboxes, to compare jackfield with.
#[derive(Parser)]
struct Args {
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Bytes of read buffer for each connection.
    #[arg(long, default_value_t = 4096)]
    read_buffer: usize,
    /// Posts that may wait for a connection; one more is refused.
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
    let listener = socket.listen(BACKLOG)?;
    let address = listener.local_addr().context("cannot read the address just bound")?;
    let listener = listener.tap_io(|stream| {
        // Fails on a stream that is closed already, which reading from it will tell.
        let _ = stream.set_nodelay(true);
    });

    let hall = Arc::new(Hall::new(&args));
    let app = Router::new().route("/dev", any(upgrade)).route(FUNCTION_PATH, post(authorize)).with_state(hall);
    println!("listening on ws://{address}/dev");
    axum::serve(listener, app).await.context("the listener failed")
}

/// Everybody who is here, by id and by room.
struct Hall {
    read_buffer_bytes: usize,
    queue: usize,
    next_id: AtomicU64,
    present: Mutex<HashMap<Arc<str>, Outbox>>,
    rooms: Mutex<HashMap<String, HashMap<Arc<str>, Outbox>>>,
}

type Outbox = mpsc::Sender<Utf8Bytes>;

impl Hall {
    fn new(args: &Args) -> Self {
        Self {
            read_buffer_bytes: args.read_buffer,
            queue: args.queue,
            next_id: AtomicU64::new(0),
            present: Mutex::default(),
            rooms: Mutex::default(),
        }
    }

    /// Adds a connection; it is here until its presence is dropped.
    fn enter(self: &Arc<Self>) -> (Presence, mpsc::Receiver<Utf8Bytes>) {
        let (outbox, posted) = mpsc::channel(self.queue);
        // As long as jackfield's ids, so that messages are of one size.
        let id: Arc<str> = format!("{:015x}=", self.next_id.fetch_add(1, Ordering::Relaxed)).into();
        locked(&self.present).insert(id.clone(), outbox.clone());
        (Presence { hall: self.clone(), id, outbox, rooms: Vec::new() }, posted)
    }

    /// Queues the message for that connection; false if it is not here or its queue is full.
    fn post(&self, to: &str, content: String) -> bool {
        locked(&self.present).get(to).is_some_and(|outbox| outbox.try_send(content.into()).is_ok())
    }

    /// Queues one message for everybody in the room; its bytes are held once.
    fn broadcast(&self, room: &str, content: String) {
        let content = Utf8Bytes::from(content);
        let rooms = locked(&self.rooms);
        for outbox in rooms.get(room).into_iter().flat_map(HashMap::values) {
            // Who does not keep up misses it, and nobody waits for them.
            let _ = outbox.try_send(content.clone());
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no code panics while holding a lock of the hall")
}

/// One connection's place in the hall. Dropping it leaves the hall and every room.
struct Presence {
    hall: Arc<Hall>,
    id: Arc<str>,
    outbox: Outbox,
    rooms: Vec<String>,
}

impl Presence {
    fn join(&mut self, room: String) {
        let mut rooms = locked(&self.hall.rooms);
        rooms.entry(room.clone()).or_default().insert(self.id.clone(), self.outbox.clone());
        self.rooms.push(room);
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        locked(&self.hall.present).remove(&self.id);
        let mut rooms = locked(&self.hall.rooms);
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
    State(hall): State<Arc<Hall>>,
) -> Response {
    request
        .read_buffer_size(hall.read_buffer_bytes)
        .max_write_buffer_size(WRITE_BUFFER_BYTES_MAX)
        .on_upgrade(move |socket| serve(socket, hall, query.room))
}

/// Lets everybody in, whoever it is told of.
async fn authorize() -> &'static str {
    EVERYBODY_MAY
}

/// The connection has ended, whichever way.
struct Ended;

impl From<axum::Error> for Ended {
    fn from(_: axum::Error) -> Self {
        Self
    }
}

async fn serve(mut socket: WebSocket, hall: Arc<Hall>, room: Option<String>) {
    let (mut presence, mut posted) = hall.enter();
    if let Some(room) = room {
        presence.join(room);
    }
    // Grows with the first post: a connection that is idle holds none.
    let mut batch = Vec::new();
    loop {
        // Both futures lose nothing when dropped: a post stays queued, a frame in its buffer.
        let served = tokio::select! {
            biased;
            _ = posted.recv_many(&mut batch, BATCH) => send(&mut socket, &mut batch).await,
            first = socket.next() => take_in(&mut socket, first, &mut presence).await,
        };
        if served.is_err() {
            return;
        }
    }
}

async fn send(socket: &mut WebSocket, batch: &mut Vec<Utf8Bytes>) -> Result<(), Ended> {
    for content in batch.drain(..) {
        socket.feed(Message::Text(content)).await?;
    }
    Ok(socket.flush().await?)
}

type Received = Option<Result<Message, axum::Error>>;

/// Answers the first frame and those that are ready behind it, then flushes once.
async fn take_in(socket: &mut WebSocket, first: Received, presence: &mut Presence) -> Result<(), Ended> {
    let mut received = first;
    for more in (0..BATCH).rev() {
        let message = received.ok_or(Ended)??;
        if let Message::Text(text) = &message
            && let Some(answer) = answer(text, presence)
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

/// The words of the measured handlers. Absent fields are empty, as a handler would have them.
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

fn answer(text: &str, presence: &mut Presence) -> Option<String> {
    let Ok(request) = serde_json::from_str::<Request>(text) else {
        return Some(r#"{"error":"not a request"}"#.into());
    };
    match &*request.action {
        "echo" => Some(request.content),
        "whoami" => Some(format!(r#"{{"connectionId":"{}"}}"#, presence.id)),
        "sendmessage" => {
            let queued = presence.hall.post(&request.to, request.content);
            (!queued).then(|| r#"{"error":"gone"}"#.into())
        }
        "join" => {
            presence.join(request.room.into_owned());
            None
        }
        "broadcast" => {
            presence.hall.broadcast(&request.room, request.content);
            None
        }
        _ => Some(r#"{"error":"no such action"}"#.into()),
    }
}
