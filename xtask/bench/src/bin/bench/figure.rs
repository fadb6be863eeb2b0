//! What is made of the runs: a row for each figure and each way to run a handler.
//!
//! A server is compared with the plain one or, where it is asked what something costs, with itself
//! without it. Two servers are compared within a round, and the median is taken of the rounds: what disturbs
//! the machine for a while disturbs both.

use jackfield_bench::outcome::Outcome;
use serde::Serialize;

use crate::Scale;
use crate::moment::Timing;
use crate::target::{self, Compare, Condition, Figure, Target};
use crate::workload::Run;

/// A server that answers less than this share of an open loop is not measured at that rate.
const KEPT_UP: f64 = 0.95;
/// The plain server's p99 is below this on a machine that nothing else disturbs.
const CALM_P99_US: f64 = 1000.0;
/// From here on an open loop is none: who was kept from its core sends what is due all at once,
/// which costs a server a third of what the same messages cost one by one.
const BURSTS_P99_US: f64 = 2000.0;

/// One line of the table. Every number but the range is a median.
#[derive(Debug, Serialize)]
pub struct Row {
    pub figure: String,
    pub subject: String,
    pub unit: &'static str,
    /// Of the plain server, or of jackfield with nothing switched on.
    pub plain: Option<f64>,
    pub jackfield: Option<f64>,
    /// What is held against the target, and its unit.
    pub judged: Option<f64>,
    pub judged_unit: &'static str,
    /// The smallest and the largest of the rounds.
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
    /// Held to nothing.
    Stated,
    /// The note says why.
    NotJudged,
}

/// Every row that the runs have something to say about.
pub fn rows(scale: &Scale, runs: &[Run], timings: &[Timing]) -> Vec<Row> {
    let figures = target::figures(scale);
    let under_load = figures.iter().flat_map(|figure| rows_of(figure, runs));
    let moments = [("start", target::START), ("reload", target::RELOAD)];
    let moments = moments.into_iter().filter_map(|(moment, target)| row_of_moment(moment, target, timings));
    under_load.chain(moments).collect()
}

/// A row for each handler that was run; one for the plain server alone where none was. Of what is
/// held to nothing a row for each that ran, in the order of the first round.
fn rows_of(figure: &Figure, runs: &[Run]) -> Vec<Row> {
    let of_subject = |name: &str| -> Vec<&Run> {
        runs.iter().filter(|run| run.workload == figure.workload && run.subject == name).collect()
    };
    let plain = of_subject(figure.beside());
    if plain.is_empty() {
        return Vec::new();
    }
    let row = |subject: &str, ours: &[&Run], target| Pairs::new(&plain, ours).row(figure, subject, target);
    let others = runs.iter().filter(|run| run.workload == figure.workload && run.round == 0);
    let others = others.map(|run| (&*run.subject, Target::Nothing)).filter(|(name, _)| *name != figure.beside());
    let targets = if figure.targets.is_empty() { others.collect() } else { figure.targets.clone() };
    let measured: Vec<Row> = targets
        .into_iter()
        .map(|(subject, target)| (subject, target, of_subject(subject)))
        .filter(|(_, _, ours)| !ours.is_empty())
        .map(|(subject, target, ours)| row(subject, &ours, target))
        .collect();
    match (measured.is_empty(), figure.targets.first()) {
        (true, Some(&(_, target))) => vec![row("-", &[], target)],
        _ => measured,
    }
}

/// What the plain server, or jackfield with nothing switched on, and one other did under one workload.
struct Pairs<'a> {
    plain: Vec<&'a Outcome>,
    /// Both, of each round in which both are sound.
    both: Vec<(&'a Outcome, &'a Outcome)>,
    failure: Option<String>,
}

impl<'a> Pairs<'a> {
    fn new(plain: &[&'a Run], ours: &[&'a Run]) -> Self {
        let sound = |run: &'a Run| run.outcome.as_ref().filter(|_| run.is_sound());
        let both = ours.iter().filter_map(|ours| {
            let plain = plain.iter().find(|plain| plain.round == ours.round)?;
            Some((sound(plain)?, sound(ours)?))
        });
        let failure = plain.iter().chain(ours).find_map(|run| {
            let failure = run.failure.as_ref()?;
            Some(format!("{} failed in round {}: {failure}", run.subject, run.round + 1))
        });
        Self { plain: plain.iter().filter_map(|run| sound(run)).collect(), both: both.collect(), failure }
    }

    fn row(&self, figure: &Figure, subject: &str, target: Target) -> Row {
        let of = |outcome| figure.quantity.of(outcome);
        let plain: Vec<f64> = self.plain.iter().copied().map(of).collect();
        let ours: Vec<f64> = self.both.iter().map(|(_, ours)| of(ours)).collect();
        let judged: Vec<f64> = self
            .both
            .iter()
            .map(|(plain, ours)| match figure.compare {
                Compare::Ratio => of(ours) / of(plain),
                Compare::Added => of(ours) - of(plain),
                Compare::Own => of(ours),
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
        let without = (target == Target::Nothing).then(|| "compared with jackfield without it".to_owned());
        let typical = |of: &dyn Fn(&(&Outcome, &Outcome)) -> f64| {
            median(&self.both.iter().map(of).collect::<Vec<_>>()).unwrap_or_default()
        };
        let plain_p99_us = typical(&|(plain, _)| plain.p99_us);
        let plain_rate = typical(&|(plain, _)| plain.msg_per_s);
        let our_rate = typical(&|(_, ours)| ours.msg_per_s);
        let beside = figure.beside();
        let busy = format!("{beside}'s own p99 is {:.1} ms: the machine is busy", plain_p99_us / 1e3);
        let held = held_against(target, judged);
        match figure.condition {
            Condition::KeepUp(rate) if plain_rate < rate * KEPT_UP => {
                let note = format!("{beside} served {plain_rate:.0} a second: take a lower --rate");
                (Verdict::NotJudged, Some(note))
            }
            Condition::KeepUp(rate) if our_rate < rate * KEPT_UP => {
                (Verdict::Missed, Some(format!("served {our_rate:.0} a second only")))
            }
            Condition::KeepUp(_) if plain_p99_us >= BURSTS_P99_US => {
                (held, Some(format!("{busy}, and messages came in bursts")))
            }
            Condition::Calm if plain_p99_us >= CALM_P99_US => (Verdict::NotJudged, Some(busy)),
            Condition::KeepUp(_) | Condition::Calm | Condition::None => (held, without),
        }
    }
}

fn row_of_moment(moment: &'static str, target: Target, timings: &[Timing]) -> Option<Row> {
    let timings: Vec<&Timing> = timings.iter().filter(|timing| timing.moment == moment).collect();
    let first = timings.first()?;
    let took: Vec<f64> = timings.iter().filter_map(|timing| timing.ms).collect();
    let failure = timings.iter().find_map(|timing| timing.failure.clone());
    let verdict = match (&failure, median(&took)) {
        (None, Some(ms)) => held_against(target, ms),
        _ => Verdict::NotJudged,
    };
    Some(Row {
        figure: format!("{} to the first event served", first.moment),
        subject: "wasip2".into(),
        unit: "ms",
        plain: None,
        jackfield: median(&took),
        judged: median(&took),
        judged_unit: "ms",
        range: range(&took),
        target,
        verdict,
        note: failure,
    })
}

fn held_against(target: Target, value: f64) -> Verdict {
    match target {
        Target::Nothing => Verdict::Stated,
        _ if target.is_met(value) => Verdict::Met,
        _ => Verdict::Missed,
    }
}

/// The middle one, or the mean of the two in the middle.
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
        rows(&SCALE, &all, &[]).remove(0)
    }

    #[test]
    fn servers_are_compared_within_a_round() {
        let row = echo_row(&[(10.0, 4e4), (20.0, 4e4), (10.0, 4e4)], &[(18.0, 4e4), (38.0, 4e4), (17.0, 4e4)]);
        assert_eq!((row.plain, row.jackfield), (Some(10.0), Some(18.0)));
        assert_eq!((row.judged, row.range), (Some(1.8), Some((1.7, 1.9))));
        assert_eq!(row.verdict, Verdict::Met);
    }

    #[test]
    fn what_something_costs_is_compared_with_jackfield_without_it_and_held_to_nothing() {
        let runs = |subject, cpu: [f64; 2]| -> Vec<Run> {
            let runs = cpu.into_iter().enumerate();
            runs.map(|(round, cpu)| run(round, "echo with", subject, at_rate(cpu, 4e4))).collect()
        };
        let all: Vec<Run> = [("wasip2", [20.0, 30.0]), ("wasip2 with a model", [22.0, 33.0])]
            .into_iter()
            .flat_map(|(subject, cpu)| runs(subject, cpu))
            .collect();
        let rows = rows(&SCALE, &all, &[]);
        let told: Vec<_> = rows.iter().map(|row| (&*row.subject, row.judged, row.verdict)).collect();
        let subject = "wasip2 with a model";
        assert_eq!(told, [(subject, Some(2.5), Verdict::Stated), (subject, Some(1.1), Verdict::Stated)]);
    }

    #[test]
    fn a_server_that_does_not_keep_up_misses_whatever_its_cpu_time() {
        assert_eq!(echo_row(&[(10.0, 4e4)], &[(11.0, 3e4)]).verdict, Verdict::Missed);
        assert_eq!(echo_row(&[(10.0, 3e4)], &[(11.0, 3e4)]).verdict, Verdict::NotJudged);
    }

    #[test]
    fn a_round_that_failed_is_told_and_not_judged() {
        let failed = Run { failure: Some("3 errors".into()), ..run(0, "broadcast", "lean", at_rate(1.0, 1.0)) };
        let row = rows(&SCALE, &[run(0, "broadcast", "plain", at_rate(1.0, 1.0)), failed], &[]).remove(0);
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
