//! Route keys.

use std::fmt;

/// `$connect`, `$disconnect`, `$default`, or a key that a message can select.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RouteKey {
    Connect,
    Disconnect,
    Default,
    /// Not empty and without a leading `$`.
    Custom(Box<str>),
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{found:?} is not a route key: expected $connect, $disconnect, $default, or a key that is not empty and does not \
     begin with $"
)]
pub struct BadRouteKey {
    found: String,
}

impl RouteKey {
    pub fn parse(text: &str) -> Result<Self, BadRouteKey> {
        match text {
            "$connect" => Ok(Self::Connect),
            "$disconnect" => Ok(Self::Disconnect),
            "$default" => Ok(Self::Default),
            _ if text.is_empty() || text.starts_with('$') => Err(BadRouteKey { found: text.to_owned() }),
            _ => Ok(Self::Custom(text.into())),
        }
    }

    pub fn as_str(&self) -> &str {
        match self {
            Self::Connect => "$connect",
            Self::Disconnect => "$disconnect",
            Self::Default => "$default",
            Self::Custom(key) => key,
        }
    }
}

impl fmt::Display for RouteKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
