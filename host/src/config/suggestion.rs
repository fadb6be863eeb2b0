//! Suggestions for unknown keys and names: the jackfield key for a name that API Gateway or another
//! product uses, or the closest known name for a misspelled one.

/// Foreign names in lower case without `_` and `-`, and what to write instead. Each advice names the
/// section, because the unknown key may be in any section.
const FOREIGN_NAMES: &[(&[&str], &str)] = &[
    (&["apiid"], "write it in [api] as id"),
    (&["stagename", "stage"], "write it in [api] as stage"),
    (
        &["routeselectionexpression", "websocketsapirouteselectionexpression"],
        "write it in [api] as route_selection_expression",
    ),
    (&["stagevariables", "variables"], "write it in [api] as stage_variables"),
    (&["protocoltype"], "remove it: every API of jackfield is a WebSocket API"),
    (&["listen", "port", "host", "address", "bind"], r#"write it in [server] as listen = "127.0.0.1:3001""#),
    (&["index", "html", "static"], r#"write it in [server] as page = "page.html", which GET / returns"#),
    (&["maxconnections"], "write it in [server] as connections_max"),
    (&["shutdowntimeout", "graceperiod"], r#"write it in [server] as stop_timeout = "10s""#),
    (&["draintimeout", "drainingtimeout", "deregistrationdelay"], r#"write it in [server] as drain = "60s""#),
    (
        &["messagesize", "maxmessagesize", "maxpayload", "payloadsize"],
        r#"write it in [connection] as message_size = "128KiB""#,
    ),
    (&["framesize", "maxframesize"], r#"write it in [connection] as frame_size = "32KiB""#),
    (
        &["idletimeout", "idleconnectiontimeout", "connectiontimeout"],
        r#"write it in [connection] as idle_timeout = "10min""#,
    ),
    (&["connectionduration", "maxconnectionduration", "maxduration"], r#"write it in [connection] as duration = "2h""#),
    (&["ping", "heartbeat", "keepalive"], r#"write it in [connection] as ping_interval = "25s""#),
    (
        &["throttling", "throttle", "ratelimit", "limits", "defaultroutesettings", "routesettings"],
        "write it in [throttle], such as account = { rate = 10000, burst = 5000 }, or as throttle of a route or \
         a stage",
    ),
    (&["throttlingratelimit", "requestspersecond", "rps"], "write it as rate: { rate = 100, burst = 50 }"),
    (&["throttlingburstlimit"], "write it as burst: { rate = 100, burst = 50 }"),
    (&["database", "store", "storage", "sled", "redis", "datadir"], r#"write it in [backend] as url = "sled:data""#),
    (&["flush"], r#"write it in [backend] as flush_interval = "200ms""#),
    (
        &["timeout", "timeoutinmillis", "timeoutms", "timeoutseconds"],
        r#"write it in [integrations.NAME] as timeout = "29s", with its unit"#,
    ),
    (&["cputime", "cpu", "cpulimit", "fuel"], r#"write it in [integrations.NAME] as cpu_time = "1s""#),
    (
        &["memory", "memorysize", "memorylimit", "maxmemory"],
        r#"write it in [integrations.NAME] as memory = "128MiB", with its unit"#,
    ),
    (
        &["component", "handler", "wasm", "module", "source", "file", "path"],
        r#"write it in [integrations.NAME] as component = "handler.wasm""#,
    ),
    (
        &["url", "integrationuri", "uri", "method", "integrationmethod", "httpmethod", "proxy", "requestparameters"],
        r#"for an HTTP server write type = "http", which has url, method, proxy and request_parameters"#,
    ),
    (
        &["status", "statuscode", "body", "parameters", "responseparameters", "responses", "integrationresponses"],
        r#"type = "mock" has status, body and parameters; type = "http" with proxy = false has them in responses"#,
    ),
    (
        &["function", "functionname", "functionarn", "lambda", "lambdaarn", "endpoint"],
        r#"for a Lambda function write type = "lambda", and either url, or endpoint and function"#,
    ),
    (&["command", "buildcommand"], "write it in [integrations.NAME] as build"),
    (&["runtime", "lang", "toolchain"], r#"write it in [integrations.NAME] as language = "rust", "go", "c" or "zig""#),
    (&["src", "sources"], r#"write it in [integrations.NAME] as source = "FOLDER", with language"#),
    (&["environment", "environmentvariables"], "write it in [integrations.NAME] as env"),
    (
        &["allowedoutboundhosts", "hosts", "http", "outbound"],
        r#"write it in [integrations.NAME] as allowed_hosts = ["https://api.example.com"]"#,
    ),
    (&["keyvalue", "keyvaluestores", "kv"], r#"write it in [integrations.NAME] as buckets = ["NAME"]"#),
    (
        &["permissions", "capabilities", "imports"],
        r#"write it in [integrations.NAME] as grants = ["connections", "connection-store"]"#,
    ),
    (
        &["volumes", "mounts", "preopens", "dirs"],
        r#"write it in [integrations.NAME] as files = [{ host = "data", guest = "/data" }]"#,
    ),
    (
        &["maxinstances", "instances", "warm", "pool"],
        "write it in [integrations.NAME] as reuse, the number of events that share a sandbox",
    ),
    (&["route", "routekey", "target"], r#"write it in [routes] as "ROUTE KEY" = "INTEGRATION""#),
    (
        &["routeresponseselectionexpression", "routeresponse", "routeresponsekey"],
        r#"write it in [routes] as "ROUTE KEY" = { integration = "INTEGRATION", route_response = true }"#,
    ),
    (&["integrationtype"], r#"write it in [integrations.NAME] as type: "component", "http", "lambda" or "mock""#),
    (
        &["payloadformatversion", "passthroughbehavior", "contenthandlingstrategy", "connectiontype", "credentialsarn"],
        "remove it",
    ),
    (
        &["requestmodels", "modelselectionexpression"],
        r#"write it in [routes] as "ROUTE KEY" = { integration = "INTEGRATION", models = { "$default" = "MODEL" } }"#,
    ),
    (&["accesslogsettings", "accesslog", "accesslogs"], "write it in [access_log] as format and file"),
    (
        &["authorizer", "authorizerid", "authorizationtype"],
        r#"write it in [routes] as "$connect" = { integration = "INTEGRATION", authorizer = "AUTHORIZER" }"#,
    ),
    (
        &["apikeyrequired"],
        r#"write it in [routes] as "$connect" = { integration = "INTEGRATION", api_key_required = true }"#,
    ),
    (&["apikeyselectionexpression"], "write it in [api] as api_key_selection_expression"),
    (&["authorizeruri", "authorizertype"], r#"write it in [authorizers.NAME] as type = "lambda" and url = "URL""#),
    (&["identitysource"], "write it in [authorizers.NAME] as identity_sources = [...]"),
    (&["usageplan", "usageplans"], "write it in [api_keys.NAME] as throttle and quota"),
    (
        &["requesttemplates", "responsetemplates", "templateselectionexpression"],
        "remove it: VTL is not supported; the integration receives the message itself, and a body in responses can use \
         $context.NAME, $input.json('$.PATH') and the like; use a component for everything else",
    ),
];

/// Returns what to write instead of a key that another product uses, in whichever section it was found.
pub fn advice_for_foreign_name(key: &str) -> Option<&'static str> {
    let key = letters(key);
    let (_, advice) = FOREIGN_NAMES.iter().find(|(names, _)| names.contains(&key.as_str()))?;
    Some(advice)
}

/// Returns whether two names differ only in case, `_` and `-`, such as `stageVariables` and `stage_variables`.
pub fn same_letters(one: &str, other: &str) -> bool {
    letters(one) == letters(other)
}

/// Returns the candidate that is closest to `name`, if at most a third of its letters differ.
pub fn nearest<'c>(name: &str, candidates: impl Iterator<Item = &'c str>) -> Option<&'c str> {
    let name = letters(name);
    let distance_max = (name.chars().count() / 3).max(1);
    candidates
        .map(|candidate| (strsim::damerau_levenshtein(&name, &letters(candidate)), candidate))
        .filter(|(distance, candidate)| *distance <= distance_max && *distance < candidate.len())
        .min()
        .map(|(_, candidate)| candidate)
}

fn letters(name: &str) -> String {
    name.chars().filter(|character| !matches!(character, '_' | '-')).flat_map(char::to_lowercase).collect()
}
