//! The certificate authorities of a `ca_file`, which a client of TLS trusts instead of Mozilla's.
//!
//! Knows the format of the file. Does not know paths, URLs or connections.

use std::error::Error as StdError;
use std::io;

use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::{self, RootCertStore};

use crate::json::without_byte_order_mark;

/// At least one certificate authority.
#[derive(Clone, Debug)]
pub struct Authorities(pub RootCertStore);

impl Authorities {
    /// Parses the certificates in a PEM file and ignores everything else in it.
    ///
    /// # Errors
    /// What is wrong, as text for the log.
    pub fn parse(pem: &[u8]) -> Result<Self, String> {
        let mut store = RootCertStore::empty();
        for (index, certificate) in CertificateDer::pem_slice_iter(without_byte_order_mark(pem)).enumerate() {
            let added = certificate.map_err(|error| error.to_string());
            let added = added.and_then(|certificate| store.add(certificate).map_err(|error| error.to_string()));
            added.map_err(|why| format!("cannot parse its certificate {}: {why}", index + 1))?;
        }
        if store.is_empty() {
            return Err(
                "found no certificate, expected a PEM block that begins with -----BEGIN CERTIFICATE-----".to_owned()
            );
        }
        Ok(Self(store))
    }
}

/// Returns the TLS error if a connection failed because the server's certificate is invalid.
pub fn certificate_error<'e>(error: &'e (dyn StdError + 'static)) -> Option<&'e rustls::Error> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        match error.downcast_ref() {
            Some(found @ rustls::Error::InvalidCertificate(_)) => return Some(found),
            _ => cause = inner(error).or_else(|| error.source()),
        }
    }
    None
}

/// Returns the error that an IO error wraps, which its `source` method skips.
fn inner<'e>(error: &'e (dyn StdError + 'static)) -> Option<&'e (dyn StdError + 'static)> {
    let inner = error.downcast_ref::<io::Error>()?.get_ref()?;
    Some(inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_certificates_in_a_file_are_parsed() {
        let pem = |name: &str| rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
        let (one, other) = (pem("one.example"), pem("other.example"));
        let file = format!(
            "one\n{}\nother, with its key\n{}{}",
            one.cert.pem(),
            other.cert.pem(),
            other.signing_key.serialize_pem()
        );
        assert_eq!(Authorities::parse(file.as_bytes()).unwrap().0.len(), 2);
        // Without its byte order mark, the first line begins a certificate.
        let marked = format!("\u{feff}{}{}", one.cert.pem(), other.cert.pem());
        assert_eq!(Authorities::parse(marked.as_bytes()).unwrap().0.len(), 2);
    }

    #[test]
    fn a_file_without_valid_certificates_is_rejected() {
        for (file, expected) in [
            ("", "found no certificate, expected a PEM block"),
            ("MIIB", "found no certificate"),
            ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "cannot parse its certificate 1: "),
            ("-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n", "cannot parse its certificate 1: "),
            ("-----BEGIN CERTIFICATE-----\nAAAA\n", "cannot parse its certificate 1: "),
        ] {
            let error = Authorities::parse(file.as_bytes()).unwrap_err();
            assert!(error.starts_with(expected), "{file:?}: {error}");
        }
    }
}
