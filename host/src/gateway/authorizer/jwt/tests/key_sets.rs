//! Tests: which keys of an issuer are used, and for which tokens.

use super::*;
use crate::gateway::authorizer::jwt::key_set::{NotAKeySet, SkippedKey};
use crate::limits::JWKS_KEYS_MAX;

fn with(mut jwk: Value, changes: Value) -> Value {
    for (name, value) in changes.as_object().unwrap() {
        jwk[name] = value.clone();
    }
    jwk
}

/// Returns why the key is skipped; `None` if it is used, or intended for another purpose.
fn skip_reason(jwk: Value) -> Option<&'static str> {
    let text = json!({ "keys": [jwk] }).to_string();
    let (_, skipped) = KeySet::parse(text.as_bytes()).unwrap();
    assert!(skipped.len() < 2 && skipped.iter().all(|key| key.index == 0));
    skipped.first().map(|key| key.reason)
}

fn is_used(jwk: Value, algorithm: Algorithm) -> bool {
    let text = json!({ "keys": [jwk] }).to_string();
    let (keys, _) = KeySet::parse(text.as_bytes()).unwrap();
    keys.candidates(algorithm, None).count() == 1
}

#[test]
fn a_key_is_used_only_for_its_purpose_and_its_algorithms() {
    let (rsa, p256) = (Signer::rsa("r").jwk(), Signer::p256("p").jwk());
    for (changes, of_256, of_512) in [
        (json!({}), true, true),
        (json!({ "use": "sig", "key_ops": ["verify"] }), true, true),
        (json!({ "alg": "RS256" }), true, false),
        (json!({ "alg": "RS512" }), false, true),
        (json!({ "use": "enc" }), false, false),
        (json!({ "use": "enc", "alg": "RSA-OAEP" }), false, false),
        (json!({ "key_ops": ["encrypt", "wrapKey"] }), false, false),
    ] {
        let key = with(rsa.clone(), changes.clone());
        assert_eq!(skip_reason(key.clone()), None, "{changes}");
        assert_eq!(
            (is_used(key.clone(), Algorithm::RS256), is_used(key, Algorithm::RS512)),
            (of_256, of_512),
            "{changes}"
        );
    }
    assert!(is_used(p256.clone(), Algorithm::ES256) && !is_used(p256, Algorithm::ES384));
}

#[test]
fn an_invalid_or_insecure_key_is_skipped_with_the_reason() {
    let (rsa, p256, ed) = (Signer::rsa("r").jwk(), Signer::p256("p").jwk(), Signer::ed25519("e").jwk());
    let unsupported = "it is neither RSA, EC nor OKP, or a part of the key is missing";
    for (key, reason) in [
        (json!("key"), "it is not a JWK"),
        (json!({ "kty": "RSA", "kid": 1 }), "it is not a JWK"),
        (json!({}), unsupported),
        (json!({ "kty": "DSA" }), unsupported),
        (json!({ "kty": "RSA", "n": "AQAB" }), unsupported),
        (json!({ "kty": "oct", "k": "c2VjcmV0" }), "it is a shared secret"),
        (with(rsa.clone(), json!({ "n": base64url([255; 255]) })), "its modulus has fewer than 2048 bits"),
        (with(rsa.clone(), json!({ "n": base64url([127; 256]) })), "its modulus has fewer than 2048 bits"),
        (with(rsa.clone(), json!({ "n": base64url([0; 512]) })), "its modulus has fewer than 2048 bits"),
        (with(rsa.clone(), json!({ "n": base64url([255; 1025]) })), "its modulus has more than 8192 bits"),
        (with(rsa.clone(), json!({ "n": "+/" })), "a part of the key is not base64url"),
        (with(rsa, json!({ "alg": "ES256" })), "its alg is not accepted, or does not fit its key type"),
        (with(p256.clone(), json!({ "alg": "HS256" })), "its alg is not accepted, or does not fit its key type"),
        (with(p256.clone(), json!({ "crv": "P-521" })), "its curve is neither P-256 nor P-384"),
        (with(p256, json!({ "x": "AAAA" })), "its x or y has the wrong length"),
        (with(ed.clone(), json!({ "crv": "P-256" })), "its curve is not Ed25519"),
        (with(ed, json!({ "x": "" })), "its x or y has the wrong length"),
    ] {
        assert_eq!(skip_reason(key.clone()), Some(reason), "{key}");
    }
    for bits in [[128_u8; 256].to_vec(), [&[0][..], &[255; 1024]].concat()] {
        assert_eq!(skip_reason(json!({ "kty": "RSA", "e": "AQAB", "n": base64url(bits) })), None);
    }
}

#[test]
fn keys_beyond_the_maximum_are_skipped() {
    let jwk = Signer::ed25519("e").jwk();
    let set = |count| json!({ "keys": vec![jwk.clone(); count] }).to_string();
    assert_eq!(KeySet::parse(set(JWKS_KEYS_MAX).as_bytes()).unwrap().1, []);
    let (_, skipped) = KeySet::parse(set(JWKS_KEYS_MAX + 100).as_bytes()).unwrap();
    let reason = "this key and all after it exceed the maximum number of keys";
    assert_eq!(skipped, [SkippedKey { index: JWKS_KEYS_MAX, reason }]);
}

#[test]
fn a_document_that_is_not_a_key_set_is_an_error_and_an_empty_set_is_valid() {
    for text in ["", "<html>", "[]", "{}", "{\"keys\":{}}", "{\"jwks_uri\":\"https://issuer.example/keys\"}"] {
        assert_eq!(KeySet::parse(text.as_bytes()).unwrap_err(), NotAKeySet, "{text}");
    }
    assert!(KeySet::parse(b"{\"keys\":[]}").unwrap().0.is_empty());
}

#[tokio::test]
async fn all_keys_with_the_same_id_are_tried() {
    let signers = [Signer::p256("k"), Signer::ed25519("k"), Signer::p256("k")];
    let authorizer = FileJwt::new(&key_set(&signers.each_ref()));
    for (signer, algorithm) in signers.iter().zip(["ES256", "EdDSA", "ES256"]) {
        assert!(authorizer.verify(&signer.token(algorithm, &claims(json!({})))).await.is_ok());
    }
}

#[tokio::test]
async fn a_token_without_a_key_id_is_tried_with_every_key_and_a_key_without_an_id_with_unknown_ids() {
    let (with_id, without_id) = (Signer::ed25519("k"), Signer::ed25519("").without_id());
    let authorizer = FileJwt::new(&key_set(&[&with_id, &without_id]));
    let claims = claims(json!({})).to_string();
    for (header, by_with_id, by_without_id) in [
        (r#"{"alg":"EdDSA"}"#, true, true),
        (r#"{"alg":"EdDSA","kid":"k"}"#, true, false),
        (r#"{"alg":"EdDSA","kid":"other"}"#, false, true),
    ] {
        let accepted =
            async |signer: &Signer| authorizer.verify(&signer.signed("EdDSA", header, &claims)).await.is_ok();
        assert_eq!((accepted(&with_id).await, accepted(&without_id).await), (by_with_id, by_without_id), "{header}");
    }
}

#[tokio::test]
async fn at_most_the_maximum_number_of_keys_are_tried_on_a_token() {
    let signers: Vec<_> = (0..=JWKS_KEYS_TRIED_MAX).map(|_| Signer::ed25519("").without_id()).collect();
    let authorizer = FileJwt::new(&key_set(&signers.iter().collect::<Vec<_>>()));
    let [.., last_tried, first_untried] = &signers[..] else { panic!("there are several") };
    assert!(authorizer.verify(&last_tried.token("EdDSA", &claims(json!({})))).await.is_ok());
    let refusal = authorizer.refusal(&first_untried.token("EdDSA", &claims(json!({})))).await;
    assert_eq!(refusal, "its signature matches no known key of the issuer");
}
