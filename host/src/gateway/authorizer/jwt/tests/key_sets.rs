//! Which keys of an issuer are used, and for which tokens.

use super::*;
use crate::gateway::authorizer::jwt::key_set::{NoKeySet, Skipped};
use crate::limits::JWKS_KEYS_MAX;

fn with(mut jwk: Value, changes: Value) -> Value {
    for (name, value) in changes.as_object().unwrap() {
        jwk[name] = value.clone();
    }
    jwk
}

/// Why the key is not used; `None` if it is, or is for something else.
fn skipped(jwk: Value) -> Option<&'static str> {
    let text = json!({ "keys": [jwk] }).to_string();
    let (_, skipped) = KeySet::parse(text.as_bytes()).unwrap();
    assert!(skipped.len() < 2 && skipped.iter().all(|key| key.index == 0));
    skipped.first().map(|key| key.why)
}

fn used(jwk: Value, algorithm: Algorithm) -> bool {
    let text = json!({ "keys": [jwk] }).to_string();
    let (keys, _) = KeySet::parse(text.as_bytes()).unwrap();
    keys.candidates(algorithm, None).count() == 1
}

#[test]
fn a_key_is_used_for_what_it_is_there_for() {
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
        assert_eq!(skipped(key.clone()), None, "{changes}");
        assert_eq!((used(key.clone(), Algorithm::RS256), used(key, Algorithm::RS512)), (of_256, of_512), "{changes}");
    }
    assert!(used(p256.clone(), Algorithm::ES256) && !used(p256, Algorithm::ES384));
}

#[test]
fn a_key_that_is_none_or_not_safe_is_skipped_and_told() {
    let (rsa, p256, ed) = (Signer::rsa("r").jwk(), Signer::p256("p").jwk(), Signer::ed25519("e").jwk());
    let neither = "it is neither RSA, EC nor OKP, or lacks a part of such a key";
    for (key, why) in [
        (json!("key"), "it is no JWK"),
        (json!({ "kty": "RSA", "kid": 1 }), "it is no JWK"),
        (json!({}), neither),
        (json!({ "kty": "DSA" }), neither),
        (json!({ "kty": "RSA", "n": "AQAB" }), neither),
        (json!({ "kty": "oct", "k": "c2VjcmV0" }), "it is a shared secret"),
        (with(rsa.clone(), json!({ "n": base64url([255; 255]) })), "its modulus has fewer than 2048 bits"),
        (with(rsa.clone(), json!({ "n": base64url([127; 256]) })), "its modulus has fewer than 2048 bits"),
        (with(rsa.clone(), json!({ "n": base64url([0; 512]) })), "its modulus has fewer than 2048 bits"),
        (with(rsa.clone(), json!({ "n": base64url([255; 1025]) })), "its modulus has more than 8192 bits"),
        (with(rsa.clone(), json!({ "n": "+/" })), "a part of it is no base64url"),
        (with(rsa, json!({ "alg": "ES256" })), "its alg is none that is accepted, or does not go with its kind"),
        (
            with(p256.clone(), json!({ "alg": "HS256" })),
            "its alg is none that is accepted, or does not go with its kind",
        ),
        (with(p256.clone(), json!({ "crv": "P-521" })), "its curve is neither P-256 nor P-384"),
        (with(p256, json!({ "x": "AAAA" })), "its x or y is too short or too long"),
        (with(ed.clone(), json!({ "crv": "P-256" })), "its curve is not Ed25519"),
        (with(ed, json!({ "x": "" })), "its x or y is too short or too long"),
    ] {
        assert_eq!(skipped(key.clone()), Some(why), "{key}");
    }
    for bits in [[128_u8; 256].to_vec(), [&[0][..], &[255; 1024]].concat()] {
        assert_eq!(skipped(json!({ "kty": "RSA", "e": "AQAB", "n": base64url(bits) })), None);
    }
}

#[test]
fn so_many_keys_are_kept_and_no_more() {
    let jwk = Signer::ed25519("e").jwk();
    let set = |count| json!({ "keys": vec![jwk.clone(); count] }).to_string();
    assert_eq!(KeySet::parse(set(JWKS_KEYS_MAX).as_bytes()).unwrap().1, []);
    let (_, skipped) = KeySet::parse(set(JWKS_KEYS_MAX + 100).as_bytes()).unwrap();
    let why = "this one and those behind it are more than are kept";
    assert_eq!(skipped, [Skipped { index: JWKS_KEYS_MAX, why }]);
}

#[test]
fn what_is_no_key_set_is_told_so_and_an_empty_one_is_one() {
    for text in ["", "<html>", "[]", "{}", "{\"keys\":{}}", "{\"jwks_uri\":\"https://issuer.example/keys\"}"] {
        assert_eq!(KeySet::parse(text.as_bytes()).unwrap_err(), NoKeySet, "{text}");
    }
    assert!(KeySet::parse(b"{\"keys\":[]}").unwrap().0.is_empty());
}

#[tokio::test]
async fn keys_of_the_same_name_are_all_tried() {
    let signers = [Signer::p256("k"), Signer::ed25519("k"), Signer::p256("k")];
    let door = Door::new(&key_set(&signers.each_ref()));
    for (signer, algorithm) in signers.iter().zip(["ES256", "EdDSA", "ES256"]) {
        assert!(door.verify(&signer.token(algorithm, &claims(json!({})))).await.is_ok());
    }
}

#[tokio::test]
async fn a_token_that_names_no_key_may_be_signed_by_each_and_keys_without_names_may_be_meant_by_each_token() {
    let (named, nameless) = (Signer::ed25519("k"), Signer::ed25519("").without_id());
    let door = Door::new(&key_set(&[&named, &nameless]));
    let claims = claims(json!({})).to_string();
    for (header, of_named, of_nameless) in [
        (r#"{"alg":"EdDSA"}"#, true, true),
        (r#"{"alg":"EdDSA","kid":"k"}"#, true, false),
        (r#"{"alg":"EdDSA","kid":"other"}"#, false, true),
    ] {
        let accepted = async |signer: &Signer| door.verify(&signer.signed("EdDSA", header, &claims)).await.is_ok();
        assert_eq!((accepted(&named).await, accepted(&nameless).await), (of_named, of_nameless), "{header}");
    }
}

#[tokio::test]
async fn so_many_keys_are_tried_on_a_token_and_no_more() {
    let signers: Vec<_> = (0..=JWKS_KEYS_TRIED_MAX).map(|_| Signer::ed25519("").without_id()).collect();
    let door = Door::new(&key_set(&signers.iter().collect::<Vec<_>>()));
    let [.., last_tried, first_untried] = &signers[..] else { panic!("there are several") };
    assert!(door.verify(&last_tried.token("EdDSA", &claims(json!({})))).await.is_ok());
    let refusal = door.refusal(&first_untried.token("EdDSA", &claims(json!({})))).await;
    assert_eq!(refusal, "no key of the issuer that is known has made its signature");
}
