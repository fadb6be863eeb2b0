//! The manifests in `deploy/`, each on a real Redis with a password.

use std::fs;
use std::path::Path;

use crate::harness::{CHAT, Site, component};
use crate::metrics::Metrics;
use crate::redis_server::Redis;

/// A file in `deploy/`.
fn file(name: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("deploy");
    fs::read_to_string(folder.join(name)).unwrap()
}

/// The manifest in the ConfigMap of `kubernetes.yaml`.
fn config_map() -> String {
    let text = file("kubernetes.yaml");
    let (_, rest) = text.split_once("  jackfield.toml: |\n").unwrap();
    let lines = rest.lines().take_while(|line| line.is_empty() || line.starts_with("    "));
    lines.map(|line| format!("{}\n", line.trim_start_matches("    "))).collect()
}

/// The number of seconds behind a key.
fn seconds(text: &str, key: &str) -> u64 {
    let line = text.lines().find(|line| line.trim_start().starts_with(key)).unwrap_or_else(|| panic!("no {key}"));
    let digits: String = line.chars().filter(char::is_ascii_digit).collect();
    digits.parse().unwrap()
}

#[tokio::test]
async fn the_manifests_for_compose_and_kubernetes_serve_the_chat() {
    for (manifest, url, host) in [
        (file("jackfield.toml"), "redis://redis:6379", "localhost"),
        (config_map(), "rediss://redis.example.com:6379", "chat.example.com"),
    ] {
        let redis = Redis::start().await;
        redis.command(&["config", "set", "requirepass", "a password"]);
        let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../plugins/chat/chat.html");
        let mut text = manifest;
        for (found, replacement) in [
            (url, format!("unix://{}", redis.socket().display())),
            ("0.0.0.0:9090", "127.0.0.1:0".to_owned()),
            ("127.0.0.1:3002", "127.0.0.1:0".to_owned()),
            ("/app/files/chat.html", page.display().to_string()),
            ("/app/chat.wasm", component(CHAT).display().to_string()),
        ] {
            assert!(text.contains(found), "no {found} in {text}");
            text = text.replace(found, &replacement);
        }
        let site = Site::new(&text);
        let mut command = site.command(&["serve"]);
        command.env("REDIS_PASSWORD", "a password");
        command.env("JACKFIELD_ADMIN_TOKEN", "0123456789abcdef");
        command.env("JACKFIELD_ACCESS_KEY_SECRET", "0123456789abcdef");
        let server = site.launch(command);
        assert_eq!(Metrics::for_server(&server).await.get("/ready").await, (200, "ready\n".to_owned()));
        for (host, status) in [(host, 200), ("other.example", 403)] {
            let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
            assert_eq!(server.http(&request).await.status, status, "{host}");
        }
        if host == "localhost" {
            let mut peer = server.connect("?userId=A").await;
            assert_eq!(peer.ask("{\"action\":\"who\"}").await, "{\"type\":\"who\",\"users\":[\"A\"]}");
        }
    }
}

/// Otherwise the container ends before its connections are closed and their `$disconnect` events have run.
#[test]
fn containers_have_time_for_the_drain_and_the_stop() {
    let compose = (seconds(&file("compose.yaml"), "stop_grace_period:"), file("jackfield.toml"));
    let kubernetes = (seconds(&file("kubernetes.yaml"), "terminationGracePeriodSeconds:"), config_map());
    for (grace, manifest) in [compose, kubernetes] {
        // The default of stop_timeout is 10 s, for the handlers and for each `$disconnect`.
        assert!(grace >= seconds(&manifest, "drain =") + 2 * 10, "{grace} s for {manifest}");
    }
}
