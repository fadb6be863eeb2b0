//! Versions that keep failing: they go back by themselves, or a breaker answers.

use std::fs;
use std::time::Duration;

use futures_util::future::join_all;

use crate::components::{ask_until, hostile_version, replace_file, wait_for_version};
use crate::deployments::{ADMIN, deployments};
use crate::harness::{HOSTILE_GRANTS, Peer, Server, Site, TEST_AUTHORIZER, component, eventually, manifest};
use crate::metrics::Metrics;

const METRICS: &str = "[server]\nmetrics = \"127.0.0.1:0\"\n";

/// The hostile guest in version 1, with metrics, an admin listener and `sections`.
fn site(sections: &str) -> Site {
    let site = Site::new(&manifest("guest.wasm".as_ref(), &format!("{METRICS}{ADMIN}{sections}"), HOSTILE_GRANTS));
    replace_file(&site.path().join("guest.wasm"), hostile_version(1));
    site
}

fn replace_guest(server: &Server, number: u32) {
    replace_file(&server.site.path().join("guest.wasm"), hostile_version(number));
}

/// Sends `count` messages whose handler fails, from these peers in turn.
async fn fail(peers: &mut [Peer], count: usize) {
    let length = peers.len();
    for number in 0..count {
        let answer = peers[number % length].ask(["fail", "trap"][number % 2]).await;
        assert!(answer.contains("Internal server error"), "{answer}");
    }
}

async fn connect(server: &Server, count: usize) -> Vec<Peer> {
    join_all((0..count).map(|_| server.connect(""))).await
}

async fn listed(server: &Server) -> String {
    let (code, listed, stderr) = deployments(server, &[]).await;
    assert_eq!(code, 0, "{stderr}");
    listed
}

const RETURNED: &[&str] = &["ERROR", "returned to the last version that worked", "plugin=guest"];
const BREAKER: &[&str] = &["ERROR", "there is no older version that works with this manifest", "plugin=guest"];

#[tokio::test]
async fn a_version_that_keeps_failing_returns_to_the_last_one_that_worked() {
    let server = site("").serve();
    let mut peers = connect(&server, 4).await;
    for peer in &mut peers {
        assert_eq!(peer.ask("version").await, "00000001");
    }
    replace_guest(&server, 2);
    wait_for_version(&mut peers[0], 2, 1).await;
    fail(&mut peers, 24).await;
    server.log.wait_for_line(RETURNED).await;
    assert_eq!(peers[0].ask("version").await, "00000001");
    let listed = listed(&server).await;
    let mut lines = listed.lines();
    assert!(lines.next().unwrap().starts_with("*    3  "), "{listed}");
    let reason = lines.next().unwrap();
    assert!(reason.contains("guest returned from ") && reason.contains(" events failed"), "{listed}");
    let metrics = Metrics::for_server(&server).await;
    assert_eq!(metrics.read().await.value("jackfield_versions_returned_total"), 1.0);

    // That content is not tried again, whatever else happens, until the file changes.
    replace_guest(&server, 2);
    server.signal("HUP");
    server.log.wait_for_line(&["SIGHUP"]).await;
    let text = fs::read_to_string(server.site.manifest()).unwrap();
    replace_file(&server.site.manifest(), text + "other = \"guest\"\n");
    server.log.wait_for_line(&["live", "manifest="]).await;
    for peer in &mut peers {
        assert_eq!(peer.ask("version").await, "00000001");
    }
    replace_guest(&server, 3);
    wait_for_version(&mut peers[0], 3, 1).await;
    // An operator may want the version that failed.
    let (code, _, stderr) = deployments(&server, &["--rollback", "2", "--plugin", "guest"]).await;
    assert_eq!(code, 0, "{stderr}");
    fail(&mut peers, 24).await;
    assert_eq!(peers[0].ask("version").await, "00000002", "an operator's choice is not on probation");
}

#[tokio::test]
async fn a_version_does_not_return_if_half_of_its_events_succeed_or_if_few_peers_send_them() {
    let server = site("").serve();
    let mut peers = connect(&server, 3).await;
    assert_eq!(peers[0].ask("version").await, "00000001");
    replace_guest(&server, 2);
    wait_for_version(&mut peers[0], 2, 1).await;
    // The events of two peers.
    fail(&mut peers[..2], 40).await;
    for _ in 0..40 {
        assert_eq!(peers[2].ask("version").await, "00000002");
    }
    // The version is no longer new.
    fail(&mut peers, 60).await;
    assert_eq!(peers[0].ask("version").await, "00000002");
    assert!(!server.log.text().contains("events failed"), "{}", server.log.text());
}

#[tokio::test]
async fn a_breaker_answers_for_a_failing_version_without_an_older_one_and_lets_events_through_later() {
    let server = site("").serve();
    let mut peers = connect(&server, 4).await;
    fail(&mut peers, 24).await;
    server.log.wait_for_line(BREAKER).await;
    eventually("the plugin is listed", || async { listed(&server).await.contains("! guest is unavailable: ") }).await;
    assert_eq!(Metrics::for_server(&server).await.read().await.value("jackfield_breakers_opened_total"), 1.0);
    // The first event that is let through succeeds.
    ask_until(&mut peers[0], "version", "00000001").await;
    server.log.wait_for_line(&["the breaker is closed", "plugin=guest"]).await;
    for peer in &mut peers {
        assert_eq!(peer.ask("version").await, "00000001");
    }
    eventually("nothing is listed", || async { !listed(&server).await.contains('!') }).await;
}

#[tokio::test]
async fn every_disconnect_runs_while_the_breaker_is_open() {
    let server = site("").serve();
    let mut peers = connect(&server, 4).await;
    let id = peers[3].id().await;
    fail(&mut peers, 24).await;
    server.log.wait_for_line(BREAKER).await;
    peers.pop().unwrap().close(4001, "bye").await;
    ask_until(&mut peers[0], &format!("ended {id}"), "4001 bye").await;
}

#[tokio::test]
async fn a_version_that_changed_together_with_the_manifest_does_not_return() {
    let server = site("").serve();
    let mut peers = connect(&server, 4).await;
    assert_eq!(peers[0].ask("version").await, "00000001");
    replace_file(&server.site.path().join("fixed.wasm"), hostile_version(2));
    let text = fs::read_to_string(server.site.manifest()).unwrap();
    replace_file(&server.site.manifest(), text.replace("guest.wasm", "fixed.wasm"));
    wait_for_version(&mut peers[0], 2, 1).await;
    fail(&mut peers, 24).await;
    server.log.wait_for_line(BREAKER).await;
    // The first answer of a handler is from the new version.
    ask_until(&mut peers[0], "version", "00000002").await;
    assert!(!server.log.text().contains("returned to"), "{}", server.log.text());
}

#[tokio::test]
async fn an_authorizer_never_returns() {
    let site = Site::hostile_behind_authorizer();
    let path = site.path().join("login.wasm");
    let mut bytes = fs::read(component(TEST_AUTHORIZER)).unwrap();
    replace_file(&path, &bytes);
    let server = site.serve();
    drop(server.connect("?decide=allow&who=alice").await);
    // A custom section with the name `v`: another version.
    bytes.extend([0, 2, 1, b'v']);
    replace_file(&path, &bytes);
    server.log.wait_for_line(&["live", "plugin=login"]).await;
    for _ in 0..30 {
        assert_eq!(server.try_connect("?decide=fail", &[]).await.err(), Some(500));
    }
    drop(server.connect("?decide=allow&who=alice").await);
    assert!(!server.log.text().contains("events failed"), "{}", server.log.text());
}

#[tokio::test]
async fn no_version_is_on_probation_if_the_manifest_says_so_or_under_dev() {
    let off = site("[probation]\nevents = \"none\"\n").serve();
    let dev = site("").start(&["dev"]);
    for server in [off, dev] {
        let mut peers = connect(&server, 4).await;
        fail(&mut peers, 40).await;
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert_eq!(peers[0].ask("version").await, "00000001");
        assert!(!server.log.text().contains("events failed"), "{}", server.log.text());
    }
}

#[tokio::test]
async fn the_manifest_sets_how_many_events_and_peers_decide() {
    let server = site("[probation]\nevents = 4\npeers = 1\n").serve();
    let mut peers = connect(&server, 1).await; // its $connect succeeds
    fail(&mut peers, 2).await;
    assert_eq!(peers[0].ask("version").await, "00000001");
    replace_guest(&server, 2);
    wait_for_version(&mut peers[0], 2, 1).await;
    fail(&mut peers, 3).await;
    server.log.wait_for_line(RETURNED).await;
    assert_eq!(peers[0].ask("version").await, "00000001");
}

#[tokio::test]
async fn a_roll_back_of_a_plugin_that_is_not_in_the_deployment_changes_nothing_and_says_why() {
    let server = site("").serve();
    let mut peer = server.connect("").await;
    for (arguments, reason) in [
        (["--rollback", "1", "--plugin", "other"], "deployment 1 has no version of other"),
        (["--rollback", "9", "--plugin", "guest"], "deployment 9 is not kept"),
    ] {
        let (code, stdout, stderr) = deployments(&server, &arguments).await;
        assert_eq!((code, &*stdout), (1, ""));
        assert!(stderr.contains(reason), "{stderr}");
    }
    let (code, _, stderr) = deployments(&server, &["--rollback", "1", "--plugin", "a/b"]).await;
    assert_eq!(code, 2, "{stderr}");
    assert!(listed(&server).await.starts_with("*    1  "));
    assert_eq!(peer.ask("version").await, "00000001");
}

#[tokio::test]
async fn a_plugin_that_is_rolled_back_gets_the_grants_of_the_current_manifest_and_keeps_its_version() {
    let server = site("").serve();
    let mut peer = server.connect("").await;
    replace_guest(&server, 2);
    wait_for_version(&mut peer, 2, 1).await;
    assert_eq!(peer.ask("bucket shared").await, "opened");
    let text = fs::read_to_string(server.site.manifest()).unwrap();
    let fewer = text.replace(r#""ends", "shared""#, r#""ends""#);
    replace_file(&server.site.manifest(), &fewer);
    server.log.wait_for_line(&["live", "manifest="]).await;
    assert!(peer.ask("bucket shared").await.starts_with("error"));
    let (code, _, stderr) = deployments(&server, &["--rollback", "1", "--plugin", "guest"]).await;
    assert_eq!(code, 0, "{stderr}");
    assert_eq!(peer.ask("version").await, "00000001");
    assert!(peer.ask("bucket shared").await.starts_with("error"), "a roll-back brings no grant back");
    // A change of the manifest keeps the version that the operator wants; a change of the file replaces it.
    replace_file(&server.site.manifest(), fewer + "other = \"guest\"\n");
    server.log.wait_for_line(&["live", "manifest=", "deployment=5"]).await;
    assert_eq!(peer.ask("version").await, "00000001");
    replace_guest(&server, 3);
    wait_for_version(&mut peer, 3, 1).await;
}
