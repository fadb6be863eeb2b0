//! `status`: lists the nodes of a running API, and what each of them serves.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use hyper::Method;

use crate::cli::admin_client::{AdminArgs, AdminClient};
use crate::cli::{format_count, print_output};
use crate::gateway::{Difference, NodeList, NodeStatus, StoreKind};

/// List the nodes of a running API, with their connections, versions and deployments
///
/// Any node lists all nodes that share its Redis, and sends a message to each of them. A node whose
/// manifest or files differ from those of most others is marked with `!`, and so is one that does
/// not answer; the node that was asked is marked with `*`.
/// The server must have an admin listener: [admin] in the manifest.
#[derive(clap::Args)]
#[command(verbatim_doc_comment, after_help = "Example:\n  jackfield status chat/jackfield.toml --json")]
pub struct Status {
    #[command(flatten)]
    admin: AdminArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Status {
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        let list: NodeList = AdminClient::new(&self.admin)?.send(Method::GET, "/nodes").await?;
        let text = if self.json {
            serde_json::to_string_pretty(&list).context("cannot write JSON")? + "\n"
        } else {
            format_list(&list)
        };
        print_output(&text)?;
        if let Some(problem) = list.problem {
            bail!("{problem}");
        }
        Ok(ExitCode::SUCCESS)
    }
}

const HEADINGS: [&str; 9] =
    ["node", "host", "address", "version", "content", "manifest", "connections", "renewed", "answer"];

fn format_list(list: &NodeList) -> String {
    let rows: Vec<_> = list.nodes.iter().map(|node| (mark(list, node), cells(node), notes(list, node))).collect();
    let widths: Vec<usize> = (0..HEADINGS.len())
        .map(|column| rows.iter().map(|(_, cells, _)| cells[column].len()).max().max(Some(HEADINGS[column].len())))
        .map(Option::unwrap_or_default)
        .collect();
    let line = |mark: &str, cells: &[String; 9], notes: &str| {
        let cells = cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}  "));
        format!("{mark} {}{notes}", cells.collect::<String>()).trim_end().to_owned() + "\n"
    };
    let mut text = line("  ", &HEADINGS.map(str::to_owned), "");
    for (mark, cells, notes) in &rows {
        text.push_str(&line(mark, cells, notes));
    }
    text + &summary(&list.nodes)
}

fn is_unanswered(list: &NodeList, node: &NodeStatus) -> bool {
    list.store == StoreKind::Redis && node.round_trip_micros.is_none()
}

fn mark(list: &NodeList, node: &NodeStatus) -> String {
    let is_problem = node.differs.is_some() || is_unanswered(list, node);
    [if is_problem { '!' } else { ' ' }, if node.record.node == list.node { '*' } else { ' ' }].iter().collect()
}

fn cells(node: &NodeStatus) -> [String; 9] {
    let known = |text: &str| if text.is_empty() { "-".to_owned() } else { text.to_owned() };
    let record = &node.record;
    [
        record.node.to_string(),
        known(&record.description.host),
        known(&record.description.listen),
        known(&record.description.version),
        known(&record.description.content),
        known(&record.description.manifest),
        record.description.connections.to_string(),
        node.renewed_millis_ago.map_or_else(|| "-".to_owned(), |age| format!("{:.1}s ago", age as f64 / 1000.0)),
        node.round_trip_micros.map_or_else(|| "-".to_owned(), |time| format!("{:.1?}", Duration::from_micros(time))),
    ]
}

fn notes(list: &NodeList, node: &NodeStatus) -> String {
    let differs = node.differs.map(|difference| match difference {
        Difference::Manifest => "other manifest".to_owned(),
        Difference::Files => "other files".to_owned(),
    });
    let record = &node.record.description;
    let starts = record.content.is_empty().then(|| "serves nothing yet".to_owned());
    let stops = record.stopping.then(|| "stops".to_owned());
    let unsaved = Some(node.record.unsaved_rows).filter(|count| *count > 0);
    let unsaved = unsaved.map(|count| format!("{} not in Redis", format_count(count, "row")));
    let unanswered = is_unanswered(list, node).then(|| "no answer".to_owned());
    [unanswered, differs, starts, stops, unsaved].into_iter().flatten().collect::<Vec<_>>().join(", ")
}

/// Returns the last line: whether all nodes serve the same.
fn summary(nodes: &[NodeStatus]) -> String {
    let serving = nodes.iter().filter(|node| !node.record.description.content.is_empty());
    let (different, same): (Vec<_>, Vec<_>) = serving.partition(|node| node.differs.is_some());
    let Some(first) = same.first() else { return "no node serves yet\n".to_owned() };
    let content = &first.record.description.content;
    let verb = |count| if count == 1 { "serves" } else { "serve" };
    let serves = format!("{} {} {content}", format_count(same.len(), "node"), verb(same.len()));
    if different.is_empty() {
        return serves + "\n";
    }
    let others = different.iter().map(|node| format!("node {} {}", node.record.node, node.record.description.content));
    format!("drift: {serves}, but {}\n", others.collect::<Vec<_>>().join(", "))
}
