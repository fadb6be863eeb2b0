//! The handshake and HTTP/1.1: RFC 6455, 9110 and 9112.
