//! Tests: when the keys of an issuer are fetched, and what happens if they cannot be.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;

use super::issuer::Server;
use super::*;
use crate::limits::{JWKS_BYTES_MAX, JWKS_STALE_MAX};

/// Nothing becomes due while a test runs.
const NEVER_DUE: RefreshPolicy = RefreshPolicy {
    refresh_after: JWKS_STALE_MAX,
    retry_interval: JWKS_STALE_MAX,
    first_retry_interval: JWKS_STALE_MAX,
    stale_max: JWKS_STALE_MAX,
    timeout: Duration::from_secs(20),
};
/// Everything is due at once.
const ALWAYS_DUE: RefreshPolicy = RefreshPolicy {
    refresh_after: Duration::ZERO,
    retry_interval: Duration::ZERO,
    first_retry_interval: Duration::ZERO,
    ..NEVER_DUE
};

fn jwt(server: &Server, policy: RefreshPolicy) -> Arc<Jwt> {
    Arc::new(Jwt::with_policy(settings_for(KeySource::Url(server.uri())), Transport::new(), policy))
}

fn token(signer: &Signer) -> String {
    signer.token("EdDSA", &claims(json!({})))
}

async fn unavailable(jwt: &Jwt, token: &str) -> String {
    match jwt.verify(token).await {
        Err(error @ JwtError::KeysUnavailable(_)) => error.to_string(),
        other => panic!("{other:?}"),
    }
}

/// Waits until a condition is true; panics after 20 seconds.
async fn until(mut condition: impl AsyncFnMut() -> bool) {
    let wait = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), wait).await.expect("the condition becomes true");
}

#[tokio::test]
async fn keys_are_fetched_once_for_all_tokens_that_wait_for_them() {
    let signer = Signer::ed25519("a");
    let server = Server::start(&[&signer]).await;
    let jwt = jwt(&server, NEVER_DUE);
    let token = token(&signer);
    assert_eq!(server.requests(), 0);
    let all = (0..50).map(|_| {
        let (jwt, token) = (Arc::clone(&jwt), token.clone());
        tokio::spawn(async move { jwt.verify(&token).await })
    });
    for task in all.collect::<Vec<_>>() {
        assert!(task.await.unwrap().is_ok());
    }
    assert_eq!(server.requests(), 1);
}

#[tokio::test]
async fn unknown_keys_are_requested_once_and_then_not_before_the_retry_interval() {
    let (signer, other_signer) = (Signer::ed25519("a"), Signer::ed25519("b"));
    let server = Server::start(&[&signer]).await;
    let jwt = jwt(&server, NEVER_DUE);
    let flood = (0..50).map(|_| {
        let (jwt, token) = (Arc::clone(&jwt), token(&other_signer));
        tokio::spawn(async move { jwt.verify(&token).await })
    });
    for task in flood.collect::<Vec<_>>() {
        let result = task.await.unwrap();
        let expected = "its signature matches no known key of the issuer";
        assert!(matches!(result, Err(JwtError::InvalidToken(reason)) if reason == expected), "{result:?}");
    }
    assert!(jwt.verify(&token(&signer)).await.is_ok());
    // One request for the first token, and one for the unknown key.
    assert_eq!(server.requests(), 2);
}

#[tokio::test]
async fn a_token_that_names_a_known_key_causes_no_request_even_if_its_signature_is_invalid() {
    let (signer, without_id) = (Signer::ed25519("a"), Signer::ed25519("").without_id());
    let server = Server::start(&[&signer]).await;
    let jwt = jwt(&server, RefreshPolicy { retry_interval: Duration::ZERO, ..NEVER_DUE });
    for _ in 0..3 {
        assert!(jwt.verify(&token(&Signer::ed25519("a"))).await.is_err());
        assert!(jwt.verify(&signer.token("EdDSA", &claims(json!({ "exp": 1 })))).await.is_err());
    }
    assert_eq!(server.requests(), 1);
    // A key without an id may be new.
    server.serve_keys(&key_set(&[&signer, &without_id]));
    assert!(jwt.verify(&token(&without_id)).await.is_ok());
    assert_eq!(server.requests(), 2);
}

#[tokio::test]
async fn a_new_key_is_accepted_from_its_first_token_on() {
    let (old, new) = (Signer::ed25519("a"), Signer::ed25519("b"));
    let server = Server::start(&[&old]).await;
    let jwt = jwt(&server, NEVER_DUE);
    assert!(jwt.verify(&token(&old)).await.is_ok());
    server.serve_keys(&key_set(&[&old, &new]));
    assert!(jwt.verify(&token(&new)).await.is_ok());
    assert!(jwt.verify(&token(&old)).await.is_ok());
    assert_eq!(server.requests(), 2);
}

#[tokio::test]
async fn a_removed_key_is_rejected_after_the_next_refresh() {
    let (old, new) = (Signer::ed25519("a"), Signer::ed25519("b"));
    let server = Server::start(&[&old]).await;
    let jwt = jwt(&server, ALWAYS_DUE);
    assert!(jwt.verify(&token(&old)).await.is_ok());
    server.serve_keys(&key_set(&[&new]));
    // The next token triggers a refresh, but does not wait for it.
    until(async || jwt.verify(&token(&old)).await.is_err()).await;
    assert!(jwt.verify(&token(&new)).await.is_ok());
}

#[tokio::test]
async fn a_token_with_a_known_key_does_not_wait_for_a_slow_issuer() {
    let signer = Signer::ed25519("a");
    let server = Server::start(&[&signer]).await;
    let jwt = jwt(&server, RefreshPolicy { timeout: Duration::from_secs(60), ..ALWAYS_DUE });
    assert!(jwt.verify(&token(&signer)).await.is_ok());
    server.respond_with(None);
    for _ in 0..3 {
        let at_once = tokio::time::timeout(Duration::from_secs(20), jwt.verify(&token(&signer))).await;
        assert!(at_once.expect("it does not wait").is_ok());
    }
    until(async || server.requests() == 2).await;
}

#[tokio::test]
async fn keys_that_cannot_be_refreshed_are_used_for_a_limited_time() {
    let signer = Signer::ed25519("a");
    let server = Server::start(&[&signer]).await;
    let stale_max = Duration::from_secs(2);
    let jwt = jwt(&server, RefreshPolicy { stale_max, ..ALWAYS_DUE });
    let started = std::time::Instant::now();
    assert!(jwt.verify(&token(&signer)).await.is_ok());
    server.serve_keys("garbage");
    until(async || jwt.verify(&token(&signer)).await.is_err()).await;
    // The server was asked several times in the meantime, and the keys stayed valid each time.
    assert!(server.requests() > 3 && started.elapsed() >= stale_max);
    let expected = format!(
        "cannot verify tokens, because the keys of the issuer cannot be read: {}: expected a JWK set, which is a JSON \
         object with a list \"keys\"",
        server.uri()
    );
    assert_eq!(unavailable(&jwt, &token(&signer)).await, expected);
    server.serve_keys(&key_set(&[&signer]));
    assert!(jwt.verify(&token(&signer)).await.is_ok());
}

#[tokio::test]
async fn an_error_says_why_there_are_no_keys_and_they_are_used_once_available() {
    let signer = Signer::ed25519("a");
    let server = Server::start(&[&signer]).await;
    let jwt = jwt(&server, ALWAYS_DUE);
    let huge = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n", JWKS_BYTES_MAX + 1);
    for (response, expected) in [
        (
            Some("HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n".to_owned()),
            "the server answered 503 Service Unavailable",
        ),
        (
            Some("HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n".to_owned()),
            "the server answered 302 Found, and redirects are not followed",
        ),
        (Some("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n\u{0}\u{1}[}".to_owned()), "expected a JWK set"),
        (Some(huge.clone() + &" ".repeat(JWKS_BYTES_MAX + 1) + "\r\n0\r\n\r\n"), "262144 bytes"),
    ] {
        server.respond_with(response);
        let error = unavailable(&jwt, &token(&signer)).await;
        assert!(error.contains(expected), "{error}, expected {expected}");
    }
    server.serve_keys(&format!("{}{}", key_set(&[&signer]), " ".repeat(JWKS_BYTES_MAX - 1024)));
    assert!(jwt.verify(&token(&signer)).await.is_ok());
}

#[tokio::test]
async fn tokens_that_wait_for_a_failing_issuer_cause_one_request() {
    let server = Server::start(&[]).await;
    server.respond_with(None);
    let timeout = Duration::from_secs(1);
    // The interval is shorter than the attempt, so this shows that it counts from the end of the attempt.
    let jwt = jwt(&server, RefreshPolicy { first_retry_interval: timeout / 2, timeout, ..NEVER_DUE });
    let token = token(&Signer::ed25519("a"));
    let all = (0..20).map(|_| {
        let (jwt, token) = (Arc::clone(&jwt), token.clone());
        tokio::spawn(async move { unavailable(&jwt, &token).await })
    });
    for task in all.collect::<Vec<_>>() {
        assert!(task.await.unwrap().contains("no response within 1s"));
    }
    assert_eq!(server.requests(), 1);
}

#[tokio::test]
async fn a_cancelled_verification_does_not_cancel_the_request_for_others() {
    let signer = Signer::ed25519("a");
    let server = Server::start(&[&signer]).await;
    let jwt = jwt(&server, NEVER_DUE);
    // The future is dropped while it waits for the keys.
    assert!(jwt.verify(&token(&signer)).now_or_never().is_none());
    assert!(jwt.verify(&token(&signer)).await.is_ok());
    assert_eq!(server.requests(), 1);
}

#[tokio::test]
async fn a_changed_file_is_read_again_and_a_missing_or_invalid_one_keeps_the_old_keys() {
    let (old, new) = (Signer::ed25519("a"), Signer::ed25519("b"));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys.json");
    let jwt = Jwt::with_policy(settings_for_file(&path), Transport::new(), ALWAYS_DUE);
    let error = unavailable(&jwt, &token(&old)).await;
    assert!(error.contains("No such file"), "{error}");

    std::fs::write(&path, key_set(&[&old])).unwrap();
    assert!(jwt.verify(&token(&old)).await.is_ok());
    std::fs::write(&path, "half of a fi").unwrap();
    assert!(jwt.verify(&token(&old)).await.is_ok());
    std::fs::remove_file(&path).unwrap();
    assert!(jwt.verify(&token(&old)).await.is_ok());

    std::fs::write(&path, key_set(&[&new])).unwrap();
    assert!(jwt.verify(&token(&new)).await.is_ok());
    assert!(jwt.verify(&token(&old)).await.is_err());
    // An empty list is valid, and then every token is rejected.
    std::fs::write(&path, "{\"keys\":[]}").unwrap();
    assert!(jwt.verify(&token(&new)).await.is_err());
}

#[cfg(unix)]
#[tokio::test]
async fn a_key_that_a_file_of_the_same_size_and_time_no_longer_has_is_rejected() {
    let (old, new) = (Signer::ed25519("a"), Signer::ed25519("b"));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys.json");
    let jwt = Jwt::with_policy(settings_for_file(&path), Transport::new(), ALWAYS_DUE);
    let at = std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
    let write = |signer: &Signer| {
        std::fs::write(&path, key_set(&[signer])).unwrap();
        std::fs::File::options().write(true).open(&path).unwrap().set_modified(at).unwrap();
    };
    write(&old);
    assert!(jwt.verify(&token(&old)).await.is_ok());
    write(&new);
    // A coarse clock of the file system may give both writes the same time, so it is written until it has another one.
    while jwt.verify(&token(&old)).await.is_ok() {
        write(&new);
    }
    assert!(jwt.verify(&token(&new)).await.is_ok());
}

#[tokio::test]
async fn keys_with_the_same_content_are_not_new() {
    let signer = Signer::ed25519("a");
    let server = Server::start(&[&signer]).await;
    let jwt = jwt(&server, RefreshPolicy { retry_interval: Duration::ZERO, ..NEVER_DUE });
    let keys = jwt.keys.current().await.unwrap();
    assert!(jwt.keys.newer_than(&keys).await.is_none());
    assert_eq!(server.requests(), 2);
    server.serve_keys(&key_set(&[&signer, &signer]));
    assert!(jwt.keys.newer_than(&keys).await.is_some());
}

#[tokio::test]
async fn a_file_larger_than_the_maximum_is_rejected() {
    let signer = Signer::ed25519("a");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys.json");
    let keys = key_set(&[&signer]);
    let padded = |bytes: usize| keys.clone() + &" ".repeat(bytes - keys.len());
    std::fs::write(&path, padded(JWKS_BYTES_MAX + 1)).unwrap();
    let jwt = Jwt::with_policy(settings_for_file(&path), Transport::new(), ALWAYS_DUE);
    let error = unavailable(&jwt, &token(&signer)).await;
    assert!(error.contains("it is larger than 262144 bytes"), "{error}");
    std::fs::write(&path, padded(JWKS_BYTES_MAX)).unwrap();
    assert!(jwt.verify(&token(&signer)).await.is_ok());
    let folder_jwt = Jwt::with_policy(settings_for_file(folder.path()), Transport::new(), ALWAYS_DUE);
    assert!(unavailable(&folder_jwt, &token(&signer)).await.contains("it is not a file"));
}
