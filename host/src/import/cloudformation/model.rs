//! `Model`: a JSON Schema, which becomes a file.

use serde_json::Value as Json;

use super::Import;
use super::properties::Properties;
use super::resolve::{Resolver, function};
use crate::import::manifest::Model;
use crate::import::names;
use crate::import::node::{Node, Value};
use crate::import::text::Unknown;
use crate::limits::MODEL_BYTES_MAX;

pub fn model<'r, 't>(import: &mut Import<'r, 't>, properties: &Properties<'r, 't>) {
    properties.text("ApiId");
    let written = properties.known("Name").unwrap_or_else(|| properties.name.clone());
    let name =
        names::free(&names::name(&written), |name| import.manifest.models.iter().any(|model| model.name == name));
    if name != written {
        properties.tell("Name", format!("its name here is {name}"));
    }
    import.models.insert(written, name.clone());
    import.models.insert(properties.name.clone(), name.clone());
    if let Some(kind) = properties.known("ContentType")
        && kind != "application/json"
    {
        properties
            .tell("ContentType", format!("found {kind}, expected application/json: messages are held to it as JSON"));
    }
    import.manifest.models.push(Model { name, schema: schema(properties) });
}

/// The text of the file; `None` where it cannot be made, which is told. `check` misses the file then.
fn schema(properties: &Properties<'_, '_>) -> Option<String> {
    let Some(node) = properties.get("Schema") else {
        properties.tell("Schema", "found none; write the file");
        return None;
    };
    let schema = match json(properties.resolver, node) {
        Ok(schema) => schema,
        Err(unknown) => {
            properties.tell("Schema", format!("{}; write the file", unknown.reason));
            return None;
        }
    };
    // It may be a text that is JSON, as it is in API Gateway's own API.
    let schema = match schema {
        Json::String(text) => match serde_json::from_str(&text) {
            Ok(schema) => schema,
            Err(error) => {
                properties.tell("Schema", format!("found a text that is no JSON ({error}); write the file"));
                return None;
            }
        },
        schema => schema,
    };
    let text = serde_json::to_string_pretty(&schema).expect("a tree is JSON") + "\n";
    if text.len() as u64 > MODEL_BYTES_MAX {
        properties.tell("Schema", format!("found {} bytes, expected at most {MODEL_BYTES_MAX}", text.len()));
    }
    if refers_elsewhere(&schema) {
        properties.tell("Schema", "a $ref leads out of it, and nothing is fetched: put what it names into the schema");
    }
    Some(text)
}

/// A tree as JSON, with the functions in it resolved.
fn json<'t>(resolver: &Resolver<'t>, node: &'t Node) -> Result<Json, Unknown> {
    // `Ref` may also be a property that a schema describes.
    if function(node).is_some_and(|(name, argument)| name != "Ref" || argument.scalar().is_some()) {
        return resolver.text(node).whole().map(Json::String);
    }
    match &node.value {
        Value::List(items) => items.iter().map(|item| json(resolver, item)).collect::<Result<_, _>>().map(Json::Array),
        Value::Table(entries) => {
            node.entries();
            let entries = entries.iter().map(|(key, node)| Ok((key.clone(), json(resolver, node)?)));
            entries.collect::<Result<_, _>>().map(Json::Object)
        }
        Value::Null | Value::Scalar { .. } => Ok(node.json()),
    }
}

fn refers_elsewhere(schema: &Json) -> bool {
    match schema {
        Json::Object(object) => {
            let elsewhere = |to: &Json| to.as_str().is_some_and(|to| !to.starts_with('#'));
            object.get("$ref").is_some_and(elsewhere) || object.values().any(refers_elsewhere)
        }
        Json::Array(items) => items.iter().any(refers_elsewhere),
        _ => false,
    }
}
