//! The SDK for JavaScript and TypeScript: its test double, and its handlers on a host.

use std::path::{Path, PathBuf};

use tokio::process::Command;

use crate::conformance::double::run_on_double;
use crate::conformance::{assert_no_failures, run_on_host};

fn guest(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/guests").join(path)
}

#[tokio::test]
async fn the_test_double_of_javascript_passes_every_conformance_case() {
    let mut node = Command::new("node");
    node.arg("double.mjs").current_dir(guest("conformance-js"));
    assert_no_failures(&run_on_double(&mut node).await);
}

#[tokio::test]
async fn the_host_passes_every_conformance_case_with_a_handler_in_javascript() {
    assert_no_failures(&run_on_host(&guest("conformance-js/handler.js")).await);
}
