//! One connection that sends a request and waits for the response, like a person at a terminal.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use jackfield_bench::wire::{self, Malformed, Opcode};

use crate::credential::Credential;

const RESPONSE_TIMEOUT: Duration = Duration::from_secs(5);

pub struct Probe {
    socket: TcpStream,
    incoming: Vec<u8>,
}

impl Probe {
    pub fn connect(port: u16) -> Result<Self> {
        Self::connect_with(port, Credential::None)
    }

    pub fn connect_with(port: u16, credential: Credential) -> Result<Self> {
        let socket = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).context("cannot connect")?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(RESPONSE_TIMEOUT))?;
        let mut probe = Self { socket, incoming: Vec::new() };
        probe
            .socket
            .write_all(wire::upgrade_request(&credential.path(), port, &credential.headers(port), 0).as_bytes())
            .context("cannot send the upgrade request")?;
        let head = loop {
            if let Some(head) = wire::upgrade_response(&probe.incoming).map_err(describe)? {
                break head;
            }
            probe.read_more()?;
        };
        probe.incoming.drain(..head);
        Ok(probe)
    }

    /// Sends an echo request and returns the text of the response.
    ///
    /// # Errors
    /// If there is no response within five seconds, or the connection is closed.
    pub fn echo(&mut self, content: &str) -> Result<String> {
        self.request("echo", content)
    }

    /// As [`Self::echo`], for another route.
    pub fn request(&mut self, route: &str, content: &str) -> Result<String> {
        let mut frame = Vec::new();
        let request = format!(r#"{{"action":"{route}","content":"{content}"}}"#);
        wire::encode(Opcode::Text, request.as_bytes(), &mut frame);
        self.socket.write_all(&frame).context("cannot send an echo request")?;
        loop {
            while let Some(frame) = wire::decode(&self.incoming).map_err(describe)? {
                let payload = frame.payload.to_vec();
                let opcode = frame.opcode;
                self.incoming.drain(..frame.wire_bytes);
                match opcode {
                    Opcode::Text | Opcode::Binary => {
                        return Ok(String::from_utf8_lossy(&payload).into_owned());
                    }
                    Opcode::Close => bail!("the server closed the connection"),
                    // A probe exists for a shorter time than the server waits for a pong.
                    Opcode::Ping | Opcode::Pong => {}
                }
            }
            self.read_more()?;
        }
    }

    fn read_more(&mut self) -> Result<()> {
        let mut bytes = [0; 4096];
        let length = self.socket.read(&mut bytes).context("no response to an echo request")?;
        ensure!(length > 0, "the server closed the connection");
        self.incoming.extend_from_slice(&bytes[..length]);
        Ok(())
    }
}

fn describe(Malformed(text): Malformed) -> anyhow::Error {
    anyhow!(text)
}
