use std::path::Path;

use serde_json::{Value, json};

use super::*;
use crate::limits::{JWKS_KEYS_TRIED_MAX, JWT_CLAIMS_BYTES_MAX};

mod issuer;
mod key_sets; // which keys are used
mod renewal; // when keys are got

use issuer::{Signer, base64url, key_set};

const ISSUER: &str = "https://issuer.example/";

/// An authorizer whose keys are in a file.
struct Door {
    jwt: Jwt,
    _folder: tempfile::TempDir,
}

impl Door {
    fn new(keys: &str) -> Self {
        Self::asking(keys, &[])
    }

    fn asking(keys: &str, scopes: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys.json");
        std::fs::write(&path, keys).unwrap();
        let settings = JwtSettings { scopes: scopes.iter().map(|&scope| scope.into()).collect(), ..of_file(&path) };
        Self { jwt: Jwt::new(settings, Transport::new()), _folder: folder }
    }

    async fn verify(&self, token: &str) -> Result<Claims, JwtError> {
        self.jwt.verify(token).await
    }

    /// What is said of a token that is not accepted.
    async fn refusal(&self, token: &str) -> &'static str {
        match self.verify(token).await {
            Err(JwtError::Unacceptable(why)) => why,
            other => panic!("{token} is {other:?}"),
        }
    }
}

fn of_file(path: &Path) -> JwtSettings {
    of(KeySource::File(path.to_owned()))
}

fn of(keys: KeySource) -> JwtSettings {
    let audience = vec!["chat".to_owned(), "rooms".to_owned()];
    JwtSettings { issuer: ISSUER.to_owned(), audience, scopes: Vec::new(), keys }
}

/// Good claims, but for these: `null` takes one out.
fn claims(changes: Value) -> Value {
    let now = get_current_timestamp();
    let mut claims = json!({ "iss": ISSUER, "aud": "chat", "sub": "ann", "iat": now, "exp": now + 600 });
    for (name, value) in changes.as_object().unwrap() {
        match value {
            Value::Null => drop(claims.as_object_mut().unwrap().remove(name)),
            value => claims[name] = value.clone(),
        }
    }
    claims
}

#[tokio::test]
async fn a_token_is_accepted_in_each_algorithm_that_has_a_public_key() {
    let (rsa, p256, p384, ed) = (Signer::rsa("r"), Signer::p256("p"), Signer::p384("q"), Signer::ed25519("e"));
    let door = Door::new(&key_set(&[&rsa, &p256, &p384, &ed]));
    let of_rsa = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"].map(|algorithm| (&rsa, algorithm));
    for (signer, algorithm) in of_rsa.into_iter().chain([(&p256, "ES256"), (&p384, "ES384"), (&ed, "EdDSA")]) {
        let token = signer.token(algorithm, &claims(json!({})));
        assert_eq!(door.verify(&token).await.unwrap().principal_id, "ann", "{algorithm}");
        // Each bit of what is signed counts.
        let (message, signature) = token.rsplit_once('.').unwrap();
        let (header, _) = message.split_once('.').unwrap();
        let tampered = format!("{header}.{}.{signature}", base64url(claims(json!({ "sub": "eve" })).to_string()));
        assert_eq!(door.refusal(&tampered).await, "the key that it names has not made its signature", "{algorithm}");
    }
}

#[tokio::test]
async fn bearer_may_stand_in_front_in_any_case_and_nothing_else() {
    let signer = Signer::ed25519("e");
    let door = Door::new(&key_set(&[&signer]));
    let token = signer.token("EdDSA", &claims(json!({})));
    for scheme in ["", "Bearer ", "bearer ", "BEARER   "] {
        assert!(door.verify(&format!("{scheme}{token}")).await.is_ok(), "{scheme:?}");
    }
    for scheme in ["Basic ", "Bearer", "Bearer\t", " "] {
        let refusal = door.refusal(&format!("{scheme}{token}")).await;
        assert!(refusal.starts_with("it is no signed") || refusal.starts_with("its header is none"), "{scheme:?}");
    }
}

#[tokio::test]
async fn a_token_without_a_signature_or_with_one_of_a_shared_secret_is_not_accepted() {
    let signer = Signer::rsa("r");
    let door = Door::new(&key_set(&[&signer]));
    let claims = claims(json!({})).to_string();
    let none = "its header is none, or its algorithm is none of those that are accepted";
    for algorithm in ["none", "None", "RS1", "ES512"] {
        let header = json!({ "alg": algorithm, "kid": "r" }).to_string();
        let unsigned = format!("{}.{}.", base64url(&header), base64url(&claims));
        assert_eq!(door.refusal(&unsigned).await, none, "{algorithm}");
        assert_eq!(door.refusal(&signer.signed("RS256", &header, &claims)).await, none, "{algorithm}");
    }
    // What is public cannot be a secret: whoever has it could sign with it.
    let header = json!({ "alg": "HS256", "kid": "r" }).to_string();
    let message = format!("{}.{}", base64url(header), base64url(&claims));
    for secret in [signer.jwk()["n"].as_str().unwrap().to_owned(), signer.jwk().to_string(), String::new()] {
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secret.as_bytes());
        let token = format!("{message}.{}", base64url(ring::hmac::sign(&key, message.as_bytes())));
        assert!(door.refusal(&token).await.starts_with("it is signed with a shared secret"));
    }
}

#[tokio::test]
async fn another_key_of_the_same_name_has_not_made_the_signature() {
    for (ours, theirs, algorithm) in [
        (Signer::p256("k"), Signer::p256("k"), "ES256"),
        (Signer::ed25519("k"), Signer::ed25519("k"), "EdDSA"),
        // A key of another kind.
        (Signer::rsa("k"), Signer::ed25519("k"), "EdDSA"),
        // A kind of key with the algorithm of another.
        (Signer::ed25519("k"), Signer::ed25519("k"), "RS256"),
        (Signer::p384("k"), Signer::p256("k"), "ES256"),
    ] {
        let token = theirs.token(algorithm, &claims(json!({})));
        let refusal = Door::new(&key_set(&[&ours])).refusal(&token).await;
        assert_eq!(refusal, "the key that it names has not made its signature", "{algorithm}");
    }
}

#[tokio::test]
async fn times_hold_but_for_the_leeway() {
    let signer = Signer::ed25519("e");
    let door = Door::new(&key_set(&[&signer]));
    let (now, leeway) = (get_current_timestamp(), JWT_LEEWAY.as_secs());
    // Seconds enough for the test to run in.
    let some = 20;
    for (good, bad, refusal) in [
        (json!({ "exp": now - leeway + some }), json!({ "exp": now - leeway - 1 }), "it has expired (exp)"),
        (json!({ "nbf": now + leeway }), json!({ "nbf": now + leeway + some }), "it is not valid yet (nbf)"),
        (
            json!({ "iat": now as f64 + 0.5 }),
            json!({ "iat": now + leeway + some }),
            "it is issued in the future, or at what is no time (iat)",
        ),
        (json!({ "iat": null }), json!({ "exp": null }), "it has no exp that is a time"),
    ] {
        assert!(door.verify(&signer.token("EdDSA", &claims(good.clone()))).await.is_ok(), "{good}");
        assert_eq!(door.refusal(&signer.token("EdDSA", &claims(bad))).await, refusal);
    }
    for (what_is_no_time, refusal) in [
        (json!({ "exp": "9999999999" }), "it has no exp that is a time"),
        (json!({ "exp": -1 }), "it has no exp that is a time"),
        (json!({ "nbf": "1" }), "its exp or nbf is no time"),
        (json!({ "iat": "1" }), "it is issued in the future, or at what is no time (iat)"),
    ] {
        let token = signer.token("EdDSA", &claims(what_is_no_time.clone()));
        assert_eq!(door.refusal(&token).await, refusal, "{what_is_no_time}");
    }
}

#[tokio::test]
async fn a_token_is_of_the_issuer_to_the_letter() {
    let signer = Signer::ed25519("e");
    let door = Door::new(&key_set(&[&signer]));
    for issuer in [json!("https://issuer.example"), json!("HTTPS://issuer.example/"), json!([ISSUER]), json!(null)] {
        let token = signer.token("EdDSA", &claims(json!({ "iss": issuer })));
        assert_eq!(door.refusal(&token).await, "it is not of this issuer (iss)", "{issuer}");
    }
}

#[tokio::test]
async fn a_token_is_for_the_audience_in_aud_or_without_it_in_client_id() {
    let signer = Signer::ed25519("e");
    let door = Door::new(&key_set(&[&signer]));
    for good in [
        json!({ "aud": "rooms" }),
        json!({ "aud": ["other", "chat"] }),
        json!({ "aud": null, "client_id": "chat" }),
        json!({ "aud": "chat", "client_id": "other" }),
    ] {
        assert!(door.verify(&signer.token("EdDSA", &claims(good.clone()))).await.is_ok(), "{good}");
    }
    for bad in [
        json!({ "aud": "other" }),
        json!({ "aud": "chat rooms" }),
        json!({ "aud": [] }),
        json!({ "aud": ["other", 1] }),
        json!({ "aud": { "chat": true } }),
        json!({ "aud": null }),
        json!({ "aud": null, "client_id": "other" }),
        json!({ "aud": "other", "client_id": "chat" }),
    ] {
        let refusal = door.refusal(&signer.token("EdDSA", &claims(bad.clone()))).await;
        assert_eq!(refusal, "it is not for this audience (aud, or else client_id)", "{bad}");
    }
}

#[tokio::test]
async fn one_of_the_scopes_is_enough_and_without_any_the_token_is_good_but_lets_nobody_in() {
    let signer = Signer::ed25519("e");
    let door = Door::asking(&key_set(&[&signer]), &["read", "write"]);
    for (scopes, told) in [
        (json!({ "scope": "openid write" }), vec!["openid", "write"]),
        (json!({ "scope": ["read"] }), vec!["read"]),
        (json!({ "scp": ["read", "x"] }), vec!["read", "x"]),
        (json!({ "scp": "x read", "scope": "y" }), vec!["y", "x", "read"]),
    ] {
        let token = signer.token("EdDSA", &claims(scopes.clone()));
        assert_eq!(door.verify(&token).await.unwrap().scopes, told, "{scopes}");
    }
    for scopes in [json!({}), json!({ "scope": "reader" }), json!({ "scope": "" }), json!({ "scp": [["read"], 1] })] {
        let token = signer.token("EdDSA", &claims(scopes.clone()));
        assert!(matches!(door.verify(&token).await, Err(JwtError::ScopesLacking)), "{scopes}");
        assert!(Door::new(&key_set(&[&signer])).verify(&token).await.is_ok(), "{scopes}");
    }
}

#[tokio::test]
async fn claims_are_told_as_api_gateway_writes_them() {
    let signer = Signer::ed25519("e");
    let door = Door::new(&key_set(&[&signer]));
    let written = json!({
        "iss": ISSUER, "aud": ["chat", "x"], "exp": 4_102_444_800_u64, "client_id": "app", "admin": true, "half": 0.5,
        "groups": ["a", ["b", 1]], "none": [], "address": { "city": "Bern", "n": [1] }, "nothing": null,
        "principalId": "eve", "name": "Ann \"A\"", "nested": { "exp": 1, "principalId": "eve" },
    });
    let token = signer.token("EdDSA", &written);
    let told = door.verify(&token).await.unwrap();
    let context: Vec<_> = told.context.iter().map(|(name, value)| (&**name, &**value)).collect();
    assert_eq!(
        context,
        [
            ("iss", ISSUER),
            ("aud", "[chat x]"),
            ("exp", "4102444800"),
            ("client_id", "app"),
            ("admin", "true"),
            ("half", "0.5"),
            ("groups", "[a [b 1]]"),
            ("none", "[]"),
            ("address", r#"{"city":"Bern","n":[1]}"#),
            ("name", "Ann \"A\""),
            ("nested", r#"{"exp":1,"principalId":"eve"}"#),
        ]
    );
    // There is no sub.
    assert_eq!(told.principal_id, "");
}

#[tokio::test]
async fn claims_are_told_up_to_their_limit() {
    let signer = Signer::ed25519("e");
    let door = Door::new(&key_set(&[&signer]));
    let base = claims(json!({}));
    let told = door.verify(&signer.token("EdDSA", &base)).await.unwrap();
    let bytes: usize = told.context.iter().map(|(name, value)| name.len() + value.len()).sum();
    // Five bytes in the token, 18 as JSON writes the number.
    let numbers = (JWT_CLAIMS_BYTES_MAX - bytes - "n[]".len()) / "1000000000000000.0 ".len();
    let token = |count: usize| {
        let list = vec!["1e15"; count].join(",");
        let claims = format!("{},\"n\":[{list}]}}", base.to_string().trim_end_matches('}'));
        signer.signed("EdDSA", r#"{"alg":"EdDSA","kid":"e"}"#, &claims)
    };
    assert!(door.verify(&token(numbers)).await.is_ok());
    assert_eq!(door.refusal(&token(numbers + 1)).await, "its claims are more than handlers are told");
}

#[tokio::test]
async fn a_token_has_8_kilobytes_and_no_more() {
    let signer = Signer::ed25519("e");
    let door = Door::new(&key_set(&[&signer]));
    let padded = |padding: usize| {
        let header = json!({ "alg": "EdDSA", "kid": "e", "padding": "p".repeat(padding) }).to_string();
        signer.signed("EdDSA", &header, &claims(json!({})).to_string())
    };
    let bare = padded(0).len();
    let most =
        (0..).map(|more| (JWT_BYTES_MAX - bare) / 4 * 3 + more).take_while(|most| padded(*most).len() <= JWT_BYTES_MAX);
    let most = most.last().unwrap();
    assert!(door.verify(&padded(most)).await.is_ok());
    assert_eq!(door.refusal(&padded(most + 1)).await, "it is longer than a token may be");
}

#[tokio::test]
async fn what_is_no_token_is_told_so() {
    let signer = Signer::ed25519("e");
    let door = Door::new(&key_set(&[&signer]));
    let good = signer.token("EdDSA", &claims(json!({})));
    let (message, signature) = good.rsplit_once('.').unwrap();
    let (header, payload) = message.split_once('.').unwrap();
    let no_token = "it is no signed JSON Web Token";
    let no_header = "its header is none, or its algorithm is none of those that are accepted";
    let forged = "the key that it names has not made its signature";
    for (token, refusal) in [
        (String::new(), no_token),
        ("..".to_owned(), no_header),
        ("Bearer ".to_owned(), no_token),
        (message.to_owned(), no_token),
        (format!("{good}.{payload}"), no_token),
        (format!("{header}=.{payload}.{signature}"), no_token),
        (format!("é.{payload}.{signature}"), no_token),
        (format!("{}.{payload}.{signature}", base64url("[]")), no_header),
        (format!("{}.{payload}.{signature}", base64url("{}")), no_header),
        (format!("{}.{payload}.{signature}", base64url(r#"{"alg":"EdDSA","alg":"EdDSA"}"#)), no_header),
        (format!("{}.{payload}.{signature}", base64url("[".repeat(5000))), no_header),
        (format!("{header}.{payload}."), forged),
        (format!("{header}.{payload}.AAAA"), forged),
        (format!("{header}.{payload}.{signature}="), "its claims or its signature are no base64url"),
    ] {
        assert_eq!(door.refusal(&token).await, refusal, "{token}");
    }
}

#[tokio::test]
async fn what_is_signed_is_an_object_in_which_no_name_stands_twice() {
    let signer = Signer::ed25519("e");
    let door = Door::new(&key_set(&[&signer]));
    let good = claims(json!({})).to_string();
    let twice = |entry: &str| format!("{{{entry},{}", &good[1..]);
    for claims in [
        "[]".to_owned(),
        "1".to_owned(),
        "{".to_owned(),
        twice("\"sub\":\"eve\""),
        twice("\"scope\":\"a\",\"scope\":\"b\""),
        twice("\"exp\":1"),
        twice("\"\\u0073ub\":\"eve\""),
        format!("{good}{good}"),
        "[".repeat(3000),
    ] {
        let token = signer.signed("EdDSA", r#"{"alg":"EdDSA","kid":"e"}"#, &claims);
        let refusal = door.refusal(&token).await;
        assert_eq!(refusal, "its claims are no JSON object in which each name stands once", "{claims}");
    }
    let critical = r#"{"alg":"EdDSA","kid":"e","crit":["b64"],"b64":true}"#;
    let refusal = door.refusal(&signer.signed("EdDSA", critical, &good)).await;
    assert_eq!(refusal, "its header asks for an extension, and none is known here");
}
