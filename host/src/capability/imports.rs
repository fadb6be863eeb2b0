//! Compares the imports of a component with its grants.

use crate::backend::StoreName;
use crate::capability::Grants;
use crate::printable::shortened;

/// Imports that an error lists; a component may have thousands.
const IMPORTS_LISTED_MAX: usize = 20;
/// Longest name of an import in an error; a longer one is cut.
const IMPORT_BYTES_MAX: usize = 128;

/// The grant that an import requires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RequiredGrant {
    Nothing,
    Connections,
    ConnectionStore,
    Buckets,
    AllowedHosts,
    /// The host does not serve the import, whatever the grants are.
    Unknown,
}

/// Returns the grant that an import requires. The interfaces that the host serves are listed here.
///
/// Filesystem, sockets and environment are linked for every component, because the standard libraries of Rust, Go and
/// JavaScript import them even if they are not used. Without a grant they are empty.
fn required_grant(import: &str) -> RequiredGrant {
    let (name, version) = import.split_once('@').unwrap_or((import, ""));
    match name {
        "jackfield:gateway/types" | "jackfield:gateway/current-connection" if version == "0.1.0" => {
            RequiredGrant::Nothing
        }
        "jackfield:gateway/connections" if version == "0.1.0" => RequiredGrant::Connections,
        "jackfield:gateway/connection-store" if version == "0.1.0" => RequiredGrant::ConnectionStore,
        "wasi:keyvalue/store" | "wasi:keyvalue/atomics" | "wasi:keyvalue/batch"
            if matches!(version, "0.2.0-draft" | "0.2.0-draft2") =>
        {
            RequiredGrant::Buckets
        }
        "wasi:config/store" if version == "0.2.0-rc.1" => RequiredGrant::Nothing,
        "wasi:logging/logging" if version == "0.1.0-draft" => RequiredGrant::Nothing,
        "wasi:http/types" if version.starts_with("0.2.") => RequiredGrant::Nothing,
        "wasi:http/outgoing-handler" if version.starts_with("0.2.") => RequiredGrant::AllowedHosts,
        _ if version.starts_with("0.2.")
            && ["wasi:cli/", "wasi:clocks/", "wasi:filesystem/", "wasi:io/", "wasi:random/", "wasi:sockets/"]
                .iter()
                .any(|package| name.starts_with(package)) =>
        {
            RequiredGrant::Nothing
        }
        _ => RequiredGrant::Unknown,
    }
}

impl RequiredGrant {
    fn is_in(self, grants: &Grants) -> bool {
        match self {
            Self::Nothing => true,
            Self::Connections => grants.connections,
            Self::ConnectionStore => grants.connection_store,
            Self::Buckets => !grants.buckets.is_empty(),
            Self::AllowedHosts => !grants.allowed_hosts.is_empty(),
            Self::Unknown => false,
        }
    }
}

/// Returns the lines of `[integrations.NAME]` that grant all of `imports` in addition to `grants`.
pub fn grant_lines<'a>(imports: impl Iterator<Item = &'a str>, grants: &Grants) -> Vec<String> {
    let missing: Vec<RequiredGrant> = imports.map(required_grant).filter(|grant| !grant.is_in(grants)).collect();
    let mut lines = Vec::new();
    let names: Vec<&str> = [
        (grants.connections || missing.contains(&RequiredGrant::Connections)).then_some(r#""connections""#),
        // A component with a named store has no such grant.
        (grants.connection_store && grants.store == StoreName::Shared
            || missing.contains(&RequiredGrant::ConnectionStore))
        .then_some(r#""connection-store""#),
    ]
    .into_iter()
    .flatten()
    .collect();
    if missing.contains(&RequiredGrant::Connections) || missing.contains(&RequiredGrant::ConnectionStore) {
        lines.push(format!("grants = [{}]", names.join(", ")));
    }
    if missing.contains(&RequiredGrant::Buckets) {
        lines.push(r#"buckets = ["NAME"]"#.to_owned());
    }
    if missing.contains(&RequiredGrant::AllowedHosts) {
        lines.push(r#"allowed_hosts = ["https://HOST"]"#.to_owned());
    }
    lines
}

/// Returns whether a component with these imports can ask for the event that it handles.
pub fn reads_event(imports: &[String]) -> bool {
    imports.iter().any(|import| import == "jackfield:gateway/current-connection@0.1.0")
}

/// Returns whether any grant would make the host serve an import.
pub fn is_served(import: &str) -> bool {
    required_grant(import) != RequiredGrant::Unknown
}

/// Checks every import of a component. The error names each import that is not allowed, and the lines to add to the
/// component's section of the manifest.
pub fn check_imports(section: &str, imports: &[String], grants: &Grants) -> Result<(), String> {
    let (unknown, ungranted): (Vec<&str>, Vec<&str>) = imports
        .iter()
        .map(String::as_str)
        .filter(|import| !required_grant(import).is_in(grants))
        .partition(|import| !is_served(import));
    let unknown = unknown.iter().map(|import| (import, "which this host does not serve"));
    let mut refused: Vec<_> = unknown.chain(ungranted.iter().map(|import| (import, "which is not granted"))).collect();
    if refused.is_empty() {
        return Ok(());
    }
    let more = refused.len().saturating_sub(IMPORTS_LISTED_MAX);
    refused.truncate(IMPORTS_LISTED_MAX);
    let describe =
        |(import, reason): (&&str, &str)| format!("it imports {}, {reason}", shortened(import, IMPORT_BYTES_MAX));
    let mut problems: Vec<_> = refused.into_iter().map(describe).collect();
    if more > 0 {
        problems.push(format!("and {more} more imports"));
    }
    let lines = grant_lines(ungranted.into_iter(), grants);
    if !lines.is_empty() {
        problems.push(format!("to grant it, write in {section}: {}", lines.join(" and ")));
    }
    Err(problems.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_import_that_is_not_granted_is_named_with_the_line_to_add() {
        let imports = ["jackfield:gateway/connections@0.1.0".to_owned(), "wasi:io/streams@0.2.6".to_owned()];
        let store_only = Grants { connection_store: true, ..Grants::default() };
        assert_eq!(
            check_imports("[integrations.chat]", &imports, &store_only).unwrap_err(),
            "it imports jackfield:gateway/connections@0.1.0, which is not granted; \
             to grant it, write in [integrations.chat]: grants = [\"connections\", \"connection-store\"]"
        );
        let named_store = Grants { store: StoreName::Named("presence".into()), ..store_only };
        assert_eq!(
            check_imports("[integrations.chat]", &imports, &named_store).unwrap_err(),
            "it imports jackfield:gateway/connections@0.1.0, which is not granted; \
             to grant it, write in [integrations.chat]: grants = [\"connections\"]"
        );
        let granted = Grants { connections: true, ..Grants::default() };
        assert_eq!(check_imports("[integrations.chat]", &imports, &granted), Ok(()));
    }

    #[test]
    fn another_version_of_a_known_interface_is_not_served() {
        let versions = ["jackfield:gateway/connections@0.2.0", "wasi:keyvalue/store@0.3.0", "wasi:http/handler@0.3.0"];
        // Only the component of a script engine gets its core modules.
        for import in versions.into_iter().chain(["jackfield:script/engine", "jackfield:script/image"]) {
            assert!(!is_served(import), "{import}");
        }
    }
}
