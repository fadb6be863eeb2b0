//! `[models]`: JSON Schemas, and which of them the messages of a route must match.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use toml::de::DeValue;

use super::section::Section;
use super::value::{self, InvalidValue, NAME_LENGTH_MAX};
use crate::gateway::RouteSelectionExpression;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Model {
    /// The file with the JSON Schema.
    pub schema: PathBuf,
    /// The line of the manifest that names the file.
    pub line: u32,
}

/// The models of a route by their keys, and how a message selects one of the keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestModels {
    /// `None`: every message selects the key `$default`.
    pub expression: Option<RouteSelectionExpression>,
    /// Names of existing models, by their keys.
    pub by_key: BTreeMap<String, String>,
}

pub fn models(section: &Section<'_>, folder: &Path) -> BTreeMap<String, Model> {
    let mut models = BTreeMap::new();
    for entry in section.entries() {
        if let Err(invalid) = value::check_name(NAME_LENGTH_MAX)(entry.key) {
            section.report_name(&entry, invalid);
        }
        let name = section.name_of(entry.key);
        let advice = format!("write [{name}] on a line of its own, and below it schema = \"FILE.json\"");
        let invalid = InvalidValue::new("a table", advice);
        let Some(mut section) = section.table(&name, entry.key_span, entry.value, invalid) else { continue };
        let line = section.problems.line(section.span_of("schema"));
        if let Some(schema) = section.read_required("schema", value::path(folder)) {
            models.insert(entry.key.to_owned(), Model { schema, line });
        }
        section.finish();
    }
    models
}

/// Reads the models of a route from its table; `None` if its messages are not checked.
pub fn request_models(table: &mut Section<'_>, models: &Section<'_>) -> Option<RequestModels> {
    let expression = table.read("model_selection_expression", model_selection_expression);
    let section = table.section("models");
    let by_key: BTreeMap<_, _> = section
        .entries()
        .filter_map(|entry| {
            let name = section.parse(&section.name_of(entry.key), entry.value, |value| {
                models.resolve(value::string(value)?, "model")
            })?;
            Some((entry.key.to_owned(), name))
        })
        .collect();
    if section.entries().next().is_none() {
        if expression.is_some() {
            let problem = format!(
                "{}: found without models, so every message would be rejected",
                table.name_of("model_selection_expression")
            );
            let advice = "add models = { \"$default\" = \"MODEL\" }";
            table.problems.error(table.span_of("model_selection_expression"), problem, advice);
        }
        return None;
    }
    let has_expression = expression.is_some() || table.contains("model_selection_expression");
    for entry in section.entries().filter(|entry| !has_expression && entry.key != "$default") {
        let problem = format!(
            "{}: found without model_selection_expression, so no message selects it",
            section.name_of(entry.key)
        );
        let advice = "add model_selection_expression = \"$request.body.kind\", or name the model \"$default\"";
        section.problems.error(entry.key_span, problem, advice);
    }
    Some(RequestModels { expression, by_key })
}

/// Parses an expression in the language of the route selection expression.
///
/// A lone `$default` is the key of that name, because API Gateway's console writes it so.
fn model_selection_expression(value: &DeValue<'_>) -> Result<RouteSelectionExpression, InvalidValue> {
    match value.as_str() {
        Some("$default") => {
            Ok(RouteSelectionExpression::parse(r"\$default").expect("a constant is a valid expression"))
        }
        _ => value::selection_expression(value),
    }
}

/// Warns about models that no route uses.
pub fn warn_about_unused<'r>(section: &Section<'_>, used: impl Iterator<Item = &'r RequestModels>) {
    let used: Vec<_> = used.flat_map(|models| models.by_key.values()).collect();
    for entry in section.entries().filter(|entry| !used.iter().any(|used| *used == entry.key)) {
        let problem = format!("[{}]: found no route that uses it", section.name_of(entry.key));
        let advice = format!("add it to one: models = {{ \"$default\" = {:?} }}", entry.key);
        section.problems.warning(entry.key_span, problem, advice);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    const MODELS: &str = "[integrations]\nchat.component = \"x\"\n[models]\nsend.schema = \"a.json\"\n[routes]\n";

    fn parsed(route: &str) -> Config {
        let text = format!("{MODELS}x = {{ integration = \"chat\", {route} }}");
        Config::parse(&text, Path::new("/p/jackfield.toml")).unwrap()
    }

    fn errors(text: &str) -> String {
        let errors = Config::parse(text, Path::new("jackfield.toml")).unwrap_err();
        errors.iter().map(|error| format!("{error}\n")).collect()
    }

    #[test]
    fn a_route_has_models_and_an_expression_that_selects_one_of_them() {
        let config = parsed(r#"models = { "$default" = "send" }, model_selection_expression = "$request.body.k""#);
        assert_eq!(config.models["send"], Model { schema: "/p/a.json".into(), line: 4 });
        let models = config.stages["dev"].routes.values().next().unwrap().models.clone().unwrap();
        assert_eq!(models.expression.unwrap().as_str(), "$request.body.k");
        assert_eq!(models.by_key, BTreeMap::from([("$default".to_owned(), "send".to_owned())]));
        assert!(config.warnings.is_empty(), "{:?}", config.warnings);
        for (route, expression) in [
            (r#"models = { "$default" = "send" }"#, None),
            (r#"models = { "$default" = "send" }, model_selection_expression = "$default""#, Some("\\$default")),
        ] {
            let config = parsed(route);
            let models = config.stages["dev"].routes.values().next().unwrap().models.clone().unwrap();
            assert_eq!(models.expression.as_ref().map(RouteSelectionExpression::as_str), expression);
        }
    }

    #[test]
    fn an_unknown_model_and_a_model_that_no_message_selects_are_errors() {
        for (route, expected) in [
            (
                r#"models = { "$default" = "sent" }"#,
                r#"6: routes.x.models.$default: found "sent", expected an existing model; did you mean "send"?"#,
            ),
            (
                r#"models = { other = "send" }"#,
                "6: routes.x.models.other: found without model_selection_expression, so no message selects it; \
                 add model_selection_expression = \"$request.body.kind\", or name the model \"$default\"",
            ),
            (
                r#"model_selection_expression = "$request.body.k""#,
                "6: routes.x.model_selection_expression: found without models, so every message would be rejected; \
                 add models = { \"$default\" = \"MODEL\" }",
            ),
            (
                r#"model_selection_expression = "$request.header.k", models = { "$default" = "send" }"#,
                "6: routes.x.model_selection_expression: found $request.header.k at character 1, expected \
                 $request.body and a path",
            ),
        ] {
            let errors = errors(&format!("{MODELS}x = {{ integration = \"chat\", {route} }}"));
            assert!(
                errors.starts_with(&format!("jackfield.toml:{expected}")) && errors.lines().count() == 1,
                "{errors}"
            );
        }
        assert_eq!(
            errors("[models]\na = 1\nb = {}\n'c.d' = { schema = \"x\" }\ne = { schema = \"\" , file = 1 }"),
            "jackfield.toml:2: models.a: found 1, expected a table; write [models.a] on a line of its own, and below \
             it schema = \"FILE.json\"\n\
             jackfield.toml:3: models.b: found no schema, which is required; add schema = ...\n\
             jackfield.toml:4: models: found the name \"c.d\", expected 1 to 128 characters of A-Z a-z 0-9 _ -\n\
             jackfield.toml:5: models.e.schema: found \"\", expected a path; it is relative to the manifest's folder \
             unless it begins with /\n\
             jackfield.toml:5: [models.e] has no key \"file\"; write it in [integrations.NAME] as component = \
             \"handler.wasm\"\n"
        );
    }

    #[test]
    fn an_unused_model_and_a_model_of_connect_are_warnings() {
        let warnings = |text: &str| {
            let config = Config::parse(text, Path::new("jackfield.toml")).unwrap();
            config.warnings.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(
            warnings(&format!("{MODELS}x = \"chat\"")),
            ["jackfield.toml:4: [models.send]: found no route that uses it; add it to one: \
              models = { \"$default\" = \"send\" }"]
        );
        let connect =
            format!("{MODELS}\"$connect\" = {{ integration = \"chat\", models = {{ \"$default\" = \"send\" }} }}");
        assert_eq!(
            warnings(&connect),
            ["jackfield.toml:6: routes.$connect: found models, which only applies to messages; remove it"]
        );
    }
}
