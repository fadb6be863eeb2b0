//! Many peers on one thread: opening them, and one turn of the poll after another.
//!
//! Does not know what is measured: it hands over messages and counts what went wrong.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use jackfield_bench::wire;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use socket2::{Domain, Socket, Type};

use crate::peer::{Lost, Peer};

/// Connections that leave from one address, which has about 28,000 ports for one server.
const PEERS_PER_SOURCE: usize = 20_000;
/// Opening many connections that are all answered slowly must end, too.
const OPENING_MAX: Duration = Duration::from_secs(60);

/// Where the server is, and how the crowd arrives.
pub struct Arrival {
    pub port: u16,
    pub path: String,
    /// What each upgrade says further, as `Name: value`.
    pub headers: Vec<String>,
    /// Connections whose upgrade may be on its way at one time.
    pub window: usize,
}

/// What went wrong, counted; the first of it in words.
#[derive(Default)]
pub struct Faults {
    pub count: u64,
    pub first: Option<String>,
}

impl Faults {
    pub fn note(&mut self, text: impl FnOnce() -> String) {
        self.count += 1;
        self.first.get_or_insert_with(text);
    }
}

/// A message as it arrives, with the buffer for an answer; what is put there leaves at once.
pub struct Message<'a> {
    pub peer: usize,
    pub at: Instant,
    pub content: &'a [u8],
    pub answer: &'a mut Vec<u8>,
}

pub struct Crowd {
    poll: Poll,
    events: Events,
    scratch: Vec<u8>,
    arrival: Arrival,
    peers: Vec<Peer>,
    open: usize,
    lost: usize,
    pub faults: Faults,
}

impl Crowd {
    pub fn new(arrival: Arrival) -> Result<Self> {
        Ok(Self {
            poll: Poll::new().context("cannot make a poll")?,
            events: Events::with_capacity(1024),
            scratch: vec![0; 64 * 1024],
            arrival,
            peers: Vec::new(),
            open: 0,
            lost: 0,
            faults: Faults::default(),
        })
    }

    pub fn len(&self) -> usize {
        self.peers.len()
    }

    /// Opens so many more connections; `opened` learns how long each upgrade took.
    /// # Errors
    /// When they are neither open nor refused in a minute.
    pub fn grow(&mut self, more: usize, mut opened: impl FnMut(Duration)) -> Result<()> {
        let target = self.peers.len() + more;
        let deadline = Instant::now() + OPENING_MAX;
        while self.open + self.lost < target {
            while self.peers.len() < target && self.peers.len() - self.open - self.lost < self.arrival.window {
                self.start_peer()?;
            }
            if Instant::now() > deadline {
                let missing = target - self.open - self.lost;
                bail!("{missing} of {target} connections are not open after {OPENING_MAX:?}");
            }
            self.turn_with(Duration::from_millis(10), |_| {}, &mut opened)?;
        }
        Ok(())
    }

    /// Waits for the server, at most so long, and hands over every message that has arrived.
    pub fn turn(&mut self, wait: Duration, message: impl FnMut(Message)) -> Result<()> {
        self.turn_with(wait, message, &mut |_| {})
    }

    /// Sends what `write` appends; false if the server has stopped taking in.
    pub fn send(&mut self, peer: usize, write: impl FnOnce(&mut Vec<u8>)) -> bool {
        let speaker = &mut self.peers[peer];
        if !speaker.is_open() || !speaker.has_room() {
            return false;
        }
        write(&mut speaker.outgoing);
        let sent = speaker.flush();
        self.keep(peer, sent);
        true
    }

    fn turn_with(
        &mut self,
        wait: Duration,
        mut message: impl FnMut(Message),
        opened: &mut impl FnMut(Duration),
    ) -> Result<()> {
        self.poll.poll(&mut self.events, Some(wait)).context("the poll failed")?;
        // Taken out for the loop, which needs the rest of the crowd.
        let events = std::mem::replace(&mut self.events, Events::with_capacity(0));
        for event in &events {
            let index = event.token().0;
            let peer = &mut self.peers[index];
            if peer.is_lost() {
                continue;
            }
            let was_open = peer.is_open();
            let mut outcome = Ok(());
            if event.is_readable() {
                let to_the_end = event.is_read_closed();
                let mut at = None;
                outcome = peer.receive(&mut self.scratch, to_the_end, |content, answer| {
                    let at = *at.get_or_insert_with(Instant::now);
                    message(Message { peer: index, at, content, answer });
                });
            }
            if !was_open && peer.is_open() {
                self.open += 1;
                opened(peer.began.elapsed());
            }
            let outcome = outcome.and_then(|()| peer.flush());
            self.keep(index, outcome);
        }
        self.events = events;
        Ok(())
    }

    /// Counts a peer that is lost, once.
    fn keep(&mut self, index: usize, outcome: Result<(), Lost>) {
        let Err(Lost(why)) = outcome else { return };
        let peer = &mut self.peers[index];
        self.open -= usize::from(peer.is_open());
        self.lost += 1;
        peer.lose();
        self.faults.note(|| format!("connection {index}: {why}"));
    }

    fn start_peer(&mut self) -> Result<()> {
        let number = self.peers.len();
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).context("cannot make a socket")?;
        socket.set_nonblocking(true)?;
        socket.set_tcp_nodelay(true)?;
        if number >= PEERS_PER_SOURCE {
            let source = u8::try_from(number / PEERS_PER_SOURCE).context("too many connections")?;
            // Else the ports of an earlier run could not be bound for a minute.
            socket.set_reuse_address(true)?;
            socket.bind(&SocketAddr::from((Ipv4Addr::new(127, 0, 1, source), 0)).into())?;
        }
        let server = SocketAddr::from((Ipv4Addr::LOCALHOST, self.arrival.port));
        match socket.connect(&server.into()) {
            Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => {
                return Err(error).with_context(|| format!("cannot connect to {server}"));
            }
            _ => {}
        }
        let mut socket = TcpStream::from_std(socket.into());
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.poll.registry().register(&mut socket, Token(number), interest)?;
        // Keys differ between the runs of one second as well as within one.
        let key = u64::from(std::process::id()) << 32 | number as u64;
        let Arrival { path, port, headers, .. } = &self.arrival;
        let request = wire::upgrade_request(path, *port, headers, key);
        self.peers.push(Peer::new(socket, request));
        Ok(())
    }
}
