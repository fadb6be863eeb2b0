//! The modules that are built into the engine, and those of Node.js that are not.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

/// The list of the engine, `js-engine/builtins.json`. The bundler gets it with each request.
#[derive(Clone, Debug, Deserialize, Serialize)]
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
    /// Returns why a package cannot work.
    pub fn package_advice(&self, package: &str) -> Option<&str> {
        self.packages.get(package).map(String::as_str)
    }

    /// Returns the names about which the list contradicts itself: modules of Node.js that are both there and missing, and
    /// those that need a prefix and are neither.
    pub fn contradictions(&self) -> Vec<&str> {
        let both = self.node.iter().filter(|name| self.missing.contains_key(*name));
        let neither = |name: &&String| !self.missing.contains_key(*name) && !self.node.contains(*name);
        both.chain(self.prefix_only.iter().filter(neither)).map(String::as_str).collect()
    }
}

pub fn describe_missing(specifier: &str, advice: &str) -> String {
    format!("the built-in module {specifier:?} does not exist here: {advice}")
}

/// Returns the name of the package that a specifier refers to; `None` for paths and names such as `#internal`.
pub fn package_name(specifier: &str) -> Option<&str> {
    if specifier.starts_with(['.', '/', '#', '\0']) || specifier.contains(':') {
        return None;
    }
    let parts = if specifier.starts_with('@') { 2 } else { 1 };
    let end = specifier.match_indices('/').nth(parts - 1).map_or(specifier.len(), |(index, _)| index);
    Some(&specifier[..end]).filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_package_of_a_specifier_is_its_first_part_or_its_scope_and_first_part() {
        for (specifier, expected) in [
            ("uuid", Some("uuid")),
            ("uuid/v4", Some("uuid")),
            ("@aws-sdk/lib-dynamodb", Some("@aws-sdk/lib-dynamodb")),
            ("@aws-sdk/lib-dynamodb/dist/a.js", Some("@aws-sdk/lib-dynamodb")),
            ("./uuid", None),
            ("/uuid", None),
            ("#uuid", None),
            ("node:net", None),
            ("", None),
        ] {
            assert_eq!(package_name(specifier), expected, "{specifier}");
        }
    }
}
