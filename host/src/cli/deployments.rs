//! `deployments`: lists the last deployments of a running server, and rolls back to one of them.

use std::process::ExitCode;
use std::time::Duration;

use hyper::Method;

use crate::cli::admin_client::{AdminArgs, AdminClient};
use crate::cli::print_output;
use crate::gateway::{DeploymentRecord, UnavailablePlugin};
use crate::server;

/// List the last deployments of a running server, or roll back to one of them
///
/// Every successful reload is a deployment with a number; the last ten are kept. A rollback is a
/// deployment too: no connection is dropped, and it is served until a file changes. With --plugin, only
/// that plugin is rolled back, and the rest of the current deployment stays.
/// The server must have an admin listener: [admin] in the manifest.
#[derive(clap::Args)]
#[command(
    verbatim_doc_comment,
    after_help = "Examples:\n  jackfield deployments chat/jackfield.toml\n  jackfield deployments chat/jackfield.toml --rollback 3\n  jackfield deployments chat/jackfield.toml --rollback 3 --plugin chat"
)]
pub struct Deployments {
    #[command(flatten)]
    admin: AdminArgs,
    /// Serve this deployment again
    #[arg(long, value_name = "NUMBER")]
    rollback: Option<u64>,
    /// With --rollback: roll back only this integration or authorizer
    #[arg(long, value_name = "NAME", requires = "rollback", value_parser = plugin_name)]
    plugin: Option<String>,
}

impl Deployments {
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        let client = AdminClient::new(&self.admin)?;
        let text = match self.rollback {
            Some(number) => {
                let (path, what) = match &self.plugin {
                    Some(plugin) => {
                        (format!("/deployments/{number}/plugins/{plugin}/rollback"), format!("{plugin} back to"))
                    }
                    None => (format!("/deployments/{number}/rollback"), "back to".to_owned()),
                };
                let server::RolledBack { deployment } = client.send(Method::POST, &path).await?;
                format!("rolled {what} {number}; it is served as deployment {deployment}\n")
            }
            None => {
                let server::Deployments { deployments, unavailable } = client.send(Method::GET, "/deployments").await?;
                let last = deployments.last().map(|last| last.number);
                let records = deployments.iter().rev();
                let records = records.map(|record| format_record(record, Some(record.number) == last));
                records.chain(unavailable.iter().map(format_unavailable)).collect()
            }
        };
        print_output(&text)?;
        Ok(ExitCode::SUCCESS)
    }
}

fn format_record(record: &DeploymentRecord, is_served: bool) -> String {
    let at = std::time::UNIX_EPOCH + Duration::from_millis(record.deployed_at);
    let at = humantime::format_rfc3339_seconds(at);
    let mark = if is_served { '*' } else { ' ' };
    let restores = record.restores.map(|number| format!("  restores {number}")).unwrap_or_default();
    let plugins: String = record.plugins.iter().map(|(name, version)| format!("  {name} {version}")).collect();
    let reason = record.reason.as_ref().map(|reason| format!("        {reason}\n")).unwrap_or_default();
    format!("{mark} {:>4}  {at}  {}{restores}{plugins}\n{reason}", record.number, record.content)
}

fn format_unavailable(unavailable: &UnavailablePlugin) -> String {
    // The backtrace of a component that does not start is on further lines, and in the log.
    let reason = unavailable.reason.lines().next().unwrap_or_default();
    format!("! {} is unavailable: {reason}\n", unavailable.plugin)
}

/// Parses the name of a plugin, which becomes a part of a path.
fn plugin_name(text: &str) -> Result<String, String> {
    let is_valid =
        |text: &str| text.chars().all(|character| character.is_ascii_alphanumeric() || "_-".contains(character));
    Some(text.to_owned())
        .filter(|text| !text.is_empty() && is_valid(text))
        .ok_or_else(|| "expected the name of an integration or authorizer: characters of A-Z a-z 0-9 _ -".to_owned())
}
