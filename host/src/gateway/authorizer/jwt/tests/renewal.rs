//! When the keys of an issuer are got, and what holds when they cannot be.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;

use super::issuer::Server;
use super::*;
use crate::limits::{JWKS_BYTES_MAX, JWKS_KEPT};

/// Nothing is due while a test runs.
const STILL: Pace = Pace {
    refresh_after: JWKS_KEPT,
    retry_interval: JWKS_KEPT,
    first_interval: JWKS_KEPT,
    kept: JWKS_KEPT,
    timeout: Duration::from_secs(20),
};
/// Everything is due at once.
const SWIFT: Pace =
    Pace { refresh_after: Duration::ZERO, retry_interval: Duration::ZERO, first_interval: Duration::ZERO, ..STILL };

fn jwt(server: &Server, pace: Pace) -> Arc<Jwt> {
    Arc::new(Jwt::at_pace(of(KeySource::Url(server.uri())), Transport::new(), pace))
}

fn token(signer: &Signer) -> String {
    signer.token("EdDSA", &claims(json!({})))
}

async fn unavailable(jwt: &Jwt, token: &str) -> String {
    match jwt.verify(token).await {
        Err(error @ JwtError::KeysUnavailable(_)) => error.to_string(),
        other => panic!("it is {other:?}"),
    }
}

/// Waits until it is so; the test's own time limit is what ends it otherwise.
async fn until(mut is_so: impl AsyncFnMut() -> bool) {
    let wait = async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), wait).await.expect("it comes to be so");
}

#[tokio::test]
async fn keys_are_got_once_for_all_tokens_that_wait_for_them() {
    let signer = Signer::ed25519("a");
    let server = Server::start(&[&signer]).await;
    let jwt = jwt(&server, STILL);
    let token = token(&signer);
    assert_eq!(server.requests(), 0);
    let all = (0..50).map(|_| {
        let (jwt, token) = (Arc::clone(&jwt), token.clone());
        tokio::spawn(async move { jwt.verify(&token).await })
    });
    for one in all.collect::<Vec<_>>() {
        assert!(one.await.unwrap().is_ok());
    }
    assert_eq!(server.requests(), 1);
}

#[tokio::test]
async fn tokens_with_unknown_keys_have_them_asked_for_once_and_then_not_for_a_while() {
    let (signer, stranger) = (Signer::ed25519("a"), Signer::ed25519("b"));
    let server = Server::start(&[&signer]).await;
    let jwt = jwt(&server, STILL);
    let flood = (0..50).map(|_| {
        let (jwt, token) = (Arc::clone(&jwt), token(&stranger));
        tokio::spawn(async move { jwt.verify(&token).await })
    });
    for one in flood.collect::<Vec<_>>() {
        let refused = one.await.unwrap();
        let why = "no key of the issuer that is known has made its signature";
        assert!(matches!(refused, Err(JwtError::Unacceptable(said)) if said == why), "{refused:?}");
    }
    assert!(jwt.verify(&token(&signer)).await.is_ok());
    // The first time, and once more.
    assert_eq!(server.requests(), 2);
}

#[tokio::test]
async fn a_known_key_is_not_asked_for_again_whatever_signature_it_is_said_to_have_made() {
    let (signer, nameless) = (Signer::ed25519("a"), Signer::ed25519("").without_id());
    let server = Server::start(&[&signer]).await;
    let jwt = jwt(&server, Pace { retry_interval: Duration::ZERO, ..STILL });
    for _ in 0..3 {
        assert!(jwt.verify(&token(&Signer::ed25519("a"))).await.is_err());
        assert!(jwt.verify(&signer.token("EdDSA", &claims(json!({ "exp": 1 })))).await.is_err());
    }
    assert_eq!(server.requests(), 1);
    // One without a name may be new.
    server.tells(&key_set(&[&signer, &nameless]));
    assert!(jwt.verify(&token(&nameless)).await.is_ok());
    assert_eq!(server.requests(), 2);
}

#[tokio::test]
async fn a_new_key_is_good_from_its_first_token_on() {
    let (old, new) = (Signer::ed25519("a"), Signer::ed25519("b"));
    let server = Server::start(&[&old]).await;
    let jwt = jwt(&server, STILL);
    assert!(jwt.verify(&token(&old)).await.is_ok());
    server.tells(&key_set(&[&old, &new]));
    assert!(jwt.verify(&token(&new)).await.is_ok());
    assert!(jwt.verify(&token(&old)).await.is_ok());
    assert_eq!(server.requests(), 2);
}

#[tokio::test]
async fn a_key_that_was_taken_away_is_good_no_longer_than_keys_may_be_old() {
    let (old, new) = (Signer::ed25519("a"), Signer::ed25519("b"));
    let server = Server::start(&[&old]).await;
    let jwt = jwt(&server, SWIFT);
    assert!(jwt.verify(&token(&old)).await.is_ok());
    server.tells(&key_set(&[&new]));
    // With the first token after it the keys are got, but it does not wait for them.
    until(async || jwt.verify(&token(&old)).await.is_err()).await;
    assert!(jwt.verify(&token(&new)).await.is_ok());
}

#[tokio::test]
async fn a_token_with_a_known_key_does_not_wait_for_a_slow_issuer() {
    let signer = Signer::ed25519("a");
    let server = Server::start(&[&signer]).await;
    let jwt = jwt(&server, Pace { timeout: Duration::from_secs(60), ..SWIFT });
    assert!(jwt.verify(&token(&signer)).await.is_ok());
    server.answers(None);
    for _ in 0..3 {
        let at_once = tokio::time::timeout(Duration::from_secs(20), jwt.verify(&token(&signer))).await;
        assert!(at_once.expect("it does not wait").is_ok());
    }
    until(async || server.requests() == 2).await;
}

#[tokio::test]
async fn keys_stay_when_they_cannot_be_got_again_but_not_for_ever() {
    let signer = Signer::ed25519("a");
    let server = Server::start(&[&signer]).await;
    let kept = Duration::from_secs(2);
    let jwt = jwt(&server, Pace { kept, ..SWIFT });
    let started = std::time::Instant::now();
    assert!(jwt.verify(&token(&signer)).await.is_ok());
    server.tells("garbage");
    until(async || jwt.verify(&token(&signer)).await.is_err()).await;
    // It has been asked again meanwhile, and each time the keys have stayed.
    assert!(server.requests() > 3 && started.elapsed() >= kept);
    let why = format!(
        "no token can be checked, as the keys of its issuer cannot be read: {}: found no JWK set, which is a JSON object \
         with a list \"keys\"",
        server.uri()
    );
    assert_eq!(unavailable(&jwt, &token(&signer)).await, why);
    server.tells(&key_set(&[&signer]));
    assert!(jwt.verify(&token(&signer)).await.is_ok());
}

#[tokio::test]
async fn without_keys_it_is_said_why_and_they_are_got_when_they_are_there() {
    let signer = Signer::ed25519("a");
    let server = Server::start(&[&signer]).await;
    let jwt = jwt(&server, SWIFT);
    let huge = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n", JWKS_BYTES_MAX + 1);
    for (answer, why) in [
        (Some("HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n".to_owned()), "it answered 503 Service Unavailable"),
        (
            Some("HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n".to_owned()),
            "it answered 302 Found, and redirects are not followed",
        ),
        (Some("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n\u{0}\u{1}[}".to_owned()), "found no JWK set"),
        (Some(huge.clone() + &" ".repeat(JWKS_BYTES_MAX + 1) + "\r\n0\r\n\r\n"), "262144 bytes"),
    ] {
        server.answers(answer);
        let said = unavailable(&jwt, &token(&signer)).await;
        assert!(said.contains(why), "{said} is not {why}");
    }
    server.tells(&format!("{}{}", key_set(&[&signer]), " ".repeat(JWKS_BYTES_MAX - 1024)));
    assert!(jwt.verify(&token(&signer)).await.is_ok());
}

#[tokio::test]
async fn an_issuer_that_fails_is_not_asked_by_each_token_that_waits() {
    let server = Server::start(&[]).await;
    server.answers(None);
    let timeout = Duration::from_secs(1);
    // The interval is over before the attempt is: it counts from the attempt's end.
    let jwt = jwt(&server, Pace { first_interval: timeout / 2, timeout, ..STILL });
    let token = token(&Signer::ed25519("a"));
    let all = (0..20).map(|_| {
        let (jwt, token) = (Arc::clone(&jwt), token.clone());
        tokio::spawn(async move { unavailable(&jwt, &token).await })
    });
    for one in all.collect::<Vec<_>>() {
        assert!(one.await.unwrap().contains("no response within 1s"));
    }
    assert_eq!(server.requests(), 1);
}

#[tokio::test]
async fn who_hangs_up_does_not_end_the_wait_of_others() {
    let signer = Signer::ed25519("a");
    let server = Server::start(&[&signer]).await;
    let jwt = jwt(&server, STILL);
    // Dropped at the first wait, which is for the keys.
    assert!(jwt.verify(&token(&signer)).now_or_never().is_none());
    assert!(jwt.verify(&token(&signer)).await.is_ok());
    assert_eq!(server.requests(), 1);
}

#[tokio::test]
async fn a_file_that_changes_is_read_again_and_one_that_is_gone_or_broken_is_not() {
    let (old, new) = (Signer::ed25519("a"), Signer::ed25519("b"));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys.json");
    let jwt = Jwt::at_pace(of_file(&path), Transport::new(), SWIFT);
    let said = unavailable(&jwt, &token(&old)).await;
    assert!(said.contains("No such file"), "{said}");

    std::fs::write(&path, key_set(&[&old])).unwrap();
    assert!(jwt.verify(&token(&old)).await.is_ok());
    std::fs::write(&path, "half of a fi").unwrap();
    assert!(jwt.verify(&token(&old)).await.is_ok());
    std::fs::remove_file(&path).unwrap();
    assert!(jwt.verify(&token(&old)).await.is_ok());

    std::fs::write(&path, key_set(&[&new])).unwrap();
    assert!(jwt.verify(&token(&new)).await.is_ok());
    assert!(jwt.verify(&token(&old)).await.is_err());
    // An empty list is what somebody has written: nobody is let in.
    std::fs::write(&path, "{\"keys\":[]}").unwrap();
    assert!(jwt.verify(&token(&new)).await.is_err());
}

#[tokio::test]
async fn a_file_that_looks_the_same_is_read_again_for_an_unknown_key_alone() {
    let (old, new) = (Signer::ed25519("a"), Signer::ed25519("b"));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys.json");
    let jwt = Jwt::at_pace(of_file(&path), Transport::new(), SWIFT);
    let at = std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
    for signer in [&old, &new] {
        std::fs::write(&path, key_set(&[signer])).unwrap();
        std::fs::File::options().write(true).open(&path).unwrap().set_modified(at).unwrap();
        assert!(jwt.verify(&token(&old)).await.is_ok());
    }
    assert!(jwt.verify(&token(&new)).await.is_ok());
    assert!(jwt.verify(&token(&old)).await.is_err());
}

#[tokio::test]
async fn keys_that_come_again_are_not_new() {
    let signer = Signer::ed25519("a");
    let server = Server::start(&[&signer]).await;
    let jwt = jwt(&server, Pace { retry_interval: Duration::ZERO, ..STILL });
    let keys = jwt.keys.current().await.unwrap();
    assert!(jwt.keys.newer_than(&keys).await.is_none());
    assert_eq!(server.requests(), 2);
    server.tells(&key_set(&[&signer, &signer]));
    assert!(jwt.keys.newer_than(&keys).await.is_some());
}

#[tokio::test]
async fn a_file_has_so_many_bytes_and_no_more() {
    let signer = Signer::ed25519("a");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys.json");
    let keys = key_set(&[&signer]);
    let padded = |bytes: usize| keys.clone() + &" ".repeat(bytes - keys.len());
    std::fs::write(&path, padded(JWKS_BYTES_MAX + 1)).unwrap();
    let jwt = Jwt::at_pace(of_file(&path), Transport::new(), SWIFT);
    let said = unavailable(&jwt, &token(&signer)).await;
    assert!(said.contains("it has more than 262144 bytes"), "{said}");
    std::fs::write(&path, padded(JWKS_BYTES_MAX)).unwrap();
    assert!(jwt.verify(&token(&signer)).await.is_ok());
    let of_folder = Jwt::at_pace(of_file(folder.path()), Transport::new(), SWIFT);
    assert!(unavailable(&of_folder, &token(&signer)).await.contains("it is no file"));
}
