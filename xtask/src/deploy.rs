//! Checks the files in `deploy/` with the linters of their formats.

use std::path::Path;
use std::process::Command;

use crate::setup::{self, DeploymentLinters};
use crate::step::root;

const LINT: &str = "xtask/src/deploy/lint.py";

/// Returns what is checked, each with the command that does it.
///
/// # Errors
/// If a linter cannot be installed.
pub fn checks() -> anyhow::Result<Vec<(&'static str, Command)>> {
    let linters = setup::deployment_linters()?;
    let folder = root().join("deploy");
    let mut haproxy = Command::new(setup::haproxy()?);
    haproxy.args(["-c", "-f"]).arg(folder.join("haproxy.cfg"));
    let mut hadolint = Command::new(&linters.hadolint);
    hadolint.arg(folder.join("Dockerfile"));
    let lint = lint(&linters, &folder.join("compose.yaml"), &folder.join("kubernetes.yaml"));
    Ok(vec![
        ("deploy/compose.yaml and deploy/kubernetes.yaml", lint),
        ("deploy/Dockerfile", hadolint),
        ("deploy/haproxy.cfg", haproxy),
    ])
}

fn lint(linters: &DeploymentLinters, compose: &Path, kubernetes: &Path) -> Command {
    let mut command = Command::new(&linters.python);
    command.arg(root().join(LINT)).args([compose, kubernetes]);
    command
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// Changes one of both files, and returns what the linter prints.
    fn problems(file: &str, found: &str, replacement: &str) -> String {
        let linters = setup::deployment_linters().unwrap();
        let folder = std::env::temp_dir().join(format!("deploy-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let paths = ["compose.yaml", "kubernetes.yaml"].map(|name| {
            let text = fs::read_to_string(root().join("deploy").join(name)).unwrap();
            let path = folder.join(name);
            let changed = if name == file { text.replace(found, replacement) } else { text.clone() };
            assert_eq!(changed != text, name == file, "{name} has no {found}");
            fs::write(&path, changed).unwrap();
            path
        });
        let output = lint(&linters, &paths[0], &paths[1]).output().unwrap();
        fs::remove_dir_all(&folder).unwrap();
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    #[test]
    fn the_linters_find_what_is_wrong() {
        for (file, found, replacement, problem) in [
            ("compose.yaml", "restart: unless-stopped", "restrat: always", "extension key `restrat`"),
            ("compose.yaml", "networks: [nodes]", "networks: [other]", "network `other`"),
            ("compose.yaml", "node-2, node-3]", "node-2, node-4]", "haproxy.depends_on: found node-4"),
            ("compose.yaml", "- redis:/data", "- radis:/data", "redis.volumes: found radis"),
            ("kubernetes.yaml", "maxUnavailable: 0", "maxUnavailble: 0", "'maxUnavailble' was unexpected"),
            ("kubernetes.yaml", "policy/v1", "policy/v1beta1", "PodDisruptionBudget jackfield"),
            ("kubernetes.yaml", "drop: [ALL]", "drop: [NET_RAW]", "capabilities.drop: found ['NET_RAW']"),
            ("kubernetes.yaml", "runAsNonRoot: true", "runAsNonRoot: false", "runAsNonRoot: expected true"),
            ("kubernetes.yaml", "chat:0.1.0", "chat:latest", "image: found registry.example.com/jackfield-chat:latest"),
            ("kubernetes.yaml", "readinessProbe", "readynessProbe", "found no readinessProbe"),
        ] {
            let printed = problems(file, found, replacement);
            assert!(printed.contains(problem), "{replacement}: {printed}");
        }
    }
}
