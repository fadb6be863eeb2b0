//! Computes the rows of the table from the runs: one for each figure and each handler.
//!
//! jackfield is compared with the plain server or, for the cost of a feature, with jackfield without that feature. Two
//! servers are compared within each round, and the row has the median of the rounds, because a temporary load of the
//! machine affects both servers of a round.

use jackfield_bench::outcome::Outcome;
use serde::Serialize;

use crate::Scale;
use crate::operation::{Label, Measurement, Operation};
use crate::target::{self, Compare, Condition, Figure, Target};
use crate::workload::Run;

/// The share of an open loop's messages that a server must serve, so that the measurement is valid for that rate.
const SERVED_SHARE_MIN: f64 = 0.95;
/// The plain server's p99 is below this value if nothing else uses the machine.
const QUIET_P99_US: f64 = 1000.0;
/// From this value on, the messages of an open loop come in bursts: after a load generator has waited for its core, it
/// sends all messages that are due at once. A message in a burst costs a server a third of the CPU time of a single
/// message.
const BURSTS_P99_US: f64 = 2000.0;

/// One line of the table. Every number but the range is a median.
#[derive(Debug, Serialize)]
pub struct Row {
    pub figure: String,
    pub subject: String,
    pub unit: &'static str,
    /// The value of the plain server, or of jackfield without the feature.
    pub plain: Option<f64>,
    pub jackfield: Option<f64>,
    /// The value that is compared with the target, and its unit.
    pub judged: Option<f64>,
    pub judged_unit: &'static str,
    /// The smallest and the largest value of the rounds.
    pub range: Option<(f64, f64)>,
    pub target: Target,
    pub verdict: Verdict,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    Met,
    Missed,
    /// There is no target.
    Stated,
    /// The note has the reason.
    NotJudged,
}

/// Returns every row for which there are runs.
pub fn rows(scale: &Scale, runs: &[Run], operations: &[Operation], measured: &[Measurement]) -> Vec<Row> {
    let figures = target::figures(scale);
    let under_load = figures.iter().flat_map(|figure| figure_rows(figure, runs));
    under_load
        .chain(operations.iter().flat_map(|operation| &operation.labels).map(|label| operation_row(label, measured)))
        .collect()
}

/// Returns the rows of a figure: one for each handler that was run, or one for the plain server if no handler was run.
/// A figure without targets has a row for each subject that was run, in the order of the first round.
fn figure_rows(figure: &Figure, runs: &[Run]) -> Vec<Row> {
    let runs_of = |name: &str| -> Vec<&Run> {
        runs.iter().filter(|run| run.workload == figure.workload && run.subject == name).collect()
    };
    let plain = runs_of(figure.baseline());
    if plain.is_empty() {
        return Vec::new();
    }
    let row = |subject: &str, ours: &[&Run], target| Pairs::new(&plain, ours).row(figure, subject, target);
    let others = runs.iter().filter(|run| run.workload == figure.workload && run.round == 0);
    let others = others.map(|run| (&*run.subject, Target::Nothing)).filter(|(name, _)| *name != figure.baseline());
    let targets = if figure.targets.is_empty() { others.collect() } else { figure.targets.clone() };
    let measured: Vec<Row> = targets
        .into_iter()
        .map(|(subject, target)| (subject, target, runs_of(subject)))
        .filter(|(_, _, ours)| !ours.is_empty())
        .map(|(subject, target, ours)| row(subject, &ours, target))
        .collect();
    match (measured.is_empty(), figure.targets.first()) {
        (true, Some(&(_, target))) => vec![row("-", &[], target)],
        _ => measured,
    }
}

/// The outcomes of two servers under one workload: the plain server, or jackfield without the feature, and another one.
struct Pairs<'a> {
    plain: Vec<&'a Outcome>,
    /// The outcomes of the two in each round in which both are valid.
    both: Vec<(&'a Outcome, &'a Outcome)>,
    failure: Option<String>,
}

impl<'a> Pairs<'a> {
    fn new(plain: &[&'a Run], ours: &[&'a Run]) -> Self {
        let valid = |run: &'a Run| run.outcome.as_ref().filter(|_| run.is_valid());
        let both = ours.iter().filter_map(|ours| {
            let plain = plain.iter().find(|plain| plain.round == ours.round)?;
            Some((valid(plain)?, valid(ours)?))
        });
        let failure = plain.iter().chain(ours).find_map(|run| {
            let failure = run.failure.as_ref()?;
            Some(format!("{} failed in round {}: {failure}", run.subject, run.round + 1))
        });
        Self { plain: plain.iter().filter_map(|run| valid(run)).collect(), both: both.collect(), failure }
    }

    fn row(&self, figure: &Figure, subject: &str, target: Target) -> Row {
        let value = |outcome| figure.quantity.of(outcome);
        let plain: Vec<f64> = self.plain.iter().copied().map(value).collect();
        let ours: Vec<f64> = self.both.iter().map(|(_, ours)| value(ours)).collect();
        let judged: Vec<f64> = self
            .both
            .iter()
            .map(|(plain, ours)| match figure.compare {
                Compare::Ratio => value(ours) / value(plain),
                Compare::Added => value(ours) - value(plain),
                Compare::Own => value(ours),
            })
            .collect();
        let (verdict, note) = self.verdict(figure, target, median(&judged));
        Row {
            figure: figure.title.clone(),
            subject: subject.into(),
            unit: figure.quantity.unit(),
            plain: median(&plain),
            jackfield: median(&ours),
            judged: median(&judged),
            judged_unit: if figure.compare == Compare::Ratio { "x" } else { figure.quantity.unit() },
            range: range(&judged),
            target,
            verdict,
            note,
        }
    }

    fn verdict(&self, figure: &Figure, target: Target, judged: Option<f64>) -> (Verdict, Option<String>) {
        if let Some(failure) = &self.failure {
            return (Verdict::NotJudged, Some(failure.clone()));
        }
        let Some(judged) = judged else {
            return (Verdict::NotJudged, None);
        };
        let no_target = (target == Target::Nothing).then(|| "compared with jackfield without it".to_owned());
        let median_of = |value: &dyn Fn(&(&Outcome, &Outcome)) -> f64| {
            median(&self.both.iter().map(value).collect::<Vec<_>>()).unwrap_or_default()
        };
        let plain_p99_us = median_of(&|(plain, _)| plain.p99_us);
        let plain_rate = median_of(&|(plain, _)| plain.msg_per_s);
        let our_rate = median_of(&|(_, ours)| ours.msg_per_s);
        let baseline = figure.baseline();
        let busy = format!("{baseline} has a p99 of {:.1} ms: the machine is busy", plain_p99_us / 1e3);
        let verdict = judge(target, judged);
        match figure.condition {
            Condition::KeepUp(rate) if plain_rate < rate * SERVED_SHARE_MIN => {
                let note = format!("{baseline} served only {plain_rate:.0} a second: use a lower --rate");
                (Verdict::NotJudged, Some(note))
            }
            Condition::KeepUp(rate) if our_rate < rate * SERVED_SHARE_MIN => {
                (Verdict::Missed, Some(format!("served only {our_rate:.0} a second")))
            }
            Condition::KeepUp(_) if plain_p99_us >= BURSTS_P99_US => {
                (verdict, Some(format!("{busy}, and messages came in bursts")))
            }
            Condition::QuietMachine if plain_p99_us >= QUIET_P99_US => (Verdict::NotJudged, Some(busy)),
            Condition::KeepUp(_) | Condition::QuietMachine | Condition::None => (verdict, no_target),
        }
    }
}

fn operation_row(label: &Label, measured: &[Measurement]) -> Row {
    let is_of = |one: &&Measurement| (one.operation, one.handler) == (label.title, label.handler);
    let measured: Vec<&Measurement> = measured.iter().filter(is_of).collect();
    let values: Vec<f64> = measured.iter().filter_map(|one| one.value).collect();
    let failure = measured.iter().find_map(|one| one.failure.clone());
    let verdict = match (&failure, median(&values)) {
        (None, Some(value)) => judge(label.target, value),
        _ => Verdict::NotJudged,
    };
    Row {
        figure: label.title.into(),
        subject: label.handler.into(),
        unit: label.unit,
        plain: None,
        jackfield: median(&values),
        judged: median(&values),
        judged_unit: label.unit,
        range: range(&values),
        target: label.target,
        verdict,
        note: failure,
    }
}

fn judge(target: Target, value: f64) -> Verdict {
    match target {
        Target::Nothing => Verdict::Stated,
        _ if target.is_met(value) => Verdict::Met,
        _ => Verdict::Missed,
    }
}

/// Returns the middle value, or the mean of the two values in the middle.
fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    let upper = *sorted.get(middle)?;
    Some(if sorted.len() % 2 == 1 { upper } else { (sorted[middle - 1] + upper) / 2.0 })
}

fn range(values: &[f64]) -> Option<(f64, f64)> {
    let low = values.iter().copied().min_by(f64::total_cmp)?;
    let high = values.iter().copied().max_by(f64::total_cmp)?;
    Some((low, high))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCALE: Scale = Scale { rounds: 3, secs: 1.0, rate: 40_000, idle_connections: 10 };

    fn run(round: usize, workload: &'static str, subject: &str, outcome: Outcome) -> Run {
        Run { round, workload, subject: subject.into(), outcome: Some(outcome), failure: None }
    }

    fn at_rate(cpu_us: f64, msg_per_s: f64) -> Outcome {
        Outcome { server_cpu_us_per_msg: cpu_us, msg_per_s, ..Outcome::default() }
    }

    fn echo_row(plain: &[(f64, f64)], ours: &[(f64, f64)]) -> Row {
        let runs = |subject, outcomes: &[(f64, f64)]| -> Vec<Run> {
            let outcomes = outcomes.iter().enumerate();
            outcomes.map(|(round, &(cpu, rate))| run(round, "echo at a rate", subject, at_rate(cpu, rate))).collect()
        };
        let all: Vec<Run> = runs("plain", plain).into_iter().chain(runs("wasip2", ours)).collect();
        rows(&SCALE, &all, &[], &[]).remove(0)
    }

    #[test]
    fn servers_are_compared_within_a_round() {
        let row = echo_row(&[(10.0, 4e4), (20.0, 4e4), (10.0, 4e4)], &[(18.0, 4e4), (38.0, 4e4), (17.0, 4e4)]);
        assert_eq!((row.plain, row.jackfield), (Some(10.0), Some(18.0)));
        assert_eq!((row.judged, row.range), (Some(1.8), Some((1.7, 1.9))));
        assert_eq!(row.verdict, Verdict::Met);
    }

    #[test]
    fn the_cost_of_a_feature_is_compared_with_jackfield_without_it_and_has_no_target() {
        let runs = |subject, cpu: [f64; 2]| -> Vec<Run> {
            let runs = cpu.into_iter().enumerate();
            runs.map(|(round, cpu)| run(round, "echo with", subject, at_rate(cpu, 4e4))).collect()
        };
        let all: Vec<Run> = [("wasip2", [20.0, 30.0]), ("wasip2 with a model", [22.0, 33.0])]
            .into_iter()
            .flat_map(|(subject, cpu)| runs(subject, cpu))
            .collect();
        let rows = rows(&SCALE, &all, &[], &[]);
        let results: Vec<_> = rows.iter().map(|row| (&*row.subject, row.judged, row.verdict)).collect();
        let subject = "wasip2 with a model";
        assert_eq!(results, [(subject, Some(2.5), Verdict::Stated), (subject, Some(1.1), Verdict::Stated)]);
    }

    #[test]
    fn a_server_that_does_not_keep_up_misses_the_target_with_any_cpu_time() {
        assert_eq!(echo_row(&[(10.0, 4e4)], &[(11.0, 3e4)]).verdict, Verdict::Missed);
        assert_eq!(echo_row(&[(10.0, 3e4)], &[(11.0, 3e4)]).verdict, Verdict::NotJudged);
    }

    #[test]
    fn a_failed_round_is_reported_and_not_judged() {
        let failed = Run { failure: Some("3 errors".into()), ..run(0, "broadcast", "lean", at_rate(1.0, 1.0)) };
        let row = rows(&SCALE, &[run(0, "broadcast", "plain", at_rate(1.0, 1.0)), failed], &[], &[]).remove(0);
        assert_eq!((row.verdict, row.judged), (Verdict::NotJudged, None));
        assert_eq!(row.note.as_deref(), Some("lean failed in round 1: 3 errors"));
    }

    #[test]
    fn the_median_of_an_even_number_lies_between_the_two_in_the_middle() {
        assert_eq!(median(&[4.0, 1.0, 3.0, 2.0]), Some(2.5));
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[]), None);
    }
}
