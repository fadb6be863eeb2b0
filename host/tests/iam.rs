//! Handshakes signed with an access key: in the headers, or in the query, which is the only way for a browser.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;

use crate::harness::{HOSTILE, HOSTILE_GRANTS, Peer, Server, Site, component};
use crate::lambda::Functions;
use crate::signer::{KEY, Request, SECRET, Signer};

const UPGRADE: [(&str, &str); 4] = [
    ("connection", "Upgrade"),
    ("upgrade", "websocket"),
    ("sec-websocket-version", "13"),
    ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
];

/// A second key, which may call `@connections` but may not sign a handshake.
const MANAGER: &str = "AKIDMANAGER";

fn keys() -> String {
    format!(
        "[access_keys.{KEY}]\nsecret = {SECRET:?}\nuser = \"alice\"\nactions = [\"execute-api:Invoke\"]\n\
         [access_keys.{MANAGER}]\nsecret = {SECRET:?}\n[authorizers.signed]\ntype = \"iam\"\n"
    )
}

fn signed_site() -> Site {
    let guest = component(HOSTILE);
    Site::new(&format!(
        "{}[integrations.guest]\ncomponent = {guest:?}\n{HOSTILE_GRANTS}\n[routes]\n\
         \"$connect\" = {{ integration = \"guest\", authorizer = \"signed\" }}\n\
         \"$default\" = {{ integration = \"guest\", route_response = true }}\n",
        keys()
    ))
}

/// Signs a handshake in its headers, sends it, and returns the status of the response.
pub async fn handshake(server: &Server, signer: &Signer, path: &str) -> u16 {
    let head = signer.head(&Request { method: "GET", path, body: "", headers: &UPGRADE });
    // `Connection: close` would contradict the `Connection: Upgrade` of the handshake.
    status(server, &head.replace("Connection: close\r\n", "")).await
}

/// Sends a request, and returns the status of the response.
async fn status(server: &Server, head: &str) -> u16 {
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut start = [0; 12];
    stream.read_exact(&mut start).await.unwrap();
    str::from_utf8(&start[9..]).unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_signed_handshake_is_accepted_and_any_other_is_forbidden() {
    let server = signed_site().serve();
    let signer = Signer::default();
    assert_eq!(handshake(&server, &signer, "/dev").await, 101);
    assert_eq!(handshake(&server, &signer, "/dev?room=general").await, 101);
    assert_eq!(server.try_connect("", &[]).await.err(), Some(403));
    let guess = Signer { secret: "another secret, as long as the right one", ..signer.clone() };
    let other_signer = Signer { key: "AKIDOTHER", ..signer.clone() };
    let manager = Signer { key: MANAGER, ..signer.clone() };
    for (what, signer, why) in [
        ("another secret", &guess, "the signature is wrong"),
        ("a key that is not there", &other_signer, "no access key \"AKIDOTHER\" is allowed to do this"),
        ("a key for @connections", &manager, "no access key \"AKIDMANAGER\" is allowed to do this"),
        ("yesterday", &Signer::seconds_ago(24 * 60 * 60), "it was signed 86"),
        ("tomorrow", &Signer::seconds_ahead(24 * 60 * 60), "s in the future"),
    ] {
        assert_eq!(handshake(&server, signer, "/dev").await, 403, "{what}");
        server.log.wait_for_line(&["rejected handshake: invalid signature", why]).await;
    }
    let head = signer.head(&Request { method: "GET", path: "/dev?room=general", body: "", headers: &UPGRADE });
    let changed = head.replace("room=general", "room=secret").replace("Connection: close\r\n", "");
    assert_eq!(status(&server, &changed).await, 403);
    assert!(!server.log.text().contains(SECRET));
}

#[tokio::test]
async fn the_signature_may_be_in_the_query_until_it_expires() {
    let server = signed_site().serve();
    let fresh = Signer::default().presigned("GET", "/dev", Some(60));
    // The Host header must be the one that was signed.
    let host = [("host", "localhost")];
    let status = async |path: &str| {
        let head = format!("GET {path} HTTP/1.1\r\n");
        let fields: String = UPGRADE.iter().chain(&host).map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        status(&server, &format!("{head}{fields}\r\n")).await
    };
    assert_eq!(status(&fresh).await, 101);
    assert_eq!(status(&format!("{fresh}&room=general")).await, 403, "the added parameter was not signed");
    assert_eq!(status(&Signer::seconds_ago(120).presigned("GET", "/dev", Some(60))).await, 403);
    assert_eq!(status(&Signer::default().presigned("POST", "/dev", Some(60))).await, 403);
}

#[tokio::test]
async fn events_have_the_signing_user_who_may_not_call_connections() {
    let functions = Functions::start().await;
    let address = functions.address;
    let site = Site::new(&format!(
        "{}[api]\naccount_id = \"123456789012\"\n[access_log]\n\
         format = \"$context.requestId $context.identity.user $context.identity.userArn $context.authorizer.status\"\n\
         [integrations.function]\ntype = \"lambda\"\nendpoint = \"http://{address}\"\nfunction = \"chat\"\n[routes]\n\
         \"$connect\" = {{ integration = \"function\", authorizer = \"signed\" }}\n\"$default\" = \"function\"\n",
        keys()
    ));
    let server = site.serve();
    let signer = Signer::default();
    assert_eq!(handshake(&server, &signer, "/dev").await, 101);
    let connect = functions.last("CONNECT");
    let identity = &connect["requestContext"]["identity"];
    let arn = "arn:aws:iam::123456789012:user/alice";
    for (key, value) in [("accountId", "123456789012"), ("caller", "alice"), ("user", "alice"), ("userArn", arn)] {
        assert_eq!(identity[key], value);
    }
    assert!(connect["requestContext"]["authorizer"].is_null());
    server.stdout.wait_for_line(&[&format!(" alice {arn} 200")]).await;
    assert_eq!(server.try_connect("", &[]).await.err(), Some(403));
    server.stdout.wait_for_line(&[" - - 403"]).await;

    let path = "/dev/@connections/L0SM9cOFvHcCIhw%3D";
    assert_eq!(signer.send(&server, "POST", path, "hello").await.status, 403);
    let manager = Signer { key: MANAGER, ..signer };
    assert_eq!(manager.send(&server, "POST", path, "hello").await.status, 410);
}

#[tokio::test]
async fn a_component_gets_the_signing_user_as_the_principal() {
    let server = signed_site().serve();
    let path = Signer::default().presigned("GET", "/dev", Some(60));
    // The Host header must be the one that was signed.
    let request = format!("ws://localhost{path}").into_client_request().unwrap();
    let stream = TcpStream::connect(server.address).await.unwrap();
    let (socket, response) = tokio_tungstenite::client_async(request, stream).await.unwrap();
    let mut peer = Peer { socket, response };
    assert_eq!(peer.ask("granted").await, "principalId=alice");
}

#[tokio::test]
async fn check_warns_about_an_iam_authorizer_without_a_usable_key() {
    let text = "[authorizers.signed]\ntype = \"iam\"\n[integrations.m]\ntype = \"mock\"\n[routes]\n\
                \"$connect\" = { integration = \"m\", authorizer = \"signed\" }\n";
    let (code, _, stderr) = Site::new(text).run(&["check"]);
    assert_eq!(code, 0, "{stderr}");
    assert!(stderr.contains("[authorizers.signed]: found no access key that can sign a handshake"), "{stderr}");
    assert!(stderr.contains("actions = [\"execute-api:Invoke\"]"), "{stderr}");
}
