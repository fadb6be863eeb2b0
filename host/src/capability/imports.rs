//! Compares the imports of a component with its grants.

use std::collections::BTreeSet;

use crate::backend::StoreName;
use crate::capability::Grants;
use crate::printable::shortened;

/// Imports that an error lists; a component may have thousands.
const IMPORTS_LISTED_MAX: usize = 20;
/// Longest name of an import in an error; a longer one is cut.
const IMPORT_BYTES_MAX: usize = 128;
/// For authors whose tool imports wasi:http into every component.
const WITHOUT_HTTP: &str = "a component that sends no requests can be built without it, with componentize-js by the \
                            options -d http -d fetch-event";

/// An interface that a component may use only with a grant. Most components that import it use it, but the tools of
/// some languages import a whole world.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum GrantedInterface {
    Connections,
    ConnectionStore,
    Buckets,
    AllowedHosts,
}

/// What the host does with an import.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Import {
    /// It is served to every component.
    Served,
    Needs(GrantedInterface),
    /// The host does not serve the import, whatever the grants are.
    Unknown,
}

/// Returns what the host does with an import. The interfaces that the host serves are listed here.
///
/// Filesystem, sockets and environment are linked for every component, because the standard libraries of Rust, Go and
/// JavaScript import them even if they are not used. Without a grant they are empty.
fn classify(import: &str) -> Import {
    let (name, version) = import.split_once('@').unwrap_or((import, ""));
    match name {
        "jackfield:gateway/types" | "jackfield:gateway/current-connection" if version == "0.1.0" => Import::Served,
        "jackfield:gateway/connections" if version == "0.1.0" => Import::Needs(GrantedInterface::Connections),
        "jackfield:gateway/connection-store" if version == "0.1.0" => Import::Needs(GrantedInterface::ConnectionStore),
        "wasi:keyvalue/store" | "wasi:keyvalue/atomics" | "wasi:keyvalue/batch"
            if matches!(version, "0.2.0-draft" | "0.2.0-draft2") =>
        {
            Import::Needs(GrantedInterface::Buckets)
        }
        "wasi:config/store" if version == "0.2.0-rc.1" => Import::Served,
        "wasi:logging/logging" if version == "0.1.0-draft" => Import::Served,
        "wasi:http/types" if version.starts_with("0.2.") => Import::Served,
        "wasi:http/outgoing-handler" if version.starts_with("0.2.") => Import::Needs(GrantedInterface::AllowedHosts),
        _ if version.starts_with("0.2.")
            && ["wasi:cli/", "wasi:clocks/", "wasi:filesystem/", "wasi:io/", "wasi:random/", "wasi:sockets/"]
                .iter()
                .any(|package| name.starts_with(package)) =>
        {
            Import::Served
        }
        _ => Import::Unknown,
    }
}

impl GrantedInterface {
    fn is_in(self, grants: &Grants) -> bool {
        match self {
            Self::Connections => grants.connections,
            Self::ConnectionStore => grants.connection_store,
            Self::Buckets => !grants.buckets.is_empty(),
            Self::AllowedHosts => !grants.allowed_hosts.is_empty(),
        }
    }

    /// The name without its version.
    pub fn name(self) -> &'static str {
        match self {
            Self::Connections => "jackfield:gateway/connections",
            Self::ConnectionStore => "jackfield:gateway/connection-store",
            Self::Buckets => "wasi:keyvalue",
            Self::AllowedHosts => "wasi:http",
        }
    }

    /// The error that a call returns without the grant, in the terms of the interface.
    pub fn error(self) -> &'static str {
        match self {
            Self::Connections => "forbidden",
            Self::ConnectionStore | Self::Buckets => "access-denied",
            Self::AllowedHosts => "HTTP-request-denied",
        }
    }

    /// Whether a component loads without the grant, so that its calls return an error. That is so for the interfaces of
    /// this host. Clients of HTTP are libraries, which may not expect that every request is denied; only the engine of
    /// a script, whose imports are not those of its author, loads without a grant for them.
    pub fn may_be_missing(self) -> bool {
        self != Self::AllowedHosts
    }
}

/// The interfaces among the imports of a component for which there are grants.
#[derive(Debug, Default, PartialEq)]
pub struct UsedInterfaces {
    pub granted: BTreeSet<GrantedInterface>,
    /// The calls of these return an error.
    pub denied: BTreeSet<GrantedInterface>,
}

/// Returns which interfaces of the imports are granted, and which are not.
pub fn used_interfaces<'a>(imports: impl Iterator<Item = &'a str>, grants: &Grants) -> UsedInterfaces {
    let needed = imports.filter_map(|import| match classify(import) {
        Import::Needs(interface) => Some(interface),
        Import::Served | Import::Unknown => None,
    });
    let (granted, denied) = needed.partition(|interface| interface.is_in(grants));
    UsedInterfaces { granted, denied }
}

/// Returns the lines of `[integrations.NAME]` that grant `missing` in addition to `grants`.
pub fn grant_lines(missing: &BTreeSet<GrantedInterface>, grants: &Grants) -> Vec<String> {
    let [connections, store] = [GrantedInterface::Connections, GrantedInterface::ConnectionStore]
        .map(|interface| missing.contains(&interface));
    let mut lines = Vec::new();
    if connections || store {
        let names: Vec<&str> = [
            (grants.connections || connections).then_some(r#""connections""#),
            // A component with a named store has no such grant.
            (grants.connection_store && grants.store == StoreName::Shared || store).then_some(r#""connection-store""#),
        ]
        .into_iter()
        .flatten()
        .collect();
        lines.push(format!("grants = [{}]", names.join(", ")));
    }
    if missing.contains(&GrantedInterface::Buckets) {
        lines.push(r#"buckets = ["NAME"]"#.to_owned());
    }
    if missing.contains(&GrantedInterface::AllowedHosts) {
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
    classify(import) != Import::Unknown
}

/// Checks every import of a component. The error names each import that is not allowed, and the lines to add to the
/// component's section of the manifest. The imports of a script's engine need no check: without a grant, every function
/// of the linker answers with an error.
pub fn check_imports(section: &str, imports: &[String], grants: &Grants) -> Result<(), String> {
    let missing = |interface: GrantedInterface| !interface.may_be_missing() && !interface.is_in(grants);
    let mut refused: Vec<(&str, &str)> = Vec::new();
    let mut ungranted = BTreeSet::new();
    for import in imports {
        match classify(import) {
            Import::Unknown => refused.push((import, "which this host does not serve")),
            Import::Needs(interface) if missing(interface) => {
                refused.push((import, "which is not granted"));
                ungranted.insert(interface);
            }
            Import::Served | Import::Needs(_) => {}
        }
    }
    if refused.is_empty() {
        return Ok(());
    }
    let more = refused.len().saturating_sub(IMPORTS_LISTED_MAX);
    refused.truncate(IMPORTS_LISTED_MAX);
    let describe =
        |(import, reason): (&str, &str)| format!("it imports {}, {reason}", shortened(import, IMPORT_BYTES_MAX));
    let mut problems: Vec<_> = refused.into_iter().map(describe).collect();
    if more > 0 {
        problems.push(format!("and {more} more imports"));
    }
    let lines = grant_lines(&ungranted, grants);
    if !lines.is_empty() {
        problems.push(format!("to grant it, write in {section}: {}", lines.join(" and ")));
    }
    if ungranted.contains(&GrantedInterface::AllowedHosts) {
        problems.push(WITHOUT_HTTP.to_owned());
    }
    Err(problems.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_import_that_may_not_be_missing_is_named_with_the_line_to_add() {
        let imports = ["wasi:http/outgoing-handler@0.2.6".to_owned(), "wasi:io/streams@0.2.6".to_owned()];
        assert_eq!(
            check_imports("[integrations.chat]", &imports, &Grants::default()).unwrap_err(),
            "it imports wasi:http/outgoing-handler@0.2.6, which is not granted; \
             to grant it, write in [integrations.chat]: allowed_hosts = [\"https://HOST\"]; \
             a component that sends no requests can be built without it, with componentize-js by the options -d http -d \
             fetch-event"
        );
        let unknown = ["jackfield:gateway/connections@0.1.0".to_owned(), "wasi:nn/graph@0.2.0".to_owned()];
        assert_eq!(
            check_imports("[integrations.chat]", &unknown, &Grants::default()).unwrap_err(),
            "it imports wasi:nn/graph@0.2.0, which this host does not serve"
        );
        assert_eq!(check_imports("[integrations.chat]", &unknown[..1], &Grants::default()), Ok(()));
    }

    #[test]
    fn the_line_to_add_keeps_the_existing_grants() {
        let missing = BTreeSet::from([GrantedInterface::Connections]);
        let store_only = Grants { connection_store: true, ..Grants::default() };
        assert_eq!(grant_lines(&missing, &store_only), [r#"grants = ["connections", "connection-store"]"#]);
        let named_store = Grants { store: StoreName::Named("presence".into()), ..store_only };
        assert_eq!(grant_lines(&missing, &named_store), [r#"grants = ["connections"]"#]);
        let all = [GrantedInterface::ConnectionStore, GrantedInterface::Buckets, GrantedInterface::AllowedHosts];
        assert_eq!(
            grant_lines(&all.into(), &Grants::default()),
            [r#"grants = ["connection-store"]"#, r#"buckets = ["NAME"]"#, r#"allowed_hosts = ["https://HOST"]"#]
        );
    }

    #[test]
    fn used_interfaces_are_granted_or_denied() {
        let imports = ["wasi:keyvalue/store@0.2.0-draft2", "jackfield:gateway/connections@0.1.0", "wasi:io/poll@0.2.0"];
        let grants = Grants { connections: true, ..Grants::default() };
        let used = used_interfaces(imports.into_iter(), &grants);
        assert_eq!(used.granted, [GrantedInterface::Connections].into());
        assert_eq!(used.denied, [GrantedInterface::Buckets].into());
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
