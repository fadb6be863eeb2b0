//! The modules that are built into the engine, and those of Node.js that are not.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

/// The list that the engine and this host share.
const LIST: &str = include_str!("../../../js-engine/builtins.json");

/// The built-in modules. The bundler gets the list as it is.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Builtins {
    /// Modules of the engine that are none of Node.js, by their whole name. One that ends with a slash stands for all
    /// names that begin with it.
    modules: BTreeSet<String>,
    /// Modules of Node.js that the engine has. Each may be imported with and without `node:`.
    node: BTreeSet<String>,
    /// Modules of Node.js that can only be imported with `node:`.
    prefix_only: BTreeSet<String>,
    /// Modules of Node.js that the engine does not have, and what to use instead.
    missing: BTreeMap<String, String>,
    /// Packages that cannot work, and why.
    packages: BTreeMap<String, String>,
}

/// What an imported name means.
#[derive(Debug, PartialEq)]
pub enum Kind<'a> {
    /// The engine has the module.
    Available,
    /// It is a module of Node.js that the engine does not have. The text says what to use instead.
    Missing(&'a str),
    /// It is a file or a package.
    Other,
}

/// Returns the list of the engine.
pub fn builtins() -> &'static Builtins {
    static BUILTINS: LazyLock<Builtins> =
        LazyLock::new(|| serde_json::from_str(LIST).expect("a test parses the list of built-in modules"));
    &BUILTINS
}

impl Builtins {
    pub fn kind(&self, specifier: &str) -> Kind<'_> {
        let is_below = |module: &String| module.ends_with('/') && specifier.starts_with(module);
        if self.modules.contains(specifier) || self.modules.iter().any(is_below) {
            return Kind::Available;
        }
        let prefixed = specifier.strip_prefix("node:");
        let name = prefixed.unwrap_or(specifier);
        if prefixed.is_none() && self.prefix_only.contains(name) {
            return Kind::Other;
        }
        if self.node.contains(name) {
            return Kind::Available;
        }
        match (self.missing.get(name), prefixed) {
            (Some(advice), _) => Kind::Missing(advice),
            (None, Some(_)) => Kind::Missing("Node.js has no such module either"),
            (None, None) => Kind::Other,
        }
    }
}

pub fn describe_missing(specifier: &str, advice: &str) -> String {
    format!("the built-in module {specifier:?} does not exist here: {advice}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_built_in_module_is_known_with_and_without_its_prefix() {
        let list = builtins();
        for name in ["jackfield", "node:crypto", "crypto", "util/types", "aws-sdk", "aws-sdk/clients/s3"] {
            assert_eq!(list.kind(name), Kind::Available, "{name}");
        }
        for name in ["net", "node:net", "fs/promises", "node:child_process", "node:test", "node:nonsense"] {
            assert!(matches!(list.kind(name), Kind::Missing(_)), "{name}");
        }
        for name in
            ["test", "./net", "uuid", "string_decoder/", "aws-sdk/lib/core", "@aws-sdk/client-dynamodb", "node", ""]
        {
            assert_eq!(list.kind(name), Kind::Other, "{name}");
        }
    }

    #[test]
    fn no_module_is_both_there_and_missing() {
        let list = builtins();
        assert!(list.node.iter().all(|name| !list.missing.contains_key(name)));
        assert!(list.prefix_only.iter().all(|name| list.missing.contains_key(name) || list.node.contains(name)));
    }
}
