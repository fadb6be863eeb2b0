//! What a node knows about its store before it connects: the address, the user, the certificates.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail, ensure};
use redis::{ClientTlsConfig, ConnectionAddr, ConnectionInfo, IntoConnectionInfo as _, TlsCertificates};
use tokio_rustls::rustls;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::sign::CertifiedKey;

use crate::authorities::Authorities;
use crate::limits::CA_FILE_BYTES_MAX;

#[derive(Clone, PartialEq)]
pub struct RedisOptions {
    /// `redis://`, `rediss://` (TLS) or `unix://`; it may have a user, a password and the number of a database.
    pub url: String,
    /// The user, if the URL has none.
    pub username: Option<String>,
    /// The environment variable with the password, if the URL has none.
    pub password_env: Option<String>,
    pub tls: TlsFiles,
    /// What the names of all keys begin with, so that several APIs can use one database.
    pub prefix: String,
    /// How long a node that does not renew its lease keeps its connections.
    pub lease: Duration,
    /// Whether a connection is admitted while Redis does not answer.
    pub admit_without_store: bool,
}

/// The files of a connection with TLS, in PEM form.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TlsFiles {
    /// The authorities that may have issued the certificate of the store; `None`: those of Mozilla.
    pub ca_file: Option<PathBuf>,
    /// The certificate that this process presents, and its key.
    pub client: Option<(PathBuf, PathBuf)>,
}

/// What a URL says, without its password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UrlParts {
    pub is_tls: bool,
    pub has_user: bool,
    pub has_password: bool,
}

impl RedisOptions {
    /// Checks a URL without connecting. The error does not quote it.
    pub fn check_url(url: &str) -> Result<UrlParts, String> {
        let is_socket = url.starts_with("unix:");
        if url.contains('#') {
            let found = "found #, which begins no part of it: in a password write %23, and without #insecure";
            return Err(format!("{found} the certificate is checked, for which ca_file can name an authority"));
        }
        if url.contains('?') && !is_socket {
            return Err("found ?, which begins no part of it: in a password write %3F".to_owned());
        }
        let info = url.into_connection_info().map_err(|error| error.to_string())?;
        Ok(UrlParts {
            is_tls: matches!(info.addr(), ConnectionAddr::TcpTls { .. }),
            has_user: info.redis_settings().username().is_some(),
            has_password: info.redis_settings().password().is_some(),
        })
    }

    /// The address and the number of the database, for the log. It has neither a user nor a password.
    pub fn place(&self) -> String {
        let Ok(info) = self.url.as_str().into_connection_info() else { return String::new() };
        let with_port = |host: &str, port: u16| {
            if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
        };
        let address = match info.addr() {
            ConnectionAddr::Tcp(host, port) => format!("redis://{}", with_port(host, *port)),
            ConnectionAddr::TcpTls { host, port, .. } => format!("rediss://{}", with_port(host, *port)),
            other => format!("unix://{other}"),
        };
        match info.redis_settings().db() {
            0 => address,
            database => format!("{address}/{database}"),
        }
    }

    /// The host that the certificate of the store must be for, and the port; `None` without TLS.
    pub(super) fn tls_address(&self) -> Option<(String, u16)> {
        match self.url.as_str().into_connection_info().ok()?.addr() {
            ConnectionAddr::TcpTls { host, port, .. } => Some((host.clone(), *port)),
            _ => None,
        }
    }

    /// The user of the store, as whom this process connects.
    pub(super) fn user(&self) -> String {
        let of_url = self.url.as_str().into_connection_info().ok();
        let of_url = of_url.and_then(|info| info.redis_settings().username().map(str::to_owned));
        self.username.clone().or(of_url).unwrap_or_else(|| "default".to_owned())
    }

    /// What gives the user the rights of a node. docs/nodes.md has the same line.
    pub(super) fn grant(&self) -> String {
        let (user, prefix) = (self.user(), &self.prefix);
        format!(
            "give it the rights of a node: ACL SETUSER {user} +@all -@dangerous +info +client|kill ~{prefix}:* &{prefix}:*"
        )
    }

    /// Reads the files and the environment variable that the options name.
    pub(super) fn client(&self) -> anyhow::Result<redis::Client> {
        let info = self.connection()?;
        let is_tls = matches!(info.addr(), ConnectionAddr::TcpTls { .. });
        let client =
            if is_tls { redis::Client::build_with_tls(info, self.tls.read()?) } else { redis::Client::open(info) };
        // Its text has no password.
        client.map_err(|error| anyhow!("cannot use {}: {error}", self.place()))
    }

    fn connection(&self) -> anyhow::Result<ConnectionInfo> {
        let info = self.url.as_str().into_connection_info().map_err(|error| anyhow!("url: {error}"))?;
        let mut settings = info.redis_settings().clone();
        if let Some(user) = &self.username {
            settings = settings.set_username(user);
        }
        if let Some(variable) = &self.password_env {
            settings = settings.set_password(password(variable)?);
        }
        Ok(info.set_redis_settings(settings))
    }
}

impl std::fmt::Debug for RedisOptions {
    /// Without the URL, which may have a password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RedisOptions")
            .field("place", &self.place())
            .field("prefix", &self.prefix)
            .field("lease", &self.lease)
            .field("tls", &self.tls)
            .finish_non_exhaustive()
    }
}

fn password(variable: &str) -> anyhow::Result<String> {
    let advice = format!("set {variable} to the password of the store, or remove the key");
    match std::env::var(variable) {
        Ok(password) if password.is_empty() => bail!("password_env: {variable} is empty; {advice}"),
        Ok(password) => Ok(password),
        Err(std::env::VarError::NotPresent) => bail!("password_env: {variable} is not set; {advice}"),
        Err(std::env::VarError::NotUnicode(_)) => bail!("password_env: {variable} is not UTF-8; {advice}"),
    }
}

impl TlsFiles {
    /// Reads the files, and checks that they have what the keys of the manifest say.
    ///
    /// # Errors
    /// The key of the manifest, the file, and what is wrong with it.
    pub fn read(&self) -> anyhow::Result<TlsCertificates> {
        let root_cert = match &self.ca_file {
            Some(path) => {
                let pem = read(path).with_context(|| format!("ca_file: {}", path.display()))?;
                Authorities::parse(&pem).map_err(|why| anyhow!("ca_file: {}: {why}", path.display()))?;
                Some(pem)
            }
            None => None,
        };
        let client_tls = match &self.client {
            Some((certificate, key)) => {
                let client_cert =
                    read(certificate).with_context(|| format!("certificate_file: {}", certificate.display()))?;
                let chain = parse_certificates(&client_cert)
                    .with_context(|| format!("certificate_file: {}", certificate.display()))?;
                let client_key = read(key).with_context(|| format!("key_file: {}", key.display()))?;
                check_key(chain, &client_key).with_context(|| format!("key_file: {}", key.display()))?;
                Some(ClientTlsConfig { client_cert, client_key })
            }
            None => None,
        };
        Ok(TlsCertificates { client_tls, root_cert })
    }
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    let mut content = Vec::new();
    File::open(path)?.take(CA_FILE_BYTES_MAX + 1).read_to_end(&mut content)?;
    ensure!(content.len() as u64 <= CA_FILE_BYTES_MAX, "found a file of more than {CA_FILE_BYTES_MAX} bytes");
    Ok(content)
}

fn parse_certificates(pem: &[u8]) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let mut chain = Vec::new();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let number = chain.len() + 1;
        chain.push(certificate.map_err(|error| anyhow!("cannot parse its certificate {number}: {error}"))?);
    }
    ensure!(
        !chain.is_empty(),
        "found no certificate, expected a PEM block that begins with -----BEGIN CERTIFICATE-----"
    );
    Ok(chain)
}

/// Checks that a file has the key of a certificate. The errors have none of its content.
fn check_key(chain: Vec<CertificateDer<'static>>, pem: &[u8]) -> anyhow::Result<()> {
    let Ok(key) = PrivateKeyDer::from_pem_slice(pem) else {
        bail!("found no key, expected a PEM block that begins with -----BEGIN PRIVATE KEY-----")
    };
    match CertifiedKey::from_der(chain, key, &ring::default_provider()) {
        Ok(_) => Ok(()),
        Err(rustls::Error::InconsistentKeys(_)) => bail!("found the key of another certificate than certificate_file"),
        Err(error) => bail!("cannot use it with certificate_file: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(url: &str) -> RedisOptions {
        RedisOptions {
            url: url.to_owned(),
            username: None,
            password_env: None,
            tls: TlsFiles::default(),
            prefix: "jackfield".to_owned(),
            lease: Duration::from_secs(10),
            admit_without_store: false,
        }
    }

    #[test]
    fn the_place_of_a_store_has_neither_user_nor_password() {
        for (url, place) in [
            ("redis://user:secret@host", "redis://host:6379"),
            ("rediss://:secret@host:1/2", "rediss://host:1/2"),
            ("redis://secret@[::1]:7", "redis://[::1]:7"),
            ("unix:///run/redis.sock?user=user&pass=secret&db=3", "unix:///run/redis.sock/3"),
        ] {
            assert!(RedisOptions::check_url(url).is_ok(), "{url}");
            assert_eq!(options(url).place(), place);
            assert!(!format!("{:?}", options(url)).contains("secret"));
        }
    }

    #[test]
    fn what_follows_a_password_that_is_not_encoded_is_in_no_error() {
        for url in [
            "redis://user:1#secret@host:6379",
            "redis://user:1/secret@host:6379",
            "redis://user:1?secret@host:6379",
            "redis://:se/cret@secret:6379",
            "rediss://host/#insecure",
            "rediss://host/?protocol=secret",
            "redis://host/secret",
            "redis:secret",
        ] {
            let error = RedisOptions::check_url(url).expect_err(url);
            assert!(!error.contains("secret") && !error.contains("cret"), "{url}: {error}");
        }
    }

    #[test]
    fn a_password_comes_from_a_variable_that_is_set_and_not_empty() {
        // Every process of a test has it.
        let with = |variable: &str| RedisOptions { password_env: Some(variable.to_owned()), ..options("redis://host") };
        assert!(with("PATH").connection().unwrap().redis_settings().password().is_some());
        let error = with("JACKFIELD_NO_SUCH_VARIABLE").connection().unwrap_err().to_string();
        assert!(error.starts_with("password_env: JACKFIELD_NO_SUCH_VARIABLE is not set; set "), "{error}");
    }

    #[test]
    fn files_that_are_no_certificates_are_rejected_with_their_key() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, content: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, content).unwrap();
            path
        };
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let (certificate, key) = (file("c.pem", &made.cert.pem()), file("k.pem", &made.signing_key.serialize_pem()));
        let (empty, missing) = (file("empty.pem", ""), folder.path().join("missing.pem"));
        let read = |ca: Option<&PathBuf>, client: Option<(&PathBuf, &PathBuf)>| {
            let client = client.map(|(certificate, key)| (certificate.clone(), key.clone()));
            TlsFiles { ca_file: ca.cloned(), client }.read().map(drop).map_err(|error| format!("{error:#}"))
        };
        assert_eq!(read(Some(&certificate), Some((&certificate, &key))), Ok(()));
        for (found, words) in [
            (read(Some(&missing), None), ["ca_file: ", "missing.pem: No such file"]),
            (read(Some(&empty), None), ["ca_file: ", "empty.pem: found no certificate"]),
            (read(None, Some((&key, &key))), ["certificate_file: ", "k.pem: found no certificate"]),
            (read(None, Some((&certificate, &certificate))), ["key_file: ", "c.pem: found no key"]),
        ] {
            let error = found.unwrap_err();
            assert!(words.iter().all(|word| error.contains(word)), "{error}");
        }
    }
}
