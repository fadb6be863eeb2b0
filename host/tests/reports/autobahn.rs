//! The cases of the Autobahn TestSuite against the echo plugin, run by `kosoku` from PyPI.
//!
//! The 216 cases of groups 12 and 13 are about compression, which this server does not offer. The counts are those of
//! all others, so that a case that is no longer run fails too.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde::Deserialize;
use tokio::process::Command;

use crate::harness::{ECHO, Server, Site, component};
use crate::sdks::installed_path;

/// How often a case is run that does not pass. Its own deadlines, most of them one second, are shorter than a stall of a
/// busy machine; a fault fails each time.
const ATTEMPTS: usize = 4;

/// How long all cases may take. On an idle machine it is 5 seconds.
const SUITE_TIMEOUT: Duration = Duration::from_mins(4);

const CASES: usize = 301;

/// The server must notice text that is not UTF-8 within a frame at the frame's end; Autobahn's `OK` is to notice it before.
const NON_STRICT: [&str; 2] = ["6.4.3", "6.4.4"];

/// Autobahn judges nothing in these.
const INFORMATIONAL: [&str; 3] = ["7.1.6", "7.13.1", "7.13.2"];

#[derive(Deserialize, PartialEq, Debug)]
#[serde(rename_all = "camelCase")]
struct Outcome {
    behavior: String,
    behavior_close: String,
}

impl Outcome {
    fn is_expected(&self, case: &str) -> bool {
        let expected = match case {
            case if NON_STRICT.contains(&case) => ["NON-STRICT", "OK"],
            case if INFORMATIONAL.contains(&case) => ["INFORMATIONAL", "INFORMATIONAL"],
            _ => ["OK", "OK"],
        };
        expected == [self.behavior.as_str(), self.behavior_close.as_str()]
    }
}

/// crossbario/autobahn-testsuite: the fuzzing client, all cases but 12.* and 13.*.
#[tokio::test]
async fn all_cases_but_those_on_compression_pass() {
    // The largest messages of the cases have 16 MiB.
    let site = Site::new(&format!(
        r#"
[stages.dev]
base_path = ""
[connection]
message_size = "16MiB"
frame_size = "none"
[integrations.echo]
component = {:?}
[routes]
"$default" = {{ integration = "echo", route_response = true }}
"#,
        component(ECHO)
    ));
    let reports = site.path().join("reports");
    let server = site.serve();
    let mut outcomes = run(&server, &reports, &["--exclude", "12.*", "--exclude", "13.*"]).await;
    assert_eq!(outcomes.len(), CASES);
    for _ in 1..ATTEMPTS {
        let again: Vec<_> = unexpected(&outcomes).into_iter().map(str::to_owned).collect();
        for case in again {
            outcomes.extend(run(&server, &reports, &["--include", &case]).await);
        }
    }
    let unexpected: BTreeMap<_, _> = unexpected(&outcomes).into_iter().map(|case| (case, &outcomes[case])).collect();
    assert!(unexpected.is_empty(), "{unexpected:?}");
    let count = |behavior| outcomes.values().filter(|outcome| outcome.behavior == behavior).count();
    assert_eq!(["OK", "NON-STRICT", "INFORMATIONAL"].map(count), [296, 2, 3]);
}

fn unexpected(outcomes: &BTreeMap<String, Outcome>) -> Vec<&str> {
    outcomes.iter().filter(|(case, outcome)| !outcome.is_expected(case)).map(|(case, _)| case.as_str()).collect()
}

/// Runs the selected cases. Returns the outcome of each by its number.
async fn run(server: &Server, reports: &Path, selection: &[&str]) -> BTreeMap<String, Outcome> {
    let mut command = Command::new(installed_path("JACKFIELD_TEST_PYTHON").with_file_name("kosoku"));
    command.arg(server.address.to_string()).args(selection).args(["--parallelism", "4", "--outdir"]).arg(reports);
    command.stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(SUITE_TIMEOUT, command.output()).await.expect("kosoku does not exit");
    let output = output.expect("kosoku cannot be started");
    let index = std::fs::read(reports.join("index.json"));
    let index = index.unwrap_or_else(|_| panic!("no report: {}", String::from_utf8_lossy(&output.stderr)));
    let agents: BTreeMap<String, BTreeMap<String, Outcome>> = serde_json::from_slice(&index).unwrap();
    agents.into_values().next().expect("the report is empty")
}
