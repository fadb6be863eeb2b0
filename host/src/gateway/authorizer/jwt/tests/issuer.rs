//! An issuer for tests: keys that sign tokens, and a server for the public keys.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::Uri;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _,
    RSA_PKCS1_SHA256, RSA_PKCS1_SHA384, RSA_PKCS1_SHA512, RSA_PSS_SHA256, RSA_PSS_SHA384, RSA_PSS_SHA512, RsaEncoding,
    RsaKeyPair, RsaPublicKeyComponents,
};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// A key pair that signs tokens, and its `kid`.
pub struct Signer {
    pub id: Option<&'static str>,
    pair: Pair,
}

enum Pair {
    Rsa(Box<RsaKeyPair>),
    /// The pair and the name of its curve.
    Ec(Box<EcdsaKeyPair>, &'static str),
    Ed(Ed25519KeyPair),
}

impl Signer {
    /// Always the same key, because generating one takes seconds. It was generated with openssl for these tests only.
    pub fn rsa(id: &'static str) -> Self {
        let pair = RsaKeyPair::from_pkcs8(include_bytes!("../testdata/rsa_2048.pkcs8.der")).unwrap();
        Self { id: Some(id), pair: Pair::Rsa(pair.into()) }
    }

    pub fn p256(id: &'static str) -> Self {
        let random = SystemRandom::new();
        let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, document.as_ref(), &random).unwrap();
        Self { id: Some(id), pair: Pair::Ec(pair.into(), "P-256") }
    }

    pub fn p384(id: &'static str) -> Self {
        let random = SystemRandom::new();
        let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P384_SHA384_FIXED_SIGNING, &random).unwrap();
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P384_SHA384_FIXED_SIGNING, document.as_ref(), &random).unwrap();
        Self { id: Some(id), pair: Pair::Ec(pair.into(), "P-384") }
    }

    pub fn ed25519(id: &'static str) -> Self {
        let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        Self { id: Some(id), pair: Pair::Ed(Ed25519KeyPair::from_pkcs8(document.as_ref()).unwrap()) }
    }

    pub fn without_id(self) -> Self {
        Self { id: None, ..self }
    }

    /// Returns the public key.
    pub fn jwk(&self) -> Value {
        let mut jwk = match &self.pair {
            Pair::Rsa(pair) => {
                let RsaPublicKeyComponents { n, e } = RsaPublicKeyComponents::<Vec<u8>>::from(pair.public());
                json!({ "kty": "RSA", "n": base64url(n), "e": base64url(e) })
            }
            Pair::Ec(pair, curve) => {
                let (x, y) = pair.public_key().as_ref()[1..].split_at(pair.public_key().as_ref().len() / 2);
                json!({ "kty": "EC", "crv": curve, "x": base64url(x), "y": base64url(y) })
            }
            Pair::Ed(pair) => json!({ "kty": "OKP", "crv": "Ed25519", "x": base64url(pair.public_key()) }),
        };
        if let Some(id) = self.id {
            jwk["kid"] = id.into();
        }
        jwk
    }

    /// Returns a token signed with this key.
    pub fn token(&self, algorithm: &str, claims: &Value) -> String {
        let mut header = json!({ "typ": "JWT", "alg": algorithm });
        if let Some(id) = self.id {
            header["kid"] = id.into();
        }
        self.signed(algorithm, &header.to_string(), &claims.to_string())
    }

    /// Returns a token signed with this key, with any text as header and claims.
    pub fn signed(&self, algorithm: &str, header: &str, claims: &str) -> String {
        let message = format!("{}.{}", base64url(header), base64url(claims));
        let signature = self.sign(algorithm, message.as_bytes());
        format!("{message}.{}", base64url(signature))
    }

    fn sign(&self, algorithm: &str, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match &self.pair {
            Pair::Rsa(pair) => {
                let encoding: &'static dyn RsaEncoding = match algorithm {
                    "RS256" => &RSA_PKCS1_SHA256,
                    "RS384" => &RSA_PKCS1_SHA384,
                    "RS512" => &RSA_PKCS1_SHA512,
                    "PS256" => &RSA_PSS_SHA256,
                    "PS384" => &RSA_PSS_SHA384,
                    _ => &RSA_PSS_SHA512,
                };
                let mut signature = vec![0; pair.public().modulus_len()];
                pair.sign(encoding, &random, message, &mut signature).unwrap();
                signature
            }
            Pair::Ec(pair, _) => pair.sign(&random, message).unwrap().as_ref().to_vec(),
            Pair::Ed(pair) => pair.sign(message).as_ref().to_vec(),
        }
    }
}

pub fn base64url(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Returns the JWK set with the public keys of these signers.
pub fn key_set(signers: &[&Signer]) -> String {
    json!({ "keys": signers.iter().map(|signer| signer.jwk()).collect::<Vec<_>>() }).to_string()
}

/// A server on this machine that sends the same response to each request for keys, until the response is replaced.
pub struct Server {
    address: SocketAddr,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    response: Mutex<Option<String>>,
    requests: AtomicUsize,
}

impl Server {
    pub async fn start(keys: &[&Signer]) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let server = Self { address: listener.local_addr().unwrap(), state: Arc::default() };
        server.serve_keys(&key_set(keys));
        let state = Arc::clone(&server.state);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&state)));
            }
        });
        server
    }

    pub fn uri(&self) -> Uri {
        format!("http://{}/jwks.json", self.address).parse().unwrap()
    }

    /// Responds with this document from now on.
    pub fn serve_keys(&self, body: &str) {
        self.respond_with(Some(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())));
    }

    /// Replaces the response; with `None` the server does not respond.
    pub fn respond_with(&self, response: Option<String>) {
        *self.state.response.lock().unwrap() = response;
    }

    pub fn requests(&self) -> usize {
        self.state.requests.load(Ordering::Relaxed)
    }
}

async fn serve(mut stream: TcpStream, state: Arc<State>) {
    let mut request = Vec::new();
    while let Ok(1..) = stream.read_buf(&mut request).await {
        if request.ends_with(b"\r\n\r\n") {
            request.clear();
            state.requests.fetch_add(1, Ordering::Relaxed);
            let response = state.response.lock().unwrap().clone();
            if let Some(response) = response {
                let _ = stream.write_all(response.as_bytes()).await;
            }
        }
    }
}
