//! Compilers as commands.

use std::env;
use std::io;
use std::process::{Command, Stdio};

use anyhow::{Context as _, ensure};

/// A command with the arguments that select it, such as `python3 -m ziglang`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tool(Vec<String>);

impl Tool {
    /// Parses a command of words that are separated by spaces.
    pub fn parse(text: &str) -> Option<Self> {
        let words: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
        (!words.is_empty()).then_some(Self(words))
    }

    /// Returns the command that an environment variable names, if it is set.
    ///
    /// # Errors
    /// If the value is no command.
    pub fn from_variable(name: &str) -> anyhow::Result<Option<Self>> {
        let Some(value) = env::var_os(name) else { return Ok(None) };
        let tool = value.to_str().and_then(Self::parse);
        Ok(Some(tool.with_context(|| format!("{name} is {value:?}: expected a command, or unset it"))?))
    }

    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.0[0]);
        command.args(&self.0[1..]).stdin(Stdio::null());
        command
    }

    /// Runs the tool and returns what it prints on stdout, without the end of the line. `None` if it does not exist or
    /// reports an error.
    pub fn query(&self, arguments: &[&str]) -> Option<String> {
        let output = self.command().args(arguments).stderr(Stdio::null()).output().ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        output.status.success().then(|| text.trim_end().to_owned())
    }

    /// Runs a command of this tool, whose messages go to stderr.
    ///
    /// # Errors
    /// If it cannot be started, or reports an error.
    pub fn run(&self, mut command: Command) -> anyhow::Result<()> {
        let status = command.stdout(io::stderr()).status().with_context(|| format!("cannot start {}", self.name()))?;
        ensure!(status.success(), "{} ended with {status}; its messages are above", self.name());
        Ok(())
    }

    /// Returns the tool with a further argument.
    pub fn with_argument(mut self, argument: &str) -> Self {
        self.0.push(argument.to_owned());
        self
    }

    /// Returns the command for messages.
    pub fn name(&self) -> String {
        self.0.join(" ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tool_is_a_command_with_arguments() {
        assert_eq!(Tool::parse(" python3  -m ziglang ").unwrap().name(), "python3 -m ziglang");
        assert_eq!(Tool::parse(" "), None);
        assert_eq!(Tool::parse("/nowhere/clang").unwrap().query(&["--version"]), None);
        assert_eq!(Tool::parse("false").unwrap().query(&[]), None);
        assert_eq!(Tool::parse("echo a").unwrap().query(&["b"]), Some("a b".into()));
    }

    #[test]
    fn a_compiler_that_fails_is_reported() {
        let failure = |text| {
            let tool = Tool::parse(text).unwrap();
            tool.run(tool.command()).unwrap_err().to_string()
        };
        assert_eq!(failure("false -m x"), "false -m x ended with exit status: 1; its messages are above");
        assert_eq!(failure("/nowhere/clang"), "cannot start /nowhere/clang");
    }
}
