//! The grants of a component: what of the host it can use.

use std::path::Path;

use toml::Spanned;
use toml::de::DeValue;

use super::allowed_host;
use super::section::Section;
use super::suggestion::nearest;
use super::value::{self, InvalidValue};
use crate::backend::{BucketQuota, StoreName};
use crate::capability::{AllowedHost, FileGrant, Grants};

pub fn grants(section: &mut Section<'_>, folder: &Path) -> Grants {
    let named = section.read_list("grants", named_grant);
    let store = connection_store(section, named.contains(&NamedGrant::ConnectionStore));
    let buckets = section.read_list("buckets", value::bucket);
    let mut files: Vec<FileGrant> = Vec::new();
    section.read_list_with("files", |section, name, item| {
        let grant = file_grant(section, name, item, folder)?;
        if files.iter().any(|other| other.guest == grant.guest) {
            let invalid = InvalidValue::new("a guest path that no other entry has", "");
            let found = Some(format!("{:?} a second time", grant.guest));
            section.report_value(name, item, InvalidValue { found, ..invalid });
        }
        files.push(grant);
        Some(())
    });
    Grants {
        connections: named.contains(&NamedGrant::Connections),
        connection_store: store.is_some(),
        store: store.unwrap_or_default(),
        buckets: buckets.into_iter().map(|name| (name, BucketQuota::default())).collect(),
        config: section.read_strings("config", value::accept_any_name),
        allowed_hosts: section.read_list_with("allowed_hosts", allowed_host),
        files,
        sockets: section.read_list("sockets", value::peer_address),
        environment: section.read_strings("env", value::check_variable_name),
    }
}

/// Returns the connection store that the component may use: the shared one if it is granted, or the one that
/// `connection_store` names.
fn connection_store(section: &mut Section<'_>, is_shared_granted: bool) -> Option<StoreName> {
    let named = section.read("connection_store", value::store_name);
    if named.is_some() && is_shared_granted {
        let name = section.name_of("connection_store");
        let problem = format!("{name}: found together with the grant \"connection-store\", which is the shared store");
        section.problems.error(section.span_of("connection_store"), problem, "remove one of the two");
    }
    named.or_else(|| is_shared_granted.then_some(StoreName::Shared))
}

/// An item of `grants`.
#[derive(Clone, Copy, PartialEq)]
enum NamedGrant {
    Connections,
    ConnectionStore,
}

fn named_grant(value: &DeValue<'_>) -> Result<NamedGrant, InvalidValue> {
    let invalid = |advice: &str| InvalidValue::new("\"connections\" or \"connection-store\"", advice);
    match value::string(value)? {
        "connections" => Ok(NamedGrant::Connections),
        "connection-store" => Ok(NamedGrant::ConnectionStore),
        "current-connection" | "logging" | "clocks" | "random" | "stdout" | "stderr" => {
            Err(invalid("remove it: every component has it"))
        }
        "keyvalue" | "key-value" | "buckets" => Err(invalid("name the buckets instead: buckets = [\"NAME\"]")),
        "http" | "outgoing-http" | "outgoing-handler" => {
            Err(invalid("name the hosts instead: allowed_hosts = [\"https://api.example.com\"]"))
        }
        "filesystem" | "files" => {
            Err(invalid("name the folders instead: files = [{ host = \"data\", guest = \"/data\" }]"))
        }
        "sockets" => Err(invalid("name the addresses instead: sockets = [\"127.0.0.1:6379\"]")),
        "env" | "environment" => Err(invalid("name the variables instead: env = { NAME = \"value\" }")),
        "config" => Err(invalid("write the values instead: config = { name = \"value\" }")),
        other => match nearest(other, ["connections", "connection-store"].into_iter()) {
            Some(nearest) => Err(invalid(&format!("did you mean \"{nearest}\"?"))),
            None => Err(invalid("")),
        },
    }
}

/// Parses `"https://api.example.com"` or `{ url = "https://internal.example", private = true }`.
fn allowed_host<'m>(section: &Section<'m>, name: &str, item: &'m Spanned<DeValue<'m>>) -> Option<AllowedHost> {
    let DeValue::Table(_) = item.get_ref() else {
        let private = false;
        return section.parse(name, item, |url| allowed_host::parse(url, private));
    };
    let mut entry = section.table(name, item.span(), item, InvalidValue::new("", ""))?;
    let private = entry.read("private", value::boolean).unwrap_or(false);
    let host = entry.read_required("url", |url| allowed_host::parse(url, private));
    entry.finish();
    host
}

fn file_grant<'m>(
    section: &Section<'m>,
    name: &str,
    item: &'m Spanned<DeValue<'m>>,
    folder: &Path,
) -> Option<FileGrant> {
    let invalid = InvalidValue::new("{ host = \"data\", guest = \"/data\" }", "");
    let mut entry = section.table(name, item.span(), item, invalid)?;
    let host = entry.read_required("host", value::path(folder));
    let guest = entry.read_required("guest", value::guest_path);
    let write = entry.read("write", value::boolean).unwrap_or(false);
    entry.finish();
    Some(FileGrant { host: host?, guest: guest?, write })
}
