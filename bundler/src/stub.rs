//! Modules that exist only in the bundle: in place of those that do not exist, and around built-in modules.

/// How the names of these modules begin. No file has such a name.
const PREFIX: &str = "\0jackfield:";

/// The module of the engine that gives the environment to clients of AWS.
pub const AWS_ENVIRONMENT: &str = "jackfield:aws-environment";

/// A module that exists only in the bundle.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Virtual {
    /// What `require` of a built-in module returns in an ES module.
    Require(String),
    /// The default export of a built-in module, or all of its exports.
    Import(String),
    /// In place of a module that does not exist: throws when it is used.
    Missing(String),
    /// Makes such a module.
    Stub,
    /// The configuration of a client of AWS, around the one in this file.
    AwsConfiguration(String),
}

impl Virtual {
    pub fn id(&self) -> String {
        match self {
            Self::Require(name) => format!("{PREFIX}require:{name}"),
            Self::Import(name) => format!("{PREFIX}import:{name}"),
            Self::Missing(name) => format!("{PREFIX}missing:{name}"),
            Self::Stub => format!("{PREFIX}stub"),
            Self::AwsConfiguration(path) => format!("{PREFIX}aws-configuration:{path}"),
        }
    }

    pub fn of(id: &str) -> Option<Self> {
        let rest = id.strip_prefix(PREFIX)?;
        Some(match rest.split_once(':') {
            Some(("require", name)) => Self::Require(name.to_owned()),
            Some(("import", name)) => Self::Import(name.to_owned()),
            Some(("aws-configuration", path)) => Self::AwsConfiguration(path.to_owned()),
            Some(("missing", name)) => Self::Missing(name.to_owned()),
            _ => Self::Stub,
        })
    }

    /// Returns the code of the module. `reason` says why a missing module does not exist.
    pub fn code(&self, reason: &str) -> String {
        let text = |text: &str| serde_json::Value::from(text).to_string();
        match self {
            Self::Require(name) => {
                format!("module.exports = require({}).default;\n", text(&Self::Import(name.clone()).id()))
            }
            Self::Import(name) => {
                let name = text(name);
                format!(
                    "import * as namespace from {name};\n\
                     export default \"default\" in namespace ? namespace.default : namespace;\n"
                )
            }
            Self::Missing(name) => {
                format!("module.exports = require({})({}, {});\n", text(&Self::Stub.id()), text(name), text(reason))
            }
            Self::Stub => include_str!("stub.js").to_owned(),
            Self::AwsConfiguration(path) => format!(
                "import {{ getRuntimeConfig as base }} from {};\n\
                 import {{ withEnvironment }} from {};\n\
                 export const getRuntimeConfig = (configuration) => withEnvironment(base, configuration);\n",
                text(path),
                text(AWS_ENVIRONMENT)
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_of_a_virtual_module_leads_back_to_it() {
        let name = || "node:fs/promises".to_owned();
        for module in [
            Virtual::Require(name()),
            Virtual::Import(name()),
            Virtual::Missing(name()),
            Virtual::Stub,
            Virtual::AwsConfiguration("/p/a:b.js".to_owned()),
        ] {
            assert_eq!(Virtual::of(&module.id()), Some(module));
        }
        assert_eq!(Virtual::of("/project/stub.js"), None);
    }
}
