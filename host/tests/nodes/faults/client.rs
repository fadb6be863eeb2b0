//! One client: sends commands, and reports to the model what it receives.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::{self, Message, client::IntoClientRequest as _};

use super::model::{Number, SharedModel};

/// How long a client waits for an answer before it goes on without.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);

/// How long a client waits for the other side of a close.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

enum Command {
    Ask(String, oneshot::Sender<String>),
    Close,
}

#[derive(Clone)]
pub struct Client {
    pub number: Number,
    commands: mpsc::UnboundedSender<Command>,
}

impl Client {
    /// Connects to a node. An error is the HTTP status, or 0 if there was no response.
    pub async fn connect(model: &SharedModel, node: usize, address: SocketAddr, room: &str) -> Result<Self, u16> {
        let request = format!("ws://{address}/dev?room={room}").into_client_request().unwrap();
        let connecting = async {
            let stream = TcpStream::connect(address).await.map_err(|_| 0_u16)?;
            let _ = stream.set_nodelay(true);
            match tokio_tungstenite::client_async(request, stream).await {
                Ok((socket, _)) => Ok(socket),
                Err(tungstenite::Error::Http(response)) => Err(response.status().as_u16()),
                Err(_) => Err(0),
            }
        };
        let socket = tokio::time::timeout(ANSWER_TIMEOUT, connecting).await.map_err(|_| 0_u16)??;
        let number = model.lock().connected(node, room);
        let (commands, receiver) = mpsc::unbounded_channel();
        tokio::spawn(run(socket, receiver, model.clone(), number));
        let client = Self { number, commands };
        let (model, asking) = (model.clone(), client.clone());
        tokio::spawn(async move {
            if let Some(id) = asking.ask("id").await {
                model.lock().has_id(number, id);
            }
        });
        Ok(client)
    }

    /// Sends a command. Returns its answer, or `None` if there is none or if the handler has failed.
    pub async fn ask(&self, command: &str) -> Option<String> {
        let (sender, answer) = oneshot::channel();
        self.commands.send(Command::Ask(command.to_owned(), sender)).ok()?;
        let answer = tokio::time::timeout(ANSWER_TIMEOUT, answer).await.ok()?.ok()?;
        answer.strip_prefix('=').map(str::to_owned)
    }

    pub fn close(&self) {
        let _ = self.commands.send(Command::Close);
    }
}

async fn run(
    mut socket: WebSocketStream<TcpStream>,
    mut commands: mpsc::UnboundedReceiver<Command>,
    model: SharedModel,
    number: Number,
) {
    let mut waiting: VecDeque<oneshot::Sender<String>> = VecDeque::new();
    let code = loop {
        tokio::select! {
            command = commands.recv() => match command {
                Some(Command::Ask(text, sender)) => {
                    waiting.push_back(sender);
                    if socket.send(Message::text(text)).await.is_err() {
                        break 1006;
                    }
                }
                Some(Command::Close) => {
                    model.lock().ended(number, None);
                    let closing = async {
                        let _ = socket.close(None).await;
                        while let Some(Ok(message)) = socket.next().await {
                            receive(&model, number, &message, &mut waiting);
                        }
                    };
                    let _ = tokio::time::timeout(CLOSE_TIMEOUT, closing).await;
                    return;
                }
                None => break 1000,
            },
            message = socket.next() => match message {
                Some(Ok(Message::Close(frame))) => break frame.map_or(1005, |frame| frame.code.into()),
                Some(Ok(message)) => receive(&model, number, &message, &mut waiting),
                Some(Err(_)) | None => break 1006,
            },
        }
    };
    model.lock().ended(number, Some(code));
    let _ = tokio::time::timeout(CLOSE_TIMEOUT, socket.close(None)).await;
}

fn receive(model: &SharedModel, number: Number, message: &Message, waiting: &mut VecDeque<oneshot::Sender<String>>) {
    let Message::Text(text) = message else { return };
    if text.starts_with('!') {
        model.lock().received(number, text);
    } else if let Some(sender) = waiting.pop_front() {
        let _ = sender.send(text.to_string());
    }
}
