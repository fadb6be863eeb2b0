use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::gateway::expression::Step;

const JOIN: &str = r#"{"service":"chat","action":"join","data":{"room":"room1234"}}"#;

fn evaluate(expression: &str, body: &str) -> Option<String> {
    let parsed = RouteSelectionExpression::parse(expression).expect("the expression is valid");
    parsed.evaluate(body).map(Cow::into_owned)
}

#[track_caller]
fn assert_selects(expression: &str, body: &str, key: &str) {
    assert_eq!(evaluate(expression, body).as_deref(), Some(key), "{expression} of {body}");
}

#[track_caller]
fn assert_rejected(expression: &str, error: &str) {
    let rejection = RouteSelectionExpression::parse(expression).expect_err(expression);
    assert_eq!(rejection.to_string(), error, "{expression}");
}

#[test]
fn expressions_evaluate_as_api_gateways_table_says() {
    for (expression, key) in [
        ("$request.body.action", "join"),
        ("${request.body.action}", "join"),
        ("${request.body.service}/${request.body.action}", "chat/join"),
        ("${request.body.action}-${request.body.invalidPath}", "join-"),
        ("action", "action"),
        (r"\$default", "$default"),
        ("$request.body.data.room", "room1234"),
    ] {
        assert_selects(expression, JOIN, key);
    }
}

#[test]
fn a_variable_without_braces_ends_where_its_path_ends() {
    for (expression, key) in [
        ("$request.body.service/$request.body.action", "chat/join"),
        ("$request.body.service-$request.body.action", "chat-join"),
        ("$request.body.service.$request.body.action", "chat.join"),
        ("$request.body.service:$request.body.action", "chat:join"),
        ("$request.body.action and more", "join and more"),
        (r"$request.body.action\$", "join$"),
        ("$request.body.action--", "join--"),
        ("$request.body.action}", "join}"),
        ("$request.body.action-v2", ""),
        ("${request.body.action}-v2", "join-v2"),
        ("${request.body.action}/v2", "join/v2"),
        ("${request.body.action}.", "join."),
        ("${request.body.action}:v2", "join:v2"),
    ] {
        assert_selects(expression, JOIN, key);
    }
    assert_selects("$request.body.message-type", r#"{"message-type":"hello"}"#, "hello");
    assert_selects("${request.body.message-type}", r#"{"message-type":"hello"}"#, "hello");
}

#[test]
fn a_path_without_braces_reads_the_same_steps_as_one_with_braces() {
    let call = r#"[2,"19223201","BootNotification",{"vendor":"x"}]"#;
    let event = r#"{"@type":"Join","event:type":"chat","xmlns:a:b":"n","user@host":"u","a b":["x"]}"#;
    for (path, body, key) in [
        (".[2]", call, "BootNotification"),
        ("[2]", call, "BootNotification"),
        (".[3].vendor", call, "x"),
        (".[3].['vendor']", call, "x"),
        (".@type", event, "Join"),
        (".['@type']", event, "Join"),
        (".event:type", event, "chat"),
        (".xmlns:a:b", event, "n"),
        (".user@host", event, "u"),
        ("['a b'].[0]", event, "x"),
        (".[\"a b\"][0]", event, "x"),
    ] {
        assert_selects(&format!("$request.body{path}"), body, key);
        assert_selects(&format!("${{request.body{path}}}"), body, key);
        assert_selects(&format!("$request.body{path}/$request.body{path}"), body, &format!("{key}/{key}"));
    }
}

#[test]
fn text_after_a_path_without_braces_that_could_be_part_of_the_path_is_rejected() {
    for (text, position) in [
        ("$request.body.action/v2", 21),
        ("$request.body.action.", 21),
        ("$request.body.action. x", 21),
        ("$request.body.#id", 14),
        ("$request.body.a.+b", 16),
        ("$request.body.a+b", 16),
        ("$request.body.a,b", 16),
        ("$request.body/x", 14),
        ("$request.body[0]x", 17),
        ("$request.body.a=$request.body.b.", 32),
        ("$request.body.a.\u{1f4ac}", 16),
    ] {
        let error = RouteSelectionExpression::parse(text).expect_err(text);
        assert_eq!(error.position, position, "{text}: {error}");
        assert!(error.expected.contains("text needs braces around the variable"), "{text}: {error}");
    }
    for text in ["$request.body.[a]", "$request.body.[-1]", "$request.body.[*]", "$request.body.[", "$request.body['a'"]
    {
        assert!(RouteSelectionExpression::parse(text).is_err(), "{text}");
    }
    assert!(RouteSelectionExpression::parse("$request.body.$ref").is_err());
}

#[test]
fn a_path_has_names_quoted_names_and_indices() {
    let body = r#"{"a b":{"it's":["x",{"\"":"y"}]},"":"none","größe":"z","0":"zero"}"#;
    for (expression, key) in [
        (r"$request.body['a b']['it\'s'][0]", "x"),
        (r#"${request.body["a b"]["it's"][1]['"']}"#, "y"),
        (r#"$request.body["a b"]["it's"][1]["\""]"#, "y"),
        ("$request.body['']", "none"),
        ("$request.body.größe", "z"),
        ("$request.body.0", "zero"),
        ("$request.body[0]", ""),
        ("$request.body['a b']['it\\'s'][2]", ""),
        ("$request.body['a b']['it\\'s'].0", ""),
        ("$request.body['a b'].x.y.z", ""),
    ] {
        assert_selects(expression, body, key);
    }
    assert_selects("$request.body[1].a", r#"[0,{"a":"b"},2]"#, "b");
}

#[test]
fn the_value_of_a_variable_is_converted_to_text() {
    let body =
        r#"{"a":[7,-7,1.50,1e3,true,false,null,"é","\u00e9\n",[],["x",["y",1]],{},{"k":["v",{"a":"b"}]},[{"a":"b"}]]}"#;
    let keys = [
        "7",
        "-7",
        "1.50",
        "1e3",
        "true",
        "false",
        "null",
        "é",
        "é\n",
        "[]",
        "[x, [y, 1]]",
        "{}",
        r#"{"k":["v",{"a":"b"}]}"#,
        r#"[{"a":"b"}]"#,
    ];
    for (index, key) in keys.into_iter().enumerate() {
        assert_selects(&format!("$request.body.a[{index}]"), body, key);
        assert_selects(&format!("<${{request.body.a[{index}]}}>"), body, &format!("<{key}>"));
    }
    assert_selects("$request.body", r#" "hi" "#, "hi");
    assert_selects("$request.body", r#"{"z":1,"a":2}"#, r#"{"z":1,"a":2}"#);
}

#[test]
fn numbers_stay_as_they_are_written() {
    for number in ["12345678901234567890123", "1e400", "-0", "1.0", "18446744073709551616", "0.1000"] {
        let body = format!(r#"{{"n":{number},"o":{{"l":[{number}]}}}}"#);
        assert_selects("$request.body.n", &body, number);
        assert_selects("$request.body.o", &body, &format!(r#"{{"l":[{number}]}}"#));
        assert_selects("$request.body.o.l", &body, &format!("[{number}]"));
        assert_selects("$request.body.x", &body, "");
        // A path that leads into a number has no value, and other paths of the same body have theirs.
        assert_selects(
            "${request.body.n.x}${request.body.n[0]}${request.body.o.l[0].x}${request.body.n}",
            &body,
            number,
        );
    }
}

#[test]
fn half_of_a_surrogate_pair_is_the_replacement_character_and_concerns_no_other_value() {
    let body = r#"{"\ud83d":1,"action":"join","x":"\udc00","y":{"\udbff":["\ud800\ud800\udc00"]}}"#;
    assert_selects("$request.body.action", body, "join");
    assert_selects("$request.body.x", body, "\u{fffd}");
    assert_selects("$request.body.x.y", body, "");
    assert_selects("$request.body.y", body, r#"{"\udbff":["\ud800\ud800\udc00"]}"#);
    assert_selects("${request.body.action}/${request.body.x}", body, "join/\u{fffd}");
    assert_selects("join", body, "join");
    assert_selects("$request.body.a.b.c", r#"{"a":{"b":"\ud83d"},"a":{"b":{"c":"last"}}}"#, "last");
    assert_selects("$request.body.a.b.c", r#"{"a":{"b":{"c":"first"}},"a":{"b":"\ud83d"}}"#, "");
    for broken in [r#"{"a":{"b":"\ud83d"}"#, r#"{"a":{"b":"\ud83d"}} x"#, r#"{"a":{"b":"\ud83d",}}"#] {
        assert_eq!(evaluate("$request.body.a.b.c", broken), None, "{broken}");
    }
}

#[test]
fn the_value_of_a_variable_is_not_evaluated_again() {
    assert_selects("${request.body.a}", r#"{"a":"${request.body.b}","b":"c"}"#, "${request.body.b}");
}

#[test]
fn a_body_that_is_not_json_selects_nothing() {
    let broken = ["", " ", "hello", "{", r#"{"action":"join"}}"#, r#"{"action":"join"} x"#, r#"{"action":"join",}"#];
    for body in broken.into_iter().chain([r#"{"action":"join","x":[1,}"#, r#"{"action":"\x"}"#, "{'action':'join'}"]) {
        for expression in ["$request.body.action", "action", "${request.body.x}${request.body.action}"] {
            assert_eq!(evaluate(expression, body), None, "{expression} of {body:?}");
        }
    }
}

#[test]
fn json_that_lacks_the_path_selects_the_empty_key() {
    for body in ["{}", "[]", "null", "5", r#""hi""#, r#"{"Action":"join"}"#, r#"[{"action":"join"}]"#] {
        assert_selects("$request.body.action", body, "");
    }
}

#[test]
fn the_last_of_several_equal_keys_counts() {
    assert_selects("$request.body.a", r#"{"a":"first","b":{"a":"inner"},"a":"last"}"#, "last");
    assert_selects("$request.body.a.b", r#"{"a":{"b":"first"},"a":"last"}"#, "");
    assert_selects("$request.body.a.b", r#"{"a":"first","a":{"b":"last"}}"#, "last");
}

#[test]
fn deep_nesting_outside_the_path_does_not_matter() {
    let deep = format!(r#"{{"x":{}{},"action":"join"}}"#, "[".repeat(10_000), "]".repeat(10_000));
    assert_selects("$request.body.action", &deep, "join");
}

#[test]
fn a_plain_string_is_borrowed_from_the_body() {
    let expression = RouteSelectionExpression::parse("$request.body.action").unwrap();
    assert!(matches!(expression.evaluate(JOIN), Some(Cow::Borrowed("join"))));
}

#[test]
fn the_error_for_a_bad_expression_names_the_position_and_the_reason() {
    let variable = r"expected $request.body and a path (only the body can select a route; write \$ for a plain dollar)";
    for (expression, position, found) in [
        ("$default", 1, "$default"),
        ("é-${request.header.Auth}", 3, "${request.header.Auth}"),
        ("a/$context.connectionId/b", 3, "$context.connectionId"),
        ("$", 1, "$"),
        ("$$request.body.a", 1, "$"),
        ("$request", 1, "$request"),
        ("$request.bodyguard", 1, "$request.bodyguard"),
        ("$request.body-guard", 1, "$request.body-guard"),
        ("${ request.body.a }", 1, "${"),
    ] {
        assert_rejected(expression, &format!("at character {position}: found {found}, {variable}"));
    }
    let step = "expected a step to a single value: .name, ['name'] or [0]";
    for (expression, position, found) in [
        ("$request.body..action", 14, ".. (a search at every depth)"),
        ("$request.body.*", 14, ".* (a wildcard)"),
        ("$request.body[*].a", 14, "[* (a wildcard)"),
        ("$request.body.a[?(@.b)]", 16, "[? (a filter)"),
        ("$request.body.a[(@.length-1)]", 16, "[( (a script)"),
        ("$request.body.a[-1]", 16, "[- (an index from the end)"),
        ("$request.body.a[:2]", 16, "[: (a slice)"),
        ("$request.body.a[0:2]", 18, ": (a slice)"),
        ("$request.body.a[0,2]", 18, ", (several steps at once)"),
        ("$request.body.a['b','c']", 20, ", (several steps at once)"),
        ("$request.body.a.length()", 23, "( (a function)"),
    ] {
        assert_rejected(expression, &format!("at character {position}: found {found}, {step}"));
    }
    assert_rejected("", "at character 1: found nothing, expected an expression such as $request.body.action");
    let brace = "expected } or one more step of the path: .name, ['name'] or [0]";
    assert_rejected("${request.body.a", &format!("at character 17: found the end, {brace}"));
    assert_rejected("${request.body.a b}", &format!("at character 17: found a space, {brace}"));
    assert_rejected("$request.body[a]", "at character 15: found a, expected a name in quotes or an index");
    assert_rejected("$request.body['a", "at character 17: found the end, expected the ' that ends the name");
    assert_rejected("$request.body['a'", "at character 18: found the end, expected ]");
    let huge = "99999999999999999999";
    let error = format!("at character 15: found {huge}, expected an index that an array can have");
    assert_rejected(&format!("$request.body[{huge}]"), &error);
}

/// JSON as it can occur in a message: with repeated keys, and with spaces between the tokens.
#[derive(Clone, Debug)]
enum Json {
    Scalar(Value),
    Array(Vec<Json>),
    Object(Vec<(String, Json)>),
}

impl fmt::Display for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Scalar(value) => writeln!(f, " {value}"),
            Self::Array(items) => {
                f.write_str("[")?;
                for (index, item) in items.iter().enumerate() {
                    write!(f, "{}{item}", if index == 0 { "" } else { "," })?;
                }
                f.write_str(" ]")
            }
            Self::Object(fields) => {
                f.write_str("{")?;
                for (index, (key, field)) in fields.iter().enumerate() {
                    let key = Value::from(key.as_str());
                    write!(f, "{} {key} :{field}", if index == 0 { "" } else { "," })?;
                }
                f.write_str("}\t")
            }
        }
    }
}

fn name() -> impl Strategy<Value = String> {
    // Few names, so that a path often finds a value.
    prop_oneof![4 => "[abc]", 1 => r#"[a-c.\-'"\\\[\]$}é ]{0,3}"#, 1 => any::<String>()]
}

fn json() -> impl Strategy<Value = Json> {
    let scalar = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    scalar.prop_map(Json::Scalar).prop_recursive(4, 40, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Json::Array),
            prop::collection::vec((name(), inner), 0..5).prop_map(Json::Object),
        ]
    })
}

fn path() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => name().prop_map(|name| Step::Name(name.into())),
        1 => (0_usize..4).prop_map(Step::Index),
    ];
    prop::collection::vec(step, 0..4)
}

fn expression_for(path: &[Step]) -> String {
    let mut text = String::from("${request.body");
    for step in path {
        match step {
            Step::Name(name) if !name.is_empty() && name.chars().all(|next| next.is_alphanumeric() || next == '_') => {
                text.push_str(&format!(".{name}"))
            }
            Step::Name(name) => {
                text.push_str(&format!("['{}']", name.replace('\\', r"\\").replace('\'', r"\'")));
            }
            Step::Index(index) => text.push_str(&format!("[{index}]")),
        }
    }
    text + "}"
}

impl Json {
    /// Finds the value at a path in the tree: the slow reference implementation.
    fn find(&self, path: &[Step]) -> String {
        let mut value = self;
        for step in path {
            let child = match (step, value) {
                (Step::Name(name), Self::Object(fields)) => {
                    fields.iter().rfind(|(key, _)| **key == **name).map(|(_, field)| field)
                }
                (Step::Index(index), Self::Array(items)) => items.get(*index),
                _ => None,
            };
            let Some(child) = child else { return String::new() };
            value = child;
        }
        value.to_text()
    }

    /// Converts it to text: a string to its content, an array to `[item1, item2]`, anything else to JSON.
    fn to_text(&self) -> String {
        match self {
            Self::Scalar(Value::String(text)) => text.clone(),
            Self::Array(items) => format!("[{}]", items.iter().map(Self::to_text).collect::<Vec<_>>().join(", ")),
            other => other.to_json(),
        }
    }

    fn to_json(&self) -> String {
        match self {
            Self::Scalar(value) => value.to_string(),
            Self::Array(items) => format!("[{}]", items.iter().map(Self::to_json).collect::<Vec<_>>().join(",")),
            Self::Object(fields) => {
                let field = |(key, field): &(String, Self)| format!("{}:{}", Value::from(&**key), field.to_json());
                format!("{{{}}}", fields.iter().map(field).collect::<Vec<_>>().join(","))
            }
        }
    }
}

proptest! {
    #[test]
    fn evaluation_finds_the_same_value_as_the_reference_implementation(
        path in path(), other in path(), body in json()
    ) {
        let (expected, second) = (body.find(&path), body.find(&other));
        let body = body.to_string();
        prop_assert_eq!(evaluate(&expression_for(&path), &body).unwrap(), &*expected);
        let both = format!("{}-{}", expression_for(&path), expression_for(&other));
        prop_assert_eq!(evaluate(&both, &body).unwrap(), format!("{expected}-{second}"));
    }

    #[test]
    fn a_damaged_body_is_json_for_the_evaluation_if_it_is_json_for_serde(
        path in path(), body in json(), at in any::<prop::sample::Index>(), damage in r#"[\[\]{},:"a0 ]{0,2}"#
    ) {
        let mut body = body.to_string();
        let (at, _) = *at.get(&body.char_indices().collect::<Vec<_>>());
        let end = at + body[at..].chars().next().map_or(0, char::len_utf8);
        body.replace_range(at..end, &damage);
        let found = evaluate(&expression_for(&path), &body);
        let is_accepted_by_serde = serde_json::from_str::<Value>(&body).is_ok();
        prop_assert!(found.is_some() == is_accepted_by_serde || is_json(&body), "{found:?}");
    }

    #[test]
    fn a_text_whose_dollars_are_escaped_evaluates_to_itself(text in r"([a$\\{}]|request\.body\.a|\PC)+") {
        prop_assert_eq!(evaluate(&text.replace('$', r"\$"), "{}"), Some(text));
    }

    #[test]
    fn arbitrary_text_is_parsed_or_rejected_without_a_panic(text in r#"([$\\{}.()*\[\]'"0-9a?:,@é-]|\$request\.body|\PC){0,12}"#) {
        match RouteSelectionExpression::parse(&text) {
            Ok(expression) => {
                prop_assert_eq!(expression.as_str(), &text);
                prop_assert!(expression.evaluate(JOIN).is_some());
            }
            Err(error) => prop_assert!(error.position <= text.chars().count() + 1),
        }
    }
}
