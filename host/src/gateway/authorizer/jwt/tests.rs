use std::path::Path;

use serde_json::{Value, json};

use super::*;
use crate::limits::JWT_LEEWAY;
use crate::limits::{JWKS_KEYS_TRIED_MAX, JWT_CLAIMS_BYTES_MAX};

mod issuer;
mod key_sets;
mod renewal;

use issuer::{Signer, base64url, key_set};

const ISSUER: &str = "https://issuer.example/";

/// An authorizer whose keys are in a file.
struct FileJwt {
    jwt: Jwt,
    _folder: tempfile::TempDir,
}

impl FileJwt {
    fn new(keys: &str) -> Self {
        Self::with_scopes(keys, &[])
    }

    fn with_scopes(keys: &str, scopes: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys.json");
        std::fs::write(&path, keys).unwrap();
        let settings =
            JwtSettings { scopes: scopes.iter().map(|&scope| scope.into()).collect(), ..settings_for_file(&path) };
        Self { jwt: Jwt::new(settings, Transport::new()), _folder: folder }
    }

    async fn verify(&self, token: &str) -> Result<Claims, JwtError> {
        self.jwt.verify(token).await
    }

    /// Returns the reason for which a token is invalid.
    async fn refusal(&self, token: &str) -> &'static str {
        match self.verify(token).await {
            Err(JwtError::InvalidToken(reason)) => reason,
            other => panic!("{token}: {other:?}"),
        }
    }
}

fn settings_for_file(path: &Path) -> JwtSettings {
    settings_for(KeySource::File(path.to_owned()))
}

fn settings_for(keys: KeySource) -> JwtSettings {
    let audience = vec!["chat".to_owned(), "rooms".to_owned()];
    JwtSettings { issuer: ISSUER.to_owned(), audience, scopes: Vec::new(), keys }
}

/// Valid claims with these changes; `null` removes a claim.
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
async fn a_token_is_accepted_with_each_algorithm_that_has_a_public_key() {
    let (rsa, p256, p384, ed) = (Signer::rsa("r"), Signer::p256("p"), Signer::p384("q"), Signer::ed25519("e"));
    let authorizer = FileJwt::new(&key_set(&[&rsa, &p256, &p384, &ed]));
    let rsa_cases = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"].map(|algorithm| (&rsa, algorithm));
    for (signer, algorithm) in rsa_cases.into_iter().chain([(&p256, "ES256"), (&p384, "ES384"), (&ed, "EdDSA")]) {
        let token = signer.token(algorithm, &claims(json!({})));
        assert_eq!(authorizer.verify(&token).await.unwrap().principal_id, "ann", "{algorithm}");
        // A token whose claims were changed after it was signed is invalid.
        let (message, signature) = token.rsplit_once('.').unwrap();
        let (header, _) = message.split_once('.').unwrap();
        let tampered = format!("{header}.{}.{signature}", base64url(claims(json!({ "sub": "eve" })).to_string()));
        assert_eq!(
            authorizer.refusal(&tampered).await,
            "its signature does not match the key that it names (kid)",
            "{algorithm}"
        );
    }
}

#[tokio::test]
async fn the_scheme_bearer_is_accepted_in_any_case_and_no_other_scheme_is() {
    let signer = Signer::ed25519("e");
    let authorizer = FileJwt::new(&key_set(&[&signer]));
    let token = signer.token("EdDSA", &claims(json!({})));
    for scheme in ["", "Bearer ", "bearer ", "BEARER   "] {
        assert!(authorizer.verify(&format!("{scheme}{token}")).await.is_ok(), "{scheme:?}");
    }
    for scheme in ["Basic ", "Bearer", "Bearer\t", " "] {
        let refusal = authorizer.refusal(&format!("{scheme}{token}")).await;
        assert!(
            refusal.starts_with("it is not a signed") || refusal.starts_with("its header is invalid"),
            "{scheme:?}"
        );
    }
}

#[tokio::test]
async fn a_token_that_is_unsigned_or_signed_with_a_shared_secret_is_rejected() {
    let signer = Signer::rsa("r");
    let authorizer = FileJwt::new(&key_set(&[&signer]));
    let claims = claims(json!({})).to_string();
    let invalid_header = "its header is invalid, or names an algorithm that is not accepted";
    for algorithm in ["none", "None", "RS1", "ES512"] {
        let header = json!({ "alg": algorithm, "kid": "r" }).to_string();
        let unsigned = format!("{}.{}.", base64url(&header), base64url(&claims));
        assert_eq!(authorizer.refusal(&unsigned).await, invalid_header, "{algorithm}");
        assert_eq!(authorizer.refusal(&signer.signed("RS256", &header, &claims)).await, invalid_header, "{algorithm}");
    }
    // A public key used as an HMAC secret: anyone can read it, so anyone could sign.
    let header = json!({ "alg": "HS256", "kid": "r" }).to_string();
    let message = format!("{}.{}", base64url(header), base64url(&claims));
    for secret in [signer.jwk()["n"].as_str().unwrap().to_owned(), signer.jwk().to_string(), String::new()] {
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secret.as_bytes());
        let token = format!("{message}.{}", base64url(ring::hmac::sign(&key, message.as_bytes())));
        assert!(authorizer.refusal(&token).await.starts_with("it is signed with a shared secret"));
    }
}

#[tokio::test]
async fn a_signature_by_another_key_with_the_same_id_is_rejected() {
    for (ours, theirs, algorithm) in [
        (Signer::p256("k"), Signer::p256("k"), "ES256"),
        (Signer::ed25519("k"), Signer::ed25519("k"), "EdDSA"),
        // A key of another type.
        (Signer::rsa("k"), Signer::ed25519("k"), "EdDSA"),
        // A key with an algorithm of another key type.
        (Signer::ed25519("k"), Signer::ed25519("k"), "RS256"),
        (Signer::p384("k"), Signer::p256("k"), "ES256"),
    ] {
        let token = theirs.token(algorithm, &claims(json!({})));
        let refusal = FileJwt::new(&key_set(&[&ours])).refusal(&token).await;
        assert_eq!(refusal, "its signature does not match the key that it names (kid)", "{algorithm}");
    }
}

#[tokio::test]
async fn times_are_checked_with_the_leeway() {
    let signer = Signer::ed25519("e");
    let authorizer = FileJwt::new(&key_set(&[&signer]));
    let (now, leeway) = (get_current_timestamp(), JWT_LEEWAY.as_secs());
    // Longer than the test runs, in seconds.
    let margin = 20;
    for (good, bad, refusal) in [
        (json!({ "exp": now - leeway + margin }), json!({ "exp": now - leeway - 1 }), "it has expired (exp)"),
        (json!({ "nbf": now + leeway }), json!({ "nbf": now + leeway + margin }), "it is not valid yet (nbf)"),
        (
            json!({ "iat": now as f64 + 0.5 }),
            json!({ "iat": now + leeway + margin }),
            "its iat is in the future or not a number",
        ),
        (json!({ "iat": null }), json!({ "exp": null }), "its exp is missing or not a number"),
    ] {
        assert!(authorizer.verify(&signer.token("EdDSA", &claims(good.clone()))).await.is_ok(), "{good}");
        assert_eq!(authorizer.refusal(&signer.token("EdDSA", &claims(bad))).await, refusal);
    }
    for (invalid_time, refusal) in [
        (json!({ "exp": "9999999999" }), "its exp is missing or not a number"),
        (json!({ "exp": -1 }), "its exp is missing or not a number"),
        (json!({ "nbf": "1" }), "its exp or nbf is not a number"),
        (json!({ "iat": "1" }), "its iat is in the future or not a number"),
    ] {
        let token = signer.token("EdDSA", &claims(invalid_time.clone()));
        assert_eq!(authorizer.refusal(&token).await, refusal, "{invalid_time}");
    }
}

#[tokio::test]
async fn the_issuer_of_a_token_must_match_exactly() {
    let signer = Signer::ed25519("e");
    let authorizer = FileJwt::new(&key_set(&[&signer]));
    for issuer in [json!("https://issuer.example"), json!("HTTPS://issuer.example/"), json!([ISSUER]), json!(null)] {
        let token = signer.token("EdDSA", &claims(json!({ "iss": issuer })));
        assert_eq!(authorizer.refusal(&token).await, "it is from another issuer (iss)", "{issuer}");
    }
}

#[tokio::test]
async fn the_audience_is_aud_or_without_it_client_id() {
    let signer = Signer::ed25519("e");
    let authorizer = FileJwt::new(&key_set(&[&signer]));
    for good in [
        json!({ "aud": "rooms" }),
        json!({ "aud": ["other", "chat"] }),
        json!({ "aud": null, "client_id": "chat" }),
        json!({ "aud": "chat", "client_id": "other" }),
    ] {
        assert!(authorizer.verify(&signer.token("EdDSA", &claims(good.clone()))).await.is_ok(), "{good}");
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
        let refusal = authorizer.refusal(&signer.token("EdDSA", &claims(bad.clone()))).await;
        assert_eq!(refusal, "it is for another audience (aud, or client_id if there is no aud)", "{bad}");
    }
}

#[tokio::test]
async fn one_required_scope_is_enough_and_a_token_without_any_is_valid_but_rejected() {
    let signer = Signer::ed25519("e");
    let authorizer = FileJwt::with_scopes(&key_set(&[&signer]), &["read", "write"]);
    for (scopes, expected) in [
        (json!({ "scope": "openid write" }), vec!["openid", "write"]),
        (json!({ "scope": ["read"] }), vec!["read"]),
        (json!({ "scp": ["read", "x"] }), vec!["read", "x"]),
        (json!({ "scp": "x read", "scope": "y" }), vec!["y", "x", "read"]),
    ] {
        let token = signer.token("EdDSA", &claims(scopes.clone()));
        assert_eq!(authorizer.verify(&token).await.unwrap().scopes, expected, "{scopes}");
    }
    for scopes in [json!({}), json!({ "scope": "reader" }), json!({ "scope": "" }), json!({ "scp": [["read"], 1] })] {
        let token = signer.token("EdDSA", &claims(scopes.clone()));
        assert!(matches!(authorizer.verify(&token).await, Err(JwtError::MissingScope)), "{scopes}");
        assert!(FileJwt::new(&key_set(&[&signer])).verify(&token).await.is_ok(), "{scopes}");
    }
}

#[tokio::test]
async fn claims_are_formatted_as_by_api_gateway() {
    let signer = Signer::ed25519("e");
    let authorizer = FileJwt::new(&key_set(&[&signer]));
    let written = json!({
        "iss": ISSUER, "aud": ["chat", "x"], "exp": 4_102_444_800_u64, "client_id": "app", "admin": true, "half": 0.5,
        "groups": ["a", ["b", 1]], "none": [], "address": { "city": "Bern", "n": [1] }, "nothing": null,
        "principalId": "eve", "name": "Ann \"A\"", "nested": { "exp": 1, "principalId": "eve" },
    });
    let token = signer.token("EdDSA", &written);
    let verified = authorizer.verify(&token).await.unwrap();
    let context: Vec<_> = verified.context.iter().map(|(name, value)| (&**name, &**value)).collect();
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
    // The token has no sub.
    assert_eq!(verified.principal_id, "");
}

#[tokio::test]
async fn numbers_in_claims_stay_as_they_are_written_and_half_of_a_surrogate_pair_is_replaced() {
    let signer = Signer::ed25519("e");
    let authorizer = FileJwt::new(&key_set(&[&signer]));
    let good = claims(json!({ "sub": "ann", "scope": "a" })).to_string();
    let header = r#"{"alg":"EdDSA","kid":"e"}"#;
    let more = r#""n":12345678901234567890123,"big":[1e400,"\udc00"],"o":{"a": 1.0},"half":"\ud83d","\udbff":"x""#;
    let half = good.replace("\"ann\"", r#""ann\ud83d""#);
    let verified =
        authorizer.verify(&signer.signed("EdDSA", header, &format!("{{{more},{}", &half[1..]))).await.unwrap();
    assert_eq!(verified.principal_id, "ann\u{fffd}");
    let context: Vec<_> = verified.context.iter().map(|(name, value)| (&**name, &**value)).take(5).collect();
    let n = "12345678901234567890123";
    let object = r#"{"a":1.0}"#;
    assert_eq!(
        context,
        [("n", n), ("big", "[1e400 \u{fffd}]"), ("o", object), ("half", "\u{fffd}"), ("\u{fffd}", "x")]
    );
    for (entry, refusal) in [
        // The names are equal once they are text.
        (r#""\ud83d":1,"\udc00":2"#, "its claims are not a JSON object with unique names"),
        (r#""nbf":1e400"#, "its exp or nbf is not a number"),
    ] {
        let token = signer.signed("EdDSA", header, &format!("{{{entry},{}", &good[1..]));
        assert_eq!(authorizer.refusal(&token).await, refusal, "{entry}");
    }
    for (exp, refusal) in [
        ("1e400", "its exp is missing or not a number"),
        ("18446744073709551615", ""),
        ("1e19", ""),
        ("1e20", "its exp is missing or not a number"),
        ("-0.5", "its exp is missing or not a number"),
        ("0.5", "it has expired (exp)"),
    ] {
        let (start, rest) = good.split_once("\"exp\":").unwrap();
        let end = rest.find([',', '}']).unwrap();
        let token = signer.signed("EdDSA", header, &format!("{start}\"exp\":{exp}{}", &rest[end..]));
        match refusal {
            "" => assert!(authorizer.verify(&token).await.is_ok(), "{exp}"),
            refusal => assert_eq!(authorizer.refusal(&token).await, refusal, "{exp}"),
        }
    }
}

/// A token of the largest length has fewer bytes of claims, so the limit is tested on the claims alone.
#[test]
fn claims_larger_than_the_limit_are_rejected() {
    let with_bytes = |bytes: usize| {
        let claims = format!(r#"{{"n":[{}]}}"#, "1".repeat(bytes - "n[]".len()));
        ClaimSet::parse(&base64url(claims)).unwrap().to_claims()
    };
    assert!(with_bytes(JWT_CLAIMS_BYTES_MAX).is_ok());
    let error = with_bytes(JWT_CLAIMS_BYTES_MAX + 1).unwrap_err();
    assert!(matches!(error, JwtError::InvalidToken("its claims are larger than what handlers can receive")));
}

#[tokio::test]
async fn a_token_longer_than_8_kilobytes_is_rejected() {
    let signer = Signer::ed25519("e");
    let authorizer = FileJwt::new(&key_set(&[&signer]));
    let padded = |padding: usize| {
        let header = json!({ "alg": "EdDSA", "kid": "e", "padding": "p".repeat(padding) }).to_string();
        signer.signed("EdDSA", &header, &claims(json!({})).to_string())
    };
    let bare = padded(0).len();
    let most =
        (0..).map(|more| (JWT_BYTES_MAX - bare) / 4 * 3 + more).take_while(|most| padded(*most).len() <= JWT_BYTES_MAX);
    let most = most.last().unwrap();
    assert!(authorizer.verify(&padded(most)).await.is_ok());
    assert_eq!(authorizer.refusal(&padded(most + 1)).await, "it is longer than the maximum length of a token");
}

#[tokio::test]
async fn a_malformed_token_is_rejected_with_the_reason() {
    let signer = Signer::ed25519("e");
    let authorizer = FileJwt::new(&key_set(&[&signer]));
    let good = signer.token("EdDSA", &claims(json!({})));
    let (message, signature) = good.rsplit_once('.').unwrap();
    let (header, payload) = message.split_once('.').unwrap();
    let not_a_token = "it is not a signed JSON Web Token";
    let invalid_header = "its header is invalid, or names an algorithm that is not accepted";
    let forged = "its signature does not match the key that it names (kid)";
    for (token, refusal) in [
        (String::new(), not_a_token),
        ("..".to_owned(), invalid_header),
        ("Bearer ".to_owned(), not_a_token),
        (message.to_owned(), not_a_token),
        (format!("{good}.{payload}"), not_a_token),
        (format!("{header}=.{payload}.{signature}"), not_a_token),
        (format!("é.{payload}.{signature}"), not_a_token),
        (format!("{}.{payload}.{signature}", base64url("[]")), invalid_header),
        (format!("{}.{payload}.{signature}", base64url("{}")), invalid_header),
        (format!("{}.{payload}.{signature}", base64url(r#"{"alg":"EdDSA","alg":"EdDSA"}"#)), invalid_header),
        (format!("{}.{payload}.{signature}", base64url("[".repeat(5000))), invalid_header),
        (format!("{header}.{payload}."), forged),
        (format!("{header}.{payload}.AAAA"), forged),
        (format!("{header}.{payload}.{signature}="), "its claims or its signature is not base64url"),
    ] {
        assert_eq!(authorizer.refusal(&token).await, refusal, "{token}");
    }
}

#[tokio::test]
async fn claims_that_are_not_an_object_with_unique_names_are_rejected() {
    let signer = Signer::ed25519("e");
    let authorizer = FileJwt::new(&key_set(&[&signer]));
    let good = claims(json!({})).to_string();
    let with_entry = |entry: &str| format!("{{{entry},{}", &good[1..]);
    for claims in [
        "[]".to_owned(),
        "1".to_owned(),
        "{".to_owned(),
        with_entry("\"sub\":\"eve\""),
        with_entry("\"scope\":\"a\",\"scope\":\"b\""),
        with_entry("\"exp\":1"),
        with_entry("\"\\u0073ub\":\"eve\""),
        format!("{good}{good}"),
        "[".repeat(3000),
    ] {
        let token = signer.signed("EdDSA", r#"{"alg":"EdDSA","kid":"e"}"#, &claims);
        let refusal = authorizer.refusal(&token).await;
        assert_eq!(refusal, "its claims are not a JSON object with unique names", "{claims}");
    }
    let critical = r#"{"alg":"EdDSA","kid":"e","crit":["b64"],"b64":true}"#;
    let refusal = authorizer.refusal(&signer.signed("EdDSA", critical, &good)).await;
    assert_eq!(refusal, "its header requires an extension (crit), and none is supported");
}
