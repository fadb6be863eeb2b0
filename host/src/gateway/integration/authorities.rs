//! The authorities of a manifest's own, whose certificates an integration believes in place of Mozilla's.
//!
//! Knows the file's form. Does not know files, URLs or connections.

use std::error::Error as StdError;
use std::io;

use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::{self, RootCertStore};

/// At least one, and each of them can sign.
#[derive(Clone, Debug)]
pub struct Authorities(pub(super) RootCertStore);

impl Authorities {
    /// Reads a file in PEM form; what stands around its certificates is no matter.
    ///
    /// # Errors
    /// What is wrong, in words for the log.
    pub fn parse(pem: &[u8]) -> Result<Self, String> {
        let mut store = RootCertStore::empty();
        for (index, certificate) in CertificateDer::pem_slice_iter(pem).enumerate() {
            let added = certificate.map_err(|error| error.to_string());
            let added = added.and_then(|certificate| store.add(certificate).map_err(|error| error.to_string()));
            added.map_err(|why| format!("its certificate {} cannot be read: {why}", index + 1))?;
        }
        if store.is_empty() {
            return Err("found no certificate, expected -----BEGIN CERTIFICATE----- and what follows".to_owned());
        }
        Ok(Self(store))
    }
}

/// Why the certificate of a server was not believed, where it was that which failed.
pub fn distrust<'e>(error: &'e (dyn StdError + 'static)) -> Option<&'e rustls::Error> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        match error.downcast_ref() {
            Some(found @ rustls::Error::InvalidCertificate(_)) => return Some(found),
            _ => cause = inner(error).or_else(|| error.source()),
        }
    }
    None
}

/// What an error of IO was made of, which its `source` skips.
fn inner<'e>(error: &'e (dyn StdError + 'static)) -> Option<&'e (dyn StdError + 'static)> {
    let inner = error.downcast_ref::<io::Error>()?.get_ref()?;
    Some(inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_certificates_has_each_of_them() {
        let pem = |name: &str| rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
        let (one, other) = (pem("one.example"), pem("other.example"));
        let file = format!(
            "one\n{}\nother, with its key\n{}{}",
            one.cert.pem(),
            other.cert.pem(),
            other.signing_key.serialize_pem()
        );
        assert_eq!(Authorities::parse(file.as_bytes()).unwrap().0.len(), 2);
    }

    #[test]
    fn what_is_no_certificate_is_told() {
        for (file, told) in [
            ("", "found no certificate, expected -----BEGIN CERTIFICATE-----"),
            ("MIIB", "found no certificate"),
            ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "its certificate 1 cannot be read: "),
            ("-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n", "its certificate 1 cannot be read: "),
            ("-----BEGIN CERTIFICATE-----\nAAAA\n", "its certificate 1 cannot be read: "),
        ] {
            let error = Authorities::parse(file.as_bytes()).unwrap_err();
            assert!(error.starts_with(told), "{file:?}: {error}");
        }
    }
}
