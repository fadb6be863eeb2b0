//! Many client connections on one thread, which are served by one poll loop.
//!
//! This module does not know what is measured: it passes messages to its caller and counts errors.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use jackfield_bench::wire;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use socket2::{Domain, Socket, Type};

use crate::peer::{Disconnected, Peer};
use crate::timer::Timer;

/// Connections from one source address, which has about 28,000 ports for one server.
const PEERS_PER_SOURCE: usize = 20_000;
/// The time for opening connections, so that the load generator also ends if the server responds slowly.
const OPENING_TIMEOUT: Duration = Duration::from_secs(60);
/// The token of the timer. The others are the numbers of peers.
const TIMER: Token = Token(usize::MAX);
/// The peers in a room of the path.
const ROOM_PEERS: usize = 50;

/// The addresses of the servers, and how the connections are opened.
pub struct ConnectOptions {
    /// The connections go to the servers in turn.
    pub ports: Vec<u16>,
    /// In it, `{user}` is the number of the connection, and `{room}` is the same for 50 of them.
    pub path: String,
    /// Further headers of each upgrade request, as `Name: value`.
    pub headers: Vec<String>,
    /// The number of connections that may be opening at the same time.
    pub window: usize,
    /// Whether waits are exact, and not up to a millisecond longer.
    pub precise: bool,
}

/// The number of errors, and the text of the first one.
#[derive(Default)]
pub struct Faults {
    pub count: u64,
    pub first: Option<String>,
}

impl Faults {
    pub fn add(&mut self, text: impl FnOnce() -> String) {
        self.count += 1;
        self.first.get_or_insert_with(text);
    }
}

/// A message that has arrived, with the buffer for a response, which is sent at once.
pub struct Message<'a> {
    pub peer: usize,
    pub at: Instant,
    pub content: &'a [u8],
    pub answer: &'a mut Vec<u8>,
}

pub struct Connections {
    poll: Poll,
    timer: Option<Timer>,
    events: Events,
    scratch: Vec<u8>,
    options: ConnectOptions,
    peers: Vec<Peer>,
    open: usize,
    lost: usize,
    pub faults: Faults,
}

impl Connections {
    pub fn new(options: ConnectOptions) -> Result<Self> {
        let poll = Poll::new().context("cannot create a poll")?;
        let timer = if options.precise { Some(Timer::new(poll.registry(), TIMER)?) } else { None };
        Ok(Self {
            poll,
            timer,
            events: Events::with_capacity(1024),
            scratch: vec![0; 64 * 1024],
            options,
            peers: Vec::new(),
            open: 0,
            lost: 0,
            faults: Faults::default(),
        })
    }

    pub fn len(&self) -> usize {
        self.peers.len()
    }

    /// Opens `count` further connections, and calls `opened` with the duration of each upgrade.
    ///
    /// # Errors
    /// If a connection is neither open nor rejected after a minute.
    pub fn open(&mut self, count: usize, mut opened: impl FnMut(Duration)) -> Result<()> {
        let target = self.peers.len() + count;
        let deadline = Instant::now() + OPENING_TIMEOUT;
        while self.open + self.lost < target {
            while self.peers.len() < target && self.peers.len() - self.open - self.lost < self.options.window {
                self.start_peer()?;
            }
            if Instant::now() > deadline {
                let missing = target - self.open - self.lost;
                bail!("{missing} of {target} connections are not open after {OPENING_TIMEOUT:?}");
            }
            self.poll_with(Duration::from_millis(10), |_| {}, &mut opened)?;
        }
        Ok(())
    }

    /// Waits for the server up to this time, and calls `message` for every message that has arrived.
    pub fn poll(&mut self, wait: Duration, message: impl FnMut(Message)) -> Result<()> {
        self.poll_with(wait, message, &mut |_| {})
    }

    /// Sends the bytes that `write` appends. Returns false if the connection is not open or the server has stopped
    /// reading.
    pub fn send(&mut self, peer: usize, write: impl FnOnce(&mut Vec<u8>)) -> bool {
        let sender = &mut self.peers[peer];
        if !sender.is_open() || !sender.can_send() {
            return false;
        }
        write(&mut sender.outgoing);
        let sent = sender.flush();
        self.count_if_lost(peer, sent);
        true
    }

    fn poll_with(
        &mut self,
        wait: Duration,
        mut message: impl FnMut(Message),
        opened: &mut impl FnMut(Duration),
    ) -> Result<()> {
        if let Some(timer) = &self.timer {
            timer.set(wait)?;
        }
        self.poll.poll(&mut self.events, Some(wait)).context("the poll failed")?;
        // The events are moved out of `self`, because the loop borrows `self` mutably.
        let events = std::mem::replace(&mut self.events, Events::with_capacity(0));
        for event in &events {
            if event.token() == TIMER {
                continue;
            }
            let index = event.token().0;
            let peer = &mut self.peers[index];
            if peer.is_lost() {
                continue;
            }
            let was_open = peer.is_open();
            let mut outcome = Ok(());
            if event.is_readable() {
                let until_end = event.is_read_closed();
                let mut at = None;
                outcome = peer.receive(&mut self.scratch, until_end, |content, answer| {
                    let at = *at.get_or_insert_with(Instant::now);
                    message(Message { peer: index, at, content, answer });
                });
            }
            if !was_open && peer.is_open() {
                self.open += 1;
                opened(peer.began.elapsed());
            }
            let outcome = outcome.and_then(|()| peer.flush());
            self.count_if_lost(index, outcome);
        }
        self.events = events;
        Ok(())
    }

    /// Counts a peer that has lost its connection. A lost peer is not polled again, so it is counted once.
    fn count_if_lost(&mut self, index: usize, outcome: Result<(), Disconnected>) {
        let Err(Disconnected(reason)) = outcome else { return };
        let peer = &mut self.peers[index];
        self.open -= usize::from(peer.is_open());
        self.lost += 1;
        peer.mark_lost();
        self.faults.add(|| format!("connection {index}: {reason}"));
    }

    fn start_peer(&mut self) -> Result<()> {
        let number = self.peers.len();
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).context("cannot create a socket")?;
        socket.set_nonblocking(true)?;
        socket.set_tcp_nodelay(true)?;
        if number >= PEERS_PER_SOURCE {
            let source = u8::try_from(number / PEERS_PER_SOURCE).context("too many connections")?;
            // Without this, ports of an earlier run cannot be bound for a minute.
            socket.set_reuse_address(true)?;
            socket.bind(&SocketAddr::from((Ipv4Addr::new(127, 0, 1, source), 0)).into())?;
        }
        let ConnectOptions { path, ports, headers, .. } = &self.options;
        let port = ports[number % ports.len()];
        let server = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        match socket.connect(&server.into()) {
            Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => {
                return Err(error).with_context(|| format!("cannot connect to {server}"));
            }
            _ => {}
        }
        let mut socket = TcpStream::from_std(socket.into());
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.poll.registry().register(&mut socket, Token(number), interest)?;
        // The process id makes the keys of different runs different, the number those of one run.
        let key = u64::from(std::process::id()) << 32 | number as u64;
        let path = path.replace("{user}", &number.to_string()).replace("{room}", &(number / ROOM_PEERS).to_string());
        let request = wire::upgrade_request(&path, port, headers, key);
        self.peers.push(Peer::new(socket, request));
        Ok(())
    }
}
