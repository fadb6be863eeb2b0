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

/// What a value of YAML comes to, or in `<>` why it is not known.
fn resolved(value: &str) -> String {
    let template = yaml::parse(&format!("{TEMPLATE}\nvalue: {value}")).unwrap();
    let (given, report) = (BTreeMap::new(), Report::default());
    let resolver = Resolver::new(&template, &given, &report);
    let text = resolver.text(template.get("value").unwrap());
    text.whole().unwrap_or_else(|unknown| format!("<{}>", unknown.reason))
}

#[test]
fn what_the_template_tells_is_resolved() {
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
fn what_it_does_not_tell_is_unknown_with_the_reason() {
    for (value, reason) in [
        ("!Ref Secret", "the parameter Secret has no default: --parameter Secret=VALUE"),
        ("!Sub 'x${Secret}'", "the parameter Secret has no default: --parameter Secret=VALUE"),
        ("!Ref Stored", "the parameter Stored is kept in the parameter store: --parameter Stored=VALUE"),
        ("!Ref Nobody", "Nobody is neither a parameter nor a resource of this template"),
        ("!Ref AWS::StackName", "AWS::StackName is known only once it is deployed"),
        ("!GetAtt Table.Arn", "Table.Arn is known only once it is deployed"),
        ("!GetAtt Nobody.Arn", "Nobody is no resource of this template"),
        ("!ImportValue shared-host", "shared-host is the export of another stack"),
        ("!FindInMap [Hosts, test, name]", "the mapping Hosts has no test.name"),
        ("!If [Both, a, b]", "whether the condition Both holds cannot be known from the template"),
        ("!If [Circle, a, b]", "whether the condition Circle holds cannot be known from the template"),
        ("!GetAZs x", "Fn::GetAZs cannot be known from the template"),
        ("!Select [7, [a]]", "the item of Fn::Select is not known"),
        ("!Join x", "Fn::Join is not written as CloudFormation wants it"),
        ("[a]", "found a list or a table, expected a text"),
        ("'{{resolve:ssm:/a:1}}'", "{{resolve:ssm:...}} is kept outside of the template"),
    ] {
        assert_eq!(resolved(value), format!("<{reason}>"), "{value}");
    }
}

#[test]
fn a_name_that_refers_to_itself_ends() {
    assert_eq!(resolved("!Ref Self"), "Self");
    let template = yaml::parse(TEMPLATE).unwrap();
    let (given, report) = (BTreeMap::new(), Report::default());
    Resolver::new(&template, &given, &report).text_of_reference("Self");
    let told = report.finish();
    assert_eq!(told[0].what, "Self.FunctionName");
    assert!(told[0].reason.ends_with("; its logical id stands in its place"), "{}", told[0].reason);
}

#[test]
fn functions_of_functions_do_not_grow_without_end() {
    let mut value = "x".to_owned();
    for _ in 0..20 {
        value = format!("!Sub ['{}', {{ A: {value} }}]", "${A}".repeat(10));
    }
    assert_eq!(resolved(&value), "<it is longer than 65536 bytes>");
}

#[test]
fn a_value_of_the_command_line_comes_before_the_default() {
    let template = yaml::parse(TEMPLATE).unwrap();
    let given = BTreeMap::from([("Stage".to_owned(), "prod".to_owned()), ("Secret".to_owned(), "x".to_owned())]);
    let report = Report::default();
    let resolver = Resolver::new(&template, &given, &report);
    assert_eq!(resolver.text_of_reference("Stage").whole().unwrap(), "prod");
    assert_eq!(resolver.condition("IsProd"), Some(true));
    assert_eq!(resolver.condition("Neither"), Some(true));
}

#[test]
fn the_branch_that_is_not_taken_is_told() {
    let template = yaml::parse(&format!("{TEMPLATE}\nvalue: !If [IsProd, a, b]")).unwrap();
    let (given, report) = (BTreeMap::new(), Report::default());
    let resolver = Resolver::new(&template, &given, &report);
    resolver.text(template.get("value").unwrap());
    let told = report.finish();
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].reason, "the condition IsProd is false with these parameters, so this is not taken");
}
