//! Who is let in, where the manifest says that somebody is asked before `$connect`.

mod jwt; // by a token that an issuer has signed

pub use jwt::{Claims as JwtClaims, Jwt, JwtError, JwtSettings, KeySource};
