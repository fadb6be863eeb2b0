//! A real Redis for one test, on a socket in a temporary folder.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::harness::eventually;

pub struct Redis {
    folder: TempDir,
    server: Option<Child>,
    /// Further arguments of the server.
    arguments: Vec<String>,
}

impl Redis {
    pub async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// Starts a server with further arguments, such as `--tls-port`.
    pub async fn start_with(arguments: &[&str]) -> Self {
        let arguments = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        let mut redis = Self { folder: tempfile::tempdir().unwrap(), server: None, arguments };
        redis.restart().await;
        redis
    }

    /// Starts the server without data.
    pub async fn restart(&mut self) {
        let mut command = Command::new("redis-server");
        command.args(["--port", "0", "--save", "", "--appendonly", "no", "--unixsocket"]).arg(self.socket());
        command.arg("--dir").arg(self.folder.path()).args(&self.arguments).stdin(Stdio::null()).stdout(Stdio::null());
        self.server = Some(command.spawn().expect("redis-server is not installed: run `cargo xtask test`"));
        eventually("Redis accepts connections", || async {
            tokio::net::UnixStream::connect(self.socket()).await.is_ok()
        })
        .await;
    }

    /// Kills the server, with all its data.
    pub fn kill(&mut self) {
        if let Some(mut server) = self.server.take() {
            server.kill().unwrap();
            server.wait().unwrap();
            let _ = fs::remove_file(self.socket());
        }
    }

    /// Sends a command of `redis-cli`. Returns what it prints, without the last line break.
    pub fn command(&self, arguments: &[&str]) -> String {
        let mut command = Command::new("redis-cli");
        let output = command.arg("-s").arg(self.socket()).args(arguments).output().expect("redis-cli is not installed");
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
    }

    /// Sends a signal, such as `STOP`, to the server.
    pub fn signal(&self, name: &str) {
        let server = self.server.as_ref().expect("the server runs");
        let status = Command::new("kill").args(["-s", name, &server.id().to_string()]).status().unwrap();
        assert!(status.success());
    }

    /// Returns the names of all keys.
    pub fn keys(&self) -> Vec<String> {
        self.command(&["keys", "*"]).lines().map(str::to_owned).collect()
    }

    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("socket")
    }

    /// The section of a manifest for a node. Its lease is short, but outlasts the pauses of a busy machine.
    pub fn section(&self) -> String {
        format!("backend = {{ url = \"unix://{}\", lease = \"4s\" }}", self.socket().display())
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.kill();
    }
}
