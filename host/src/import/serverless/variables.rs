//! Resolves the variables of a serverless.yml, such as `${self:custom.host, 'localhost'}`.
//!
//! Values from other files, the environment or the cloud are unknown; the reason says so.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};

use crate::import::node::Node;
use crate::import::text::Text;

/// Default stage of the Serverless Framework.
const STAGE: &str = "dev";
/// Default region of the Serverless Framework.
const REGION: &str = "us-east-1";
/// Deepest nesting of variables in variables.
const DEPTH_MAX: usize = 16;
/// Maximum number of variables that one import resolves.
const STEPS_MAX: usize = 100_000;

pub struct Variables<'t> {
    template: &'t Node,
    /// Values from the command line: `--parameter stage=prod` is `${opt:stage}`.
    parameters: &'t BTreeMap<String, String>,
    /// Names of the parameters that were read.
    used: RefCell<BTreeSet<&'t str>>,
    depth: Cell<usize>,
    steps: Cell<usize>,
}

impl<'t> Variables<'t> {
    pub fn new(template: &'t Node, parameters: &'t BTreeMap<String, String>) -> Self {
        Self { template, parameters, used: RefCell::default(), depth: Cell::new(0), steps: Cell::new(0) }
    }

    /// Resolves the variables in a scalar.
    pub fn text(&self, node: &Node) -> Text {
        if let Some(text) = node.scalar() {
            return self.resolve(text);
        }
        let attribute = node.get("Fn::GetAtt").map(|argument| match argument.items() {
            Some(items) => items.iter().filter_map(Node::scalar).collect::<Vec<_>>().join("."),
            None => argument.scalar().unwrap_or_default().to_owned(),
        });
        let id = attribute.as_deref().and_then(|attribute| attribute.strip_suffix("LambdaFunction.Arn"));
        if let Some(function) = id.and_then(|id| self.function_by_logical_id(id)) {
            return Text::known(function);
        }
        node.mark_read();
        match node.entries() {
            [(name, _)] if name == "Ref" || name.starts_with("Fn::") => {
                Text::unknown(name.trim_start_matches("Fn::"), format!("{name} is only resolved by a deployment"))
            }
            _ => Text::unknown("value", "found a list or a table, expected a string"),
        }
    }

    /// Returns the stage: the parameter `stage`, else `provider.stage`, else the default.
    pub fn stage(&self) -> String {
        if let Some(stage) = self.parameter("stage") {
            return stage.clone();
        }
        let written = self.template.get("provider").and_then(|provider| provider.get("stage"));
        written.and_then(|stage| self.text(stage).whole().ok()).unwrap_or_else(|| STAGE.to_owned())
    }

    fn parameter(&self, name: &str) -> Option<&'t String> {
        let (name, value) = self.parameters.get_key_value(name)?;
        self.used.borrow_mut().insert(name);
        Some(value)
    }

    /// Returns the names of the parameters that no variable used.
    pub fn unused(&self) -> Vec<&'t str> {
        let used = self.used.borrow();
        self.parameters.keys().map(String::as_str).filter(|name| !used.contains(name)).collect()
    }

    /// Returns the function whose logical id in CloudFormation is `{id}LambdaFunction`.
    fn function_by_logical_id(&self, id: &str) -> Option<&'t str> {
        let logical_id = |name: &str| {
            let name = name.replace('-', "Dash").replace('_', "Underscore");
            name.chars().next().map(|first| first.to_uppercase().collect::<String>() + &name[first.len_utf8()..])
        };
        let functions = self.template.get("functions").map_or(&[][..], Node::entries);
        functions.iter().map(|(name, _)| name.as_str()).find(|name| logical_id(name).as_deref() == Some(id))
    }

    fn resolve(&self, text: &str) -> Text {
        let mut resolved = Text::default();
        let mut rest = text;
        while let Some((before, behind)) = rest.split_once("${") {
            resolved.push(before);
            let Some(end) = closing_brace(behind) else {
                resolved.push("${");
                rest = behind;
                continue;
            };
            if behind.starts_with("AWS::Region") {
                resolved.push(REGION);
            } else if behind.starts_with("AWS::") || behind.starts_with("stageVariables.") {
                // CloudFormation or API Gateway resolves it later.
                resolved.push(&format!("${{{}}}", &behind[..end]));
            } else {
                resolved.append(&self.variable(&behind[..end]));
            }
            rest = &behind[end + 1..];
        }
        resolved.push(rest);
        resolved
    }

    /// Resolves the text between `${` and `}`: a source, followed by fallbacks, separated by commas.
    fn variable(&self, inside: &str) -> Text {
        let (depth, steps) = (self.depth.get(), self.steps.get());
        if depth >= DEPTH_MAX || steps >= STEPS_MAX {
            return Text::unknown("circle", "the variable refers to itself, or takes too many steps to resolve");
        }
        self.depth.set(depth + 1);
        self.steps.set(steps + 1);
        let inside = self.resolve(inside).whole();
        let mut found = None;
        match inside {
            Err(unknown) => found = Some(Text::unknown(unknown.name, unknown.reason)),
            Ok(inside) => {
                for source in inside.split(',') {
                    let text = self.source(source.trim());
                    let is_known = text.first_unknown().is_none();
                    // If no source has a value, the first one says what is missing.
                    if is_known || found.is_none() {
                        found = Some(text);
                    }
                    if is_known {
                        break;
                    }
                }
            }
        }
        self.depth.set(depth);
        found.unwrap_or_default()
    }

    fn source(&self, source: &str) -> Text {
        let quoted = ['\'', '"'].iter().find_map(|quote| source.strip_prefix(*quote)?.strip_suffix(*quote));
        if let Some(literal) = quoted {
            return Text::known(literal);
        }
        let (kind, path) = source.split_once(':').unwrap_or((source, ""));
        let parameter = || self.parameter(path).map(Text::known);
        let unknown = |reason: String| Text::unknown(path, reason);
        match kind {
            "self" | "" => self.self_value(path),
            "opt" | "param" if parameter().is_some() => parameter().unwrap_or_default(),
            "opt" | "param" => unknown(format!("${{{source}}} is an option: set it with --parameter {path}=VALUE")),
            "sls" if path == "stage" => Text::known(self.stage()),
            "aws" if path == "region" => Text::known(REGION),
            "aws" if path == "accountId" => Text::known("000000000000"),
            "env" => unknown(format!("${{{source}}} is an environment variable of the deployment")),
            _ if kind.starts_with("file(") => Text::unknown("file", format!("${{{source}}} is in another file")),
            _ if path.is_empty() && !kind.contains(['(', ' ']) => Text::known(source),
            _ => unknown(format!("${{{source}}} is known only to a deployment")),
        }
    }

    fn self_value(&self, path: &str) -> Text {
        let mut node = self.template;
        for key in path.split('.') {
            let next = match (node.items(), key.parse::<usize>()) {
                (Some(items), Ok(index)) => items.get(index),
                _ => node.get(key),
            };
            match next {
                Some(next) => node = next,
                // The defaults of the provider.
                None if path == "provider.stage" => return Text::known(self.stage()),
                None if path == "provider.region" => return Text::known(REGION),
                None => return Text::unknown(path, format!("${{self:{path}}} does not exist")),
            }
        }
        // `service` is a name, or a table with a name.
        let node = if path == "service" { node.get("name").unwrap_or(node) } else { node };
        self.text(node)
    }
}

/// Returns the index of the brace that closes a brace before `text`.
fn closing_brace(text: &str) -> Option<usize> {
    let mut open = 1;
    for (index, c) in text.char_indices() {
        match c {
            '{' => open += 1,
            '}' => open -= 1,
            _ => {}
        }
        if open == 0 {
            return Some(index);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::import::yaml;

    const TEMPLATE: &str = r#"
service: { name: chat }
provider: { stage: "${opt:stage, self:custom.stage}" }
custom:
  stage: test
  hosts: { test: t.example, list: [a, b] }
  host: ${self:custom.hosts.${self:provider.stage}}
  circle: ${self:custom.circle}
functions: { my-auth: { handler: x } }
"#;

    fn resolved(value: &str, parameters: &[(&str, &str)]) -> String {
        let template = yaml::parse(&format!("{TEMPLATE}\nvalue: {value}")).unwrap();
        let parameters = parameters.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let variables = Variables::new(&template, &parameters);
        let text = variables.text(template.get("value").unwrap());
        text.whole().unwrap_or_else(|unknown| format!("<{}>", unknown.reason))
    }

    #[test]
    fn values_in_the_file_are_resolved() {
        for (value, expected) in [
            ("$connect", "$connect"),
            ("$request.body.action", "$request.body.action"),
            ("${self:service}-${sls:stage}", "chat-test"),
            ("${self:provider.stage}.${self:provider.region}", "test.us-east-1"),
            ("${self:custom.host}", "t.example"),
            ("${self:custom.hosts.list.1}", "b"),
            ("${env:HOST, 'local'}", "local"),
            ("${opt:x, self:custom.nothing, 5}", "5"),
            ("'${stageVariables.alias}'", "${stageVariables.alias}"),
            ("!GetAtt MyDashauthLambdaFunction.Arn", "my-auth"),
            ("{ Fn::GetAtt: [MyDashauthLambdaFunction, Arn] }", "my-auth"),
        ] {
            assert_eq!(resolved(value, &[]), expected, "{value}");
        }
        assert_eq!(resolved("${sls:stage} ${opt:stage}", &[("stage", "prod")]), "prod prod");
        assert_eq!(resolved("${param:host}", &[("host", "h")]), "h");
    }

    #[test]
    fn values_outside_of_the_file_are_unknown_with_a_reason() {
        for (value, reason) in [
            ("${env:HOST}", "${env:HOST} is an environment variable of the deployment"),
            ("${opt:host}", "${opt:host} is an option: set it with --parameter host=VALUE"),
            ("${file(./a.yml):x}", "${file(./a.yml):x} is in another file"),
            ("${ssm:/a/b}", "${ssm:/a/b} is known only to a deployment"),
            ("${self:custom.nothing}", "${self:custom.nothing} does not exist"),
            ("${self:custom.circle}", "the variable refers to itself, or takes too many steps to resolve"),
            ("${self:custom.hosts}", "found a list or a table, expected a string"),
            ("!Ref Table", "Ref is only resolved by a deployment"),
        ] {
            assert_eq!(resolved(value, &[]), format!("<{reason}>"), "{value}");
        }
    }
}
