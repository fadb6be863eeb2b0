//! Access to `@connections`: when signatures are required, which ones are valid, and the throttle of each caller.

use std::fs;

use serde_json::Value;

use crate::harness::{HOSTILE, HOSTILE_GRANTS, HttpResponse, Peer, Server, Site, component, eventually, manifest};
use crate::signer::{KEY, Request, SECRET, Signer};

/// In seconds.
const FIVE_MINUTES: u64 = 5 * 60;
/// A margin in seconds. A call takes less, even on a busy machine.
const MARGIN_SECONDS: u64 = 40;

/// Returns a site with the hostile guest, and these lines before its integration.
fn site(sections: &str) -> Site {
    Site::new(&manifest(&component(HOSTILE), sections, HOSTILE_GRANTS))
}

/// Returns the same as `site`, with an access key.
fn site_with_key(sections: &str) -> Site {
    site(&format!("{sections}\naccess_keys = {{ {KEY} = {{ secret = {SECRET:?} }} }}"))
}

/// Returns the path of a connection in the form that the SDKs use.
fn path(id: &str) -> String {
    format!("/dev/@connections/{}", id.replace('=', "%3D"))
}

/// Connects a peer and asks for its connection id.
async fn connect(server: &Server) -> (Peer, String) {
    let mut peer = server.connect("").await;
    let id = peer.id().await;
    (peer, id)
}

fn assert_forbidden(answer: &HttpResponse, what: &str) {
    assert_eq!((answer.status, &*answer.body), (403, r#"{"message":"Forbidden"}"#), "{what}");
    assert_eq!(answer.header("x-amzn-ErrorType"), Some("ForbiddenException"), "{what}");
    assert_eq!(answer.header("x-amzn-RequestId").map(str::len), Some(16), "{what}");
}

#[tokio::test]
async fn with_access_keys_signed_calls_are_accepted_and_unsigned_calls_are_forbidden() {
    let server = site_with_key("").serve();
    let (mut peer, id) = connect(&server).await;
    let signer = Signer::default();

    assert_eq!(signer.send(&server, "POST", &path(&id), "hello, größe").await.status, 200);
    assert_eq!(peer.text().await, "hello, größe");
    let document = signer.send(&server, "GET", &path(&id), "").await;
    assert_eq!(serde_json::from_str::<Value>(&document.body).unwrap()["identity"]["sourceIp"], "127.0.0.1");

    for (method, body) in [("POST", "hello"), ("GET", ""), ("DELETE", "")] {
        assert_forbidden(&server.request(method, &path(&id), body).await, method);
        // An unsigned call must not reveal whether a connection exists.
        assert_forbidden(&server.request(method, "/dev/@connections/foo", body).await, method);
    }
    let line = server.log.wait_for_line(&["rejected @connections call: it is not signed"]).await;
    assert!(line.contains("WARN") && line.contains("source=127.0.0.1") && line.contains("method=POST"), "{line}");

    assert_eq!(signer.send(&server, "POST", "/dev/@connections/foo", "hello").await.status, 400);
    assert_eq!(signer.send(&server, "DELETE", &path(&id), "").await.status, 204);
    assert_eq!(signer.send(&server, "POST", &path(&id), "late").await.status, 410);
    assert_eq!(peer.closed().await, (1000, String::new()));
}

#[tokio::test]
async fn calls_with_a_foreign_signature_or_changed_in_transit_are_forbidden_and_the_log_says_why() {
    let server = site_with_key("").serve();
    let (mut peer, id) = connect(&server).await;
    let (_other, other_id) = connect(&server).await;
    let (signer, path) = (Signer::default(), path(&id));
    let head = |signer: &Signer, method, body| signer.head(&Request { method, path: &path, body, headers: &[] });

    let guess = Signer { secret: "another secret, as long as the right one", ..signer.clone() };
    let unknown = Signer { key: "AKIDOTHER", ..signer.clone() };
    let yesterday = Signer::seconds_ago(24 * 60 * 60);
    let tomorrow = Signer::seconds_ahead(24 * 60 * 60);
    let wrong = "the signature is wrong";
    let signed_hash = ("x-amz-content-sha256", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    let hashed = signer.head(&Request { method: "POST", path: &path, body: "", headers: &[signed_hash] });
    for (what, request, why) in [
        ("another secret", head(&guess, "POST", "hello") + "hello", wrong),
        ("another key", head(&unknown, "POST", "hello") + "hello", r#"no access key "AKIDOTHER""#),
        ("yesterday's date", head(&yesterday, "POST", "hello") + "hello", "it was signed 86400 s ago"),
        ("tomorrow's date", head(&tomorrow, "POST", "hello") + "hello", "s in the future"),
        ("another body", head(&signer, "POST", "hello") + "jello", wrong),
        ("another method", head(&signer, "GET", "").replace("GET ", "DELETE "), wrong),
        ("another id", (head(&signer, "POST", "hello") + "hello").replace(&*id.replace('=', "%3D"), &other_id), wrong),
        ("another query", (head(&signer, "POST", "hello") + "hello").replace(" HTTP/1.1", "?a=b HTTP/1.1"), wrong),
        ("another host", (head(&signer, "POST", "hello") + "hello").replace("host: localhost", "host: other"), wrong),
        (
            "a body with the hash of another one",
            hashed.replace("Content-Length: 0", "Content-Length: 5") + "hello",
            "the body is not the one that was signed",
        ),
        (
            "a header of jackfield that was not signed",
            head(&signer, "DELETE", "")
                .replace("Connection: close", "Connection: close\r\nX-Jackfield-Close-Code: 4000"),
            "does not cover the header x-jackfield-close-code",
        ),
    ] {
        assert_forbidden(&server.http(&request).await, what);
        server.log.wait_for_line(&["rejected @connections call", why]).await;
    }
    assert_eq!(signer.send(&server, "POST", &path, "right").await.status, 200);
    assert_eq!(peer.text().await, "right", "something else was delivered");
    assert!(!server.log.text().contains(SECRET), "the secret is in the log");
}

#[tokio::test]
async fn a_signature_is_valid_five_minutes_before_and_after_its_date_and_may_be_reused() {
    let server = site_with_key("").serve();
    let (mut peer, id) = connect(&server).await;
    for signer in
        [Signer::seconds_ago(FIVE_MINUTES - MARGIN_SECONDS), Signer::seconds_ahead(FIVE_MINUTES - MARGIN_SECONDS)]
    {
        let head = signer.head(&Request { method: "POST", path: &path(&id), body: "hello", headers: &[] });
        for _ in 0..2 {
            assert_eq!(server.http(&format!("{head}hello")).await.status, 200);
            assert_eq!(peer.text().await, "hello");
        }
    }
    for signer in [Signer::seconds_ago(FIVE_MINUTES + 2), Signer::seconds_ahead(FIVE_MINUTES + MARGIN_SECONDS)] {
        assert_forbidden(&signer.send(&server, "POST", &path(&id), "hello").await, "too old, or too new");
    }
}

#[tokio::test]
async fn a_presigned_url_is_valid_until_it_expires() {
    let server = site_with_key("").serve();
    let (_peer, id) = connect(&server).await;
    let path = path(&id);
    let hour_ago = Signer::seconds_ago(3600);
    for (what, url, status) in [
        ("fresh", Signer::default().presigned("GET", &path, Some(60)), 200),
        ("without an expiry", Signer::default().presigned("GET", &path, None), 200),
        ("not expired", hour_ago.presigned("GET", &path, Some(3600 + MARGIN_SECONDS)), 200),
        ("expired", hour_ago.presigned("GET", &path, Some(3599)), 403),
        ("without an expiry, an hour old", hour_ago.presigned("GET", &path, None), 403),
        ("an expiry of more than seven days", Signer::default().presigned("GET", &path, Some(604_801)), 403),
        ("of another method", Signer::default().presigned("DELETE", &path, Some(60)), 403),
        ("lengthened", hour_ago.presigned("GET", &path, Some(60)).replace("Expires=60", "Expires=86400"), 403),
    ] {
        assert_eq!(server.request("GET", &url, "").await.status, status, "{what}");
    }
    assert!(!server.log.text().contains("X-Amz-Signature"), "the log has signatures that may still be valid");
}

#[tokio::test]
async fn a_signed_body_that_is_too_long_is_413_and_an_unsigned_one_is_forbidden() {
    let server = site_with_key("connection = { message_size = \"1KiB\" }").serve();
    let (mut peer, id) = connect(&server).await;
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
async fn the_manifest_says_when_signatures_are_required() {
    for (site, unsigned) in [
        (site(""), 200),
        (site("management = { signatures = \"auto\" }"), 200),
        (site("management = { signatures = \"required\" }"), 403),
        (site_with_key("management = { signatures = \"auto\" }"), 403),
        (site_with_key("management = { signatures = \"off\" }"), 200),
    ] {
        let server = site.serve();
        let (_peer, id) = connect(&server).await;
        let text = fs::read_to_string(server.site.manifest()).unwrap();
        assert_eq!(server.post(&id, "hello").await.status, unsigned, "{text}");
    }
}

#[tokio::test]
async fn a_public_listener_requires_signatures() {
    let server = site_with_key("").serve_publicly(&[]);
    let (mut peer, id) = connect(&server).await;
    assert_forbidden(&server.post(&id, "hello").await, "not signed");
    assert_eq!(Signer::default().send(&server, "POST", &path(&id), "signed").await.status, 200);
    assert_eq!(peer.text().await, "signed");

    let unsigned = site_with_key("").serve_publicly(&["--insecure-management"]);
    let (mut peer, id) = connect(&unsigned).await;
    assert_eq!(unsigned.post(&id, "unsigned").await.status, 200);
    assert_eq!(peer.text().await, "unsigned");

    for (site, why) in [
        (site(""), "no access key is configured that could sign"),
        (site_with_key("management = { signatures = \"off\" }"), "signatures are off in [management]"),
    ] {
        let (code, stdout, stderr) = site.run(&["serve", "--listen", "0.0.0.0:0"]);
        assert_eq!((code, &*stdout), (1, ""));
        let expected = ["refusing to listen on 0.0.0.0:0", why, "[access_keys.NAME]", "--insecure-management"];
        assert!(expected.iter().all(|words| stderr.contains(words)), "{stderr}");
    }
}

#[tokio::test]
async fn a_secret_may_come_from_the_environment_and_is_never_logged() {
    let text = format!("access_keys = {{ {KEY} = {{ secret_env = \"CHAT_SECRET\" }} }}");
    let new_site = || site(&text);
    let (code, _, stderr) = new_site().run(&["check"]);
    let problem = "found \"CHAT_SECRET\", which is not set in the environment, expected a variable with the secret";
    assert_eq!(code, 1);
    assert!(stderr.contains(&format!("access_keys.{KEY}.secret_env: {problem}")), "{stderr}");

    let site = new_site();
    let mut command = site.command(&["serve"]);
    command.env("CHAT_SECRET", SECRET).env("RUST_LOG", "debug,jackfield=trace");
    let server = site.launch(command);
    let (_peer, id) = connect(&server).await;
    assert_eq!(Signer::default().send(&server, "POST", &path(&id), "hello").await.status, 200);
    let guess = Signer { secret: "a guess", ..Signer::default() };
    assert_forbidden(&guess.send(&server, "POST", &path(&id), "hello").await, "a guess");
    server.log.wait_for_line(&["the signature is wrong"]).await;
    assert!(!server.log.text().contains(SECRET), "the secret is in the log");
}

#[tokio::test]
async fn a_removed_access_key_is_rejected_after_the_reload_and_after_a_rollback() {
    let server = site_with_key("admin = { listen = \"127.0.0.1:0\" }").serve();
    let (_peer, id) = connect(&server).await;
    let (old, new) = (Signer::default(), Signer { key: "AKIDNEW", ..Signer::default() });
    assert_forbidden(&new.send(&server, "GET", &path(&id), "").await, "not there yet");
    let text = fs::read_to_string(server.site.manifest()).unwrap();
    fs::write(server.site.manifest(), text.replace(KEY, "AKIDNEW")).unwrap();
    eventually("the new key is accepted", async || new.send(&server, "GET", &path(&id), "").await.status == 200).await;
    assert_forbidden(&old.send(&server, "GET", &path(&id), "").await, "no longer there");

    let line = server.log.wait_for_line(&["admin on http://"]).await;
    let admin = line.split_once("http://").unwrap().1.split('/').next().unwrap();
    let (code, _, stderr) = server.site.run(&["deployments", "--admin", admin, "--rollback", "1"]);
    assert_eq!(code, 0, "{stderr}");
    assert_forbidden(&old.send(&server, "GET", &path(&id), "").await, "not there again");
    assert_eq!(new.send(&server, "GET", &path(&id), "").await.status, 200);
}

#[tokio::test]
async fn a_reload_never_opens_a_public_listener_to_unsigned_calls() {
    let server = site_with_key("").serve_publicly(&[]);
    let (_peer, id) = connect(&server).await;
    let text = fs::read_to_string(server.site.manifest()).unwrap();
    fs::write(server.site.manifest(), format!("management = {{ signatures = \"off\" }}\n{text}")).unwrap();
    server.log.wait_for_line(&["live", "manifest="]).await;
    assert_forbidden(&server.post(&id, "hello").await, "off");
    assert_eq!(Signer::default().send(&server, "GET", &path(&id), "").await.status, 200);
}

#[tokio::test]
async fn each_access_key_has_its_own_throttle() {
    let keys = format!("{KEY} = {{ secret = {SECRET:?} }}, AKIDOTHER = {{ secret = {SECRET:?} }}");
    let server =
        site(&format!("management = {{ throttle = {{ rate = 0.5, burst = 3 }} }}\naccess_keys = {{ {keys} }}")).serve();
    let (_peer, id) = connect(&server).await;
    let (signer, other) = (Signer::default(), Signer { key: "AKIDOTHER", ..Signer::default() });
    // Unsigned calls do not count towards the throttle of any key.
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
    // The rate allows one call every two seconds.
    eventually("another call is allowed", async || signer.send(&server, "GET", &path(&id), "").await.status == 200)
        .await;
}

#[tokio::test]
async fn without_signatures_each_address_has_its_own_throttle() {
    let server = site("management = { throttle = { rate = 0.01, burst = 2 } }").serve();
    let (_peer, id) = connect(&server).await;
    let mut statuses = Vec::new();
    for _ in 0..4 {
        statuses.push(server.post(&id, "hello").await.status);
    }
    assert_eq!(statuses, [200, 200, 429, 429]);
    assert_eq!(server.request("GET", "/dev/@connections/foo", "").await.status, 429);
}

#[tokio::test]
async fn a_reload_with_an_unchanged_throttle_does_not_reset_it() {
    let server = site("management = { throttle = { rate = 0.01, burst = 2 } }").serve();
    let (_peer, id) = connect(&server).await;
    for status in [200, 200, 429] {
        assert_eq!(server.post(&id, "hello").await.status, status);
    }
    let text = fs::read_to_string(server.site.manifest()).unwrap();
    fs::write(server.site.manifest(), format!("api = {{ id = \"other\" }}\n{text}")).unwrap();
    server.log.wait_for_line(&["live", "manifest=", "deployment=2"]).await;
    assert_eq!(server.post(&id, "hello").await.status, 429);

    let text = fs::read_to_string(server.site.manifest()).unwrap();
    fs::write(server.site.manifest(), text.replace("burst = 2", "burst = 3")).unwrap();
    server.log.wait_for_line(&["live", "manifest=", "deployment=3"]).await;
    assert_eq!(server.post(&id, "hello").await.status, 200, "a changed throttle starts anew");
}
