//! Packages of npm that most people use, in the real engine: each script of `host/tests/scripts/packages` does what a user
//! of its package does.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::engine::Playground;
use crate::harness::{Peer, Server, Site};
use crate::sdks::installed_path;

fn scripts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts/packages")
}

/// Serves one script, which may send requests to the playground.
fn serve(script: &str, playground: &Playground) -> Server {
    let origin = &playground.origin;
    let site = Site::new(&format!(
        "[integrations.it]\ncomponent = {script:?}\ncpu_time = \"20s\"\nallowed_hosts = [{origin:?}]\nenv = {{ SERVER = {origin:?} }}\n\n\
         [routes]\nask = {{ integration = \"it\", route_response = true }}\n"
    ));
    for entry in fs::read_dir(scripts()).unwrap() {
        let file = entry.unwrap();
        fs::copy(file.path(), site.path().join(file.file_name())).unwrap();
    }
    symlink(installed_path("JACKFIELD_TEST_PACKAGES"), site.path().join("node_modules")).unwrap();
    site.serve()
}

async fn ask(peer: &mut Peer) -> String {
    peer.ask(&json!({ "action": "ask" }).to_string()).await
}

/// Serves a script whose handler returns that its package works, or fails.
async fn run(script: &str) {
    let playground = Playground::start().await;
    let server = serve(script, &playground);
    let name = script.split('.').next().unwrap();
    assert_eq!(ask(&mut server.connect("").await).await, format!("{name} works"));
}

#[tokio::test]
async fn jose_signs_and_verifies_tokens_and_fetches_the_keys_of_a_provider() {
    run("jose.mjs").await;
}

#[tokio::test]
async fn jsonwebtoken_signs_and_verifies_tokens() {
    run("jsonwebtoken.cjs").await;
}

#[tokio::test]
async fn axios_sends_requests_and_reports_statuses_timeouts_and_aborts() {
    run("axios.mjs").await;
}

#[tokio::test]
async fn zod_parses_and_says_what_is_wrong() {
    run("zod.mjs").await;
}

#[tokio::test]
async fn dayjs_formats_times_in_utc() {
    run("dayjs.mjs").await;
}

#[tokio::test]
async fn uuid_and_nanoid_make_other_ids_in_each_event() {
    let playground = Playground::start().await;
    let server = serve("ids.mjs", &playground);
    let mut peer = server.connect("").await;
    let mut ids = BTreeSet::new();
    for _ in 0..3 {
        let answer = ask(&mut peer).await;
        let found: Vec<_> = answer.split(' ').map(str::to_owned).collect();
        assert_eq!(found.len(), 4, "{answer}");
        ids.extend(found);
    }
    assert_eq!(ids.len(), 12, "{ids:?}");
}
