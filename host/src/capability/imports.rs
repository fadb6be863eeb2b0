//! What a component asks for, held against what it was granted.

use crate::capability::Grants;

/// What must be granted before an import of that name is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Needs {
    Nothing,
    Connections,
    ConnectionStore,
    Buckets,
    AllowedHosts,
    /// Nobody serves it.
    Unknown,
}

/// The interfaces that are served, by name without version, and what they need. Filesystem,
/// sockets and environment are linked for every component, since the standard libraries of Rust,
/// Go and JavaScript import them used or not; without a grant there is nothing in them.
fn needs(import: &str) -> Needs {
    let (name, version) = import.split_once('@').unwrap_or((import, ""));
    match name {
        "jackfield:gateway/types" | "jackfield:gateway/current-connection" if version == "0.1.0" => Needs::Nothing,
        "jackfield:gateway/connections" if version == "0.1.0" => Needs::Connections,
        "jackfield:gateway/connection-store" if version == "0.1.0" => Needs::ConnectionStore,
        "wasi:keyvalue/store" | "wasi:keyvalue/atomics" | "wasi:keyvalue/batch"
            if matches!(version, "0.2.0-draft" | "0.2.0-draft2") =>
        {
            Needs::Buckets
        }
        "wasi:config/store" if version == "0.2.0-rc.1" => Needs::Nothing,
        "wasi:logging/logging" if version == "0.1.0-draft" => Needs::Nothing,
        "wasi:http/types" if version.starts_with("0.2.") => Needs::Nothing,
        "wasi:http/outgoing-handler" if version.starts_with("0.2.") => Needs::AllowedHosts,
        _ if version.starts_with("0.2.")
            && ["wasi:cli/", "wasi:clocks/", "wasi:filesystem/", "wasi:io/", "wasi:random/", "wasi:sockets/"]
                .iter()
                .any(|package| name.starts_with(package)) =>
        {
            Needs::Nothing
        }
        _ => Needs::Unknown,
    }
}

impl Needs {
    fn granted(self, grants: &Grants) -> bool {
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

/// The lines of `[integrations.NAME]` that grant all of `imports`, beside what `grants` has already.
pub fn grant_lines<'a>(imports: impl Iterator<Item = &'a str>, grants: &Grants) -> Vec<String> {
    let needed: Vec<Needs> = imports.map(needs).filter(|needs| !needs.granted(grants)).collect();
    let mut lines = Vec::new();
    let words: Vec<&str> = [
        (grants.connections || needed.contains(&Needs::Connections)).then_some(r#""connections""#),
        (grants.connection_store || needed.contains(&Needs::ConnectionStore)).then_some(r#""connection-store""#),
    ]
    .into_iter()
    .flatten()
    .collect();
    if needed.contains(&Needs::Connections) || needed.contains(&Needs::ConnectionStore) {
        lines.push(format!("grants = [{}]", words.join(", ")));
    }
    if needed.contains(&Needs::Buckets) {
        lines.push(r#"buckets = ["NAME"]"#.to_owned());
    }
    if needed.contains(&Needs::AllowedHosts) {
        lines.push(r#"allowed_hosts = ["https://HOST"]"#.to_owned());
    }
    lines
}

/// Whether any grant would make the host serve an import.
pub fn is_served(import: &str) -> bool {
    needs(import) != Needs::Unknown
}

/// Checks every import of a component. The error names each one that is refused, and the lines to
/// add to its section of the manifest.
pub fn check_imports(section: &str, imports: &[String], grants: &Grants) -> Result<(), String> {
    let (unknown, refused): (Vec<&str>, Vec<&str>) = imports
        .iter()
        .map(String::as_str)
        .filter(|import| !needs(import).granted(grants))
        .partition(|import| !is_served(import));
    let mut problems = Vec::new();
    for import in unknown {
        problems.push(format!("it imports {import}, which this host does not serve"));
    }
    for import in &refused {
        problems.push(format!("it imports {import}, which is not granted"));
    }
    if problems.is_empty() {
        return Ok(());
    }
    let lines = grant_lines(refused.into_iter(), grants);
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
        let granted = Grants { connections: true, ..Grants::default() };
        assert_eq!(check_imports("[integrations.chat]", &imports, &granted), Ok(()));
    }

    #[test]
    fn another_version_of_a_known_interface_is_not_served() {
        for import in ["jackfield:gateway/connections@0.2.0", "wasi:keyvalue/store@0.3.0", "wasi:http/handler@0.3.0"] {
            assert!(!is_served(import), "{import}");
        }
    }
}
