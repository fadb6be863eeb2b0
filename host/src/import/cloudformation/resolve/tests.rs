use super::*;
use crate::import::yaml;

const TEMPLATE: &str = r#"
Parameters:
  Stage: { Type: String, Default: dev }
  Secret: { Type: String }
  Stored: { Type: "AWS::SSM::Parameter::Value<String>", Default: /a/b }
  Sources: { Type: CommaDelimitedList, Default: "a, b" }
Mappings:
  Hosts: { dev: { name: dev.example }, prod: { name: example.com } }
Conditions:
  IsProd: !Equals [!Ref Stage, prod]
  IsDev: !Not [!Condition IsProd]
  Both: !And [!Condition IsDev, !Equals [!Ref Secret, x]]
  Neither: !And [!Condition IsProd, !Equals [!Ref Secret, x]]
  Either: !Or [!Condition IsDev, !Equals [!Ref Secret, x]]
  Circle: !Not [!Condition Circle]
Resources:
  Chat: { Type: "AWS::ApiGatewayV2::Api" }
  Named: { Type: "AWS::Lambda::Function", Properties: { FunctionName: !Sub "chat-${Stage}" } }
  Plain: { Type: "AWS::Serverless::Function", Properties: { AutoPublishAlias: live } }
  Live: { Type: "AWS::Lambda::Alias", Properties: { FunctionName: !Ref Named, Name: live } }
  Self: { Type: "AWS::Lambda::Function", Properties: { FunctionName: !Ref Self } }
  Table: { Type: "AWS::DynamoDB::Table" }
"#;

/// Resolves a YAML value; if it is unknown, returns the reason in `<>`.
fn resolved(value: &str) -> String {
    let template = yaml::parse(&format!("{TEMPLATE}\nvalue: {value}")).unwrap();
    let (parameters, findings) = (BTreeMap::new(), Findings::default());
    let resolver = Resolver::new(&template, &parameters, &findings);
    let text = resolver.text(template.get("value").unwrap());
    text.whole().unwrap_or_else(|unknown| format!("<{}>", unknown.reason))
}

#[test]
fn values_in_the_template_are_resolved() {
    let arn = "arn:aws:lambda:us-east-1:000000000000:function";
    for (value, expected) in [
        ("plain", "plain".to_owned()),
        ("!Ref Stage", "dev".to_owned()),
        ("!Ref Chat", "Chat".to_owned()),
        ("!Ref AWS::Region", "us-east-1".to_owned()),
        ("!Ref Named", "chat-dev".to_owned()),
        ("!GetAtt Named.Arn", format!("{arn}:chat-dev")),
        ("{ Fn::GetAtt: [Plain, Arn] }", format!("{arn}:Plain")),
        ("!Ref Plain.Alias", format!("{arn}:Plain:live")),
        ("!Ref Live", format!("{arn}:chat-dev:live")),
        ("!Sub 'a/${Stage}/${!Stage}/${Plain.Arn}/${'", format!("a/dev/${{Stage}}/{arn}:Plain/${{")),
        ("!Sub ['${X}-${X}', { X: !Ref Stage }]", "dev-dev".to_owned()),
        ("!Join ['/', [integrations, !Ref Chat]]", "integrations/Chat".to_owned()),
        ("!Join ['', [a, !Ref AWS::NoValue, b]]", "ab".to_owned()),
        ("!Join ['-', !Ref Sources]", "a-b".to_owned()),
        ("!Select [1, !Split ['/', 'x/y/z']]", "y".to_owned()),
        ("!FindInMap [Hosts, !Ref Stage, name]", "dev.example".to_owned()),
        ("!If [IsProd, a, b]", "b".to_owned()),
        ("!If [Either, a, b]", "a".to_owned()),
        ("!If [Neither, a, b]", "b".to_owned()),
        ("!Sub '${AWS::AccountId}.${AWS::URLSuffix}'", "000000000000.amazonaws.com".to_owned()),
        ("{ Fn::ToJsonString: { a: 1 } }", "{\"a\":1}".to_owned()),
    ] {
        assert_eq!(resolved(value), expected, "{value}");
    }
}

#[test]
fn values_outside_of_the_template_are_unknown_with_a_reason() {
    for (value, reason) in [
        ("!Ref Secret", "the parameter Secret has no default: set it with --parameter Secret=VALUE"),
        ("!Sub 'x${Secret}'", "the parameter Secret has no default: set it with --parameter Secret=VALUE"),
        ("!Ref Stored", "the parameter Stored is in the parameter store: set it with --parameter Stored=VALUE"),
        ("!Ref Missing", "Missing is neither a parameter nor a resource of this template"),
        ("!Ref AWS::StackName", "AWS::StackName is only known after a deployment"),
        ("!GetAtt Table.Arn", "Table.Arn is only known after a deployment"),
        ("!GetAtt Missing.Arn", "Missing is not a resource of this template"),
        ("!ImportValue shared-host", "shared-host is exported by another stack"),
        ("!FindInMap [Hosts, test, name]", "the mapping Hosts has no test.name"),
        ("!If [Both, a, b]", "the value of the condition Both is not in the template"),
        ("!If [Circle, a, b]", "the value of the condition Circle is not in the template"),
        ("!GetAZs x", "the value of Fn::GetAZs is not in the template"),
        ("!Select [7, [a]]", "the item of Fn::Select is unknown"),
        ("!Join x", "Fn::Join does not have the format that CloudFormation requires"),
        ("[a]", "found a list or a table, expected a string"),
        ("'{{resolve:ssm:/a:1}}'", "{{resolve:ssm:...}} is stored outside of the template"),
    ] {
        assert_eq!(resolved(value), format!("<{reason}>"), "{value}");
    }
}

#[test]
fn resolving_a_name_that_refers_to_itself_ends() {
    assert_eq!(resolved("!Ref Self"), "Self");
    let template = yaml::parse(TEMPLATE).unwrap();
    let (parameters, findings) = (BTreeMap::new(), Findings::default());
    Resolver::new(&template, &parameters, &findings).resolve_reference("Self");
    let findings = findings.finish();
    assert_eq!(findings[0].subject, "Self.FunctionName");
    assert!(findings[0].reason.ends_with("; the logical id is used as the name"), "{}", findings[0].reason);
}

#[test]
fn the_text_of_nested_functions_is_limited() {
    let mut value = "x".to_owned();
    for _ in 0..20 {
        value = format!("!Sub ['{}', {{ A: {value} }}]", "${A}".repeat(10));
    }
    assert_eq!(resolved(&value), "<the text is longer than 65536 bytes>");
}

#[test]
fn a_parameter_of_the_command_line_overrides_the_default() {
    let template = yaml::parse(TEMPLATE).unwrap();
    let parameters = BTreeMap::from([("Stage".to_owned(), "prod".to_owned()), ("Secret".to_owned(), "x".to_owned())]);
    let findings = Findings::default();
    let resolver = Resolver::new(&template, &parameters, &findings);
    assert_eq!(resolver.resolve_reference("Stage").whole().unwrap(), "prod");
    assert_eq!(resolver.condition("IsProd"), Some(true));
    assert_eq!(resolver.condition("Neither"), Some(true));
}

#[test]
fn the_omitted_branch_of_an_if_is_reported() {
    let template = yaml::parse(&format!("{TEMPLATE}\nvalue: !If [IsProd, a, b]")).unwrap();
    let (parameters, findings) = (BTreeMap::new(), Findings::default());
    let resolver = Resolver::new(&template, &parameters, &findings);
    resolver.text(template.get("value").unwrap());
    let findings = findings.finish();
    assert_eq!(findings.len(), 1);
    assert_eq!(findings[0].reason, "omitted, because the condition IsProd is false with these parameters");
}
