//! The JWT authorizer: which tokens are accepted, and how the keys of the issuer are updated.

use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use serde_json::{Value, json};

use crate::harness::{HOSTILE, HOSTILE_GRANTS, Server, Site, component, eventually};

const ISSUER: &str = "https://issuer.example";

/// A key pair of an issuer.
pub struct Issuer {
    id: &'static str,
    pair: Ed25519KeyPair,
}

impl Issuer {
    pub fn new(id: &'static str) -> Self {
        let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        Self { id, pair: Ed25519KeyPair::from_pkcs8(document.as_ref()).unwrap() }
    }

    pub fn jwks(&self) -> String {
        let x = URL_SAFE_NO_PAD.encode(self.pair.public_key());
        json!({ "keys": [{ "kty": "OKP", "crv": "Ed25519", "kid": self.id, "x": x }] }).to_string()
    }

    /// Returns a token that is valid for a minute. `changed` replaces or adds claims.
    pub fn token(&self, changed: Value) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let mut claims = json!({ "iss": ISSUER, "aud": "chat", "sub": "alice", "exp": now + 60, "scope": "read chat" });
        for (name, value) in changed.as_object().unwrap() {
            claims[name] = value.clone();
        }
        self.signed(&claims.to_string())
    }

    /// Returns a token with these claims, byte for byte.
    pub fn signed(&self, claims: &str) -> String {
        let header = json!({ "alg": "EdDSA", "kid": self.id }).to_string();
        let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
        let signature = URL_SAFE_NO_PAD.encode(self.pair.sign(signed.as_bytes()));
        format!("{signed}.{signature}")
    }
}

pub fn site(jwks: &str, authorizer: &str) -> Site {
    let guest = component(HOSTILE);
    Site::new(&format!(
        "[authorizers.tokens]\ntype = \"jwt\"\nissuer = {ISSUER:?}\naudience = [\"chat\"]\njwks = {jwks:?}\n{authorizer}\n\
         [integrations.guest]\ncomponent = {guest:?}\n{HOSTILE_GRANTS}\n[routes]\n\
         \"$connect\" = {{ integration = \"guest\", authorizer = \"tokens\" }}\n\
         \"$default\" = {{ integration = \"guest\", route_response = true }}\n"
    ))
}

/// Returns a server that has the key of this issuer in a file.
fn serve(issuer: &Issuer, authorizer: &str) -> Server {
    let site = site("keys.json", authorizer);
    fs::write(site.path().join("keys.json"), issuer.jwks()).unwrap();
    site.serve()
}

/// Returns the status of a handshake with this token: 101 if it is accepted.
async fn status(server: &Server, token: &str) -> u16 {
    server.try_connect("", &[("Authorization", token)]).await.err().unwrap_or(101)
}

#[tokio::test]
async fn a_valid_token_is_accepted_and_the_guest_gets_its_claims() {
    let issuer = Issuer::new("a");
    let server = serve(&issuer, "");
    let token = issuer.token(json!({ "exp": 4_000_000_000_u64, "level": 5, "rooms": ["a", "b"], "admin": true }));
    for header in [token.clone(), format!("Bearer {token}")] {
        let peer = server.try_connect("", &[("Authorization", &header)]).await;
        let mut peer = peer.unwrap_or_else(|status| panic!("{status}"));
        assert_eq!(
            peer.ask("granted").await,
            "principalId=alice iss=https://issuer.example aud=chat sub=alice exp=4000000000 scope=read chat level=5 \
             rooms=[a b] admin=true"
        );
    }
}

#[tokio::test]
async fn an_invalid_token_is_401_and_the_log_says_why_without_its_content() {
    let (issuer, other_issuer) = (Issuer::new("a"), Issuer::new("a"));
    let server = serve(&issuer, "");
    let secret = "do not log this";
    for (token, why) in [
        (issuer.token(json!({ "exp": 1_000_000_000, "secret": secret })), "it has expired (exp)"),
        (issuer.token(json!({ "nbf": 4_000_000_000_u64 })), "it is not valid yet (nbf)"),
        (issuer.token(json!({ "iss": secret })), "it is from another issuer (iss)"),
        (issuer.token(json!({ "aud": [secret] })), "it is for another audience"),
        (other_issuer.token(json!({})), "its signature does not match the key that it names"),
        (Issuer::new("b").token(json!({})), "its signature matches no known key of the issuer"),
        (secret.to_owned(), "it is not a signed JSON Web Token"),
    ] {
        assert_eq!(status(&server, &token).await, 401, "{why}");
        server.log.wait_for_line(&["WARN", "rejected handshake: invalid token", why, "status=401"]).await;
    }
    assert_eq!(server.try_connect("", &[]).await.err(), Some(401));
    server.log.wait_for_line(&["identity source route.request.header.Authorization is missing or empty"]).await;
    assert!(!server.log.text().contains(secret));
    assert_eq!(status(&server, &issuer.token(json!({}))).await, 101);
}

#[tokio::test]
async fn a_token_without_the_scope_is_403_and_a_token_may_be_in_the_query() {
    let issuer = Issuer::new("a");
    let keys = "scopes = [\"chat\", \"admin\"]\nidentity_sources = [\"route.request.querystring.token\"]";
    let server = serve(&issuer, keys);
    for (scope, expected) in [("read chat", None), ("admin", None), ("read", Some(403)), ("chatter", Some(403))] {
        let token = issuer.token(json!({ "scope": scope }));
        assert_eq!(server.try_connect(&format!("?token={token}"), &[]).await.err(), expected, "{scope}");
    }
    assert_eq!(status(&server, &issuer.token(json!({}))).await, 401);
}

#[tokio::test]
async fn a_new_key_of_the_issuer_is_used_without_a_restart() {
    let (old, new) = (Issuer::new("old"), Issuer::new("new"));
    let server = serve(&old, "");
    assert_eq!(status(&server, &old.token(json!({}))).await, 101);
    fs::write(server.site.path().join("keys.json"), new.jwks()).unwrap();
    eventually("the new key is accepted", || async { status(&server, &new.token(json!({}))).await == 101 }).await;
    assert_eq!(status(&server, &old.token(json!({}))).await, 401);
}

#[tokio::test]
async fn every_peer_is_rejected_until_the_key_set_exists() {
    let issuer = Issuer::new("a");
    let server = site("keys.json", "").serve();
    assert_eq!(status(&server, &issuer.token(json!({}))).await, 500);
    server.log.wait_for_line(&["rejected handshake: cannot verify tokens", "status=500"]).await;
    fs::write(server.site.path().join("keys.json"), issuer.jwks()).unwrap();
    eventually("the keys are found", || async { status(&server, &issuer.token(json!({}))).await == 101 }).await;
}
