//! The configuration of this handler, which is the table `config` in the manifest: `wasi:config`.

use std::fmt;

use crate::host::config as host;

/// The reason why the configuration could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError(String);

/// Returns the value of a key, if the manifest sets it.
///
/// # Errors
/// If the configuration cannot be read.
pub fn get(key: &str) -> Result<Option<String>, ConfigError> {
    Ok(host::get(key)?)
}

/// Returns all keys and their values.
///
/// # Errors
/// If the configuration cannot be read.
pub fn get_all() -> Result<Vec<(String, String)>, ConfigError> {
    Ok(host::get_all()?)
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the configuration cannot be read: {}", self.0)
    }
}

impl std::error::Error for ConfigError {}

impl From<host::Error> for ConfigError {
    fn from(error: host::Error) -> Self {
        let (host::Error::Upstream(why) | host::Error::Io(why)) = error;
        ConfigError(why)
    }
}
