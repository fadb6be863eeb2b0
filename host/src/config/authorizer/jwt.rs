//! An authorizer of type "jwt".

use std::net::IpAddr;
use std::path::Path;

use ::http::Uri;
use toml::de::DeValue;

use crate::config::section::Section;
use crate::config::value::{self, InvalidValue};
use crate::gateway::{JwtSettings, KeySource, UrlTemplate};

/// API Gateway's quota "Audiences per authorizer".
const AUDIENCES_MAX: usize = 50;
/// API Gateway's quota "Scopes per route".
const SCOPES_MAX: usize = 10;
/// Longest issuer, audience and scope; no URL of an issuer is this long.
const TEXT_BYTES_MAX: usize = 1024;

/// Returns `None` if the issuer or its keys are missing or invalid, which is reported.
pub fn jwt(section: &mut Section<'_>, folder: &Path) -> Option<JwtSettings> {
    let issuer = section.read_required("issuer", claim);
    let audience = audience(section);
    let scopes = bounded_list(section, "scopes", SCOPES_MAX, scope);
    let keys = section.read_required("jwks", |value| key_source(value, folder));
    Some(JwtSettings { issuer: issuer?, audience, scopes, keys: keys? })
}

/// Reads the required `audience`: without it, tokens that the issuer signed for other services would be accepted.
fn audience(section: &mut Section<'_>) -> Vec<String> {
    if !section.contains("audience") {
        section.read_required("audience", claim);
        return Vec::new();
    }
    let errors_before = section.problems.error_count();
    let audience = bounded_list(section, "audience", AUDIENCES_MAX, claim);
    if audience.is_empty() && section.problems.error_count() == errors_before {
        let problem = format!("{}: found an empty list, expected at least one", section.name_of("audience"));
        let advice = "write the value of aud in your tokens, or of client_id if they have no aud";
        section.problems.error(section.span_of("audience"), problem, advice);
    }
    audience
}

/// Reads a list and reports more than `count_max` items.
fn bounded_list(
    section: &mut Section<'_>,
    key: &'static str,
    count_max: usize,
    parse: impl Fn(&DeValue<'_>) -> Result<String, InvalidValue>,
) -> Vec<String> {
    let items = section.read_list(key, parse);
    if items.len() > count_max {
        let problem = format!("{}: found {} items, expected at most {count_max}", section.name_of(key), items.len());
        section.problems.error(section.span_of(key), problem, "");
    }
    items
}

/// Parses a string that is compared with a claim, character by character.
fn claim(value: &DeValue<'_>) -> Result<String, InvalidValue> {
    let text = value::string(value)?;
    let is_valid =
        (1..=TEXT_BYTES_MAX).contains(&text.len()) && text.trim() == text && !text.contains(char::is_control);
    let invalid = || InvalidValue::new(format!("1 to {TEXT_BYTES_MAX} bytes, exactly as in the tokens"), "");
    if is_valid { Ok(text.to_owned()) } else { Err(invalid()) }
}

fn scope(value: &DeValue<'_>) -> Result<String, InvalidValue> {
    let scope = claim(value)?;
    if scope.contains(' ') {
        return Err(InvalidValue::new("one scope", "put each scope in its own quotes; a token needs only one of them"));
    }
    Ok(scope)
}

fn key_source(value: &DeValue<'_>, folder: &Path) -> Result<KeySource, InvalidValue> {
    let text = value::string(value)?;
    let expected = "a URL such as \"https://issuer.example/.well-known/jwks.json\", or a file such as \"keys.json\"";
    if !text.contains("://") {
        let path = value::path(folder)(value).map_err(|invalid| InvalidValue::new(expected, invalid.advice))?;
        return Ok(KeySource::File(path));
    }
    let url = UrlTemplate::parse(text)?;
    if text.contains('{') {
        return Err(InvalidValue::new(expected, "variables are not supported here"));
    }
    let uri: Uri = url.to_string().parse().map_err(|_| InvalidValue::new(expected, ""))?;
    if uri.scheme_str() == Some("http") && !is_this_machine(uri.host().unwrap_or_default()) {
        let advice = "write https: an attacker who can change the keys in transit can sign any token";
        return Err(InvalidValue::new("https, or http to this machine", advice));
    }
    if uri.path().ends_with("/.well-known/openid-configuration") {
        return Err(InvalidValue::new(
            "the URL of the keys themselves",
            "write the value of jwks_uri in that document",
        ));
    }
    Ok(KeySource::Url(uri))
}

fn is_this_machine(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    host.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use toml::de::DeTable;

    use super::*;
    use crate::config::problem::Problems;

    const VALID: &str = "issuer = \"https://issuer.example\"\naudience = [\"chat\"]\njwks = \"keys.json\"\n";

    /// Returns the settings of a section with `keys`, and its errors, one in each line.
    fn read(keys: &str) -> (Option<JwtSettings>, String) {
        let text = format!("[tokens]\n{keys}");
        let problems = Problems::new(Path::new("m.toml"), &text);
        let table = DeTable::parse(&text).unwrap();
        let mut whole = Section::root(&problems, table.get_ref());
        let mut section = whole.section("tokens");
        let settings = jwt(&mut section, Path::new("/folder"));
        section.finish();
        let (errors, warnings) = problems.finish();
        assert_eq!(warnings, []);
        (settings, errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
    }

    fn settings(keys: &str) -> JwtSettings {
        let (settings, errors) = read(keys);
        assert_eq!(errors, "", "{keys}");
        settings.unwrap()
    }

    /// Replaces the line of `VALID` that has the same key as `line`.
    fn with(line: &str) -> String {
        let key = line.split(' ').next().unwrap();
        let kept = VALID.lines().filter(|valid| !valid.starts_with(key)).collect::<Vec<_>>().join("\n");
        format!("{kept}\n{line}")
    }

    fn assert_error(keys: &str, expected: &str) {
        let (_, errors) = read(keys);
        assert!(
            errors.contains(expected) && errors.lines().count() == 1,
            "{keys}\nhas the errors\n{errors}\nexpected\n{expected}"
        );
    }

    #[test]
    fn every_key_is_in_the_settings() {
        let whole = settings(&format!("{VALID}scopes = [\"chat:read\", \"chat:write\"]"));
        assert_eq!(whole.issuer, "https://issuer.example");
        assert_eq!(whole.audience, ["chat"]);
        assert_eq!(whole.scopes, ["chat:read", "chat:write"]);
        assert_eq!(whole.keys, KeySource::File("/folder/keys.json".into()));
        assert!(settings(VALID).scopes.is_empty());
    }

    #[test]
    fn keys_are_fetched_over_https_or_from_this_machine() {
        for url in [
            "https://issuer.example/.well-known/jwks.json?v=1",
            "http://127.0.0.1:9/keys",
            "http://127.1.2.3/keys",
            "http://[::1]:9/keys",
            "http://LocalHost/keys",
        ] {
            assert_eq!(settings(&with(&format!("jwks = {url:?}"))).keys, KeySource::Url(url.parse().unwrap()));
        }
        for url in ["http://issuer.example/keys", "http://localhost.example/", "http://128.0.0.1/", "http://[::2]/"] {
            assert_error(&with(&format!("jwks = {url:?}")), "expected https, or http to this machine; write https");
        }
    }

    #[test]
    fn an_invalid_source_of_keys_is_an_error_with_an_advice() {
        for (jwks, expected) in [
            ("\"ftp://issuer.example/keys\"", "it must begin with https:// or http://"),
            ("\"https://user:secret@issuer.example/\"", "leave out the user"),
            ("\"https://${stageVariables.host}/keys\"", "variables are not supported here"),
            ("\"https://h/.well-known/openid-configuration\"", "write the value of jwks_uri in that document"),
            ("\"\"", "m.toml:4: tokens.jwks: found \"\", expected a URL such as"),
            ("1", "tokens.jwks: found 1, expected a string"),
        ] {
            assert_error(&with(&format!("jwks = {jwks}")), expected);
        }
    }

    #[test]
    fn an_issuer_an_audience_and_keys_are_required() {
        for key in ["issuer", "audience", "jwks"] {
            let kept: Vec<_> = VALID.lines().filter(|line| !line.starts_with(key)).collect();
            let (_, errors) = read(&kept.join("\n"));
            assert!(errors.contains(key) && errors.contains("which is required"), "{errors}");
            assert_eq!(errors.lines().count(), 1, "{errors}");
        }
    }

    #[test]
    fn an_issuer_is_a_string_without_surrounding_whitespace() {
        for issuer in ["\"\"", "\" https://issuer.example\"", "\"a\\nb\"", "7"] {
            assert_error(&with(&format!("issuer = {issuer}")), "tokens.issuer: found");
        }
        let (longest, longer) = ("i".repeat(TEXT_BYTES_MAX), "i".repeat(TEXT_BYTES_MAX + 1));
        assert_eq!(settings(&with(&format!("issuer = {longest:?}"))).issuer, longest);
        assert_error(&with(&format!("issuer = {longer:?}")), "expected 1 to 1024 bytes");
    }

    #[test]
    fn audiences_and_scopes_are_lists_of_limited_length() {
        assert_error(&with("audience = []"), "tokens.audience: found an empty list, expected at least one");
        assert_error(&with("scopes = [\"read write\"]"), "tokens.scopes[0]: found \"read write\", expected one scope");
        for (key, max) in [("audience", AUDIENCES_MAX), ("scopes", SCOPES_MAX)] {
            let list = |count| format!("{key} = {:?}", vec!["a"; count]);
            settings(&with(&list(max)));
            assert_error(&with(&list(max + 1)), &format!("expected at most {max}"));
        }
        assert_error(&with("audience = \"chat\""), "found \"chat\", expected a list; write audience = [...]");
    }

    #[test]
    fn an_unknown_key_is_an_error() {
        assert_error(&format!("{VALID}isuer = \"a\""), "[tokens] has no key \"isuer\"; did you mean issuer?");
    }
}
