//! Who may call `@connections`: signatures, where they are wanted, and how often one caller may call.

use std::fs;

use serde_json::Value;

use crate::harness::{Answer, HOSTILE, HOSTILE_GRANTS, Peer, Server, Site, component, eventually, manifest};
use crate::signer::{KEY, Request, SECRET, Signer};

const FIVE_MINUTES: u64 = 5 * 60;
/// More than a call takes on a busy machine.
const SLACK: u64 = 40;

fn site(rest: &str) -> Site {
    Site::new(&manifest(&component(HOSTILE), rest, HOSTILE_GRANTS))
}

/// One with an access key.
fn keyed(rest: &str) -> Site {
    site(&format!("{rest}\naccess_keys = {{ {KEY} = {{ secret = {SECRET:?} }} }}"))
}

/// A path in the SDKs' form.
fn path(id: &str) -> String {
    format!("/dev/@connections/{}", id.replace('=', "%3D"))
}

async fn connected(server: &Server) -> (Peer, String) {
    let mut peer = server.connect("").await;
    let id = peer.id().await;
    (peer, id)
}

fn assert_forbidden(answer: &Answer, what: &str) {
    assert_eq!((answer.status, &*answer.body), (403, r#"{"message":"Forbidden"}"#), "{what}");
    assert_eq!(answer.header("x-amzn-ErrorType"), Some("ForbiddenException"), "{what}");
    assert_eq!(answer.header("x-amzn-RequestId").map(str::len), Some(16), "{what}");
}

#[tokio::test]
async fn where_there_are_access_keys_what_is_signed_comes_in_and_what_is_not_is_forbidden() {
    let server = keyed("").serve();
    let (mut peer, id) = connected(&server).await;
    let signer = Signer::default();

    assert_eq!(signer.send(&server, "POST", &path(&id), "hello, größe").await.status, 200);
    assert_eq!(peer.text().await, "hello, größe");
    let document = signer.send(&server, "GET", &path(&id), "").await;
    assert_eq!(serde_json::from_str::<Value>(&document.body).unwrap()["identity"]["sourceIp"], "127.0.0.1");

    for (method, body) in [("POST", "hello"), ("GET", ""), ("DELETE", "")] {
        assert_forbidden(&server.manage(method, &path(&id), body).await, method);
        // Whether there is such a connection is told to nobody else.
        assert_forbidden(&server.manage(method, "/dev/@connections/foo", body).await, method);
    }
    let line = server.log.line_with(&["a call of @connections is forbidden: it is not signed"]).await;
    assert!(line.contains("WARN") && line.contains("source=127.0.0.1") && line.contains("method=POST"), "{line}");

    assert_eq!(signer.send(&server, "POST", "/dev/@connections/foo", "hello").await.status, 400);
    assert_eq!(signer.send(&server, "DELETE", &path(&id), "").await.status, 204);
    assert_eq!(signer.send(&server, "POST", &path(&id), "late").await.status, 410);
    assert_eq!(peer.closed().await, (1000, String::new()));
}

#[tokio::test]
async fn what_was_signed_by_somebody_else_or_changed_on_its_way_is_forbidden_and_the_log_says_why() {
    let server = keyed("").serve();
    let (mut peer, id) = connected(&server).await;
    let (_other, other_id) = connected(&server).await;
    let (signer, path) = (Signer::default(), path(&id));
    let head = |signer: &Signer, method, body| signer.head(&Request { method, path: &path, body, headers: &[] });

    let guess = Signer { secret: "another secret, as long as the right one", ..signer.clone() };
    let stranger = Signer { key: "AKIDOTHER", ..signer.clone() };
    let yesterday = Signer::seconds_ago(24 * 60 * 60);
    let tomorrow = Signer::seconds_ahead(24 * 60 * 60);
    let wrong = "the signature is wrong";
    let signed_hash = ("x-amz-content-sha256", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    let hashed = signer.head(&Request { method: "POST", path: &path, body: "", headers: &[signed_hash] });
    for (what, request, why) in [
        ("another secret", head(&guess, "POST", "hello") + "hello", wrong),
        ("another key", head(&stranger, "POST", "hello") + "hello", r#"there is no access key "AKIDOTHER""#),
        ("of yesterday", head(&yesterday, "POST", "hello") + "hello", "it was signed 86400 s ago"),
        ("of tomorrow", head(&tomorrow, "POST", "hello") + "hello", "s in the future"),
        ("another body", head(&signer, "POST", "hello") + "jello", wrong),
        ("another method", head(&signer, "GET", "").replace("GET ", "DELETE "), wrong),
        ("another id", (head(&signer, "POST", "hello") + "hello").replace(&*id.replace('=', "%3D"), &other_id), wrong),
        ("another query", (head(&signer, "POST", "hello") + "hello").replace(" HTTP/1.1", "?a=b HTTP/1.1"), wrong),
        ("another host", (head(&signer, "POST", "hello") + "hello").replace("host: localhost", "host: other"), wrong),
        (
            "a body with the hash of another one",
            hashed.replace("Content-Length: 0", "Content-Length: 5") + "hello",
            "the body is another one than that which was signed",
        ),
        (
            "a header of ours that was not signed",
            head(&signer, "DELETE", "")
                .replace("Connection: close", "Connection: close\r\nX-Jackfield-Close-Code: 4000"),
            "does not cover the header x-jackfield-close-code",
        ),
    ] {
        assert_forbidden(&server.http(&request).await, what);
        server.log.line_with(&["a call of @connections is forbidden", why]).await;
    }
    assert_eq!(signer.send(&server, "POST", &path, "right").await.status, 200);
    assert_eq!(peer.text().await, "right", "something else was delivered");
    assert!(!server.log.text().contains(SECRET), "the log has the secret");
}

#[tokio::test]
async fn a_signature_is_good_for_five_minutes_either_way_and_as_often_as_it_comes() {
    let server = keyed("").serve();
    let (mut peer, id) = connected(&server).await;
    for signer in [Signer::seconds_ago(FIVE_MINUTES - SLACK), Signer::seconds_ahead(FIVE_MINUTES - SLACK)] {
        let head = signer.head(&Request { method: "POST", path: &path(&id), body: "hello", headers: &[] });
        for _ in 0..2 {
            assert_eq!(server.http(&format!("{head}hello")).await.status, 200);
            assert_eq!(peer.text().await, "hello");
        }
    }
    for signer in [Signer::seconds_ago(FIVE_MINUTES + 2), Signer::seconds_ahead(FIVE_MINUTES + SLACK)] {
        assert_forbidden(&signer.send(&server, "POST", &path(&id), "hello").await, "too old, or too new");
    }
}

#[tokio::test]
async fn a_presigned_url_is_as_good_as_headers_until_it_expires() {
    let server = keyed("").serve();
    let (_peer, id) = connected(&server).await;
    let path = path(&id);
    let hour_ago = Signer::seconds_ago(3600);
    for (what, url, status) in [
        ("fresh", Signer::default().presigned("GET", &path, Some(60)), 200),
        ("without an expiry", Signer::default().presigned("GET", &path, None), 200),
        ("not expired", hour_ago.presigned("GET", &path, Some(3600 + SLACK)), 200),
        ("expired", hour_ago.presigned("GET", &path, Some(3599)), 403),
        ("without an expiry, an hour old", hour_ago.presigned("GET", &path, None), 403),
        ("for ever", Signer::default().presigned("GET", &path, Some(604_801)), 403),
        ("of another method", Signer::default().presigned("DELETE", &path, Some(60)), 403),
        ("lengthened", hour_ago.presigned("GET", &path, Some(60)).replace("Expires=60", "Expires=86400"), 403),
    ] {
        assert_eq!(server.manage("GET", &url, "").await.status, status, "{what}");
    }
    assert!(!server.log.text().contains("X-Amz-Signature"), "the log has signatures that may still be good");
}

#[tokio::test]
async fn a_signed_body_that_is_too_long_is_413_and_an_unsigned_one_forbidden() {
    let server = keyed("connection = { message_size = \"1KiB\" }").serve();
    let (mut peer, id) = connected(&server).await;
    let signer = Signer::default();
    assert_eq!(signer.send(&server, "POST", &path(&id), &"x".repeat(1024)).await.status, 200);
    assert_eq!(peer.text().await.len(), 1024);
    let answer = signer.send(&server, "POST", &path(&id), &"x".repeat(1025)).await;
    assert_eq!(answer.status, 413);
    assert_eq!(answer.header("x-amzn-ErrorType"), Some("PayloadTooLargeException"));
    let long = "x".repeat(1024 * 1024);
    assert_eq!(signer.send(&server, "POST", &path(&id), &long).await.status, 413);
    assert_forbidden(&server.post(&id, &long).await, "too long, and not signed");
    let guess = Signer { secret: "a guess", ..Signer::default() };
    assert_forbidden(&guess.send(&server, "POST", &path(&id), &long).await, "too long, and wrongly signed");
}

#[tokio::test]
async fn the_manifest_says_where_signatures_are_wanted() {
    for (site, unsigned) in [
        (site(""), 200),
        (site("management = { signatures = \"auto\" }"), 200),
        (site("management = { signatures = \"required\" }"), 403),
        (keyed("management = { signatures = \"auto\" }"), 403),
        (keyed("management = { signatures = \"off\" }"), 200),
    ] {
        let server = site.serve();
        let (_peer, id) = connected(&server).await;
        let written = fs::read_to_string(server.site.manifest()).unwrap();
        assert_eq!(server.post(&id, "hello").await.status, unsigned, "{written}");
    }
}

#[tokio::test]
async fn a_listener_that_others_can_reach_wants_signatures() {
    let server = keyed("").serve_publicly(&[]);
    let (mut peer, id) = connected(&server).await;
    assert_forbidden(&server.post(&id, "hello").await, "not signed");
    assert_eq!(Signer::default().send(&server, "POST", &path(&id), "signed").await.status, 200);
    assert_eq!(peer.text().await, "signed");

    let insisted = keyed("").serve_publicly(&["--insecure-management"]);
    let (mut peer, id) = connected(&insisted).await;
    assert_eq!(insisted.post(&id, "unsigned").await.status, 200);
    assert_eq!(peer.text().await, "unsigned");

    for (site, why) in [
        (site(""), "there is no access key that could sign"),
        (keyed("management = { signatures = \"off\" }"), "signatures are off in [management]"),
    ] {
        let (code, stdout, stderr) = site.run(&["serve", "--listen", "0.0.0.0:0"]);
        assert_eq!((code, &*stdout), (1, ""));
        let told = ["refusing to listen on 0.0.0.0:0", why, "[access_keys.NAME]", "--insecure-management"];
        assert!(told.iter().all(|words| stderr.contains(words)), "{stderr}");
    }
}

#[tokio::test]
async fn a_secret_may_come_from_the_environment_and_is_told_nowhere() {
    let written = format!("access_keys = {{ {KEY} = {{ secret_env = \"CHAT_SECRET\" }} }}");
    let site_of = || site(&written);
    let (code, _, stderr) = site_of().run(&["check"]);
    let told = "found \"CHAT_SECRET\", which is not set in the environment, expected a variable that holds the secret";
    assert_eq!(code, 1);
    assert!(stderr.contains(&format!("access_keys.{KEY}.secret_env: {told}")), "{stderr}");

    let site = site_of();
    let mut command = site.command(&["serve"]);
    command.env("CHAT_SECRET", SECRET).env("RUST_LOG", "debug,jackfield=trace");
    let server = site.launch(command);
    let (_peer, id) = connected(&server).await;
    assert_eq!(Signer::default().send(&server, "POST", &path(&id), "hello").await.status, 200);
    let guess = Signer { secret: "a guess", ..Signer::default() };
    assert_forbidden(&guess.send(&server, "POST", &path(&id), "hello").await, "a guess");
    server.log.line_with(&["the signature is wrong"]).await;
    assert!(!server.log.text().contains(SECRET), "the log has the secret");
}

#[tokio::test]
async fn a_key_that_the_manifest_no_longer_has_is_refused_from_the_reload_on_and_no_roll_back_revives_it() {
    let server = keyed("admin = { listen = \"127.0.0.1:0\" }").serve();
    let (_peer, id) = connected(&server).await;
    let (old, new) = (Signer::default(), Signer { key: "AKIDNEW", ..Signer::default() });
    assert_forbidden(&new.send(&server, "GET", &path(&id), "").await, "not there yet");
    let written = fs::read_to_string(server.site.manifest()).unwrap();
    fs::write(server.site.manifest(), written.replace(KEY, "AKIDNEW")).unwrap();
    eventually("the new key is good", async || new.send(&server, "GET", &path(&id), "").await.status == 200).await;
    assert_forbidden(&old.send(&server, "GET", &path(&id), "").await, "no longer there");

    let line = server.log.line_with(&["admin on http://"]).await;
    let admin = line.split_once("http://").unwrap().1.split('/').next().unwrap();
    let (code, _, stderr) = server.site.run(&["deployments", "--admin", admin, "--rollback", "1"]);
    assert_eq!(code, 0, "{stderr}");
    assert_forbidden(&old.send(&server, "GET", &path(&id), "").await, "not there again");
    assert_eq!(new.send(&server, "GET", &path(&id), "").await.status, 200);
}

#[tokio::test]
async fn a_reload_never_opens_what_others_can_reach() {
    let server = keyed("").serve_publicly(&[]);
    let (_peer, id) = connected(&server).await;
    let written = fs::read_to_string(server.site.manifest()).unwrap();
    fs::write(server.site.manifest(), format!("management = {{ signatures = \"off\" }}\n{written}")).unwrap();
    server.log.line_with(&["live", "manifest="]).await;
    assert_forbidden(&server.post(&id, "hello").await, "off");
    assert_eq!(Signer::default().send(&server, "GET", &path(&id), "").await.status, 200);
}

#[tokio::test]
async fn each_access_key_may_call_as_often_as_the_manifest_says() {
    let keys = format!("{KEY} = {{ secret = {SECRET:?} }}, AKIDOTHER = {{ secret = {SECRET:?} }}");
    let server =
        site(&format!("management = {{ throttle = {{ rate = 0.5, burst = 3 }} }}\naccess_keys = {{ {keys} }}")).serve();
    let (_peer, id) = connected(&server).await;
    let (signer, other) = (Signer::default(), Signer { key: "AKIDOTHER", ..Signer::default() });
    // Whoever signs nothing uses up nobody's calls.
    for _ in 0..5 {
        assert_forbidden(&server.post(&id, "hello").await, "not signed");
    }
    for _ in 0..3 {
        assert_eq!(signer.send(&server, "GET", &path(&id), "").await.status, 200);
    }
    let answer = signer.send(&server, "GET", &path(&id), "").await;
    assert_eq!((answer.status, &*answer.body), (429, r#"{"message":"Too Many Requests"}"#));
    assert_eq!(answer.header("x-amzn-ErrorType"), Some("LimitExceededException"));
    assert_eq!(other.send(&server, "GET", &path(&id), "").await.status, 200);
    // One comes every two seconds.
    eventually("another call is allowed", async || signer.send(&server, "GET", &path(&id), "").await.status == 200)
        .await;
}

#[tokio::test]
async fn without_signatures_each_address_is_a_caller() {
    let server = site("management = { throttle = { rate = 0.01, burst = 2 } }").serve();
    let (_peer, id) = connected(&server).await;
    let mut statuses = Vec::new();
    for _ in 0..4 {
        statuses.push(server.post(&id, "hello").await.status);
    }
    assert_eq!(statuses, [200, 200, 429, 429]);
    assert_eq!(server.manage("GET", "/dev/@connections/foo", "").await.status, 429);
}

#[tokio::test]
async fn a_reload_that_leaves_the_throttle_as_it_is_gives_no_caller_its_calls_back() {
    let server = site("management = { throttle = { rate = 0.01, burst = 2 } }").serve();
    let (_peer, id) = connected(&server).await;
    for status in [200, 200, 429] {
        assert_eq!(server.post(&id, "hello").await.status, status);
    }
    let written = fs::read_to_string(server.site.manifest()).unwrap();
    fs::write(server.site.manifest(), format!("api = {{ id = \"other\" }}\n{written}")).unwrap();
    server.log.line_with(&["live", "manifest=", "deployment=2"]).await;
    assert_eq!(server.post(&id, "hello").await.status, 429);

    let written = fs::read_to_string(server.site.manifest()).unwrap();
    fs::write(server.site.manifest(), written.replace("burst = 2", "burst = 3")).unwrap();
    server.log.line_with(&["live", "manifest=", "deployment=3"]).await;
    assert_eq!(server.post(&id, "hello").await.status, 200, "another throttle begins anew");
}
