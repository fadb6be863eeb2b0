//! `deployments`: lists the last deployments of a running server, and rolls back to one of them.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::bail;
use hyper::Method;

use crate::cli::admin_client::{AdminArgs, AdminClient};
use crate::cli::{format_count, print_output};
use crate::gateway::{DeploymentRecord, NodeRollBack, NodesRolledBack, RollBackOutcome, StoreKind, UnavailablePlugin};
use crate::server;

/// List the last deployments of a running server, or roll back to one of them
///
/// Every successful reload is a deployment with a number; the last ten are kept. A rollback is a
/// deployment too: no connection is dropped, and it is served until a file changes. With --plugin, only
/// that plugin is rolled back, and the rest of the current deployment stays.
/// Several nodes that share a Redis all roll back, unless there is --this-node. Numbers are those of
/// the node that is asked; a content hash, or its first characters, means the same on every node.
/// The server must have an admin listener: [admin] in the manifest.
#[derive(clap::Args)]
#[command(
    verbatim_doc_comment,
    after_help = "Examples:\n  jackfield deployments chat/jackfield.toml\n  jackfield deployments chat/jackfield.toml --rollback 3\n  jackfield deployments chat/jackfield.toml --rollback 486e427a\n  jackfield deployments chat/jackfield.toml --rollback 3 --plugin chat"
)]
pub struct Deployments {
    #[command(flatten)]
    admin: AdminArgs,
    /// Serve this deployment again: its number, or at least four characters of its content hash
    #[arg(long, value_name = "NUMBER|HASH", value_parser = deployment_name)]
    rollback: Option<String>,
    /// With --rollback: roll back only this integration or authorizer
    #[arg(long, value_name = "NAME", requires = "rollback", value_parser = plugin_name)]
    plugin: Option<String>,
    /// With --rollback: roll back only the node that is asked
    #[arg(long, requires = "rollback")]
    this_node: bool,
}

impl Deployments {
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        let client = AdminClient::new(&self.admin)?;
        let Some(name) = &self.rollback else {
            let server::Deployments { deployments, unavailable } = client.send(Method::GET, "/deployments").await?;
            let last = deployments.last().map(|last| last.number);
            let records = deployments.iter().rev();
            let records = records.map(|record| format_record(record, Some(record.number) == last));
            print_output(&records.chain(unavailable.iter().map(format_unavailable)).collect::<String>())?;
            return Ok(ExitCode::SUCCESS);
        };
        let (path, what) = match &self.plugin {
            Some(plugin) => (format!("/deployments/{name}/plugins/{plugin}/rollback"), format!("{plugin} back to")),
            None => (format!("/deployments/{name}/rollback"), "back to".to_owned()),
        };
        if self.this_node {
            let server::RolledBack { deployment } = client.send(Method::POST, &path).await?;
            print_output(&format!("rolled {what} {name}; it is served as deployment {deployment}\n"))?;
            return Ok(ExitCode::SUCCESS);
        }
        let rolled_back: NodesRolledBack = client.send(Method::POST, &format!("/nodes{path}")).await?;
        if let (StoreKind::Sled, [node]) = (rolled_back.store, &rolled_back.nodes[..]) {
            return match node.deployment {
                Some(deployment) => {
                    print_output(&format!("rolled {what} {name}; it is served as deployment {deployment}\n"))?;
                    Ok(ExitCode::SUCCESS)
                }
                None => bail!("{}", describe_outcome(node)),
            };
        }
        let of_node = |node: &NodeRollBack| {
            let mark = if node.outcome == RollBackOutcome::RolledBack { ' ' } else { '!' };
            let name = [node.node.to_string(), node.host.clone(), node.listen.clone()].join("  ");
            format!("{mark} node {}: {}\n", name.trim_end(), describe_outcome(node))
        };
        print_output(&rolled_back.nodes.iter().map(of_node).collect::<String>())?;
        let nodes = &rolled_back.nodes;
        let count = nodes.iter().filter(|node| node.outcome == RollBackOutcome::RolledBack).count();
        let (all, content) = (format_count(nodes.len(), "node"), &rolled_back.content);
        if count < nodes.len() {
            bail!("{count} of {all} rolled {what} {content}; see jackfield status for what each of them serves");
        }
        print_output(&format!("{all} rolled {what} {content}\n"))?;
        Ok(ExitCode::SUCCESS)
    }
}

fn describe_outcome(node: &NodeRollBack) -> String {
    let reason = node.reason.as_deref().unwrap_or("no reason");
    match (node.outcome, node.deployment) {
        (RollBackOutcome::RolledBack, Some(deployment)) => {
            format!("rolled back; it is served as deployment {deployment}")
        }
        (RollBackOutcome::RolledBack, None) => "rolled back".to_owned(),
        (RollBackOutcome::NotKept, _) => "the content is in none of its last deployments".to_owned(),
        (RollBackOutcome::Failed, _) => format!("failed: {reason}"),
        (RollBackOutcome::NotServing, _) => "starts or stops, and has changed nothing".to_owned(),
        (RollBackOutcome::Unanswered, _) => "did not answer; whether it has rolled back is unknown".to_owned(),
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

/// Parses the number of a deployment or the beginning of its content, which becomes a part of a path.
fn deployment_name(text: &str) -> Result<String, String> {
    let is_number = text.parse::<u64>().is_ok() && text.bytes().all(|byte| byte.is_ascii_digit());
    let is_hash = (4..=64).contains(&text.len()) && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    Some(text.to_owned()).filter(|_| is_number || is_hash).ok_or_else(|| {
        "expected the number of a deployment, or at least four characters of its content hash".to_owned()
    })
}

/// Parses the name of a plugin, which becomes a part of a path.
fn plugin_name(text: &str) -> Result<String, String> {
    let is_valid =
        |text: &str| text.chars().all(|character| character.is_ascii_alphanumeric() || "_-".contains(character));
    Some(text.to_owned())
        .filter(|text| !text.is_empty() && is_valid(text))
        .ok_or_else(|| "expected the name of an integration or authorizer: characters of A-Z a-z 0-9 _ -".to_owned())
}
