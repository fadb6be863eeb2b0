//! The optional features whose cost is measured: their keys in the manifest, and the credentials that clients need.
//!
//! Each feature is an entry of one list. This module does not know how the cost is measured.

use std::path::PathBuf;

use crate::Group;
use crate::credential::{ACCESS_KEY, AUDIENCE, Credential, ISSUER, KEYS, SECRET, TICKET_KEY, api_key_hash};

/// The handler with which each feature is measured, and with which it is compared: the default target of a plugin.
pub const BASELINE: &str = "wasip2";

/// A rate at which no message is rejected.
const NEVER_REFUSED: &str = "{ rate = 1000000 }";
const QUOTA_NEVER_REACHED: &str = "quota = { limit = 1000000000, period = \"month\" }";
const MAY_CONNECT: &str = r#"actions = ["execute-api:Invoke"]"#;
/// The path at which the plain server responds like a Lambda function.
const FUNCTION_PATH: &str = "/2015-03-31/functions/function/invocations";

#[derive(Debug, Clone)]
pub struct Feature {
    pub name: &'static str,
    /// `EchoWith` for a cost of each message, `ConnectWith` for a cost of each connection.
    pub group: Group,
    /// The keys that it adds to the route `echo` or `$connect`.
    pub route_keys: Vec<String>,
    /// The sections that it adds to the manifest.
    pub sections: String,
    /// The names and contents of files in the folder of the manifest.
    pub files: Vec<(&'static str, &'static str)>,
    pub credential: Credential,
}

/// The authorizers that are not part of jackfield. A feature whose dependency is missing is not measured.
#[derive(Debug, Default)]
pub struct Dependencies {
    /// The component of the authorizer `ticket`.
    pub ticket: Option<PathBuf>,
    /// The port of a server on this machine that responds like a Lambda function.
    pub function: Option<u16>,
}

/// Returns all features, in the order of the table.
pub fn all(dependencies: &Dependencies) -> Vec<Feature> {
    let mut all = message_features();
    all.extend(connection_features(dependencies));
    all
}

fn message_features() -> Vec<Feature> {
    let message = |name, route_keys: &[String], sections: String| Feature {
        name,
        group: Group::EchoWith,
        route_keys: route_keys.to_vec(),
        sections,
        files: Vec::new(),
        credential: Credential::None,
    };
    let throttles = ["account", "connections", "stage", "source", "connection"];
    let throttles: String = throttles.map(|name| format!("{name} = {NEVER_REFUSED}\n")).concat();
    vec![
        message("an access log", &[], "[access_log]\nfile = \"logs/access.log\"\n".into()),
        message("throttles", &[format!("throttle = {NEVER_REFUSED}")], format!("[throttle]\n{throttles}")),
        Feature {
            files: vec![("echo.json", ECHO_SCHEMA)],
            ..message(
                "a model",
                &[r#"models = { "$default" = "echo" }"#.into()],
                "[models.echo]\nschema = \"echo.json\"\n".into(),
            )
        },
    ]
}

fn connection_features(Dependencies { ticket, function }: &Dependencies) -> Vec<Feature> {
    let connection = |name, route_key: &str, sections: String, credential| Feature {
        name,
        group: Group::ConnectWith,
        route_keys: vec![route_key.into()],
        sections,
        files: Vec::new(),
        credential,
    };
    let authorizer = |name, keys: String, credential| {
        connection(name, "authorizer = \"bench\"", format!("[authorizers.bench]\n{keys}\n"), credential)
    };
    let component = ticket.iter().map(|component| {
        let keys = format!(
            "component = {component:?}\nconfig = {{ key = {TICKET_KEY:?} }}\n\
             identity_sources = [\"route.request.querystring.ticket\"]"
        );
        authorizer("authorizer component", keys, Credential::Ticket)
    });
    let function = function.iter().map(|port| {
        let keys = format!(
            "type = \"lambda\"\nurl = \"http://127.0.0.1:{port}{FUNCTION_PATH}\"\n\
             identity_sources = [\"route.request.header.Authorization\"]"
        );
        authorizer("authorizer lambda", keys, Credential::Token)
    });
    let jwt = format!("type = \"jwt\"\nissuer = {ISSUER:?}\naudience = [{AUDIENCE:?}]\njwks = \"keys.json\"");
    let iam = format!("type = \"iam\"\n\n[access_keys.{ACCESS_KEY}]\nsecret = {SECRET:?}\n{MAY_CONNECT}");
    let key = format!("hash = {:?}\nthrottle = {NEVER_REFUSED}\n{QUOTA_NEVER_REACHED}", api_key_hash());
    let others = [
        Feature { files: vec![("keys.json", KEYS)], ..authorizer("authorizer jwt", jwt, Credential::Token) },
        authorizer("authorizer iam", iam, Credential::Signature),
        connection("an API key", "api_key_required = true", format!("[api_keys.bench]\n{key}\n"), Credential::ApiKey),
    ];
    component.chain(function).chain(others).collect()
}

/// The schema of an echo request.
const ECHO_SCHEMA: &str = r#"{
  "$schema": "http://json-schema.org/draft-04/schema#",
  "type": "object",
  "required": ["action", "content"],
  "properties": {
    "action": { "enum": ["echo"] },
    "content": { "type": "string", "maxLength": 1024 }
  },
  "additionalProperties": false
}
"#;
