use super::*;
use crate::gateway::integration::mapping::tests::caller;

fn template(text: &str) -> UrlTemplate {
    UrlTemplate::parse(text).unwrap_or_else(|bad| panic!("{text}: {bad:?}"))
}

fn uri(text: &str, path: &str, query: &[(&str, &str)]) -> Result<String, String> {
    let query: Vec<_> = query.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
    let path_parameter = |name: &str| (name == "id").then(|| path.to_owned());
    template(text).uri(&caller(), path_parameter, &query).map(|uri| uri.to_string())
}

#[test]
fn variables_and_parameters_are_replaced_with_their_values() {
    for (text, expected) in [
        ("http://h.example", "http://h.example/"),
        ("https://h.example:8443/a?b=c", "https://h.example:8443/a?b=c"),
        ("https://${stageVariables.host}/${stageVariables.table}", "https://h.example/users"),
        ("${stageVariables.scheme}://h.example/", ""),
        ("http://[::1]:80/", "http://[::1]:80/"),
        ("http://h.example/$5/a$", "http://h.example/$5/a$"),
    ] {
        if expected.is_empty() {
            assert_eq!(uri(text, "", &[]), Err("the stage has no variable scheme".to_owned()));
        } else {
            assert_eq!(uri(text, "", &[]).as_deref(), Ok(expected), "{text}");
        }
    }
    let query = [("a b", "1&2=3"), ("ü", "")];
    assert_eq!(uri("http://h.example", "", &query).as_deref(), Ok("http://h.example/?a%20b=1%262%3D3&%C3%BC="));
    assert_eq!(uri("http://h.example/?x", "", &query[..1]).as_deref(), Ok("http://h.example/?x&a%20b=1%262%3D3"));
}

#[test]
fn a_path_parameter_is_always_one_part_of_the_path() {
    for (value, expected) in [("7", "7"), ("a/../b?c#d", "a%2F..%2Fb%3Fc%23d"), ("..a", "..a"), ("%2e", "%252e")] {
        assert_eq!(uri("http://h/rooms/{id}/x", value, &[]), Ok(format!("http://h/rooms/{expected}/x")));
    }
    for value in ["", ".", ".."] {
        let refused = uri("http://h/rooms/{id}/x", value, &[]).unwrap_err();
        assert_eq!(refused, format!("integration.request.path.id is {value:?}, which is not allowed in a path"));
    }
    let refused = uri("http://h/{other}", "", &[]).unwrap_err();
    assert_eq!(refused, "the event has no value for integration.request.path.other");
}

#[test]
fn an_invalid_url_is_rejected_when_the_manifest_is_read() {
    for (text, expected) in [
        ("", "it must begin with https:// or http://"),
        ("h.example/a", "it must begin with https:// or http://"),
        ("ws://h.example", "it must begin with https:// or http://"),
        ("http://", ""),
        ("http://h:0/", "a port from 1 to 65535"),
        ("http://h:65536/", "a port from 1 to 65535"),
        ("http://h:/", "a port from 1 to 65535"),
        ("http://me:secret@h/", "leave out the user"),
        ("http://h/#a", "leave out the #"),
        ("http://h/a b", ""),
        ("http://größe.example/", "percent-encode the characters that are not ASCII"),
        ("http://h/${stageVariables.a", "no } after"),
        ("http://h/${context.connectionId}", "accepts only ${stageVariables.NAME}"),
        ("http://h/${stageVariables.}", "accepts only ${stageVariables.NAME}"),
        ("http://h/{}", "the name of a path parameter"),
        ("http://h/{a b}", "the name of a path parameter"),
    ] {
        let bad = UrlTemplate::parse(text).expect_err(text);
        assert!(format!("{:?} {}", bad.found, bad.advice).contains(expected), "{text}: {bad:?}");
    }
    for good in ["http://${stageVariables.host}:${stageVariables.port}/", "${stageVariables.url}", "http://h:65535/"] {
        template(good);
    }
    assert_eq!(template("http://${stageVariables.a}/{b}/{c}").path_parameters().collect::<Vec<_>>(), ["b", "c"]);
    assert_eq!(template("http://${stageVariables.a}/{b}").stage_variables().collect::<Vec<_>>(), ["a"]);
}
