//! JSON and expressions: paths, surrogates, numbers, byte order marks; and files that are polled.

use std::fs;
use std::time::{Duration, SystemTime};

use serde_json::json;

use crate::authorizers::serve_with_function;
use crate::harness::{Server, Site};
use crate::jwt::{self, Issuer};
use crate::lambda::Functions;

/// Returns a site with the hostile guest, these lines in `[api]`, and routes with responses for these keys.
fn site(api: &str, keys: &[&str]) -> Site {
    let route = |key: &&str| format!("{key:?} = {{ integration = \"guest\", route_response = true }}\n");
    Site::hostile_routes(&format!("[api]\n{api}"), &keys.iter().map(route).collect::<String>())
}

/// Sends messages and asserts that each goes to the route next to it, with its bytes unchanged.
async fn assert_routes(server: &Server, expected: &[(&str, &str)]) {
    let mut peer = server.connect("").await;
    for (message, route) in expected {
        assert_eq!(peer.ask(message).await, format!("{route} {message}"));
    }
}

/// aws/serverless-application-model#1709: the messages of OCPP are JSON arrays whose third element is the action.
#[tokio::test]
async fn the_action_of_an_ocpp_call_selects_the_route() {
    for expression in ["$request.body[2]", "$request.body.[2]", "${request.body[2]}", "${request.body.[2]}"] {
        let expression = format!("route_selection_expression = {expression:?}");
        let server = site(&expression, &["StatusNotification", "$default"]).serve();
        let status = r#"[2,"9","StatusNotification",{"connectorId":1}]"#;
        assert_routes(&server, &[(status, "StatusNotification"), (r#"[3,"9",{}]"#, "$default")]).await;
    }
}

/// serde-rs/json#434: ids of 39 digits were read as floats, which have 16.
#[tokio::test]
async fn a_number_stays_as_it_is_written_in_route_keys_and_templates() {
    let numbers = ["123456789012345678901234567890123456789", "12345678901234567890123", "1e400", "-0.10"];
    let routes: String = numbers
        .iter()
        .map(|number| format!("\"{number}\" = {{ integration = \"mock\", route_response = true }}\n"))
        .collect();
    let template = "key $context.routeKey json $input.json('$.o') path $input.path('$.action') $input.path('$.o.n')";
    let server =
        Site::new(&format!("[integrations.mock]\ntype = \"mock\"\nbody = \"{template}\"\n[routes]\n{routes}")).serve();
    let mut peer = server.connect("").await;
    for number in numbers {
        let answer = peer.ask(&format!(r#"{{ "action": {number}, "o": {{ "n": [ {number} ] }} }}"#)).await;
        assert_eq!(answer, format!("key {number} json {{\"n\":[{number}]}} path {number} [{number}]"));
    }
}

/// serde-rs/json#827: JavaScript sends half of a surrogate pair as an escape, which RFC 8259 (section 8.2) allows.
#[tokio::test]
async fn a_message_with_half_of_a_surrogate_pair_is_routed_and_stays_as_it_came() {
    let server = site("", &["join", "\u{fffd}", "$default"]).serve();
    assert_routes(
        &server,
        &[
            (r#"{"action":"join","text":"\ud83d"}"#, "join"),
            (r#"{"\udc00":1,"action":"join"}"#, "join"),
            (r#"{"action":"\ud83d"}"#, "\u{fffd}"),
            (r#"{"action":"\ud83d\ude00"}"#, "$default"),
        ],
    )
    .await;
    let body = r#"body = "$input.json('$.t')$input.path('$.t')""#;
    let mock = format!("[integrations.mock]\ntype = \"mock\"\n{body}\n[routes]\n");
    let server =
        Site::new(&format!("{mock}\"$default\" = {{ integration = \"mock\", route_response = true }}")).serve();
    let mut peer = server.connect("").await;
    assert_eq!(peer.ask(r#"{"t":"a\ud83d"}"#).await, "\"a\\ud83d\"a\u{fffd}");
}

/// serde-rs/json#495: SpiderMonkey's `JSON.stringify` writes half of a surrogate pair as an escape, as all engines do today.
/// The function has truncated a text in the middle of an emoji.
#[tokio::test]
async fn a_lambda_answer_with_half_of_a_surrogate_pair_is_sent_with_the_replacement_character() {
    let functions = Functions::start().await;
    let server = functions.serve_all("");
    let mut peer = server.connect("").await;
    let answer = r#"answer {"statusCode":200,"body":"cut \ud83d","headers":{"X-\udc00":"\ud83d","X-N":1e400}}"#;
    assert_eq!(peer.ask(&json!({ "action": "two", "do": answer }).to_string()).await, "cut \u{fffd}");
}

/// serde-rs/json#827: the same of a function that runs as a script, which gets the message as it came.
#[tokio::test]
async fn a_script_reads_half_of_a_surrogate_pair_and_answers_with_the_replacement_character() {
    let site = Site::new(
        "[integrations.function]\ncomponent = \"function.mjs\"\n[routes]\n\
         \"$default\" = { integration = \"function\", route_response = true }\n",
    );
    let function = "export const handler = async (event) => {\n  const { text } = JSON.parse(event.body);\n  \
        return { statusCode: 200, body: `${text.length} ${text.charCodeAt(1)} ${text}` };\n};\n";
    fs::write(site.path().join("function.mjs"), function).unwrap();
    let server = site.serve();
    let mut peer = server.connect("").await;
    assert_eq!(peer.ask(r#"{"text":"a\ud83d"}"#).await, "2 55357 a\u{fffd}");
}

/// pydantic/jiter#120, and n8n-io/n8n#26925 about ids of 19 digits: valid JSON of a server that is not in Rust.
#[tokio::test]
async fn the_context_of_a_lambda_authorizer_may_have_large_numbers_and_half_of_a_surrogate_pair() {
    let functions = Functions::start().await;
    let server = serve_with_function(&functions, "");
    let policy = r#"{"Statement":[{"Action":"execute-api:Invoke","Effect":"Allow","Resource":"*"}]}"#;
    let context = r#"{"id":12345678901234567890123,"most":1e400,"name":"\ud83d"}"#;
    let answer = format!(r#"answer {{"principalId":"me","policyDocument":{policy},"context":{context}}}"#);
    let query = form_urlencoded::Serializer::new("?".to_owned()).append_pair("as", &answer).finish();
    server.connect(&query.replace("?&", "?")).await;
    let authorizer = functions.last("CONNECT")["requestContext"]["authorizer"].clone();
    let expected = [("principalId", "me"), ("id", "12345678901234567890123"), ("most", "1e400"), ("name", "\u{fffd}")];
    for (name, value) in expected {
        assert_eq!(authorizer[name], value, "{authorizer}");
    }
}

/// pydantic/jiter#120: the claims of a token are JSON of another program too. Before, such a token was 401.
#[tokio::test]
async fn a_token_may_have_large_numbers_and_half_of_a_surrogate_pair_in_its_claims() {
    let issuer = Issuer::new("a");
    let site = jwt::site("keys.json", "");
    fs::write(site.path().join("keys.json"), issuer.jwks()).unwrap();
    let server = site.serve();
    let claims = r#""exp":4000000000,"n":12345678901234567890123,"most":1e400,"name":"\ud83d""#;
    let token = issuer.signed(&format!(r#"{{"iss":"https://issuer.example","aud":"chat","sub":"a\udc00",{claims}}}"#));
    let mut peer = server.try_connect("", &[("Authorization", &token)]).await.unwrap();
    assert_eq!(
        peer.ask("granted").await,
        "principalId=a\u{fffd} iss=https://issuer.example aud=chat sub=a\u{fffd} exp=4000000000 \
         n=12345678901234567890123 most=1e400 name=\u{fffd}"
    );
}

/// serde-rs/json#827: a message is checked by its model also if it has half of a surrogate pair.
#[tokio::test]
async fn a_model_checks_a_message_with_half_of_a_surrogate_pair() {
    let models = "[models]\nsend.schema = \"send.json\"\n";
    let site = Site::hostile_routes(
        models,
        r#"send = { integration = "guest", route_response = true, models = { "$default" = "send" } }"#,
    );
    fs::write(site.path().join("send.json"), r#"{"properties":{"text":{"type":"string","maxLength":2}}}"#).unwrap();
    let server = site.serve();
    let mut peer = server.connect("").await;
    for (text, is_valid) in [(r"a\ud83d", true), (r"ab\ud83d", false)] {
        let message = format!(r#"{{"action":"send","text":"{text}","n":1e400}}"#);
        let answer = peer.ask(&message).await;
        assert_eq!(answer == format!("send {message}"), is_valid, "{answer}");
        assert_eq!(answer.contains("Bad request body"), !is_valid, "{answer}");
    }
}

/// rust-lang/cargo#2031, BurntSushi/toml#233: editors on Windows begin a file in UTF-8 with a byte order mark.
#[tokio::test]
async fn a_manifest_a_schema_and_a_key_set_may_begin_with_a_byte_order_mark() {
    let issuer = Issuer::new("a");
    let site = jwt::site("keys.json", "");
    let manifest = fs::read_to_string(site.manifest()).unwrap();
    let models = "[models]\nsend.schema = \"send.json\"\n[routes]\n\
        send = { integration = \"guest\", route_response = true, models = { \"$default\" = \"send\" } }\n";
    fs::write(site.manifest(), format!("\u{feff}{}", manifest.replace("[routes]\n", models))).unwrap();
    fs::write(site.path().join("keys.json"), format!("\u{feff}{}", issuer.jwks())).unwrap();
    fs::write(site.path().join("send.json"), "\u{feff}{\"required\":[\"text\"]}").unwrap();
    let (code, _, stderr) = site.run(&["check"]);
    assert_eq!(code, 0, "{stderr}");
    let server = site.serve();
    let mut peer = server.try_connect("", &[("Authorization", &issuer.token(json!({})))]).await.unwrap();
    assert_eq!(peer.ask(r#"{"action":"send","text":1}"#).await, r#"send {"action":"send","text":1}"#);
    assert!(peer.ask(r#"{"action":"send"}"#).await.contains("Bad request body"));
}

/// dotnet/corefx#8059: a program that writes a file and then sets its time back, as `cp -p` and `rsync -t` do, is not seen
/// by a watcher that compares sizes and times of modification.
#[cfg(unix)]
#[tokio::test]
async fn polling_sees_a_file_whose_size_and_time_stay_the_same() {
    let models = "[models]\nsend.schema = \"send.json\"\n";
    let site = Site::hostile_routes(
        models,
        r#"send = { integration = "guest", route_response = true, models = { "$default" = "send" } }"#,
    );
    let schema = site.path().join("send.json");
    let write = |kind: &str| {
        fs::write(&schema, format!(r#"{{"properties":{{"value":{{"type":"{kind}"}}}}}}"#)).unwrap();
        let modified = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
        fs::File::options().append(true).open(&schema).unwrap().set_modified(modified).unwrap();
    };
    write("number");
    let server = site.start(&["serve", "--poll", "20ms"]);
    let mut peer = server.connect("").await;
    let message = r#"{"action":"send","value":"text"}"#;
    assert!(peer.ask(message).await.contains("Bad request body"));
    write("string");
    server.log.wait_for_line(&["live", "models=send"]).await;
    assert_eq!(peer.ask(message).await, format!("send {message}"));
}
