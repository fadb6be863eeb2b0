//! The workloads, the servers of each, and a single run.
//!
//! A workload is the same for every server. The module `figure` evaluates the runs.

use std::fmt;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use jackfield_bench::outcome::Outcome;
use jackfield_bench::process;
use serde::Serialize;

use crate::feature::BASELINE;
use crate::server::{Scratch, Server, Subject};
use crate::{Cores, Group, Scale, sibling_binary};

pub struct Workload {
    pub name: &'static str,
    pub group: Group,
    /// The arguments of `load` that do not depend on the server.
    load: Vec<String>,
    /// Whether the handler handles `$connect`. If not, jackfield admits every peer, like `plain`.
    on_connect: bool,
    /// Whether it is also run with reused instances.
    reuse: bool,
}

/// Returns all workloads at this scale.
pub fn all(scale: &Scale) -> Vec<Workload> {
    let Scale { secs, rate, idle_connections, .. } = *scale;
    let messages = |name, group, arguments: String| Workload {
        name,
        group,
        load: words(&format!("{arguments} --secs {secs}")),
        on_connect: false,
        reuse: true,
    };
    let connections = |name, group, arguments: String| Workload {
        name,
        group,
        load: words(&format!("{arguments} --conns {idle_connections}")),
        on_connect: true,
        reuse: false,
    };
    vec![
        messages("echo at a rate", Group::Echo, format!("--mode echo --conns 64 --rate {rate}")),
        messages("echo depth 1", Group::Echo, "--mode echo --conns 64 --depth 1".into()),
        messages("echo depth 16", Group::Echo, "--mode echo --conns 64 --depth 16".into()),
        messages("post at a rate", Group::Post, format!("--mode post --conns 64 --rate {rate}")),
        messages("post depth 1", Group::Post, "--mode post --conns 64 --depth 1".into()),
        messages("post depth 16", Group::Post, "--mode post --conns 64 --depth 16".into()),
        // This makes 50,000 deliveries a second; the cores of some machines cannot deliver more.
        Workload {
            reuse: false,
            ..messages("broadcast", Group::Broadcast, "--mode broadcast --conns 1000 --rate 50".into())
        },
        connections("idle", Group::Idle, "--mode idle --secs 3".into()),
        connections("connect", Group::Connect, "--mode connect".into()),
        // Fewer messages at a time than above, because a handler in Python takes a hundred times as long.
        messages("script depth 16", Group::Script, "--mode echo --conns 8 --depth 16".into()),
        messages("language depth 16", Group::Language, "--mode echo --conns 8 --depth 16".into()),
        messages("echo with", Group::EchoWith, format!("--mode echo --conns 64 --rate {rate}")),
        connections("connect with", Group::ConnectWith, "--mode connect".into()),
    ]
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

/// Returns whether the workload is run on the server. A server with a feature runs only the workload of that feature,
/// which is also run on jackfield without it for comparison.
fn is_run_on(workload: &Workload, subject: &Subject) -> bool {
    match (workload.group, subject.feature()) {
        (group, Some(feature)) => feature.group == group,
        (Group::EchoWith | Group::ConnectWith, None) => subject.name == BASELINE,
        (group @ (Group::Script | Group::Language), None) => subject.group() == Some(group) || subject.is_plain(),
        (_, None) if subject.group().is_some() => false,
        (_, None) => workload.reuse || !subject.reuses_instances(),
    }
}

/// Returns every workload with each of its servers. The order of the servers starts with another one in each round, so
/// that no server always runs after the same other one.
pub fn in_turn<'a>(
    workloads: &'a [Workload],
    subjects: &'a [Subject],
    round: usize,
) -> Vec<(&'a Workload, &'a Subject)> {
    let mut turns = Vec::new();
    for workload in workloads {
        let mut servers: Vec<_> = subjects.iter().filter(|subject| is_run_on(workload, subject)).collect();
        let first = round % servers.len().max(1);
        servers.rotate_left(first);
        turns.extend(servers.into_iter().map(|subject| (workload, subject)));
    }
    turns
}

/// One run: the outcome that `load` printed, or the reason why there is none.
#[derive(Serialize)]
pub struct Run {
    pub round: usize,
    pub workload: &'static str,
    pub subject: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
}

impl Run {
    /// Returns whether the run can be evaluated. It cannot if there were errors, because an error is not a served
    /// message.
    pub fn is_valid(&self) -> bool {
        self.failure.is_none()
    }
}

pub fn run(workload: &Workload, subject: &Subject, scratch: &Scratch, cores: Option<Cores>, round: usize) -> Run {
    let result = subject
        .start(scratch, workload.on_connect, cores.map(|cores| cores.server))
        .and_then(|server| load(workload, subject, &server, cores));
    let (outcome, failure) = match result {
        Ok(outcome) => {
            let failure = failure_in(&outcome);
            (Some(outcome), failure)
        }
        Err(error) => (None, Some(format!("{error:#}"))),
    };
    Run { round, workload: workload.name, subject: subject.name.clone(), outcome, failure }
}

fn failure_in(outcome: &Outcome) -> Option<String> {
    if outcome.errors > 0 {
        let first = outcome.first_error.as_deref().unwrap_or("unknown");
        return Some(format!("{} errors; the first: {first}", outcome.errors));
    }
    (outcome.messages == 0).then(|| "there was no response".into())
}

fn load(workload: &Workload, subject: &Subject, server: &Server, cores: Option<Cores>) -> Result<Outcome> {
    let mut command = Command::new(sibling_binary("load")?);
    command.args(&workload.load);
    command.args(["--port", &server.port.to_string(), "--pid", &server.pid().to_string()]);
    if workload.on_connect {
        command.args(["--path", &subject.credential().path()]);
    }
    for header in subject.credential().headers(server.port) {
        command.args(["--header", &header]);
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut start = || command.spawn().context("cannot run load");
    let child = match cores {
        Some(cores) => process::on_core(cores.load, &mut start)?,
        None => start()?,
    };
    let output = child.wait_with_output().context("cannot wait for load")?;
    ensure!(output.status.success(), "load failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    let dropped = server.log_contains("access log lines are dropped");
    ensure!(!dropped, "lines of the access log were dropped: use a lower --rate");
    serde_json::from_slice(&output.stdout).context("the output of load is not an outcome")
}

impl fmt::Display for Run {
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
        write!(out, "{:<14} {:<32} ", self.workload, self.subject)?;
        if let Some(outcome) = &self.outcome {
            let Outcome { msg_per_s, server_cpu_us_per_msg, p50_us, p99_us, .. } = outcome;
            write!(out, "{msg_per_s:>9.0}/s {server_cpu_us_per_msg:>6.2} us CPU")?;
            write!(out, ", p50 {p50_us:.0} us, p99 {p99_us:.0} us")?;
            if let Some(kib) = outcome.rss_kib_per_conn {
                write!(out, ", {kib:.1} KiB a connection")?;
            }
        }
        self.failure.as_ref().map_or(Ok(()), |failure| write!(out, " FAILED: {failure}"))
    }
}

#[cfg(test)]
mod tests {
    use crate::feature::{self, Dependencies};
    use crate::server::Components;

    use super::*;

    fn subjects() -> Vec<Subject> {
        let reused =
            Subject::jackfield("reused".into(), "jackfield".as_ref(), Components::only("echo.wasm".into()), Some(1000));
        let fresh =
            Subject::jackfield("fresh".into(), "jackfield".as_ref(), Components::only("echo.wasm".into()), None);
        vec![Subject::plain("plain".into()), fresh, reused]
    }

    #[test]
    fn every_round_has_the_same_runs_and_begins_with_another_server() {
        let scale = Scale { rounds: 3, secs: 1.0, rate: 1000, idle_connections: 10 };
        let (workloads, subjects) = (all(&scale), subjects());
        let names = |round| -> Vec<_> {
            let turns = in_turn(&workloads, &subjects, round).into_iter();
            turns.map(|(workload, subject)| format!("{} {}", workload.name, subject.name)).collect()
        };
        let (first, second) = (names(0), names(1));
        assert_ne!(first[0], second[0]);
        let sorted = |mut names: Vec<String>| {
            names.sort();
            names
        };
        assert_eq!(sorted(first), sorted(second));
    }

    #[test]
    fn reused_instances_are_measured_for_the_workloads_that_have_a_figure_for_them() {
        let scale = Scale { rounds: 1, secs: 1.0, rate: 1000, idle_connections: 10 };
        let (workloads, subjects) = (all(&scale), subjects());
        let turns = in_turn(&workloads, &subjects, 0);
        let groups: Vec<_> = turns
            .iter()
            .filter(|(_, subject)| subject.reuses_instances())
            .map(|(workload, _)| workload.group)
            .collect();
        assert_eq!(groups, [Group::Echo, Group::Echo, Group::Echo, Group::Post, Group::Post, Group::Post]);
    }

    #[test]
    fn a_feature_is_run_only_with_its_workload_and_so_is_the_same_handler_without_it() {
        let scale = Scale { rounds: 1, secs: 1.0, rate: 1000, idle_connections: 10 };
        let handler = |reuse| {
            let components = Components::only("echo.wasm".into());
            Subject::jackfield(BASELINE.into(), "jackfield".as_ref(), components, reuse)
        };
        let features = feature::all(&Dependencies::default()).into_iter();
        let mut subjects = subjects();
        subjects.push(handler(None));
        subjects.extend(features.map(|feature| handler(None).with(feature)));
        let workloads = all(&scale);
        for (workload, subject) in in_turn(&workloads, &subjects, 0) {
            let compares = matches!(workload.group, Group::EchoWith | Group::ConnectWith);
            match subject.feature() {
                Some(feature) => assert_eq!(feature.group, workload.group),
                None => assert!(!compares || subject.name == BASELINE, "{} on {}", workload.name, subject.name),
            }
        }
        let echo = in_turn(&workloads, &subjects, 0).into_iter().filter(|(workload, _)| workload.name == "echo with");
        assert_eq!(echo.count(), 4, "without, an access log, throttles, a model");
    }

    #[test]
    fn an_outcome_with_errors_or_without_messages_is_a_failure() {
        let good = Outcome { messages: 1, ..Outcome::default() };
        assert_eq!(failure_in(&good), None);
        assert!(failure_in(&Outcome { errors: 1, ..good.clone() }).is_some());
        assert!(failure_in(&Outcome { messages: 0, ..good }).is_some());
    }
}
