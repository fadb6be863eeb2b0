//! What can be switched on beside a handler: what the manifest says of it, and what clients show.
//!
//! One entry of a list each. Does not know how the cost is measured.

use std::path::PathBuf;

use crate::Group;
use crate::credential::{ACCESS_KEY, AUDIENCE, Credential, ISSUER, KEYS, SECRET, TICKET_KEY, api_key_hash};

/// The handler that each is switched on beside, and compared with: the one that a reader has.
pub const BESIDE: &str = "wasip2";

/// A rate at which nothing is refused.
const NEVER_REFUSED: &str = "{ rate = 1000000 }";
const QUOTA_NEVER_REACHED: &str = "quota = { limit = 1000000000, period = \"month\" }";
const MAY_COME_IN: &str = r#"actions = ["execute-api:Invoke"]"#;
/// Where the server beside this one answers as a function does.
const FUNCTION_PATH: &str = "/2015-03-31/functions/function/invocations";

#[derive(Debug, Clone)]
pub struct Extra {
    pub name: &'static str,
    /// `EchoWith` for what each message pays, `ConnectWith` for what each connection does.
    pub group: Group,
    /// Further keys of the route that pays: `echo` or `$connect`.
    pub route_keys: Vec<String>,
    /// Further sections of the manifest.
    pub sections: String,
    /// Files beside the manifest, and what is in them.
    pub files: Vec<(&'static str, &'static str)>,
    pub credential: Credential,
}

/// What authorizers ask that is not in the manifest. What is not given is not measured.
#[derive(Debug, Default)]
pub struct Outside {
    /// The component that knows tickets.
    pub ticket: Option<PathBuf>,
    /// The port of a server on this machine that answers as a function in Lambda does.
    pub function: Option<u16>,
}

/// All of them, in the order of the table.
pub fn all(outside: &Outside) -> Vec<Extra> {
    let mut all = of_messages();
    all.extend(of_connections(outside));
    all
}

fn of_messages() -> Vec<Extra> {
    let message = |name, route_keys: &[String], sections: String| Extra {
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
        Extra {
            files: vec![("echo.json", ECHO_SCHEMA)],
            ..message(
                "a model",
                &[r#"models = { "$default" = "echo" }"#.into()],
                "[models.echo]\nschema = \"echo.json\"\n".into(),
            )
        },
    ]
}

fn of_connections(Outside { ticket, function }: &Outside) -> Vec<Extra> {
    let door = |name, route_key: &str, sections: String, credential| Extra {
        name,
        group: Group::ConnectWith,
        route_keys: vec![route_key.into()],
        sections,
        files: Vec::new(),
        credential,
    };
    let authorizer = |name, keys: String, credential| {
        door(name, "authorizer = \"door\"", format!("[authorizers.door]\n{keys}\n"), credential)
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
    let iam = format!("type = \"iam\"\n\n[access_keys.{ACCESS_KEY}]\nsecret = {SECRET:?}\n{MAY_COME_IN}");
    let key = format!("hash = {:?}\nthrottle = {NEVER_REFUSED}\n{QUOTA_NEVER_REACHED}", api_key_hash());
    let others = [
        Extra { files: vec![("keys.json", KEYS)], ..authorizer("authorizer jwt", jwt, Credential::Token) },
        authorizer("authorizer iam", iam, Credential::Signature),
        door("an API key", "api_key_required = true", format!("[api_keys.bench]\n{key}\n"), Credential::ApiKey),
    ];
    component.chain(function).chain(others).collect()
}

/// What an echo request looks like.
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
