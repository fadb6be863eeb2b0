//! The path of one node to Redis, which a test can cut.

use std::net::SocketAddr;
use std::path::PathBuf;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, UnixStream};
use tokio::sync::watch;

/// How a path that was cut is whole again.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Heal {
    /// What was sent meanwhile arrives.
    Resume,
    /// The connections end.
    Reset,
    /// The connections stay silent for ever, as after a firewall has lost its state. New ones work.
    Forget,
}

/// Listens on a port, and forwards each connection to Redis.
pub struct RedisPath {
    pub address: SocketAddr,
    state: watch::Sender<State>,
}

#[derive(Clone, Copy, Default)]
struct State {
    is_cut: bool,
    /// Number of the next connection.
    next: u64,
    /// Connections with lower numbers forward nothing.
    forgotten_below: u64,
    /// Connections with lower numbers end.
    reset_below: u64,
}

impl RedisPath {
    pub async fn open(redis: PathBuf) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = watch::Sender::new(State::default());
        let of_listener = state.clone();
        tokio::spawn(async move {
            while let Ok((node, _)) = listener.accept().await {
                let mut number = 0;
                of_listener.send_modify(|state| {
                    number = state.next;
                    state.next += 1;
                });
                let (receiver, redis) = (of_listener.subscribe(), redis.clone());
                tokio::spawn(async move {
                    let Ok(redis) = UnixStream::connect(redis).await else { return };
                    let _ = node.set_nodelay(true);
                    let ((from_node, to_node), (from_redis, to_redis)) = (node.into_split(), redis.into_split());
                    let mut resets = receiver.clone();
                    tokio::select! {
                        () = forward(from_node, to_redis, receiver.clone(), number) => {}
                        () = forward(from_redis, to_node, receiver, number) => {}
                        _ = resets.wait_for(|state| number < state.reset_below) => {}
                    }
                });
            }
        });
        Self { address, state }
    }

    pub fn cut(&self) {
        self.state.send_modify(|state| state.is_cut = true);
    }

    pub fn heal(&self, heal: Heal) {
        self.state.send_modify(|state| {
            state.is_cut = false;
            match heal {
                Heal::Resume => {}
                Heal::Reset => state.reset_below = state.next,
                Heal::Forget => state.forgotten_below = state.next,
            }
        });
    }
}

/// Forwards until the end of one side, which the other one learns only if the path is whole.
async fn forward(
    mut from: impl tokio::io::AsyncRead + Unpin,
    mut to: impl tokio::io::AsyncWrite + Unpin,
    mut state: watch::Receiver<State>,
    number: u64,
) {
    let mut bytes = vec![0; 64 * 1024];
    loop {
        let count = from.read(&mut bytes).await.unwrap_or(0);
        let is_whole = |state: &State| !state.is_cut && number >= state.forgotten_below;
        if state.wait_for(is_whole).await.is_err() || count == 0 || to.write_all(&bytes[..count]).await.is_err() {
            return;
        }
    }
}
