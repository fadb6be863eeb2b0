//! Which parts of boto3 and botocore a script is loaded with.
//!
//! The engine has a module `boto3` of its own with the client of the management API, which needs neither HTTP nor the
//! 40 MiB of botocore. The installed boto3 is loaded if a script uses another service, with the descriptions of the
//! services that it names: botocore reads them from files.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::Value;

use super::{Collector, imports};

/// The packages of the AWS clients of which the engine has a part.
const PACKAGES: [&str; 2] = ["boto3", "botocore"];
/// The modules that the engine has of them.
const OWN_MODULES: [&str; 5] = ["boto3", "boto3.session", "botocore", "botocore.config", "botocore.exceptions"];
const MANAGEMENT: &str = "apigatewaymanagementapi";
/// The regions and hosts of all services, 1.2 MiB.
const ENDPOINTS: &str = "botocore/data/endpoints.json";

/// Which parts are taken.
#[derive(Debug, Default, PartialEq)]
pub struct Taken {
    /// `None`: the modules of the engine are used.
    services: Option<BTreeSet<String>>,
    /// Whether the script uses what the engine does not have.
    is_needed: bool,
}

impl Taken {
    /// Whether a module is taken from the files of the script.
    pub fn takes(&self, module: &str) -> bool {
        self.services.is_some() || !PACKAGES.contains(&module)
    }

    /// Whether the script uses more than the modules of the engine have.
    pub fn is_needed(&self) -> bool {
        self.is_needed
    }

    /// Whether a file of a package is taken.
    pub fn takes_file(&self, name: &str) -> bool {
        let Some((service, rest)) = service_of(name) else { return !name.starts_with("boto3/examples/") };
        let is_named = self.services.as_ref().is_some_and(|services| services.contains(service));
        // Files that lie directly in the folder are about all services.
        let is_about_all = rest.is_none() && service.contains('.');
        is_about_all || (is_named && !rest.is_some_and(|rest| rest.contains("/examples-")))
    }

    /// Leaves what is needed of a file with data.
    pub fn shortened(&self, name: &str, text: String) -> String {
        if name != ENDPOINTS {
            return text;
        }
        let Ok(mut endpoints) = serde_json::from_str::<Value>(&text) else { return text };
        let services = self.services.as_ref();
        for partition in endpoints["partitions"].as_array_mut().into_iter().flatten() {
            if let Some(known) = partition["services"].as_object_mut() {
                // The keys are the names in addresses, which are those of the clients for nearly all services; for the
                // others botocore has rules in the description of the service.
                known.retain(|name, _| services.is_some_and(|services| services.contains(name)));
            }
        }
        endpoints.to_string()
    }
}

/// Whether a file is data of the AWS clients.
pub fn is_data(name: &str) -> bool {
    service_of(name).is_some()
}

/// The part of a path behind the folder of the data, and what is behind that.
fn service_of(name: &str) -> Option<(&str, Option<&str>)> {
    let path = PACKAGES.iter().find_map(|package| name.strip_prefix(package)?.strip_prefix("/data/"))?;
    Some(path.split_once('/').map_or((path, None), |(service, _)| (service, Some(path))))
}

impl Collector {
    /// Adds the installed boto3 and botocore, if the script uses them for more than the management API.
    pub(super) fn add_aws_clients(&mut self) -> Result<(), String> {
        let sources = || self.files.files.iter().filter(|(name, _)| name.ends_with(".py")).map(|(_, source)| source);
        let mut sources = sources().filter(|source| source.contains("boto")).peekable();
        if sources.peek().is_none() {
            return Ok(());
        }
        let known: BTreeSet<String> = self.roots.iter().flat_map(|root| services(root)).collect();
        let mut named = BTreeSet::new();
        let mut needs_modules = false;
        for source in sources {
            let quoted = source.split(['"', '\'']).filter(|word| known.contains(*word) && *word != MANAGEMENT);
            named.extend(quoted.map(str::to_owned));
            needs_modules |= imported_modules(source).any(|module| !OWN_MODULES.contains(&module));
            // Without the packages, no list of services is known.
            needs_modules |= created_clients(source).any(|service| service != MANAGEMENT);
        }
        self.aws.is_needed = needs_modules || !named.is_empty();
        if known.is_empty() || !self.aws.is_needed {
            return Ok(());
        }
        self.aws.services = Some(named);
        PACKAGES.iter().try_for_each(|package| self.add_import(package))
    }
}

/// The services that the botocore in this folder knows.
fn services(root: &Path) -> Vec<String> {
    let entries = fs::read_dir(root.join("botocore/data")).into_iter().flatten().flatten();
    entries.filter(|entry| entry.path().is_dir()).filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

/// The modules of the AWS clients that a text imports, with their full names.
fn imported_modules(source: &str) -> impl Iterator<Item = &str> {
    source.lines().map(str::trim).filter_map(|line| {
        let module = line.strip_prefix("import ").or_else(|| line.strip_prefix("from "))?.split_whitespace().next()?;
        let module = module.trim_end_matches([',', ';']);
        imports(line).any(|first| PACKAGES.contains(&first)).then_some(module)
    })
}

/// The services in calls such as `boto3.client("dynamodb")`.
fn created_clients(source: &str) -> impl Iterator<Item = &str> {
    ["client(", "resource("].into_iter().flat_map(|call| source.split(call).skip(1)).filter_map(|rest| {
        let rest = rest.trim_start();
        let rest = rest.strip_prefix("service_name=").unwrap_or(rest);
        let quote = rest.chars().next().filter(|quote| matches!(quote, '"' | '\''))?;
        rest[1..].split_once(quote).map(|(service, _)| service)
    })
}

#[cfg(test)]
mod tests {
    use super::super::prepare;
    use super::*;

    /// The files that a script is loaded with.
    async fn files(source: &str) -> BTreeSet<String> {
        let folder = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("app.py", source);
        write("packages/boto3/__init__.py", "import botocore\n");
        write("packages/boto3/data/dynamodb/2012-08-10/resources-1.json", "{}");
        write("packages/boto3/examples/s3.rst", "");
        write("packages/botocore/__init__.py", "import jmespath\n");
        write("packages/jmespath/__init__.py", "");
        write("packages/botocore/data/_retry.json", "{}");
        for service in ["dynamodb", "s3", MANAGEMENT] {
            write(&format!("packages/botocore/data/{service}/1/service-2.json"), "{}");
            write(&format!("packages/botocore/data/{service}/1/examples-1.json"), "{}");
        }
        write(
            "packages/botocore/data/endpoints.json",
            r#"{"partitions": [{"services": {"dynamodb": {"a": 1}, "s3": {}}, "dnsSuffix": "x"}], "version": 3}"#,
        );
        let prepared = prepare(&folder.path().join("app.py")).await.unwrap();
        let code: Value = serde_json::from_str(&prepared.code).unwrap();
        if let Some(endpoints) = code["files"][ENDPOINTS].as_str() {
            let endpoints: Value = serde_json::from_str(endpoints).unwrap();
            assert_eq!(endpoints["partitions"][0]["dnsSuffix"], "x");
            assert!(endpoints["partitions"][0]["services"]["s3"].is_null(), "{endpoints}");
        }
        code["files"].as_object().unwrap().keys().cloned().collect()
    }

    #[tokio::test]
    async fn the_installed_clients_are_loaded_only_for_services_that_the_engine_does_not_have() {
        for source in [
            "import boto3\nboto3.client('apigatewaymanagementapi')\n",
            "import boto3\nfrom botocore.exceptions import ClientError\n",
            "NAME = 'dynamodb'\n",
        ] {
            assert_eq!(files(source).await, BTreeSet::from(["app.py".to_owned()]), "{source}");
        }
        let all = [
            "app.py",
            "boto3/__init__.py",
            "boto3/data/dynamodb/2012-08-10/resources-1.json",
            "botocore/__init__.py",
            "botocore/data/_retry.json",
            "botocore/data/dynamodb/1/service-2.json",
            "botocore/data/endpoints.json",
            "jmespath/__init__.py",
        ];
        assert_eq!(files("import boto3\nboto3.client(\"dynamodb\")\n").await, all.map(str::to_owned).into());
        let without_services: BTreeSet<String> =
            all.iter().filter(|name| !name.contains("dynamodb")).map(|name| (*name).to_owned()).collect();
        assert_eq!(files("from boto3.dynamodb.conditions import Key\n").await, without_services);
    }
}
