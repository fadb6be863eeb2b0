//! The arguments of `cargo xtask cluster`.

use std::ops::RangeInclusive;
use std::path::PathBuf;

use anyhow::{Context as _, bail, ensure};

use super::ports::Ports;

/// More nodes than these show nothing that these do not.
const NODES: RangeInclusive<u16> = 1..=9;
const DEFAULT_NODES: u16 = 3;
/// As that of `cargo xtask run`.
const DEFAULT_PORT: u16 = 3001;
const CHAT: &str = "plugins/chat";

#[derive(Debug, PartialEq, Eq)]
pub struct Options {
    pub nodes: u16,
    /// The port of HAProxy; 0 selects free ports for everything.
    pub port: u16,
    /// The jackfield to run; `None`: one is built.
    pub binary: Option<PathBuf>,
    /// A manifest, or a folder with one; `None`: the chat.
    pub project: Option<PathBuf>,
}

impl Options {
    /// # Errors
    /// If an argument is unknown or out of its range.
    pub fn parse(arguments: &[String]) -> anyhow::Result<Self> {
        let mut options = Self { nodes: DEFAULT_NODES, port: DEFAULT_PORT, binary: None, project: None };
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            let (option, attached) = match argument.split_once('=') {
                Some((option, value)) if option.starts_with("--") => (option, Some(value.to_owned())),
                _ => (argument.as_str(), None),
            };
            let mut value = || {
                let value = attached.clone().or_else(|| arguments.next().cloned());
                value.with_context(|| format!("{option}: found no value after it"))
            };
            match option {
                "--nodes" => {
                    let text = value()?;
                    let nodes = text.parse().ok().filter(|nodes| NODES.contains(nodes));
                    let (least, most) = (NODES.start(), NODES.end());
                    options.nodes =
                        nodes.with_context(|| format!("--nodes: found {text:?}, expected {least} to {most}"))?;
                }
                "--port" => {
                    let text = value()?;
                    let port = text.parse().ok().filter(|port| *port == 0 || Ports::FIRST.contains(port));
                    let (least, most) = (Ports::FIRST.start(), Ports::FIRST.end());
                    options.port = port.with_context(|| {
                        format!("--port: found {text:?}, expected {least} to {most}, or 0 for free ports")
                    })?;
                }
                "--binary" => options.binary = Some(value()?.into()),
                _ if option.starts_with('-') => {
                    bail!("found {argument:?}, expected --nodes N, --port PORT, --binary FILE or a project")
                }
                _ => {
                    ensure!(options.project.is_none(), "found {argument:?} after a project, expected one project");
                    options.project = Some(argument.into());
                }
            }
        }
        Ok(options)
    }

    /// Returns the path of the manifest.
    ///
    /// # Errors
    /// If there is none.
    pub fn manifest(&self) -> anyhow::Result<PathBuf> {
        let project = self.project.clone().unwrap_or_else(|| crate::step::root().join(CHAT));
        let manifest = if project.is_dir() { project.join("jackfield.toml") } else { project };
        ensure!(
            manifest.is_file(),
            "{}: file not found; name a manifest, or a folder with a jackfield.toml",
            manifest.display()
        );
        std::path::absolute(&manifest).with_context(|| format!("cannot find {}", manifest.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Result<Options, String> {
        let arguments: Vec<String> = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        Options::parse(&arguments).map_err(|error| format!("{error:#}"))
    }

    #[test]
    fn the_chat_runs_on_three_nodes_unless_the_arguments_say_something_else() {
        let options = parse(&[]).unwrap();
        assert_eq!(options, Options { nodes: 3, port: 3001, binary: None, project: None });
        assert!(options.manifest().unwrap().ends_with("plugins/chat/jackfield.toml"));
        let options = parse(&["--nodes=9", "hello", "--port", "0", "--binary", "target/release/jackfield"]).unwrap();
        let binary = Some("target/release/jackfield".into());
        assert_eq!(options, Options { nodes: 9, port: 0, binary, project: Some("hello".into()) });
    }

    #[test]
    fn an_argument_that_cannot_be_used_is_named() {
        for (arguments, problem) in [
            (&["--nodes", "0"][..], "--nodes: found \"0\", expected 1 to 9"),
            (&["--nodes=10"], "--nodes: found \"10\", expected 1 to 9"),
            (&["--nodes"], "--nodes: found no value after it"),
            (&["--port", "80"], "--port: found \"80\", expected 1024 to 65443, or 0 for free ports"),
            (&["--port", "65444"], "--port: found \"65444\", expected 1024 to 65443, or 0 for free ports"),
            (&["--node"], "found \"--node\", expected --nodes N, --port PORT, --binary FILE or a project"),
            (&["a", "b"], "found \"b\" after a project, expected one project"),
        ] {
            assert_eq!(parse(arguments), Err(problem.to_owned()));
        }
        let missing = parse(&["no/such/project"]).unwrap().manifest().unwrap_err();
        assert!(missing.to_string().starts_with("no/such/project: file not found"), "{missing}");
    }
}
