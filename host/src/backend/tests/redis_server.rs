//! A real Redis for the tests of this process, on a socket in a temporary folder.

use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tempfile::TempDir;

use super::super::{Backend, RedisOptions, TlsFiles};

/// Ends the server when stdin is closed, so that it does not outlive the tests, however these end.
const SUPERVISE: &str = r#"redis-server --port 0 --unixsocket "$1/socket" --dir "$1" --save '' --appendonly no & server=$!
cat > /dev/null
kill $server"#;

pub struct Redis {
    folder: TempDir,
    _supervisor: Child,
}

impl Redis {
    pub fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", SUPERVISE, "redis"]).arg(folder.path()).stdin(Stdio::piped()).stdout(Stdio::null());
        Self { _supervisor: command.spawn().expect("sh is installed"), folder }
    }

    /// Returns the options of a store that is empty.
    pub fn options(&self) -> RedisOptions {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let prefix = format!("test{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let url = format!("unix://{}/socket", self.folder.path().display());
        RedisOptions {
            url,
            username: None,
            password_env: None,
            tls: TlsFiles::default(),
            prefix,
            lease: Duration::from_secs(10),
            admit_without_store: false,
        }
    }
}

/// The options of an empty store on a server that several tests use.
pub fn options() -> RedisOptions {
    static SHARED: LazyLock<Redis> = LazyLock::new(Redis::start);
    SHARED.options()
}

/// Connects to an empty store.
pub async fn backend() -> Backend {
    connect(&options()).await
}

/// Connects once the server accepts connections.
pub async fn connect(options: &RedisOptions) -> Backend {
    for _ in 0..600 {
        match Backend::connect_redis(options).await {
            Ok(backend) => return backend,
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
    panic!("redis-server does not answer: is it installed? `cargo xtask test` installs it")
}
