//! What parent and child send to each other: one request, and one reply. Both begin with their length.

use std::io::{self, Read, Write};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// The answer of a child.
#[derive(Debug, PartialEq)]
pub enum Reply {
    /// The result.
    Content(Vec<u8>),
    /// Why there is none: something is wrong with what the request contains.
    Rejected(String),
}

const CONTENT: u8 = 1;
const REJECTED: u8 = 2;

/// Sends a request to a child.
pub async fn write_request(output: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> io::Result<()> {
    output.write_u64_le(bytes.len() as u64).await?;
    output.write_all(bytes).await?;
    output.flush().await
}

/// Reads the request in the child.
pub fn read_request(mut input: impl Read) -> io::Result<Vec<u8>> {
    let mut length = [0; 8];
    input.read_exact(&mut length)?;
    let length = u64::from_le_bytes(length);
    let mut bytes = Vec::new();
    input.take(length).read_to_end(&mut bytes)?;
    if bytes.len() as u64 == length { Ok(bytes) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

/// Sends the reply to the parent.
pub fn write_reply(mut output: impl Write, reply: &Reply) -> io::Result<()> {
    let (kind, content) = match reply {
        Reply::Content(content) => (CONTENT, &content[..]),
        Reply::Rejected(text) => (REJECTED, text.as_bytes()),
    };
    output.write_all(&[kind])?;
    output.write_all(&(content.len() as u64).to_le_bytes())?;
    output.write_all(content)?;
    output.flush()
}

/// Reads the reply of a child.
///
/// # Errors
/// `UnexpectedEof` if the child ended before its reply was complete; `InvalidData` if the reply has more than
/// `bytes_max` bytes or is not one.
pub async fn read_reply(mut input: impl AsyncRead + Unpin, bytes_max: usize) -> io::Result<Reply> {
    let invalid = |text: String| io::Error::new(io::ErrorKind::InvalidData, text);
    let kind = input.read_u8().await?;
    let length = input.read_u64_le().await?;
    if length > bytes_max as u64 {
        return Err(invalid(format!("it returned {length} bytes, expected at most {bytes_max}")));
    }
    let mut content = Vec::new();
    input.take(length).read_to_end(&mut content).await?;
    if content.len() as u64 != length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    match kind {
        CONTENT => Ok(Reply::Content(content)),
        REJECTED => Ok(Reply::Rejected(String::from_utf8_lossy(&content).into_owned())),
        other => Err(invalid(format!("it returned a reply of the unknown kind {other}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(reply: &Reply) -> Vec<u8> {
        let mut bytes = Vec::new();
        write_reply(&mut bytes, reply).unwrap();
        bytes
    }

    #[tokio::test]
    async fn a_request_and_its_reply_arrive_as_they_were_sent() {
        let mut request = Vec::new();
        write_request(&mut request, b"component").await.unwrap();
        assert_eq!(read_request(&request[..]).unwrap(), b"component");
        for reply in [Reply::Content(b"code".to_vec()), Reply::Rejected("why".to_owned()), Reply::Content(Vec::new())] {
            assert_eq!(read_reply(&sent(&reply)[..], 4).await.unwrap(), reply);
        }
    }

    #[tokio::test]
    async fn a_message_that_is_cut_anywhere_is_an_error() {
        let mut request = Vec::new();
        write_request(&mut request, b"component").await.unwrap();
        let reply = sent(&Reply::Content(b"code".to_vec()));
        for length in 0..request.len() {
            assert_eq!(read_request(&request[..length]).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        }
        for length in 0..reply.len() {
            let error = read_reply(&reply[..length], 4).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        }
    }

    #[tokio::test]
    async fn a_reply_that_is_too_long_or_of_an_unknown_kind_is_invalid() {
        let error = read_reply(&sent(&Reply::Content(b"code!".to_vec()))[..], 4).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        let mut unknown = sent(&Reply::Content(b"code".to_vec()));
        unknown[0] = 9;
        assert_eq!(read_reply(&unknown[..], 4).await.unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}
