//! What clients of each kind of server send and receive.

use clap::ValueEnum;
use jackfield_bench::stamp::{self, Template};

/// What a stamp begins with.
const MARK: u8 = b'@';

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Dialect {
    /// Messages with an `action`, as the relay handler and the plain server know them.
    Actions,
    /// Socket.IO 4 without long polling; the server has the events `post`, `join` and `broadcast`.
    SocketIo,
    /// Centrifugo's protocol in JSON; each client subscribes to a channel of its own, or to that of a room.
    Centrifugo,
}

/// What a message that is no measured one requires.
#[derive(Debug, PartialEq, Eq)]
pub enum Setup {
    /// The client is ready, and others reach it by this name.
    Ready(String),
    /// The client sends this.
    Send(String),
    /// Nothing.
    Ignore,
    Unexpected,
}

impl Dialect {
    /// Returns what a client sends at first. With `room`, it joins this room.
    pub fn first(self, peer: usize, room: Option<&str>) -> Vec<String> {
        match self {
            Self::Actions => {
                let join = room.map(|room| format!(r#"{{"action":"join","room":"{room}"}}"#));
                // The messages of a connection are handled in order, so the response means that both were handled.
                join.into_iter().chain([r#"{"action":"whoami"}"#.to_owned()]).collect()
            }
            Self::SocketIo => vec!["40".to_owned()],
            Self::Centrifugo => {
                let channel = room.map_or_else(|| channel(peer), str::to_owned);
                let subscribe = format!(r#"{{"id":2,"subscribe":{{"channel":"{channel}"}}}}"#);
                vec![r#"{"id":1,"connect":{}}"#.to_owned(), subscribe]
            }
        }
    }

    /// Reads a message before the client is ready.
    pub fn setup(self, peer: usize, content: &[u8], room: Option<&str>) -> Setup {
        let text = String::from_utf8_lossy(content);
        match self {
            Self::Actions => field(&text, "connectionId").map_or(Setup::Unexpected, Setup::Ready),
            Self::SocketIo => match (text.get(..2), room) {
                (Some("40"), Some(room)) => Setup::Send(format!(r#"420["join","{room}"]"#)),
                (Some("40"), None) => field(&text[2..], "sid").map_or(Setup::Unexpected, Setup::Ready),
                // The server has handled `join`.
                (Some("43"), _) => Setup::Ready(String::new()),
                _ if text.starts_with('0') => Setup::Ignore,
                _ => self.answer(content),
            },
            Self::Centrifugo => {
                if text.contains("\"error\"") {
                    Setup::Unexpected
                } else if text.contains("\"subscribe\"") {
                    Setup::Ready(channel(peer))
                } else {
                    self.answer(content)
                }
            }
        }
    }

    /// Reads a message that has no stamp.
    pub fn answer(self, content: &[u8]) -> Setup {
        match (self, content) {
            // Pings.
            (Self::SocketIo, b"2") => Setup::Send("3".to_owned()),
            (Self::Centrifugo, b"{}") => Setup::Send("{}".to_owned()),
            (Self::Centrifugo, content) if !String::from_utf8_lossy(content).contains("\"error\"") => Setup::Ignore,
            _ => Setup::Unexpected,
        }
    }

    /// The message that is posted to the client with this name.
    pub fn post(self, name: &str, content_bytes: usize, is_timed: bool) -> Template {
        let action = if is_timed { "timedmessage" } else { "sendmessage" };
        let (before, after) = match self {
            Self::Actions => (format!(r#"{{"action":"{action}","to":"{name}","content":""#), r#""}"#),
            Self::SocketIo => (format!(r#"42["post","{name}",""#), r#""]"#),
            Self::Centrifugo => publication(name),
        };
        Template::new(&before, content_bytes, after)
    }

    /// The message that is sent to all clients in a room.
    pub fn broadcast(self, room: &str, content_bytes: usize) -> Template {
        let (before, after) = match self {
            Self::Actions => (format!(r#"{{"action":"broadcast","room":"{room}","content":""#), r#""}"#),
            Self::SocketIo => (format!(r#"42["broadcast","{room}",""#), r#""]"#),
            Self::Centrifugo => publication(room),
        };
        Template::new(&before, content_bytes, after)
    }

    /// Returns the stamps of a received message. Centrifugo sends several messages as lines of one.
    pub fn stamps(self, content: &[u8]) -> impl Iterator<Item = u64> {
        let positions = content.iter().enumerate().filter(|(_, byte)| **byte == MARK).map(|(position, _)| position);
        positions
            .take(if self == Self::Centrifugo { usize::MAX } else { 1 })
            .filter_map(|at| stamp::read(&content[at..]))
    }
}

fn channel(peer: usize) -> String {
    format!("peer-{peer}")
}

fn publication(channel: &str) -> (String, &'static str) {
    (format!(r#"{{"id":3,"publish":{{"channel":"{channel}","data":{{"content":""#), r#""}}}"#)
}

fn field(content: &str, name: &str) -> Option<String> {
    let answer: serde_json::Value = serde_json::from_str(content).ok()?;
    Some(answer.get(name)?.as_str()?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_read_only_from_a_response_that_has_one() {
        let setup = |content: &str| Dialect::Actions.setup(0, content.as_bytes(), None);
        assert_eq!(setup(r#"{"connectionId":"L0SM9cOFvHcCIhw="}"#), Setup::Ready("L0SM9cOFvHcCIhw=".into()));
        assert_eq!(setup(r#"{"message":"Forbidden","connectionId":7}"#), Setup::Unexpected);
        assert_eq!(setup("hello"), Setup::Unexpected);
    }

    #[test]
    fn a_client_of_socket_io_joins_before_it_is_ready_and_answers_pings() {
        let setup = |content: &str, room| Dialect::SocketIo.setup(0, content.as_bytes(), room);
        assert_eq!(setup(r#"0{"sid":"a"}"#, None), Setup::Ignore);
        assert_eq!(setup(r#"40{"sid":"b"}"#, None), Setup::Ready("b".into()));
        assert_eq!(setup(r#"40{"sid":"b"}"#, Some("hall")), Setup::Send(r#"420["join","hall"]"#.into()));
        assert_eq!(setup("430[]", Some("hall")), Setup::Ready(String::new()));
        assert_eq!(Dialect::SocketIo.answer(b"2"), Setup::Send("3".into()));
        assert_eq!(Dialect::SocketIo.answer(b"41"), Setup::Unexpected);
    }

    #[test]
    fn every_message_of_a_frame_of_centrifugo_is_counted() {
        let push = r#"{"push":{"channel":"peer-1","pub":{"data":{"content":"@000000000000000f"}}}}"#;
        let two = format!("{push}\n{push}");
        assert_eq!(Dialect::Centrifugo.stamps(two.as_bytes()).collect::<Vec<_>>(), [15, 15]);
        assert_eq!(Dialect::Actions.stamps(b"@000000000000000f @").collect::<Vec<_>>(), [15]);
        assert_eq!(Dialect::Centrifugo.setup(1, br#"{"id":2,"subscribe":{}}"#, None), Setup::Ready("peer-1".into()));
        assert_eq!(Dialect::Centrifugo.answer(br#"{"id":3,"error":{"code":103}}"#), Setup::Unexpected);
    }
}
