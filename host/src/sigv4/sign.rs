//! Signs requests that this server sends.

use ring::{digest, hmac};

use super::{ALGORITHM, BodyHash, Request, Secret, canonical, hex, signing_key};
use crate::event::EpochMillis;

/// An access key, and the service and region that it signs for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signer {
    pub access_key: String,
    pub secret: Secret,
    pub region: String,
    pub service: &'static str,
}

/// The values of the two headers that carry a signature.
pub struct SignatureHeaders {
    pub amz_date: String,
    pub authorization: String,
}

/// The header with the time of the signature. The signature covers it like the other headers.
pub const AMZ_DATE: &str = "x-amz-date";

impl Signer {
    /// Signs a request: all headers in `request`, and the path encoded twice, as the SDKs do.
    pub fn sign(&self, request: &Request<'_>, body: BodyHash, now: EpochMillis) -> SignatureHeaders {
        let Self { access_key, secret, region, service } = self;
        let timestamp = timestamp(now);
        let mut headers = request.headers.to_vec();
        headers.push((AMZ_DATE.to_owned(), timestamp.clone()));
        let mut names: Vec<_> = headers.iter().map(|(name, _)| name.to_ascii_lowercase()).collect();
        names.sort_unstable();
        names.dedup();
        let lines = canonical::headers(&headers, &names).expect("the names are those of these headers");
        let names = names.join(";");
        let path = canonical::paths(request.path).swap_remove(0);
        let query = canonical::query(request.query);
        let canonical = format!("{}\n{path}\n{query}\n{lines}\n{names}\n{}", request.method, hex(&body.0));

        let date = &timestamp[..8];
        let scope = format!("{date}/{region}/{service}/aws4_request");
        let hash = hex(digest::digest(&digest::SHA256, canonical.as_bytes()).as_ref());
        let key = signing_key(secret, date, region, service);
        let signature = hmac::sign(&key, format!("{ALGORITHM}\n{timestamp}\n{scope}\n{hash}").as_bytes());
        let signature = hex(signature.as_ref());
        let authorization =
            format!("{ALGORITHM} Credential={access_key}/{scope}, SignedHeaders={names}, Signature={signature}");
        SignatureHeaders { amz_date: timestamp, authorization }
    }
}

/// `20260102T030405Z`
fn timestamp(now: EpochMillis) -> String {
    let time = std::time::UNIX_EPOCH + std::time::Duration::from_millis(now);
    humantime::format_rfc3339_seconds(time).to_string().replace(['-', ':'], "")
}
