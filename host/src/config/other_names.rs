//! What a key that is not ours may have meant: API Gateway's name for it, a name of the same thing
//! elsewhere, or one of ours with a slip of the pen.

/// Names without case, `_` and `-`, and what to write instead. Sections are named, so that an
/// entry helps wherever the name was found.
const OTHER_NAMES: &[(&[&str], &str)] = &[
    (&["apiid"], "write it in [api] as id"),
    (&["stagename", "stage"], "write it in [api] as stage"),
    (
        &["routeselectionexpression", "websocketsapirouteselectionexpression"],
        "write it in [api] as route_selection_expression",
    ),
    (&["stagevariables", "variables"], "write it in [api] as stage_variables"),
    (&["protocoltype"], "leave it out: every API here is a WebSocket API"),
    (&["listen", "port", "host", "address", "bind"], r#"write it in [server] as listen = "127.0.0.1:3001""#),
    (&["index", "html", "static"], r#"write it in [server] as page = "page.html", which GET / answers"#),
    (&["maxconnections"], "write it in [server] as connections_max"),
    (&["shutdowntimeout", "graceperiod"], r#"write it in [server] as stop_timeout = "10s""#),
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
        r#"write it in [throttle], such as account = { rate = 10000, burst = 5000 }, or as throttle of a route or a stage"#,
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
        r#"an integration that is an HTTP server has type = "http" and a url, method, proxy, request_parameters"#,
    ),
    (
        &["status", "statuscode", "body", "parameters", "responseparameters", "responses", "integrationresponses"],
        r#"type = "mock" has status, body and parameters; type = "http" with proxy = false has them in responses"#,
    ),
    (
        &["function", "functionname", "functionarn", "lambda", "lambdaarn", "endpoint"],
        r#"a Lambda function has type = "lambda" and a url, or an endpoint and a function"#,
    ),
    (&["command", "buildcommand"], "write it in [integrations.NAME] as build"),
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
        "write it in [integrations.NAME] as reuse: how many events share a sandbox",
    ),
    (&["route", "routekey", "target"], r#"write it in [routes] as "ROUTE KEY" = "INTEGRATION""#),
    (
        &["routeresponseselectionexpression", "routeresponse", "routeresponsekey"],
        r#"write it in [routes] as "ROUTE KEY" = { integration = "INTEGRATION", route_response = true }"#,
    ),
    (&["integrationtype"], r#"write it in [integrations.NAME] as type: "component", "http", "lambda" or "mock""#),
    (
        &["payloadformatversion", "passthroughbehavior", "contenthandlingstrategy", "connectiontype", "credentialsarn"],
        "leave it out",
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
        "leave it out: there is no VTL here; what is sent is the message, and what comes back is a body in responses, \
         with $context.NAME, $input.json('$.PATH') and the like; what computes is a component's work",
    ),
];

/// What to write instead of a key of that name, whichever section it stands in.
pub fn other_name(key: &str) -> Option<&'static str> {
    let key = letters(key);
    let (_, advice) = OTHER_NAMES.iter().find(|(names, _)| names.contains(&key.as_str()))?;
    Some(advice)
}

/// Whether two names differ in case, `_` and `-` only: `stageVariables` and `stage_variables`.
pub fn same_letters(one: &str, other: &str) -> bool {
    letters(one) == letters(other)
}

/// The candidate that `name` was probably meant to be: a third of its letters may be wrong.
pub fn nearest<'c>(name: &str, candidates: impl Iterator<Item = &'c str>) -> Option<&'c str> {
    let name = letters(name);
    let worst = (name.chars().count() / 3).max(1);
    candidates
        .map(|candidate| (strsim::damerau_levenshtein(&name, &letters(candidate)), candidate))
        .filter(|(distance, candidate)| *distance <= worst && *distance < candidate.len())
        .min()
        .map(|(_, candidate)| candidate)
}

fn letters(name: &str) -> String {
    name.chars().filter(|character| !matches!(character, '_' | '-')).flat_map(char::to_lowercase).collect()
}
