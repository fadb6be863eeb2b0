//! The authorizers: of which type each is, and what its type has.

mod jwt;

pub use jwt::jwt;
