//! Why a store cannot be used: what was found, what was expected, and what to do. No text has a password.

use std::error::Error as StdError;
use std::io;
use std::sync::Arc;

use redis::{ErrorKind, RedisError, ServerErrorKind};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::rustls::{self, AlertDescription, CertificateError};

use super::{CALL_TIMEOUT, RedisOptions};

/// Says why a call of the store failed at the start, and what to do.
pub fn explain(error: &RedisError, options: &RedisOptions) -> String {
    if let Some(error) = tls_error(error) {
        return explain_tls(error, options);
    }
    match (error.kind(), error.code()) {
        (ErrorKind::AuthenticationFailed, _) => {
            "it rejects the user or the password; check username and password_env, and ACL LIST of the store".to_owned()
        }
        (_, Some("NOAUTH")) => {
            "it asks for a password; name the environment variable with it in password_env".to_owned()
        }
        (ErrorKind::Server(ServerErrorKind::NoPerm), _) => {
            let detail = error.detail().unwrap_or("the user may not do what a node does");
            format!("it refuses a command: {detail}; {}", options.grant())
        }
        (ErrorKind::Server(ServerErrorKind::BusyLoading), _) => {
            "it is still loading its data; start again when it is ready".to_owned()
        }
        (ErrorKind::Server(ServerErrorKind::ResponseError), _) if is_denied(error) => {
            "it is in protected mode, in which it accepts only its own machine; give it a password".to_owned()
        }
        _ if error.is_timeout() => {
            "found no answer in time; check the host and the port in url, and whether a firewall drops packets"
                .to_owned()
        }
        _ if is_no_redis(error) && options.tls_address().is_none() => {
            format!("the answer is not one of Redis ({error}); if this port expects TLS, write rediss://")
        }
        _ => error.to_string(),
    }
}

fn is_denied(error: &RedisError) -> bool {
    error.to_string().contains("protected mode")
}

/// A server of TLS closes a connection without it, or sends an alert, which is no answer of Redis.
fn is_no_redis(error: &RedisError) -> bool {
    error.kind() == ErrorKind::Parse || (error.is_connection_dropped() && !error.is_connection_refusal())
}

const NO_TLS: &str = "found no TLS at this port; name the port that Redis has for TLS (tls-port), or write redis://";

/// Says why the first connection failed. A Redis without TLS waits for the end of a line, so it may not answer at all: then
/// this asks it.
pub async fn explain_no_connection(error: &RedisError, options: &RedisOptions) -> String {
    if error.is_timeout()
        && let Some((host, port)) = options.tls_address()
        && matches!(tokio::time::timeout(CALL_TIMEOUT, answers_without_tls(&host, port)).await, Ok(Ok(true)))
    {
        return NO_TLS.to_owned();
    }
    explain(error, options)
}

async fn answers_without_tls(host: &str, port: u16) -> io::Result<bool> {
    let mut stream = TcpStream::connect((host, port)).await?;
    stream.write_all(b"PING\r\n").await?;
    // An answer, or an error such as that a password is missing.
    Ok(matches!(stream.read_u8().await?, b'+' | b'-'))
}

fn explain_tls(error: &rustls::Error, options: &RedisOptions) -> String {
    match error {
        rustls::Error::InvalidCertificate(error) => explain_certificate(error, options),
        rustls::Error::InvalidMessage(_) => NO_TLS.to_owned(),
        rustls::Error::AlertReceived(alert) if options.tls.client.is_none() && is_about_client(*alert) => format!(
            "it asks for a certificate of this process ({alert:?}); set certificate_file and key_file, or tls-auth-clients \
             no in the store"
        ),
        rustls::Error::AlertReceived(alert) => {
            let advice = "check that an authority of the store has issued certificate_file";
            format!("it ended the connection ({alert:?}); {advice}")
        }
        error => format!("TLS failed: {error}"),
    }
}

fn is_about_client(alert: AlertDescription) -> bool {
    use AlertDescription as Alert;
    matches!(alert, Alert::CertificateRequired | Alert::HandshakeFailure | Alert::BadCertificate | Alert::NoCertificate)
}

fn explain_certificate(error: &CertificateError, options: &RedisOptions) -> String {
    let host = options.tls_address().map(|(host, _)| host).unwrap_or_default();
    match error {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "its certificate has expired; issue another one, and check the clock of this machine".to_owned()
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "its certificate is not valid yet; check the clock of this machine".to_owned()
        }
        // An authority with the same name and another key.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => match &options.tls.ca_file {
            Some(file) => format!(
                "no authority in ca_file ({}) has issued its certificate; write the one that has into that file",
                file.display()
            ),
            None => "no authority of Mozilla's list has issued its certificate; name the file with its authority in \
                     ca_file"
                .to_owned(),
        },
        CertificateError::NotValidForName => {
            format!("its certificate is not for {host}; write a host in url for which it is")
        }
        CertificateError::NotValidForNameContext { presented, .. } => {
            let names = presented.join(", ");
            format!("its certificate is for {names}, expected {host}; write a host in url for which it is")
        }
        error => format!("its certificate is not valid: {error}"),
    }
}

fn tls_error(error: &RedisError) -> Option<&rustls::Error> {
    // The source is a shared error, whose own source is not the error that it shares.
    let shared = error.source()?.downcast_ref::<Arc<dyn StdError + Send + Sync>>()?;
    shared.downcast_ref::<io::Error>()?.get_ref()?.downcast_ref()
}
