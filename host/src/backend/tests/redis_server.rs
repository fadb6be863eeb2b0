//! A real Redis for the tests of this process, on a socket in a temporary folder.

use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tempfile::TempDir;

use super::super::{Backend, RedisOptions};

/// Ends the server when stdin is closed, so that it does not outlive the tests, however these end.
const SUPERVISE: &str = r#"redis-server --port 0 --unixsocket "$1/socket" --dir "$1" --save '' --appendonly no & server=$!
cat > /dev/null
kill $server"#;

struct Redis {
    folder: TempDir,
    _supervisor: Child,
}

static REDIS: LazyLock<Redis> = LazyLock::new(|| {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new("sh");
    command.args(["-c", SUPERVISE, "redis"]).arg(folder.path()).stdin(Stdio::piped()).stdout(Stdio::null());
    Redis { _supervisor: command.spawn().expect("sh is installed"), folder }
});

/// Returns the options of a store that is empty.
pub fn options() -> RedisOptions {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let prefix = format!("test{}", COUNT.fetch_add(1, Ordering::Relaxed));
    RedisOptions {
        lease: Duration::from_secs(10),
        url: format!("unix://{}/socket", REDIS.folder.path().display()),
        prefix,
    }
}

/// Connects to an empty store, once the server accepts connections.
pub async fn backend() -> Backend {
    let options = options();
    for _ in 0..600 {
        match Backend::connect_redis(&options).await {
            Ok(backend) => return backend,
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
    panic!("redis-server does not answer: is it installed? `cargo xtask test` installs it")
}
