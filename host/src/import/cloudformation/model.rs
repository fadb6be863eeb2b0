//! `Model`: a JSON Schema, which is written to a file.

use serde_json::Value as Json;

use super::ApiImport;
use super::properties::Properties;
use super::resolve::{Resolver, function};
use crate::import::manifest::ManifestModel;
use crate::import::names;
use crate::import::node::{Node, Value};
use crate::import::text::Unknown;
use crate::limits::MODEL_BYTES_MAX;

pub fn import_model<'r, 't>(import: &mut ApiImport<'r, 't>, properties: &Properties<'r, 't>) {
    properties.text("ApiId");
    let written = properties.known_text("Name").unwrap_or_else(|| properties.name.clone());
    let name =
        names::unique(&names::sanitize(&written), |name| import.manifest.models.iter().any(|model| model.name == name));
    if name != written {
        properties.report(
            "Name",
            format!("renamed to {name}: names are unique and have 1 to 128 characters of A-Z a-z 0-9 _ -"),
        );
    }
    import.models.insert(written, name.clone());
    import.models.insert(properties.name.clone(), name.clone());
    if let Some(kind) = properties.known_text("ContentType")
        && kind != "application/json"
    {
        properties.report(
            "ContentType",
            format!("found {kind}, expected application/json; messages are always validated as JSON"),
        );
    }
    import.manifest.models.push(ManifestModel { name, schema: schema(properties) });
}

/// Returns the text of the schema file. If it cannot be made, reports that and returns `None`; `jackfield check` then
/// reports that the file is missing.
fn schema(properties: &Properties<'_, '_>) -> Option<String> {
    let Some(node) = properties.get("Schema") else {
        properties.report("Schema", "found no schema; write the schema file");
        return None;
    };
    let schema = match json(properties.resolver, node) {
        Ok(schema) => schema,
        Err(unknown) => {
            properties.report("Schema", format!("{}; write the schema file", unknown.reason));
            return None;
        }
    };
    // The schema may be a string that contains JSON, as in API Gateway's own API.
    let schema = match schema {
        Json::String(text) => match serde_json::from_str(&text) {
            Ok(schema) => schema,
            Err(error) => {
                properties
                    .report("Schema", format!("found a string that is not JSON ({error}); write the schema file"));
                return None;
            }
        },
        schema => schema,
    };
    let text = serde_json::to_string_pretty(&schema).expect("a tree is JSON") + "\n";
    if text.len() as u64 > MODEL_BYTES_MAX {
        properties.report("Schema", format!("found {} bytes, expected at most {MODEL_BYTES_MAX}", text.len()));
    }
    if has_external_reference(&schema) {
        properties.report(
            "Schema",
            "a $ref points outside of the schema, but schemas are not fetched: copy its target into the schema",
        );
    }
    Some(text)
}

/// Converts a tree to JSON, and resolves the functions in it.
fn json<'t>(resolver: &Resolver<'t>, node: &'t Node) -> Result<Json, Unknown> {
    // `Ref` can also be the name of a property in the schema; its value is then not a scalar.
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
        Value::Null | Value::Scalar { .. } => Ok(node.to_json()),
    }
}

/// Returns whether a `$ref` in the schema points outside of it.
fn has_external_reference(schema: &Json) -> bool {
    match schema {
        Json::Object(object) => {
            let is_external = |to: &Json| to.as_str().is_some_and(|to| !to.starts_with('#'));
            object.get("$ref").is_some_and(is_external) || object.values().any(has_external_reference)
        }
        Json::Array(items) => items.iter().any(has_external_reference),
        _ => false,
    }
}
