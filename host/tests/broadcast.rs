//! The calls that AWS does not have: a DELETE with a close frame, the list of a stage's connections, and the broadcast.

use serde_json::{Value, json};

use crate::harness::{HOSTILE, HOSTILE_GRANTS, HttpResponse, Peer, Server, Site, component, eventually, manifest};
use crate::signer::{KEY, Request, SECRET, Signer};

const PATH: &str = "/dev/@jackfield/connections";

async fn delete(server: &Server, id: &str, headers: &str) -> HttpResponse {
    let path = format!("/dev/@connections/{id}");
    server.http(&format!("DELETE {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}\r\n")).await
}

async fn list(server: &Server, query: &str) -> Value {
    let answer = server.request("GET", &format!("{PATH}{query}"), "").await;
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/json")), "{query}");
    serde_json::from_str(&answer.body).unwrap()
}

async fn broadcast(server: &Server, query: &str, body: &str) -> Value {
    let answer = server.request("POST", &format!("{PATH}{query}"), body).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    serde_json::from_str(&answer.body).unwrap()
}

/// Ids in the order in which they are listed.
fn ids(page: &Value) -> Vec<&str> {
    page["connections"].as_array().unwrap().iter().map(|one| one["connectionId"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_delete_can_set_the_close_code_and_reason() {
    let server = Site::hostile().serve();
    for (headers, code, reason) in [
        ("", 1000, ""),
        ("X-Jackfield-Close-Code: 1000\r\n", 1000, ""),
        ("X-Jackfield-Close-Code: 1008\r\nX-Jackfield-Close-Reason: no credit left\r\n", 1008, "no credit left"),
        ("x-jackfield-close-code: 3000\r\n", 3000, ""),
        ("x-jackfield-close-code: 4999\r\nx-jackfield-close-reason: größer\r\n", 4999, "größer"),
        ("x-jackfield-close-reason: bye\r\n", 1000, "bye"),
        (&format!("x-jackfield-close-reason: {:x<123}\r\n", ""), 1000, &format!("{:x<123}", "")),
    ] {
        let mut peer = server.connect("").await;
        let id = peer.id().await;
        assert_eq!(delete(&server, &id, headers).await.status, 204, "{headers}");
        assert_eq!(peer.closed().await, (code, reason.to_owned()), "{headers}");
        let recorded = if (code, reason) == (1000, "") { "Connection Closed Normally" } else { reason };
        assert_eq!(server.wait_for_disconnect(&id).await, format!("{code} {recorded}"), "{headers}");
    }
}

#[tokio::test]
async fn a_close_frame_that_cannot_be_sent_is_a_bad_request_and_closes_nothing() {
    let server = Site::hostile().serve();
    let mut peer = server.connect("").await;
    let id = peer.id().await;
    for headers in [
        "x-jackfield-close-code: 0\r\n",
        "x-jackfield-close-code: 999\r\n",
        "x-jackfield-close-code: 1005\r\n",
        "x-jackfield-close-code: 1006\r\n",
        "x-jackfield-close-code: 1015\r\n",
        "x-jackfield-close-code: 2999\r\n",
        "x-jackfield-close-code: 5000\r\n",
        "x-jackfield-close-code: 99999\r\n",
        "x-jackfield-close-code: bye\r\n",
        "x-jackfield-close-code:\r\n",
        &format!("x-jackfield-close-reason: {:x<124}\r\n", ""),
    ] {
        let answer = delete(&server, &id, headers).await;
        assert_eq!((answer.status, answer.header("x-amzn-ErrorType")), (400, Some("BadRequestException")), "{headers}");
    }
    assert_eq!(peer.ask("echo still here").await, "still here");
}

/// Opens `count` connections with the attribute `room=NAME`, and returns them in the order of their ids.
async fn join_room(server: &Server, name: &str, count: usize) -> Vec<(String, Peer)> {
    let mut peers = Vec::new();
    for _ in 0..count {
        let mut peer = server.try_connect("", &[("user-agent", "tests/1")]).await.unwrap();
        let id = peer.id().await;
        assert_eq!(peer.ask(&format!("row room={name}")).await, "added");
        peers.push((id, peer));
    }
    peers.sort_by(|(one, _), (other, _)| one.cmp(other));
    peers
}

#[tokio::test]
async fn the_list_has_every_connection_of_a_stage_with_its_attributes() {
    let server = Site::hostile().serve();
    assert_eq!(list(&server, "").await, json!({ "connections": [] }));
    let mut lobby = join_room(&server, "lobby", 2).await;
    let garden = join_room(&server, "garden", 1).await;
    assert_eq!(lobby[0].1.ask("row room=second room").await, "added");
    assert_eq!(lobby[0].1.ask("row user=Jo").await, "added");

    let page = list(&server, "?name=room&value=lobby").await;
    assert_eq!(ids(&page), [&*lobby[0].0, &*lobby[1].0]);
    assert_eq!(page.get("cursor"), None);
    let one = &page["connections"][0];
    assert_eq!(one["attributes"], json!({ "room": ["lobby", "second room"], "user": ["Jo"] }));
    let answer = server.request("GET", &format!("/dev/@connections/{}", lobby[0].0), "").await;
    let document: Value = serde_json::from_str(&answer.body).unwrap();
    for key in ["connectedAt", "lastActiveAt", "identity"] {
        assert_eq!(one[key], document[key], "{key}");
    }
    assert_eq!(one["identity"], json!({ "sourceIp": "127.0.0.1", "userAgent": "tests/1" }));

    assert_eq!(ids(&list(&server, "?name=room&value=second+room").await), [&*lobby[0].0]);
    assert_eq!(ids(&list(&server, "?name=room&value=second%20room").await), [&*lobby[0].0]);
    assert_eq!(ids(&list(&server, "?name=room&value=nowhere").await), [""; 0]);
    let mut all = vec![&*lobby[0].0, &lobby[1].0, &garden[0].0];
    all.sort_unstable();
    assert_eq!(ids(&list(&server, "").await), all);

    let (left, peer) = lobby.remove(0);
    peer.close(1000, "").await;
    eventually("the closed connection is not listed", async || !ids(&list(&server, "").await).contains(&&*left)).await;
}

#[tokio::test]
async fn a_long_list_is_returned_page_by_page() {
    const PAGE: usize = 256;
    let server = Site::hostile().serve();
    let mut peers = Vec::new();
    for _ in 0..=PAGE {
        peers.push(server.connect("").await);
    }
    let first = list(&server, "").await;
    assert_eq!(ids(&first).len(), PAGE);
    let cursor = first["cursor"].as_str().unwrap();
    let last = list(&server, &format!("?cursor={}", cursor.replace('=', "%3D"))).await;
    assert_eq!((ids(&last).len(), last.get("cursor")), (1, None));
    assert!(!ids(&first).contains(&ids(&last)[0]));
}

#[tokio::test]
async fn a_broadcast_reaches_all_matching_connections_and_counts_them() {
    let server = Site::hostile().serve();
    assert_eq!(broadcast(&server, "", "anybody?").await, json!({ "sent": 0, "refused": 0 }));
    let mut lobby = join_room(&server, "lobby", 3).await;
    let mut garden = join_room(&server, "garden", 1).await;

    assert_eq!(broadcast(&server, "?name=room&value=lobby", "to the lobby").await, json!({ "sent": 3, "refused": 0 }));
    assert_eq!(broadcast(&server, "", "an alle: größe").await, json!({ "sent": 4, "refused": 0 }));
    assert_eq!(broadcast(&server, "?name=room&value=nowhere", "x").await, json!({ "sent": 0, "refused": 0 }));
    for (_, peer) in &mut lobby {
        assert_eq!((peer.text().await, peer.text().await), ("to the lobby".to_owned(), "an alle: größe".to_owned()));
    }
    assert_eq!(garden[0].1.text().await, "an alle: größe");

    let (id, mut left) = lobby.remove(0);
    assert_eq!(delete(&server, &id, "").await.status, 204);
    assert_eq!(broadcast(&server, "?name=room&value=lobby", "after").await, json!({ "sent": 2, "refused": 0 }));
    assert_eq!(left.closed().await, (1000, String::new()));
}

#[tokio::test]
async fn a_slow_peer_is_counted_as_refused_and_delays_no_other() {
    let settings = "connection = { outbox_messages = 1, write_timeout = \"10min\", ping_interval = \"none\" }";
    let server = Site::new(&manifest(&component(HOSTILE), settings, HOSTILE_GRANTS)).serve();
    let _slow = server.connect("").await;
    let mut quick = server.connect("").await;
    let long = "x".repeat(100_000);
    for round in 0.. {
        // The buffers of both sockets hold about 10 MB before a write blocks.
        assert!(round < 1000, "an outbox of one message accepted {round} messages");
        let counts = broadcast(&server, "", &long).await;
        assert_eq!(quick.text().await.len(), 100_000);
        if counts == json!({ "sent": 1, "refused": 1 }) {
            break;
        }
        assert_eq!(counts, json!({ "sent": 2, "refused": 0 }));
    }
}

#[tokio::test]
async fn an_invalid_call_is_rejected_with_its_error_type() {
    let server = Site::hostile().serve();
    let mut peer = server.connect("").await;
    let long = "x".repeat(128 * 1024 + 1);
    for (method, query, body, status, kind) in [
        ("GET", "?name=room", "", 400, "BadRequestException"),
        ("GET", "?value=lobby", "", 400, "BadRequestException"),
        ("POST", "?name=room", "hello", 400, "BadRequestException"),
        ("GET", "?cursor=nonsense", "", 400, "BadRequestException"),
        ("GET", "?cursor=a&cursor=b", "", 400, "BadRequestException"),
        ("GET", "?store=", "", 400, "BadRequestException"),
        ("POST", "?store=a%20b", "hello", 400, "BadRequestException"),
        ("POST", "?store=a&store=b", "hello", 400, "BadRequestException"),
        ("POST", "?name=room&value=a&value=b", "hello", 400, "BadRequestException"),
        ("POST", "", &long, 413, "PayloadTooLargeException"),
        ("DELETE", "", "", 403, "ForbiddenException"),
        ("PUT", "", "hello", 403, "ForbiddenException"),
    ] {
        let answer = server.request(method, &format!("{PATH}{query}"), body).await;
        assert_eq!((answer.status, answer.header("x-amzn-ErrorType")), (status, Some(kind)), "{method} {query}");
    }
    for path in ["/dev/@jackfield", "/dev/@jackfield/", "/dev/@jackfield/connections/x", "/prod/@jackfield/connections"]
    {
        assert_eq!(server.request("GET", path, "").await.status, 403, "{path}");
    }
    assert_eq!(peer.ask("echo nothing came").await, "nothing came");
}

#[tokio::test]
async fn the_list_and_the_broadcast_need_the_same_signatures_and_share_the_throttle() {
    let settings = format!(
        "access_keys = {{ {KEY} = {{ secret = {SECRET:?} }} }}\nmanagement = {{ throttle = {{ rate = 0.01, burst = 3 }} }}"
    );
    let server = Site::new(&manifest(&component(HOSTILE), &settings, HOSTILE_GRANTS)).serve();
    let mut peer = server.connect("").await;
    assert_eq!(server.request("GET", PATH, "").await.status, 403);
    assert_eq!(server.request("POST", PATH, "hello").await.status, 403);
    let signer = Signer::default();
    let head = signer.head(&Request { method: "POST", path: PATH, body: "hello", headers: &[] });
    assert_eq!(server.http(&format!("{head}jello")).await.status, 403);
    assert_eq!(signer.send(&server, "GET", &format!("{PATH}?name=room&value=lobby"), "").await.status, 200);
    assert_eq!(signer.send(&server, "POST", PATH, "signed").await.status, 200);
    assert_eq!(peer.text().await, "signed");
    assert_eq!(signer.send(&server, "GET", "/dev/@connections/foo", "").await.status, 400);
    assert_eq!(signer.send(&server, "GET", PATH, "").await.status, 429);
    assert_eq!(peer.ask("echo still here").await, "still here");
}

#[tokio::test]
async fn a_signed_delete_uses_the_close_frame_of_its_signed_headers() {
    let settings = format!("access_keys = {{ {KEY} = {{ secret = {SECRET:?} }} }}");
    let server = Site::new(&manifest(&component(HOSTILE), &settings, HOSTILE_GRANTS)).serve();
    let mut peer = server.connect("").await;
    let path = format!("/dev/@connections/{}", peer.id().await.replace('=', "%3D"));
    let headers = &[("x-jackfield-close-code", "4001"), ("x-jackfield-close-reason", "signed out")];
    let head = Signer::default().head(&Request { method: "DELETE", path: &path, body: "", headers });
    assert_eq!(server.http(&head.replace("signed out", "thrown out")).await.status, 403);
    assert_eq!(server.http(&head).await.status, 204);
    assert_eq!(peer.closed().await, (4001, "signed out".to_owned()));
}
