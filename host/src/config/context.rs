//! Values of other sections that integrations and authorizers need.

use std::path::Path;

use crate::sigv4::AccessKeys;

#[derive(Clone, Copy)]
pub struct ManifestContext<'a> {
    /// The folder of the manifest, where relative paths start.
    pub folder: &'a Path,
    /// All access keys of `[access_keys]`, by their ids.
    pub access_keys: &'a AccessKeys,
    /// The region of the API.
    pub region: &'a str,
}
