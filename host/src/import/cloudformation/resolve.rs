//! Resolves CloudFormation's functions, as far as the template contains their values.
//!
//! Other values (exports of other stacks, attributes that exist only after a deployment) are unknown; the reason says
//! so. Depth and steps are limited, because functions can refer to each other in circles.

use std::cell::Cell;
use std::collections::{BTreeMap, HashMap};

use crate::import::node::{Node, Value};
use crate::import::report::Findings;
use crate::import::text::Text;

use super::{SAM_API, conditions};

/// Values of `AWS::AccountId` and `AWS::Region`: the defaults of a manifest.
const ACCOUNT_ID: &str = "000000000000";
const REGION: &str = "us-east-1";
/// Deepest chain of references to references.
const DEPTH_MAX: usize = 16;
/// Maximum number of functions and references that one import resolves.
const STEPS_MAX: usize = 200_000;

pub struct Resolver<'t> {
    pub findings: &'t Findings,
    template: &'t Node,
    resources: HashMap<&'t str, &'t Node>,
    /// Logical ids of SAM's APIs, from which SAM generates further resources.
    sam_apis: Vec<&'t str>,
    /// Values of parameters from the command line.
    parameters: &'t BTreeMap<String, String>,
    depth: Cell<usize>,
    steps: Cell<usize>,
}

impl<'t> Resolver<'t> {
    pub fn new(template: &'t Node, parameters: &'t BTreeMap<String, String>, findings: &'t Findings) -> Self {
        let resources = template.get("Resources").map_or(&[][..], Node::entries);
        let is_sam_api = |node: &Node| node.get("Type").and_then(Node::scalar) == Some(SAM_API);
        let sam_apis = resources.iter().filter(|(_, node)| is_sam_api(node)).map(|(id, _)| id.as_str()).collect();
        let resources = resources.iter().map(|(id, node)| (id.as_str(), node)).collect();
        Self { findings, template, resources, sam_apis, parameters, depth: Cell::new(0), steps: Cell::new(0) }
    }

    /// Returns the value of `key` in `table`; every `Fn::If` is replaced by the branch that applies.
    pub fn get(&self, table: &'t Node, key: &str) -> Option<&'t Node> {
        self.resolve_if(self.resolve_if(table)?.get(key)?)
    }

    /// Returns the entries of a table; every `Fn::If` is replaced by the branch that applies.
    pub fn entries(&self, table: &'t Node) -> Vec<(&'t str, &'t Node)> {
        let entries = self.resolve_if(table).map_or(&[][..], Node::entries);
        let resolved = entries.iter().filter_map(|(key, node)| Some((key.as_str(), self.resolve_if(node)?)));
        resolved.filter(|(_, node)| node.value != Value::Null).collect()
    }

    /// Replaces an `Fn::If` by the branch that applies; `None` if that is `AWS::NoValue`. A node that is not an
    /// `Fn::If`, or whose condition is unknown, is returned unchanged.
    pub fn resolve_if(&self, node: &'t Node) -> Option<&'t Node> {
        match function(node) {
            Some(("Ref", argument)) if argument.scalar() == Some("AWS::NoValue") => None,
            Some(("Fn::If", argument)) => {
                let [condition, yes, no] = argument.items()? else { return Some(node) };
                let Some(holds) = condition.scalar().and_then(|name| self.condition(name)) else { return Some(node) };
                let (taken, skipped) = if holds { (yes, no) } else { (no, yes) };
                if skipped.get("Ref").is_none_or(|name| name.scalar() != Some("AWS::NoValue")) {
                    let name = condition.scalar().unwrap_or_default();
                    let reason = format!("omitted, because the condition {name} is {holds} with these parameters");
                    self.findings.add(skipped.line, "Fn::If", reason);
                }
                skipped.mark_read();
                self.resolve_if(taken)
            }
            _ => Some(node),
        }
    }

    pub fn text(&self, node: &'t Node) -> Text {
        let Some(node) = self.resolve_if(node) else { return Text::unknown("value", "its value is AWS::NoValue") };
        if let Some(text) = node.scalar() {
            return literal(text);
        }
        match function(node) {
            Some((name, argument)) => self.step(|| self.call(name, argument)),
            None => Text::unknown(format!("value {}", node.line), "found a list or a table, expected a string"),
        }
    }

    /// Returns the texts of a list; `None` if the list itself is unknown.
    pub fn texts(&self, node: &'t Node) -> Option<Vec<Text>> {
        let node = self.resolve_if(node)?;
        if let Some(items) = node.items() {
            let items = items.iter().filter_map(|item| self.resolve_if(item));
            return Some(items.map(|item| self.text(item)).collect());
        }
        let (separator, whole) = match function(node)? {
            ("Fn::Split", argument) => match argument.items()? {
                [separator, whole] => (self.text(separator).whole().ok()?, self.text(whole)),
                _ => return None,
            },
            // A parameter of a list type.
            ("Ref", argument) => (",".to_owned(), self.resolve_reference(argument.scalar()?)),
            _ => return None,
        };
        let whole = whole.whole().ok().filter(|_| !separator.is_empty())?;
        Some(whole.split(&separator).map(|item| Text::known(item.trim())).collect())
    }

    /// Returns the value of a condition; `None` if it is unknown.
    pub fn condition(&self, name: &str) -> Option<bool> {
        let node = self.template.get("Conditions")?.get(name)?;
        self.step_or(None, || conditions::holds(self, node))
    }

    pub fn kind(&self, id: &str) -> Option<&'t str> {
        self.resources.get(id)?.get("Type")?.scalar()
    }

    pub fn properties(&self, id: &str) -> Option<&'t Node> {
        self.resources.get(id)?.get("Properties")
    }

    /// Returns the name of a Lambda function of the template: its `FunctionName`, or else its logical id.
    pub fn function_name(&self, id: &str) -> Text {
        let Some(name) = self.properties(id).and_then(|properties| self.get(properties, "FunctionName")) else {
            return Text::known(id);
        };
        self.text(name).whole().map_or_else(
            |unknown| {
                let reason = format!("{}; the logical id is used as the name", unknown.reason);
                self.findings.add(name.line, format!("{id}.FunctionName"), reason);
                Text::known(id)
            },
            Text::known,
        )
    }

    fn call(&self, name: &str, argument: &'t Node) -> Text {
        match name {
            "Ref" => argument.scalar().map_or_else(|| malformed(name), |id| self.resolve_reference(id)),
            "Fn::GetAtt" => self.get_att(argument),
            "Fn::Sub" => self.sub(argument),
            "Fn::Join" => self.join(argument),
            "Fn::Select" => self.select(argument),
            "Fn::FindInMap" => self.find_in_map(argument),
            "Fn::ImportValue" => {
                argument.mark_read();
                let export = self.text(argument).whole().unwrap_or_else(|unknown| unknown.name);
                Text::unknown(&export, format!("{export} is exported by another stack"))
            }
            "Fn::If" => {
                argument.mark_read();
                let name = argument.items().and_then(|items| items.first()?.scalar()).unwrap_or("of Fn::If");
                // The line makes the name unique: each `Fn::If` has a different value.
                Text::unknown(
                    format!("{name} {}", argument.line),
                    format!("the value of the condition {name} is not in the template"),
                )
            }
            "Fn::ToJsonString" => Text::known(argument.to_json().to_string()),
            _ => {
                argument.mark_read();
                let value_name = format!("{} {}", name.trim_start_matches("Fn::"), argument.line);
                Text::unknown(value_name, format!("the value of {name} is not in the template"))
            }
        }
    }

    pub fn resolve_reference(&self, id: &str) -> Text {
        match id {
            "AWS::Region" => return Text::known(REGION),
            "AWS::AccountId" => return Text::known(ACCOUNT_ID),
            "AWS::Partition" => return Text::known("aws"),
            "AWS::URLSuffix" => return Text::known("amazonaws.com"),
            _ if id.starts_with("AWS::") => {
                return Text::unknown(id.trim_start_matches("AWS::"), format!("{id} is only known after a deployment"));
            }
            _ => {}
        }
        if let Some(value) = self.parameters.get(id) {
            return Text::known(value);
        }
        if let Some(parameter) = self.template.get("Parameters").and_then(|parameters| parameters.get(id)) {
            return parameter_default(id, parameter);
        }
        match self.kind(id) {
            Some("AWS::Lambda::Function" | "AWS::Serverless::Function") => self.function_name(id),
            Some("AWS::Lambda::Alias" | "AWS::Lambda::Version") => self.qualified_arn(id),
            Some(kind) => {
                if !kind.starts_with("AWS::ApiGateway") && kind != SAM_API {
                    let line = self.resources.get(id).map_or(0, |resource| resource.line);
                    self.findings.add(
                        line,
                        id,
                        "its logical id is used as its name, which is only known after a deployment",
                    );
                }
                Text::known(id)
            }
            // SAM generates resources for an API; their logical ids start with the id of the API.
            None if self.sam_apis.iter().any(|api| id.len() > api.len() && id.starts_with(api))
                && !id.contains('.') =>
            {
                Text::known(id)
            }
            None => match id.split_once('.') {
                Some((resource, attribute)) if self.kind(resource).is_some() => self.attribute(resource, attribute),
                _ => Text::unknown(id, format!("{id} is neither a parameter nor a resource of this template")),
            },
        }
    }

    fn attribute(&self, id: &str, attribute: &str) -> Text {
        let unknown =
            || Text::unknown(format!("{id}.{attribute}"), format!("{id}.{attribute} is only known after a deployment"));
        match (self.kind(id), attribute) {
            (Some("AWS::Lambda::Function" | "AWS::Serverless::Function"), "Arn") => arn(&self.function_name(id)),
            // SAM generates the alias of a function, and refers to it as `Alias`.
            (Some("AWS::Serverless::Function"), "Alias") => {
                let alias = self.properties(id).and_then(|properties| self.get(properties, "AutoPublishAlias"));
                let Some(alias) = alias else { return unknown() };
                let mut arn = arn(&self.function_name(id));
                arn.push(":");
                arn.append(&self.text(alias));
                arn
            }
            (Some("AWS::Lambda::Alias"), "AliasArn") => self.qualified_arn(id),
            (
                Some(kind),
                "ApiId" | "AuthorizerId" | "IntegrationId" | "RouteId" | "ModelId" | "DeploymentId" | "APIKeyId" | "Id",
            ) if kind.starts_with("AWS::ApiGateway") => Text::known(id),
            (Some(SAM_API), "Stage") => Text::known(format!("{id}.Stage")),
            (Some(_), _) => unknown(),
            (None, _) => Text::unknown(id, format!("{id} is not a resource of this template")),
        }
    }

    /// Returns the ARN of an alias or a version of a function.
    fn qualified_arn(&self, id: &str) -> Text {
        self.step(|| {
            let property = |key| self.properties(id).and_then(|properties| self.get(properties, key));
            let Some(function) = property("FunctionName") else { return malformed(id) };
            let mut arn = match self.text(function).whole() {
                Ok(name) if name.starts_with("arn:") => Text::known(name),
                Ok(name) => arn(&Text::known(name)),
                Err(unknown) => return Text::unknown(unknown.name, unknown.reason),
            };
            // A version gets its number from a deployment. Here a function has only one version.
            if self.kind(id) == Some("AWS::Lambda::Alias")
                && let Some(name) = property("Name")
            {
                arn.push(":");
                arn.append(&self.text(name));
            }
            arn
        })
    }

    fn get_att(&self, argument: &'t Node) -> Text {
        if let Some((id, attribute)) = argument.scalar().and_then(|text| text.split_once('.')) {
            return self.attribute(id, attribute);
        }
        match argument.items() {
            Some([id, attribute]) => match (id.scalar(), self.text(attribute).whole()) {
                (Some(id), Ok(attribute)) => self.attribute(id, &attribute),
                _ => malformed("Fn::GetAtt"),
            },
            _ => malformed("Fn::GetAtt"),
        }
    }

    fn sub(&self, argument: &'t Node) -> Text {
        let (pattern, variables) = match argument.items() {
            Some([pattern, variables]) => (pattern, variables.entries()),
            Some([pattern]) => (pattern, &[][..]),
            Some(_) => return malformed("Fn::Sub"),
            None => (argument, &[][..]),
        };
        let Some(mut rest) = pattern.scalar() else { return malformed("Fn::Sub") };
        let mut text = Text::default();
        // A variable is resolved once, although the pattern may contain it many times.
        let mut known: HashMap<&str, Text> = HashMap::new();
        while let Some((before, behind)) = rest.split_once("${") {
            text.append(&literal(before));
            let Some((name, behind)) = behind.split_once('}') else {
                text.push("${");
                rest = behind;
                continue;
            };
            rest = behind;
            if let Some(literal) = name.strip_prefix('!') {
                text.push(&format!("${{{literal}}}"));
                continue;
            }
            let name = name.trim();
            let value = known.entry(name).or_insert_with(|| {
                let own = variables.iter().find(|(variable, _)| variable == name);
                self.step(|| own.map_or_else(|| self.resolve_reference(name), |(_, node)| self.text(node)))
            });
            text.append(value);
        }
        text.append(&literal(rest));
        text
    }

    fn join(&self, argument: &'t Node) -> Text {
        let Some([separator, list]) = argument.items() else { return malformed("Fn::Join") };
        let (separator, items) = (self.text(separator), self.texts(list));
        let Some(items) = items else {
            return Text::unknown(format!("list {}", argument.line), "the list of Fn::Join is unknown");
        };
        let mut text = Text::default();
        for (index, item) in items.iter().enumerate() {
            if index > 0 {
                text.append(&separator);
            }
            text.append(item);
        }
        text
    }

    fn select(&self, argument: &'t Node) -> Text {
        let Some([index, list]) = argument.items() else { return malformed("Fn::Select") };
        let index = self.text(index).whole().ok().and_then(|index| index.parse::<usize>().ok());
        let item = index.zip(self.texts(list)).and_then(|(index, list)| list.get(index).cloned());
        let unknown = || Text::unknown(format!("item {}", argument.line), "the item of Fn::Select is unknown");
        item.unwrap_or_else(unknown)
    }

    fn find_in_map(&self, argument: &'t Node) -> Text {
        let Some([map, first, second, ..]) = argument.items() else { return malformed("Fn::FindInMap") };
        let [map, first, second] = [map, first, second].map(|key| self.text(key).whole());
        let (Ok(map), Ok(first), Ok(second)) = (map, first, second) else {
            return Text::unknown(format!("mapping {}", argument.line), "the keys of Fn::FindInMap are unknown");
        };
        let mapping = self.template.get("Mappings").and_then(|maps| maps.get(&map));
        let value = mapping.and_then(|map| map.get(&first)?.get(&second));
        let absent =
            || Text::unknown(format!("{map} {first} {second}"), format!("the mapping {map} has no {first}.{second}"));
        value.map_or_else(absent, |value| self.text(value))
    }

    /// Runs `resolve` as one step; the result is unknown if there are too many steps.
    fn step(&self, resolve: impl FnOnce() -> Text) -> Text {
        let circle = || Text::unknown("circle", "the value refers to itself, or takes too many steps to resolve");
        self.step_or(None, || Some(resolve())).unwrap_or_else(circle)
    }

    /// Runs `resolve` as one step, or returns `otherwise` if a limit is reached.
    fn step_or<T>(&self, otherwise: Option<T>, resolve: impl FnOnce() -> Option<T>) -> Option<T> {
        let (depth, steps) = (self.depth.get(), self.steps.get());
        // Nested functions and references both count as depth. Functions nest deeper than references.
        if depth >= DEPTH_MAX * 4 || steps >= STEPS_MAX {
            return otherwise;
        }
        self.depth.set(depth + 1);
        self.steps.set(steps + 1);
        let resolved = resolve();
        self.depth.set(depth);
        resolved
    }
}

/// Returns the name and the argument of the function that a table with one entry calls.
pub fn function(node: &Node) -> Option<(&str, &Node)> {
    match &node.value {
        Value::Table(entries) => match &entries[..] {
            [(name, argument)] if name.starts_with("Fn::") || name == "Ref" => Some((name, argument)),
            _ => None,
        },
        _ => None,
    }
}

/// Returns a literal text; it is unknown if it contains a dynamic reference, `{{resolve:...}}`.
fn literal(text: &str) -> Text {
    let dynamic = text.split_once("{{resolve:").map(|(_, behind)| behind.split(':').next().unwrap_or_default());
    match dynamic {
        Some(service) => {
            Text::unknown(service, format!("{{{{resolve:{service}:...}}}} is stored outside of the template"))
        }
        None => Text::known(text),
    }
}

fn parameter_default(id: &str, parameter: &Node) -> Text {
    let kind = parameter.get("Type").and_then(Node::scalar).unwrap_or_default();
    if kind.starts_with("AWS::SSM::") {
        return Text::unknown(
            id,
            format!("the parameter {id} is in the parameter store: set it with --parameter {id}=VALUE"),
        );
    }
    match parameter.get("Default").map(Node::scalar) {
        Some(Some(default)) => Text::known(default),
        _ => Text::unknown(id, format!("the parameter {id} has no default: set it with --parameter {id}=VALUE")),
    }
}

/// Returns the ARN of a function.
fn arn(function: &Text) -> Text {
    let mut arn = Text::known(format!("arn:aws:lambda:{REGION}:{ACCOUNT_ID}:function:"));
    arn.append(function);
    arn
}

fn malformed(name: &str) -> Text {
    Text::unknown("value", format!("{name} does not have the format that CloudFormation requires"))
}

#[cfg(test)]
mod tests;
