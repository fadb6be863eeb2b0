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

    /// A text, what replaces it, and the problem that is found then.
    type Damage = (&'static str, &'static str, &'static str);

    /// Damages one of both files, and returns what the linter prints.
    fn problems(file: &str, damage: &[Damage]) -> String {
        let linters = setup::deployment_linters().unwrap();
        let folder = std::env::temp_dir().join(format!("deploy-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let paths = ["compose.yaml", "kubernetes.yaml"].map(|name| {
            let mut text = fs::read_to_string(root().join("deploy").join(name)).unwrap();
            for (found, replacement, _) in damage.iter().filter(|_| name == file) {
                assert!(text.contains(found), "{name} has no {found}");
                text = text.replace(found, replacement);
            }
            let path = folder.join(name);
            fs::write(&path, text).unwrap();
            path
        });
        let output = lint(&linters, &paths[0], &paths[1]).output().unwrap();
        fs::remove_dir_all(&folder).unwrap();
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    #[test]
    fn the_linters_find_what_is_wrong() {
        // The first two end the check of the file.
        let cases: [(&str, &[Damage]); 4] = [
            ("compose.yaml", &[("restart: unless-stopped", "restrat: always", "extension key `restrat`")]),
            ("compose.yaml", &[("networks: [nodes]", "networks: [other]", "network `other`")]),
            (
                "compose.yaml",
                &[
                    ("node-2, node-3]", "node-2, node-4]", "haproxy.depends_on: found node-4"),
                    ("- redis:/data", "- radis:/data", "redis.volumes: found radis"),
                    ("cap_drop: [ALL]", "cap_drop: [NET_RAW]", "redis.cap_drop: found ['NET_RAW']"),
                    ("no-new-privileges:true", "label:disable", "node-1.security_opt: expected no-new-privileges"),
                    ("haproxy:3.2-bookworm", "haproxy", "haproxy.image: found haproxy"),
                ],
            ),
            (
                "kubernetes.yaml",
                &[
                    ("maxUnavailable: 0", "maxUnavailble: 0", "'maxUnavailble' was unexpected"),
                    ("policy/v1", "policy/v1beta1", "PodDisruptionBudget jackfield"),
                    ("drop: [ALL]", "drop: [NET_RAW]", "capabilities.drop: found ['NET_RAW']"),
                    ("runAsNonRoot: true", "runAsNonRoot: false", "runAsNonRoot: expected true"),
                    ("type: RuntimeDefault", "type: Unconfined", "seccompProfile.type: expected RuntimeDefault"),
                    ("chat:0.1.0", "chat:latest", "image: found registry.example.com/jackfield-chat:latest"),
                    ("readinessProbe", "readynessProbe", "found no readinessProbe"),
                ],
            ),
        ];
        for (file, damage) in cases {
            let printed = problems(file, damage);
            for (_, _, problem) in damage {
                assert!(printed.contains(problem), "no {problem} in {printed}");
            }
        }
    }
}
