//! Properties of every import: it ends, it drops nothing silently, and its result is a valid manifest.

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

fn options(file_name: &str) -> ImportOptions {
    ImportOptions {
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

/// Returns the errors of a manifest.
fn errors(manifest: &str) -> Vec<String> {
    let errors = Config::parse(manifest, Path::new("jackfield.toml")).err().unwrap_or_default();
    errors.iter().map(ToString::to_string).collect()
}

/// Returns a template with an API, one route, and an integration with these properties.
fn with_integration(properties: &str) -> String {
    format!(
        "Resources:\n  A: {{ Type: 'AWS::ApiGatewayV2::Api', Properties: {{ Name: a, ProtocolType: WEBSOCKET }} }}\n  \
         R: {{ Type: 'AWS::ApiGatewayV2::Route', Properties: {{ ApiId: !Ref A, RouteKey: x, Target: !Sub 'integrations/${{I}}' }} }}\n  \
         I: {{ Type: 'AWS::ApiGatewayV2::Integration', Properties: {{ ApiId: !Ref A, {properties} }} }}\n"
    )
}

#[test]
fn every_template_becomes_a_valid_manifest() {
    for (name, text) in TEMPLATES {
        let manifest = import(text, &options(name)).unwrap().manifest;
        assert_eq!(errors(&manifest), [] as [String; 0], "{name}:\n{manifest}");
    }
}

#[test]
fn a_template_without_any_one_of_its_lines_becomes_a_valid_manifest_or_an_error() {
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
fn a_template_with_any_value_replaced_becomes_a_valid_manifest_or_an_error() {
    let values = [
        "''",
        "[]",
        "{}",
        "!ImportValue x",
        "\"a\\n[b]\\\"'\"",
        "-1",
        "$x",
        "99999999999",
        "*missing",
        "!Ref AWS::NoValue",
    ];
    for (name, text) in TEMPLATES.iter().filter(|(name, _)| name.ends_with("ml")) {
        let lines: Vec<_> = text.lines().collect();
        for replaced in 0..lines.len() {
            let Some((key, _)) = lines[replaced].split_once(": ") else { continue };
            // Three values for each line; all values would be thousands of imports.
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

/// Returns the lines of a template after which a property can be inserted, and its resource or event.
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
fn an_unknown_property_is_reported_anywhere_in_a_template() {
    for (name, text) in TEMPLATES {
        let places = places(name, text);
        assert!(places.len() >= 2, "{name}");
        for (place, resource) in places {
            let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
            let indent: String = lines[place].chars().take_while(|c| *c == ' ').collect();
            let json = name.ends_with("json");
            let unknown = if json { "\"Unknown\": { \"Property\": 1 }," } else { "Unknown: { Property: 1 }" };
            lines.insert(place + 1, format!("{indent}{unknown}"));
            let imported = import(&lines.join("\n"), &options(name)).unwrap();
            let is_property = |finding: &&Finding| {
                finding.subject.ends_with(".Unknown") && finding.reason.contains("unknown to `jackfield import`")
            };
            let finding = imported.findings.iter().filter(is_property).find(|finding| finding.line == place + 2);
            // A resource that is omitted has one finding for all its properties.
            let finding = finding.or_else(|| {
                imported.findings.iter().find(|finding| finding.subject == resource && finding.subject != "Deployment")
            });
            let finding = finding.unwrap_or_else(|| panic!("{name}:{} {resource}: {:?}", place + 2, imported.findings));
            assert!(
                imported.manifest.contains(&format!("{}: {}", finding.subject, finding.reason)),
                "{}",
                imported.manifest
            );
        }
    }
}

#[test]
fn a_text_that_cannot_be_imported_is_reported() {
    assert_eq!(
        problem("a: 1"),
        "found neither the key Resources (CloudFormation, SAM) nor the key functions (serverless.yml)"
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
    assert!(problem("a: [1").ends_with("; a template must be YAML or JSON"), "{}", problem("a: [1"));
}

#[test]
fn one_of_several_apis_is_selected_by_its_logical_id() {
    let text = "Resources:\n  A: { Type: 'AWS::ApiGatewayV2::Api', Properties: { Name: one, ProtocolType: WEBSOCKET } }\n  \
        B: { Type: 'AWS::Serverless::WebSocketApi', Properties: { Name: two, RouteSelectionExpression: $request.body.x, Routes: {} } }\n  \
        R: { Type: 'AWS::ApiGatewayV2::Route', Properties: { ApiId: !Ref A, RouteKey: x } }";
    assert_eq!(
        problem(text),
        "found 2 WebSocket APIs, but a manifest has only one; select one with --api LOGICAL_ID: A, B"
    );
    let select = |api: &str| import(text, &ImportOptions { api: Some(api.to_owned()), ..options("t") });
    assert_eq!(select("C").err().unwrap().problem, "found no WebSocket API \"C\"; select one of these: A, B");
    let two = select("B").unwrap();
    assert!(two.manifest.contains("id = \"two\""), "{}", two.manifest);
    let findings: Vec<_> =
        two.findings.iter().map(|finding| format!("{}: {}", finding.subject, finding.reason)).collect();
    let expected =
        ["A: another WebSocket API; import it with --api A", "1 resource of A: imported only together with that API"];
    assert_eq!(findings, expected);
    assert_eq!(select("A").unwrap().routes, 1);
}

#[test]
fn a_timeout_outside_of_the_limits_is_reported_and_not_set() {
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
        let is_reported = imported.findings.iter().any(|finding| finding.subject == "I.TimeoutInMillis");
        assert_eq!(is_reported, matches!(written, Some("49" | "29001")), "{written:?}");
    }
}

#[test]
fn an_unknown_authorizer_accepts_no_connection() {
    for authorization in [
        "AuthorizationType: CUSTOM, AuthorizerId: !ImportValue auth",
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
    let without =
        with_integration("IntegrationType: MOCK").replace("RouteKey: x", "RouteKey: $connect, AuthorizationType: NONE");
    assert!(imported(&without).manifest.contains("\"$connect\" = \"I\""));
}

#[test]
fn equal_integrations_become_one() {
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
fn an_api_key_is_hashed_and_not_in_the_manifest() {
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
fn an_endpoint_must_be_a_url() {
    for good in ["http://127.0.0.1:3002", "https://lambda.example/x"] {
        assert_eq!(check_endpoint(good), Ok(()));
    }
    for bad in ["127.0.0.1:3002", "", "http://h/{x}"] {
        assert_eq!(check_endpoint(bad), Err("expected a URL such as http://127.0.0.1:3002".to_owned()), "{bad}");
    }
}

/// Returns whether a finding with this subject has these words in its reason.
fn is_reported(imported: &Imported, subject: &str, words: &str) -> bool {
    imported.findings.iter().any(|finding| finding.subject == subject && finding.reason.contains(words))
}

#[test]
fn a_rate_outside_of_the_limits_is_reported_and_not_set() {
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
        let subject = "S.DefaultRouteSettings.ThrottlingRateLimit";
        let is_reported = is_reported(&imported, subject, "no throttle is set");
        assert_eq!(is_reported, expected.is_none(), "{rate} {burst}");
        match expected {
            Some(throttle) => assert!(imported.manifest.contains(&format!("throttle = {throttle}\n"))),
            None => assert!(!imported.manifest.contains("throttle =") && errors(&imported.manifest).is_empty()),
        }
    }
}

#[test]
fn a_vtl_template_becomes_an_empty_body() {
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
        let subject = "X.ResponseTemplates.$default";
        let is_reported = is_reported(&imported, subject, "the body is empty until you write a template");
        assert_eq!(is_reported, body.is_empty(), "{template}");
    }
}

#[test]
fn a_required_api_key_without_a_value_is_reported() {
    let text =
        with_integration("IntegrationType: MOCK").replace("RouteKey: x", "RouteKey: $connect, ApiKeyRequired: true");
    let imported = imported(&text);
    assert!(imported.manifest.contains("\"$connect\" = { integration = \"I\", api_key_required = true }"));
    assert!(
        is_reported(&imported, "the API key", "add [api_keys.NAME] with the hash of a key"),
        "{:?}",
        imported.findings
    );
}

#[test]
fn a_resource_whose_condition_is_false_is_omitted_and_reported() {
    let text = with_integration("IntegrationType: MOCK").replace("R: { Type", "R: { Condition: C, Type");
    let with =
        |condition: &str| format!("Parameters: {{ P: {{ Type: String }} }}\nConditions: {{ C: {condition} }}\n{text}");
    let imported_with = |condition: &str| imported(&with(condition));
    assert_eq!(imported_with("!Equals [a, a]").routes, 1);
    let without = imported_with("!Equals [a, b]");
    assert_eq!(without.routes, 0);
    assert!(
        is_reported(&without, "R", "omitted, because its condition C is false with these parameters"),
        "{:?}",
        without.findings
    );
    let unknown = imported_with("!Equals [!Ref P, b]");
    assert_eq!(unknown.routes, 1);
    assert!(is_reported(&unknown, "R", "imported, although the value of its condition C is unknown"));
}

#[test]
fn a_command_line_parameter_that_the_template_does_not_have_is_reported() {
    for (name, text) in TEMPLATES {
        let parameters = BTreeMap::from([("Stgae".to_owned(), "prod".to_owned())]);
        let imported = import(text, &ImportOptions { parameters, ..options(name) }).unwrap();
        assert!(is_reported(&imported, "--parameter Stgae", ""), "{name}: {:?}", imported.findings);
    }
}

#[test]
fn each_unknown_value_becomes_a_stage_variable_of_its_own() {
    let text = with_integration(
        "IntegrationType: HTTP_PROXY, IntegrationUri: !Join ['', ['http://', !GetAtt L.Name, '/', !GetAtt L.Path, '/', !Ref P]]",
    );
    let manifest =
        imported(&format!("Parameters: {{ P: {{ Type: String }} }}\n{text}  L: {{ Type: 'AWS::X::Y' }}\n")).manifest;
    let url = "http://${stageVariables.L_Name}/${stageVariables.L_Path}/${stageVariables.P}";
    assert!(manifest.contains(&format!("url = \"{url}\"")), "{manifest}");
}
