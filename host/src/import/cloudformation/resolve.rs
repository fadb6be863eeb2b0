//! CloudFormation's functions, as far as a template alone tells what they come to.
//!
//! What it does not tell (an export of another stack, an attribute that only a deployment has) is
//! unknown, with the reason. Depth and steps have limits: functions can refer to each other in circles.

use std::cell::Cell;
use std::collections::{BTreeMap, HashMap};

use crate::import::node::{Node, Value};
use crate::import::report::Report;
use crate::import::text::Text;

use super::{SAM_API, conditions};

/// What ARNs have where the template has `AWS::AccountId` and `AWS::Region`: the manifest's defaults.
const ACCOUNT_ID: &str = "000000000000";
const REGION: &str = "us-east-1";
/// References to references.
const DEPTH_MAX: usize = 16;
/// Functions and references that one import resolves.
const STEPS_MAX: usize = 200_000;

pub struct Resolver<'t> {
    pub report: &'t Report,
    template: &'t Node,
    resources: HashMap<&'t str, &'t Node>,
    /// The logical ids of APIs of which SAM makes further resources.
    sam_apis: Vec<&'t str>,
    /// Values of parameters, from the command line.
    given: &'t BTreeMap<String, String>,
    depth: Cell<usize>,
    steps: Cell<usize>,
}

impl<'t> Resolver<'t> {
    pub fn new(template: &'t Node, given: &'t BTreeMap<String, String>, report: &'t Report) -> Self {
        let resources = template.get("Resources").map_or(&[][..], Node::entries);
        let is_sam_api = |node: &Node| node.get("Type").and_then(Node::scalar) == Some(SAM_API);
        let sam_apis = resources.iter().filter(|(_, node)| is_sam_api(node)).map(|(id, _)| id.as_str()).collect();
        let resources = resources.iter().map(|(id, node)| (id.as_str(), node)).collect();
        Self { report, template, resources, sam_apis, given, depth: Cell::new(0), steps: Cell::new(0) }
    }

    /// What stands under `key` of `table`, behind any `Fn::If`.
    pub fn get(&self, table: &'t Node, key: &str) -> Option<&'t Node> {
        self.settled(self.settled(table)?.get(key)?)
    }

    /// The entries of a table, each behind any `Fn::If`.
    pub fn entries(&self, table: &'t Node) -> Vec<(&'t str, &'t Node)> {
        let entries = self.settled(table).map_or(&[][..], Node::entries);
        let settled = entries.iter().filter_map(|(key, node)| Some((key.as_str(), self.settled(node)?)));
        settled.filter(|(_, node)| node.value != Value::Null).collect()
    }

    /// The node that an `Fn::If` comes to; `None` where that is no value.
    pub fn settled(&self, node: &'t Node) -> Option<&'t Node> {
        match function(node) {
            Some(("Ref", argument)) if argument.scalar() == Some("AWS::NoValue") => None,
            Some(("Fn::If", argument)) => {
                let [condition, yes, no] = argument.items()? else { return Some(node) };
                let Some(holds) = condition.scalar().and_then(|name| self.condition(name)) else { return Some(node) };
                let (taken, left) = if holds { (yes, no) } else { (no, yes) };
                if left.get("Ref").is_none_or(|name| name.scalar() != Some("AWS::NoValue")) {
                    let name = condition.scalar().unwrap_or_default();
                    let reason = format!("the condition {name} is {holds} with these parameters, so this is not taken");
                    self.report.tell(left.line, "Fn::If", reason);
                }
                left.done();
                self.settled(taken)
            }
            _ => Some(node),
        }
    }

    pub fn text(&self, node: &'t Node) -> Text {
        let Some(node) = self.settled(node) else { return Text::unknown("value", "it is AWS::NoValue") };
        if let Some(text) = node.scalar() {
            return literal(text);
        }
        match function(node) {
            Some((name, argument)) => self.step(|| self.call(name, argument)),
            None => Text::unknown(format!("value {}", node.line), "found a list or a table, expected a text"),
        }
    }

    /// The texts of a list; `None` where the list itself is not known.
    pub fn texts(&self, node: &'t Node) -> Option<Vec<Text>> {
        let node = self.settled(node)?;
        if let Some(items) = node.items() {
            let items = items.iter().filter_map(|item| self.settled(item));
            return Some(items.map(|item| self.text(item)).collect());
        }
        let (separator, whole) = match function(node)? {
            ("Fn::Split", argument) => match argument.items()? {
                [separator, whole] => (self.text(separator).whole().ok()?, self.text(whole)),
                _ => return None,
            },
            // A parameter that is a list.
            ("Ref", argument) => (",".to_owned(), self.text_of_reference(argument.scalar()?)),
            _ => return None,
        };
        let whole = whole.whole().ok().filter(|_| !separator.is_empty())?;
        Some(whole.split(&separator).map(|item| Text::known(item.trim())).collect())
    }

    /// Whether a condition holds; `None` where that cannot be known.
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

    /// The name of a function of the template: what it says, or else its logical id.
    pub fn function_name(&self, id: &str) -> Text {
        let Some(name) = self.properties(id).and_then(|properties| self.get(properties, "FunctionName")) else {
            return Text::known(id);
        };
        self.text(name).whole().map_or_else(
            |unknown| {
                let reason = format!("{}; its logical id stands in its place", unknown.reason);
                self.report.tell(name.line, format!("{id}.FunctionName"), reason);
                Text::known(id)
            },
            Text::known,
        )
    }

    fn call(&self, name: &str, argument: &'t Node) -> Text {
        match name {
            "Ref" => argument.scalar().map_or_else(|| malformed(name), |id| self.text_of_reference(id)),
            "Fn::GetAtt" => self.get_att(argument),
            "Fn::Sub" => self.sub(argument),
            "Fn::Join" => self.join(argument),
            "Fn::Select" => self.select(argument),
            "Fn::FindInMap" => self.find_in_map(argument),
            "Fn::ImportValue" => {
                argument.done();
                let export = self.text(argument).whole().unwrap_or_else(|unknown| unknown.name);
                Text::unknown(&export, format!("{export} is the export of another stack"))
            }
            "Fn::If" => {
                argument.done();
                let name = argument.items().and_then(|items| items.first()?.scalar()).unwrap_or("it");
                // Each `Fn::If` is another value.
                Text::unknown(
                    format!("{name} {}", argument.line),
                    format!("whether the condition {name} holds cannot be known from the template"),
                )
            }
            "Fn::ToJsonString" => Text::known(argument.json().to_string()),
            _ => {
                argument.done();
                let called = format!("{} {}", name.trim_start_matches("Fn::"), argument.line);
                Text::unknown(called, format!("{name} cannot be known from the template"))
            }
        }
    }

    pub fn text_of_reference(&self, id: &str) -> Text {
        match id {
            "AWS::Region" => return Text::known(REGION),
            "AWS::AccountId" => return Text::known(ACCOUNT_ID),
            "AWS::Partition" => return Text::known("aws"),
            "AWS::URLSuffix" => return Text::known("amazonaws.com"),
            _ if id.starts_with("AWS::") => {
                return Text::unknown(
                    id.trim_start_matches("AWS::"),
                    format!("{id} is known only once it is deployed"),
                );
            }
            _ => {}
        }
        if let Some(value) = self.given.get(id) {
            return Text::known(value);
        }
        if let Some(parameter) = self.template.get("Parameters").and_then(|parameters| parameters.get(id)) {
            return parameter_default(id, parameter);
        }
        match self.kind(id) {
            Some("AWS::Lambda::Function" | "AWS::Serverless::Function") => self.function_name(id),
            Some("AWS::Lambda::Alias" | "AWS::Lambda::Version") => self.qualified(id),
            Some(kind) => {
                if !kind.starts_with("AWS::ApiGateway") && kind != SAM_API {
                    let line = self.resources.get(id).map_or(0, |resource| resource.line);
                    self.report.tell(line, id, "its logical id stands where its name does once it is deployed");
                }
                Text::known(id)
            }
            // SAM names what it makes of an API by that.
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
        let unknown = || {
            Text::unknown(format!("{id}.{attribute}"), format!("{id}.{attribute} is known only once it is deployed"))
        };
        match (self.kind(id), attribute) {
            (Some("AWS::Lambda::Function" | "AWS::Serverless::Function"), "Arn") => arn(&self.function_name(id)),
            // SAM makes it, and calls it so.
            (Some("AWS::Serverless::Function"), "Alias") => {
                let alias = self.properties(id).and_then(|properties| self.get(properties, "AutoPublishAlias"));
                let Some(alias) = alias else { return unknown() };
                let mut arn = arn(&self.function_name(id));
                arn.push(":");
                arn.append(&self.text(alias));
                arn
            }
            (Some("AWS::Lambda::Alias"), "AliasArn") => self.qualified(id),
            (
                Some(kind),
                "ApiId" | "AuthorizerId" | "IntegrationId" | "RouteId" | "ModelId" | "DeploymentId" | "APIKeyId" | "Id",
            ) if kind.starts_with("AWS::ApiGateway") => Text::known(id),
            (Some(SAM_API), "Stage") => Text::known(format!("{id}.Stage")),
            (Some(_), _) => unknown(),
            (None, _) => Text::unknown(id, format!("{id} is no resource of this template")),
        }
    }

    /// The ARN of an alias or a version of a function.
    fn qualified(&self, id: &str) -> Text {
        self.step(|| {
            let property = |key| self.properties(id).and_then(|properties| self.get(properties, key));
            let Some(function) = property("FunctionName") else { return malformed(id) };
            let mut arn = match self.text(function).whole() {
                Ok(name) if name.starts_with("arn:") => Text::known(name),
                Ok(name) => arn(&Text::known(name)),
                Err(unknown) => return Text::unknown(unknown.name, unknown.reason),
            };
            // The number of a version is given by a deployment; here a function has one.
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
        // Each once: it may stand in the pattern many times.
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
                self.step(|| own.map_or_else(|| self.text_of_reference(name), |(_, node)| self.text(node)))
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
            return Text::unknown(format!("list {}", argument.line), "the list of Fn::Join is not known");
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
        let unknown = || Text::unknown(format!("item {}", argument.line), "the item of Fn::Select is not known");
        item.unwrap_or_else(unknown)
    }

    fn find_in_map(&self, argument: &'t Node) -> Text {
        let Some([map, first, second, ..]) = argument.items() else { return malformed("Fn::FindInMap") };
        let [map, first, second] = [map, first, second].map(|key| self.text(key).whole());
        let (Ok(map), Ok(first), Ok(second)) = (map, first, second) else {
            return Text::unknown(format!("mapping {}", argument.line), "the keys of Fn::FindInMap are not known");
        };
        let mapping = self.template.get("Mappings").and_then(|maps| maps.get(&map));
        let value = mapping.and_then(|map| map.get(&first)?.get(&second));
        let absent =
            || Text::unknown(format!("{map} {first} {second}"), format!("the mapping {map} has no {first}.{second}"));
        value.map_or_else(absent, |value| self.text(value))
    }

    fn step(&self, resolve: impl FnOnce() -> Text) -> Text {
        let circle = || Text::unknown("circle", "it refers to itself, or takes too many steps to resolve");
        self.step_or(None, || Some(resolve())).unwrap_or_else(circle)
    }

    fn step_or<T>(&self, otherwise: Option<T>, resolve: impl FnOnce() -> Option<T>) -> Option<T> {
        let (depth, steps) = (self.depth.get(), self.steps.get());
        // A template nests functions deeper than it refers; both count.
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

/// The function that a table of one entry calls, and its argument.
pub fn function(node: &Node) -> Option<(&str, &Node)> {
    match &node.value {
        Value::Table(entries) => match &entries[..] {
            [(name, argument)] if name.starts_with("Fn::") || name == "Ref" => Some((name, argument)),
            _ => None,
        },
        _ => None,
    }
}

/// A text as it is, but for what CloudFormation puts in from elsewhere.
fn literal(text: &str) -> Text {
    let dynamic = text.split_once("{{resolve:").map(|(_, behind)| behind.split(':').next().unwrap_or_default());
    match dynamic {
        Some(service) => {
            Text::unknown(service, format!("{{{{resolve:{service}:...}}}} is kept outside of the template"))
        }
        None => Text::known(text),
    }
}

fn parameter_default(id: &str, parameter: &Node) -> Text {
    let kind = parameter.get("Type").and_then(Node::scalar).unwrap_or_default();
    if kind.starts_with("AWS::SSM::") {
        return Text::unknown(id, format!("the parameter {id} is kept in the parameter store: --parameter {id}=VALUE"));
    }
    match parameter.get("Default").map(Node::scalar) {
        Some(Some(default)) => Text::known(default),
        _ => Text::unknown(id, format!("the parameter {id} has no default: --parameter {id}=VALUE")),
    }
}

fn arn(function: &Text) -> Text {
    let mut arn = Text::known(format!("arn:aws:lambda:{REGION}:{ACCOUNT_ID}:function:"));
    arn.append(function);
    arn
}

fn malformed(name: &str) -> Text {
    Text::unknown("value", format!("{name} is not written as CloudFormation wants it"))
}

#[cfg(test)]
mod tests;
