//! Revoked keys, on one server and on several nodes.

use std::fs;

use crate::api_keys::hash;
use crate::deployments::{ADMIN, admin_address};
use crate::harness::{HOSTILE, HOSTILE_GRANTS, Server, Site, component, eventually, make_old};
use crate::redis_server::Redis;
use crate::signer::Signer;

const ALICE: &str = "the key of alice, 1d41d8cd98f00b20";
const BOB: &str = "the key of bob, 4e9800998ecf8427e";
const SECRET: &str = "0123456789012345678901234567890123456789";

/// The keys of the manifest. Both sections have one with the name `twin`.
fn keys() -> String {
    let api_key = |name: &str, key: &str| format!("[api_keys.{name}]\nhash = \"{}\"\n", hash(key));
    let access_key = |id: &str| format!("[access_keys.{id}]\nsecret = \"{SECRET}\"\n");
    [api_key("alice", ALICE), api_key("bob", BOB), api_key("twin", "twin"), access_key("AKID"), access_key("twin")]
        .concat()
}

fn manifest(backend: &str, keys: &str) -> String {
    let guest = component(HOSTILE);
    format!(
        "{ADMIN}\n{backend}\n{keys}\n[integrations.guest]\ncomponent = {guest:?}\n{HOSTILE_GRANTS}\n[routes]\n\
         \"$connect\" = {{ integration = \"guest\", api_key_required = true }}\n\
         \"$default\" = {{ integration = \"guest\", route_response = true }}\n"
    )
}

fn site(backend: &str) -> Site {
    Site::new(&manifest(backend, &keys()))
}

/// The section of a backend after the others.
fn section(redis: &Redis) -> String {
    format!("[backend]\nurl = \"unix://{}\"\nlease = \"4s\"\n", redis.socket().display())
}

/// Runs the verb `revoke` against a server. Returns the exit code, stdout and stderr.
async fn revoke(server: &Server, arguments: &[&str]) -> (i32, String, String) {
    let address = admin_address(server).await;
    server.site.run(&[&["revoke", "--admin", &address], arguments].concat())
}

async fn assert_done(server: &Server, arguments: &[&str], done: &str) {
    let (code, stdout, stderr) = revoke(server, arguments).await;
    assert_eq!((code, &*stdout), (0, &*format!("{done}\n")), "{stderr}");
}

/// The status of a handshake with this key: 101 if it is accepted.
async fn status(server: &Server, key: &str) -> u16 {
    server.try_connect("", &[("x-api-key", key)]).await.err().unwrap_or(101)
}

async fn wait_for_status(server: &Server, key: &str, expected: u16) {
    eventually("the key has another status", || async { status(server, key).await == expected }).await;
}

/// Whether a signed call of `@connections` is accepted. There is no such connection.
async fn is_accepted(server: &Server, key: &'static str) -> bool {
    let signer = Signer { key, secret: SECRET, ..Signer::default() };
    signer.send(server, "GET", "/dev/@connections/AAAAAAAAAAAAAAA%3D", "").await.status != 403
}

#[tokio::test]
async fn a_revoked_key_is_rejected_by_every_node_until_it_is_restored() {
    let redis = Redis::start().await;
    let nodes = [site(&section(&redis)).serve(), site(&section(&redis)).serve()];
    for node in &nodes {
        assert_eq!((status(node, ALICE).await, is_accepted(node, "AKID").await), (101, true));
    }
    let mut open = nodes[1].try_connect("", &[("x-api-key", ALICE)]).await.unwrap();
    assert_done(&nodes[0], &["alice"], "revoked api_keys.alice").await;
    assert_done(&nodes[1], &["AKID"], "revoked access_keys.AKID").await;
    for node in &nodes {
        wait_for_status(node, ALICE, 403).await;
        eventually("a signed call is rejected", || async { !is_accepted(node, "AKID").await }).await;
        // Others are not affected.
        assert_eq!((status(node, BOB).await, is_accepted(node, "twin").await), (101, true));
        node.log.wait_for_line(&["INFO", "applied the list of revoked keys", "api_keys.alice"]).await;
    }
    // As when a key is removed from the manifest.
    assert_eq!(open.ask("echo still here").await, "still here");
    let (_, listed, _) = revoke(&nodes[0], &["--list"]).await;
    assert!(listed.contains("api_keys.alice\n") && listed.contains("access_keys.AKID\n"), "{listed}");

    // A node that starts later knows of it from the start.
    let late = site(&section(&redis)).serve();
    assert_eq!((status(&late, ALICE).await, is_accepted(&late, "AKID").await), (403, false));

    assert_done(&late, &["alice", "--undo"], "restored api_keys.alice").await;
    for node in &nodes {
        wait_for_status(node, ALICE, 101).await;
        assert!(!is_accepted(node, "AKID").await);
    }
    let (code, _, error) = revoke(&nodes[0], &["alice", "--undo"]).await;
    assert_eq!(code, 1);
    assert!(error.contains("no key \"alice\" is revoked; the revoked keys are access_keys.AKID"), "{error}");
}

#[tokio::test]
async fn a_redis_that_lost_the_revoked_keys_gets_them_from_the_nodes() {
    let mut redis = Redis::start().await;
    let nodes = [site(&section(&redis)).serve(), site(&section(&redis)).serve()];
    assert_done(&nodes[0], &["alice"], "revoked api_keys.alice").await;
    wait_for_status(&nodes[1], ALICE, 403).await;
    redis.kill();
    // A node that does not reach the store keeps what it knows, and changes nothing.
    eventually("a node knows that Redis is away", || async { status(&nodes[1], BOB).await == 503 }).await;
    assert_eq!(status(&nodes[1], ALICE).await, 403);
    let (code, _, error) = revoke(&nodes[1], &["bob"]).await;
    assert_eq!(code, 1);
    assert!(error.contains("503 Service Unavailable: the store failed: "), "{error}");
    redis.restart().await;
    eventually("a node is back", || async { status(&nodes[1], BOB).await == 101 }).await;
    assert_eq!(status(&nodes[1], ALICE).await, 403);
    eventually("the store has the list again", || async {
        let late = site(&section(&redis)).serve();
        status(&late, ALICE).await == 403
    })
    .await;
}

#[tokio::test]
async fn a_revoked_key_stays_rejected_after_changes_of_the_manifest_and_a_restart() {
    let site = site("");
    let server = site.clone().serve();
    assert_done(&server, &["api_keys.alice"], "revoked api_keys.alice").await;
    wait_for_status(&server, ALICE, 403).await;
    let write = |keys: &str| fs::write(site.manifest(), manifest("", keys)).unwrap();
    // Another name does not make it another key.
    write(&keys().replace("api_keys.alice", "api_keys.renamed"));
    server.log.wait_for_line(&["applied the access settings", "added=\"api_keys.renamed\""]).await;
    assert_eq!((status(&server, ALICE).await, status(&server, BOB).await), (403, 101));
    // Another key of the same name is another key.
    let other = "another key of alice, 9c2f8b1e";
    write(&keys().replace(&hash(ALICE), &hash(other)));
    wait_for_status(&server, other, 101).await;
    assert_eq!(status(&server, ALICE).await, 403);
    write(&keys());
    wait_for_status(&server, other, 403).await;
    assert_eq!(status(&server, ALICE).await, 403);
    server.signal("KILL");
    drop(server);

    make_old(&site.manifest());
    let server = site.clone().serve();
    assert_eq!((status(&server, ALICE).await, status(&server, BOB).await), (403, 101));
    assert_done(&server, &["alice", "--undo"], "restored api_keys.alice").await;
    wait_for_status(&server, ALICE, 101).await;
    let log = server.log.text();
    assert!(!log.contains(ALICE) && !log.contains(SECRET), "{log}");
}

#[tokio::test]
async fn an_unknown_key_is_an_error_with_the_known_ones() {
    let server = site("").serve();
    let known = "its keys are access_keys.AKID, access_keys.twin, api_keys.alice, api_keys.bob, api_keys.twin";
    for (arguments, expected) in [
        (&["carol"][..], &*format!("404 Not Found: the manifest has no key \"carol\"; {known}")),
        (&["twin"], "409 Conflict: there are several keys \"twin\": name one of access_keys.twin, api_keys.twin"),
        (&["bob", "--undo"], "404 Not Found: no key \"bob\" is revoked; there is none"),
    ] {
        let (code, _, error) = revoke(&server, arguments).await;
        assert_eq!(code, 1);
        assert!(error.contains(expected), "{error}");
    }
    assert_done(&server, &["access_keys.twin"], "revoked access_keys.twin").await;
    eventually("a signed call is rejected", || async { !is_accepted(&server, "twin").await }).await;
    assert_eq!(status(&server, "twin").await, 101);
    // Once more changes nothing.
    assert_done(&server, &["access_keys.twin"], "revoked access_keys.twin").await;
    // Without any key, calls must still be signed.
    assert_done(&server, &["AKID"], "revoked access_keys.AKID").await;
    eventually("an unsigned call is rejected", || async { server.post("AAAAAAAAAAAAAAA=", "x").await.status == 403 })
        .await;
    for arguments in [&["alice/.."][..], &[], &["alice", "--list"]] {
        assert_eq!(revoke(&server, arguments).await.0, 2, "{arguments:?}");
    }
}
