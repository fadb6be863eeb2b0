//! What must be true of all connections: who is open, in which room, and which messages each of them may receive.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// A client, for as long as the test runs.
pub type Number = u64;

pub struct Client {
    /// `None` until the server has answered.
    pub id: Option<String>,
    pub node: usize,
    rooms: Vec<Membership>,
    /// Whether the last change of the room has no answer, or a failure for one: it may have been made or not.
    pub is_room_unknown: bool,
    pub end: Option<End>,
    received: HashSet<u64>,
    last_post_of: HashMap<Number, u64>,
}

struct Membership {
    room: String,
    /// When the client knew that it had left the room.
    until: Option<Instant>,
}

#[derive(Clone, Copy, Debug)]
pub struct End {
    pub at: Instant,
    /// `None`: the client has closed the connection.
    pub code: Option<u16>,
}

/// What the sender of a message knows of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Outcome {
    Pending,
    Queued,
    Gone,
    /// It may have arrived or not.
    Unknown,
}

pub struct Post {
    pub to: Number,
    pub outcome: Outcome,
}

#[derive(Default)]
pub struct Model {
    pub clients: BTreeMap<Number, Client>,
    pub posts: BTreeMap<u64, Post>,
    /// When a message to a room was sent.
    casts: HashMap<u64, Instant>,
    pub violations: Vec<String>,
    next: u64,
}

#[derive(Clone, Default)]
pub struct SharedModel(Arc<Mutex<Model>>);

impl SharedModel {
    pub fn lock(&self) -> MutexGuard<'_, Model> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Client {
    pub fn is_open(&self) -> bool {
        self.end.is_none()
    }

    /// The last room that the client has asked for.
    pub fn room(&self) -> &str {
        &self.rooms.last().expect("a client has a room from the start").room
    }
}

impl Model {
    fn next(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    pub fn violation(&mut self, text: String) {
        self.violations.push(text);
    }

    pub fn connected(&mut self, node: usize, room: &str) -> Number {
        let number = self.next();
        let rooms = vec![Membership { room: room.to_owned(), until: None }];
        let (received, last_post_of) = (HashSet::new(), HashMap::new());
        let client = Client { id: None, node, rooms, is_room_unknown: false, end: None, received, last_post_of };
        self.clients.insert(number, client);
        number
    }

    fn client(&mut self, number: Number) -> &mut Client {
        self.clients.get_mut(&number).expect("a client is kept until its end was checked")
    }

    pub fn has_id(&mut self, number: Number, id: String) {
        self.client(number).id = Some(id);
    }

    /// The client closes the connection, or it has ended without it. Only the first end counts.
    pub fn ended(&mut self, number: Number, code: Option<u16>) {
        if let Some(client) = self.clients.get_mut(&number) {
            client.end.get_or_insert(End { at: Instant::now(), code });
        }
    }

    pub fn joins(&mut self, number: Number, room: &str) {
        let client = self.client(number);
        client.rooms.push(Membership { room: room.to_owned(), until: None });
        client.is_room_unknown = true;
    }

    /// The last room that the client has asked for is the only one.
    pub fn joined(&mut self, number: Number) {
        let Some(client) = self.clients.get_mut(&number) else { return };
        let (last, others) = client.rooms.split_last_mut().expect("a client has a room from the start");
        let now = Instant::now();
        for membership in others.iter_mut().filter(|membership| membership.room != last.room) {
            membership.until.get_or_insert(now);
        }
        client.is_room_unknown = false;
    }

    pub fn posts(&mut self, to: Number) -> u64 {
        let number = self.next();
        self.posts.insert(number, Post { to, outcome: Outcome::Pending });
        number
    }

    pub fn posted(&mut self, post: u64, outcome: Outcome) {
        if let Some(post) = self.posts.get_mut(&post) {
            post.outcome = outcome;
        }
    }

    pub fn casts(&mut self) -> u64 {
        let number = self.next();
        self.casts.insert(number, Instant::now());
        number
    }

    /// Checks a message that a client has received: `!post NUMBER SENDER ID` or `!cast NUMBER ROOM`.
    pub fn received(&mut self, number: Number, text: &str) {
        if let Err(violation) = self.check_received(number, text) {
            let client = &self.clients[&number];
            let of = format!("client {number} ({:?} of node {}) received {text:?}", client.id, client.node);
            self.violation(format!("{of}, {violation}"));
        }
    }

    fn check_received(&mut self, number: Number, text: &str) -> Result<(), String> {
        let words: Vec<&str> = text.split(' ').collect();
        let message: u64 = words[1].parse().map_err(|_| "which is no message of this test")?;
        let issued = self.casts.get(&message).copied();
        let post = self.posts.get(&message);
        let gone = post.is_some_and(|post| post.outcome == Outcome::Gone);
        let client = self.clients.get_mut(&number).expect("a client is kept until its end was checked");
        if !client.received.insert(message) {
            return Err("which it had received before".to_owned());
        }
        match words[0] {
            "!post" => {
                let sender: Number = words[2].parse().map_err(|_| "without a sender")?;
                if client.id.as_deref() != Some(words[3]) {
                    return Err("which is for another one".to_owned());
                }
                if gone {
                    return Err("whose sender has got the answer that the connection is gone".to_owned());
                }
                let last = client.last_post_of.entry(sender).or_default();
                if *last > message {
                    return Err(format!("after message {last} of the same sender"));
                }
                *last = message;
            }
            _ => {
                let issued = issued.ok_or("which no client has sent")?;
                let is_member = client.rooms.iter().any(|membership| {
                    membership.room == words[2] && membership.until.is_none_or(|until| until >= issued)
                });
                if !is_member {
                    let rooms: Vec<_> = client.rooms.iter().map(|membership| &membership.room).collect();
                    return Err(format!("but it had left that room before; its rooms were {rooms:?}"));
                }
            }
        }
        Ok(())
    }

    pub fn has_received(&self, number: Number, message: u64) -> bool {
        self.clients.get(&number).is_some_and(|client| client.received.contains(&message))
    }

    /// Id and room of each open connection.
    pub fn expected(&self) -> BTreeMap<String, String> {
        let open = self.clients.values().filter(|client| client.is_open());
        open.filter_map(|client| Some((client.id.clone()?, client.room().to_owned()))).collect()
    }

    /// Forgets clients that have ended and messages, once they were checked.
    pub fn forget_checked(&mut self) {
        self.clients.retain(|_, client| client.is_open());
        self.posts.clear();
        for client in self.clients.values_mut() {
            client.rooms.drain(..client.rooms.len() - 1);
        }
    }
}
