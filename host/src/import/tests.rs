//! What holds for any template: it ends, it drops nothing in silence, and what it makes is a manifest.

use std::path::Path;

use super::*;
use crate::config::Config;

const TEMPLATES: [(&str, &str); 5] = [
    ("chat.yaml", include_str!("../../tests/import/chat.yaml")),
    ("everything.json", include_str!("../../tests/import/everything.json")),
    ("sam.yaml", include_str!("../../tests/import/sam.yaml")),
    ("mock.yaml", include_str!("../../tests/import/mock.yaml")),
    ("serverless.yml", include_str!("../../tests/import/serverless.yml")),
];

fn options(file_name: &str) -> Options {
    Options {
        file_name: file_name.to_owned(),
        api: None,
        parameters: BTreeMap::new(),
        endpoint: ENDPOINT.to_owned(),
        schemas: true,
    }
}

fn imported(text: &str) -> Imported {
    import(text, &options("template.yaml")).unwrap_or_else(|failed| panic!("{failed:?}"))
}

fn problem(text: &str) -> String {
    import(text, &options("template.yaml")).map(|imported| imported.manifest).unwrap_err().problem
}

/// What is wrong with a manifest.
fn errors(manifest: &str) -> Vec<String> {
    let errors = Config::parse(manifest, Path::new("jackfield.toml")).err().unwrap_or_default();
    errors.iter().map(ToString::to_string).collect()
}

/// An API with one route, and what stands in the properties of its integration.
fn with_integration(properties: &str) -> String {
    format!(
        "Resources:\n  A: {{ Type: 'AWS::ApiGatewayV2::Api', Properties: {{ Name: a, ProtocolType: WEBSOCKET }} }}\n  \
         R: {{ Type: 'AWS::ApiGatewayV2::Route', Properties: {{ ApiId: !Ref A, RouteKey: x, Target: !Sub 'integrations/${{I}}' }} }}\n  \
         I: {{ Type: 'AWS::ApiGatewayV2::Integration', Properties: {{ ApiId: !Ref A, {properties} }} }}\n"
    )
}

#[test]
fn what_is_made_of_a_template_is_a_manifest() {
    for (name, text) in TEMPLATES {
        let manifest = import(text, &options(name)).unwrap().manifest;
        assert_eq!(errors(&manifest), [] as [String; 0], "{name}:\n{manifest}");
    }
}

#[test]
fn whatever_line_is_taken_out_of_a_template_a_manifest_or_an_error_comes_out() {
    for (name, text) in TEMPLATES {
        let lines: Vec<_> = text.lines().collect();
        for left_out in 0..lines.len() {
            let rest: Vec<_> =
                lines.iter().enumerate().filter(|(line, _)| *line != left_out).map(|(_, line)| *line).collect();
            if let Ok(imported) = import(&rest.join("\n"), &options(name)) {
                let errors = errors(&imported.manifest);
                assert!(errors.is_empty(), "{name} without line {}:\n{errors:?}\n{}", left_out + 1, imported.manifest);
            }
        }
    }
}

#[test]
fn whatever_value_is_replaced_a_manifest_or_an_error_comes_out() {
    let values = [
        "''",
        "[]",
        "{}",
        "!ImportValue x",
        "\"a\\n[b]\\\"'\"",
        "-1",
        "$x",
        "99999999999",
        "*nobody",
        "!Ref AWS::NoValue",
    ];
    for (name, text) in TEMPLATES.iter().filter(|(name, _)| name.ends_with("ml")) {
        let lines: Vec<_> = text.lines().collect();
        for replaced in 0..lines.len() {
            let Some((key, _)) = lines[replaced].split_once(": ") else { continue };
            // A few of them for each line; all together are thousands of imports.
            for value in values.iter().cycle().skip(replaced).take(3) {
                let mut changed: Vec<_> = lines.iter().map(|line| (*line).to_owned()).collect();
                changed[replaced] = format!("{key}: {value}");
                if let Ok(imported) = import(&changed.join("\n"), &options(name)) {
                    let errors = errors(&imported.manifest);
                    assert!(errors.is_empty(), "{name}:{} = {value}:\n{errors:?}\n{}", replaced + 1, imported.manifest);
                }
            }
        }
    }
}

/// Lines of a template behind which one more property can stand, and the resource or event that has it.
fn places<'t>(name: &str, text: &'t str) -> Vec<(usize, &'t str)> {
    const BEGINNINGS: [&str; 8] = [
        "\"ApiId\": { \"Ref\": \"Api\" },",
        "ApiId: !Ref ChatApi",
        "ApiId: !Ref Greeter",
        "ApiId: !Ref Rooms",
        "AuthArn:",
        "FunctionArn:",
        "RouteSelectionExpression:",
        "route: ",
    ];
    let (mut places, mut resource) = (Vec::new(), "");
    for (index, line) in text.lines().enumerate() {
        let indent = line.len() - line.trim_start().len();
        if indent == if name.ends_with("json") { 4 } else { 2 } {
            resource = line.trim_start().split([':', '"']).find(|part| !part.is_empty()).unwrap_or_default();
        }
        if BEGINNINGS.iter().any(|beginning| line.trim_start().starts_with(beginning)) {
            places.push((index, resource));
        }
    }
    places
}

#[test]
fn a_property_that_nobody_knows_is_told_wherever_it_stands() {
    for (name, text) in TEMPLATES {
        let places = places(name, text);
        assert!(places.len() >= 2, "{name}");
        for (place, resource) in places {
            let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
            let indent: String = lines[place].chars().take_while(|c| *c == ' ').collect();
            let json = name.ends_with("json");
            let unknown = if json { "\"Nobody\": { \"Knows\": 1 }," } else { "Nobody: { Knows: 1 }" };
            lines.insert(place + 1, format!("{indent}{unknown}"));
            let imported = import(&lines.join("\n"), &options(name)).unwrap();
            let itself =
                |finding: &&Finding| finding.what.ends_with(".Nobody") && finding.reason.contains("does not know it");
            let told = imported.findings.iter().filter(itself).find(|finding| finding.line == place + 2);
            // What is left out as a whole is told as a whole.
            let told = told.or_else(|| {
                imported.findings.iter().find(|finding| finding.what == resource && finding.what != "Deployment")
            });
            let told = told.unwrap_or_else(|| panic!("{name}:{} {resource}: {:?}", place + 2, imported.findings));
            assert!(imported.manifest.contains(&format!("{}: {}", told.what, told.reason)), "{}", imported.manifest);
        }
    }
}

#[test]
fn what_no_manifest_can_be_made_of_is_told() {
    assert_eq!(
        problem("a: 1"),
        "found neither Resources, as CloudFormation and SAM have them, nor functions, as a serverless.yml has"
    );
    let none = "found no WebSocket API: expected a resource AWS::ApiGatewayV2::Api with the ProtocolType WEBSOCKET, or \
        AWS::Serverless::WebSocketApi";
    assert_eq!(problem("Resources: {}"), none);
    assert_eq!(
        problem("Resources:\n  A: { Type: 'AWS::ApiGatewayV2::Api', Properties: { ProtocolType: HTTP } }"),
        none
    );
    assert_eq!(
        problem("functions: { a: { events: [ { http: x } ] } }"),
        "found no websocket event: expected one among the events of a function, such as - websocket: $connect"
    );
    assert_eq!(problem("just a text"), problem("[a, list]"));
    assert_eq!(problem("a: [1"), problem("a: [1"));
    assert!(problem("a: [1").ends_with("; a template is YAML or JSON"), "{}", problem("a: [1"));
}

#[test]
fn of_several_apis_one_is_named() {
    let text = "Resources:\n  A: { Type: 'AWS::ApiGatewayV2::Api', Properties: { Name: one, ProtocolType: WEBSOCKET } }\n  \
        B: { Type: 'AWS::Serverless::WebSocketApi', Properties: { Name: two, RouteSelectionExpression: $request.body.x, Routes: {} } }\n  \
        R: { Type: 'AWS::ApiGatewayV2::Route', Properties: { ApiId: !Ref A, RouteKey: x } }";
    assert_eq!(problem(text), "found 2 WebSocket APIs, and a manifest has one; name it with --api LOGICAL_ID: A, B");
    let named = |api: &str| import(text, &Options { api: Some(api.to_owned()), ..options("t") });
    assert_eq!(named("C").err().unwrap().problem, "found no WebSocket API \"C\"; name one of these: A, B");
    let two = named("B").unwrap();
    assert!(two.manifest.contains("id = \"two\""), "{}", two.manifest);
    let told: Vec<_> = two.findings.iter().map(|finding| format!("{}: {}", finding.what, finding.reason)).collect();
    assert_eq!(told, ["A: another API: import it with --api A", "1 resource of A: they go with that API"]);
    assert_eq!(named("A").unwrap().routes, 1);
}

#[test]
fn timeouts_are_held_to_the_manifests_bounds() {
    for (written, expected) in [
        (Some("50"), Some("timeout = \"50ms\"")),
        (Some("29000"), None),
        (Some("28999"), Some("timeout = \"28999ms\"")),
        (Some("1000"), Some("timeout = \"1s\"")),
        (Some("49"), None),
        (Some("29001"), None),
        (None, None),
    ] {
        let timeout = written.map_or(String::new(), |written| format!(", TimeoutInMillis: {written}"));
        let imported = imported(&with_integration(&format!(
            "IntegrationType: HTTP_PROXY, IntegrationUri: 'https://h.example'{timeout}"
        )));
        match expected {
            Some(line) => assert!(imported.manifest.contains(line), "{written:?}: {}", imported.manifest),
            None => assert!(!imported.manifest.contains("timeout ="), "{written:?}: {}", imported.manifest),
        }
        let told = imported.findings.iter().any(|finding| finding.what == "I.TimeoutInMillis");
        assert_eq!(told, matches!(written, Some("49" | "29001")), "{written:?}");
    }
}

#[test]
fn an_authorizer_that_cannot_be_known_lets_nobody_in() {
    for authorization in [
        "AuthorizationType: CUSTOM, AuthorizerId: !ImportValue door",
        "AuthorizationType: CUSTOM",
        "AuthorizationType: JWT, AuthorizerId: x",
        "AuthorizationType: !ImportValue kind",
    ] {
        let text = with_integration("IntegrationType: MOCK")
            .replace("RouteKey: x", &format!("RouteKey: $connect, {authorization}"));
        let manifest = imported(&text).manifest;
        assert!(manifest.contains("\"$connect\" = { integration = \"I\", authorizer = \"undecided\" }"), "{manifest}");
        assert!(manifest.contains("[authorizers.undecided]\ncomponent = \"undecided.wasm\""), "{manifest}");
    }
    let open =
        with_integration("IntegrationType: MOCK").replace("RouteKey: x", "RouteKey: $connect, AuthorizationType: NONE");
    assert!(imported(&open).manifest.contains("\"$connect\" = \"I\""));
}

#[test]
fn integrations_that_do_the_same_are_one() {
    let function = "arn:aws:apigateway:us-east-1:lambda:path/2015-03-31/functions/arn:aws:lambda:us-east-1:1:function:f/invocations";
    let text = with_integration(&format!("IntegrationType: AWS_PROXY, IntegrationUri: '{function}'"));
    let second = format!(
        "{text}  R2: {{ Type: 'AWS::ApiGatewayV2::Route', Properties: {{ ApiId: !Ref A, RouteKey: y, Target: !Sub 'integrations/${{I2}}' }} }}\n  \
         I2: {{ Type: 'AWS::ApiGatewayV2::Integration', Properties: {{ ApiId: !Ref A, IntegrationType: AWS_PROXY, IntegrationUri: '{function}' }} }}\n"
    );
    let imported = imported(&second);
    assert_eq!((imported.routes, imported.integrations), (2, 1));
    assert!(imported.manifest.contains("x = \"f\"\ny = \"f\"\n"), "{}", imported.manifest);
}

#[test]
fn a_key_is_hashed_and_stands_nowhere() {
    let (_, text) = TEMPLATES[1];
    let imported = imported(text);
    // printf a-key-of-twenty-bytes | sha256sum
    let hash = "0ca3fd8227e3794019b1cec4bd6c69b3d47f3236211ca715c2283cb8cc78faa9";
    assert!(
        imported.manifest.contains(&format!("[api_keys.partner]\nhash = \"sha256:{hash}\"\n")),
        "{}",
        imported.manifest
    );
    assert!(!imported.manifest.contains("a-key-of-twenty-bytes"));
}

#[test]
fn an_endpoint_is_a_url() {
    for good in ["http://127.0.0.1:3002", "https://lambda.example/x"] {
        assert_eq!(check_endpoint(good), Ok(()));
    }
    for bad in ["127.0.0.1:3002", "", "http://h/{x}"] {
        assert_eq!(check_endpoint(bad), Err("expected a URL such as http://127.0.0.1:3002".to_owned()), "{bad}");
    }
}

/// Whether a finding of this name has these words in its reason.
fn told(imported: &Imported, what: &str, words: &str) -> bool {
    imported.findings.iter().any(|finding| finding.what == what && finding.reason.contains(words))
}

#[test]
fn a_rate_beyond_the_manifests_bounds_is_told_and_no_throttle() {
    for (rate, burst, expected) in [
        ("0.001", "1", Some("{ rate = 0.001, burst = 1 }")),
        ("1000000", "1000000", Some("{ rate = 1000000, burst = 1000000 }")),
        ("0.0009", "1", None),
        ("1000001", "1", None),
        ("10", "0", None),
        ("10", "1000001", None),
        ("0", "0", None),
    ] {
        let imported = imported(&format!(
            "{}  S: {{ Type: 'AWS::ApiGatewayV2::Stage', Properties: {{ ApiId: !Ref A, StageName: prod, \
             DefaultRouteSettings: {{ ThrottlingRateLimit: {rate}, ThrottlingBurstLimit: {burst} }} }} }}\n",
            with_integration("IntegrationType: MOCK")
        ));
        let is_told = told(&imported, "S.DefaultRouteSettings.ThrottlingRateLimit", "there is no throttle");
        assert_eq!(is_told, expected.is_none(), "{rate} {burst}");
        match expected {
            Some(throttle) => assert!(imported.manifest.contains(&format!("throttle = {throttle}\n"))),
            None => assert!(!imported.manifest.contains("throttle =") && errors(&imported.manifest).is_empty()),
        }
    }
}

#[test]
fn of_a_template_that_is_vtl_nothing_gets_through() {
    for (template, body) in
        [("$input.body", "$input.body"), ("#if($x) a #end", ""), ("$util.urlEncode($input.body)", "")]
    {
        let imported = imported(&format!(
            "{}  X: {{ Type: 'AWS::ApiGatewayV2::IntegrationResponse', Properties: {{ ApiId: !Ref A, IntegrationId: !Ref I, \
             IntegrationResponseKey: $default, ResponseTemplates: {{ $default: '{template}' }} }} }}\n",
            with_integration("IntegrationType: HTTP, IntegrationUri: 'http://h.example'")
        ));
        assert!(
            imported.manifest.contains(&format!("\"$default\" = {{ body = \"{body}\" }}")),
            "{}",
            imported.manifest
        );
        let is_told = told(&imported, "X.ResponseTemplates.$default", "its body is empty until one is written");
        assert_eq!(is_told, body.is_empty(), "{template}");
    }
}

#[test]
fn a_key_that_is_wanted_and_not_there_is_told() {
    let text =
        with_integration("IntegrationType: MOCK").replace("RouteKey: x", "RouteKey: $connect, ApiKeyRequired: true");
    let imported = imported(&text);
    assert!(imported.manifest.contains("\"$connect\" = { integration = \"I\", api_key_required = true }"));
    assert!(told(&imported, "the API key", "add [api_keys.NAME] with its hash"), "{:?}", imported.findings);
}

#[test]
fn a_resource_whose_condition_is_false_is_left_out_and_told() {
    let text = with_integration("IntegrationType: MOCK").replace("R: { Type", "R: { Condition: C, Type");
    let with =
        |condition: &str| format!("Parameters: {{ P: {{ Type: String }} }}\nConditions: {{ C: {condition} }}\n{text}");
    let imported_with = |condition: &str| imported(&with(condition));
    assert_eq!(imported_with("!Equals [a, a]").routes, 1);
    let without = imported_with("!Equals [a, b]");
    assert_eq!(without.routes, 0);
    assert!(told(&without, "R", "its condition C is false with these parameters"), "{:?}", without.findings);
    let unknown = imported_with("!Equals [!Ref P, b]");
    assert_eq!(unknown.routes, 1);
    assert!(told(&unknown, "R", "it is taken, though whether its condition C holds is not known"));
}

#[test]
fn a_parameter_of_the_command_line_that_nothing_has_is_told() {
    for (name, text) in TEMPLATES {
        let parameters = BTreeMap::from([("Stgae".to_owned(), "prod".to_owned())]);
        let imported = import(text, &Options { parameters, ..options(name) }).unwrap();
        assert!(told(&imported, "--parameter Stgae", ""), "{name}: {:?}", imported.findings);
    }
}

#[test]
fn what_two_values_are_not_known_to_be_is_two_stage_variables() {
    let text = with_integration(
        "IntegrationType: HTTP_PROXY, IntegrationUri: !Join ['', ['http://', !GetAtt L.Name, '/', !GetAtt L.Path, '/', !Ref P]]",
    );
    let manifest =
        imported(&format!("Parameters: {{ P: {{ Type: String }} }}\n{text}  L: {{ Type: 'AWS::X::Y' }}\n")).manifest;
    let url = "http://${stageVariables.L_Name}/${stageVariables.L_Path}/${stageVariables.P}";
    assert!(manifest.contains(&format!("url = \"{url}\"")), "{manifest}");
}
