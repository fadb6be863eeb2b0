//! Evaluates CloudFormation's conditions with the parameters of the import.

use super::resolve::{Resolver, function};
use crate::import::node::Node;

/// Evaluates a condition; `None` if its value is unknown.
pub fn holds<'t>(resolver: &Resolver<'t>, node: &'t Node) -> Option<bool> {
    if let Some(name) = node.get("Condition") {
        return resolver.condition(name.scalar()?);
    }
    let (name, argument) = function(node)?;
    let all = || argument.items().map(|items| items.iter().map(|item| holds(resolver, item)).collect::<Vec<_>>());
    match name {
        "Fn::Equals" => match argument.items()? {
            [left, right] => Some(resolver.text(left).whole().ok()? == resolver.text(right).whole().ok()?),
            _ => None,
        },
        "Fn::Not" => match argument.items()? {
            [condition] => holds(resolver, condition).map(|holds| !holds),
            _ => None,
        },
        // One known operand can decide the result.
        "Fn::And" if all()?.contains(&Some(false)) => Some(false),
        "Fn::Or" if all()?.contains(&Some(true)) => Some(true),
        "Fn::And" | "Fn::Or" if all()?.contains(&None) => None,
        "Fn::And" => Some(true),
        "Fn::Or" => Some(false),
        _ => None,
    }
}
