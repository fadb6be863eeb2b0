//! An authorizer of type "jwt".

use std::net::IpAddr;
use std::path::Path;

use ::http::Uri;
use toml::de::DeValue;

use crate::config::section::Section;
use crate::config::value::{self, Wrong};
use crate::gateway::{JwtSettings, KeySource, UrlTemplate};

/// API Gateway's quota "Audiences per authorizer".
const AUDIENCES_MAX: usize = 50;
/// API Gateway's quota "Scopes per route".
const SCOPES_MAX: usize = 10;
/// Longer than any URL of an issuer.
const TEXT_BYTES_MAX: usize = 1024;

/// `None` where it is not known whose tokens are good, which is then told.
pub fn jwt(section: &mut Section<'_>, folder: &Path) -> Option<JwtSettings> {
    let issuer = section.read_needed("issuer", named);
    let audience = audience(section);
    let scopes = names(section, "scopes", SCOPES_MAX, scope);
    let keys = section.read_needed("jwks", |value| key_source(value, folder));
    Some(JwtSettings { issuer: issuer?, audience, scopes, keys: keys? })
}

/// Without one, tokens that the issuer has signed for anybody would be good.
fn audience(section: &mut Section<'_>) -> Vec<String> {
    if !section.is_written("audience") {
        section.read_needed("audience", named);
        return Vec::new();
    }
    let errors_before = section.problems.errors();
    let audience = names(section, "audience", AUDIENCES_MAX, named);
    if audience.is_empty() && section.problems.errors() == errors_before {
        let problem = format!("{}: found an empty list, expected at least one", section.name_of("audience"));
        let advice = "write what your tokens have in aud, or where they have no aud, in client_id";
        section.problems.error(section.span_of("audience"), problem, advice);
    }
    audience
}

fn names(
    section: &mut Section<'_>,
    key: &'static str,
    count_max: usize,
    meaning: impl Fn(&DeValue<'_>) -> Result<String, Wrong>,
) -> Vec<String> {
    let names = section.read_items(key, meaning);
    if names.len() > count_max {
        let problem = format!("{}: found {} items, expected at most {count_max}", section.name_of(key), names.len());
        section.problems.error(section.span_of(key), problem, "");
    }
    names
}

/// A text that stands in a claim to the letter.
fn named(value: &DeValue<'_>) -> Result<String, Wrong> {
    let text = value::text(value)?;
    let good = (1..=TEXT_BYTES_MAX).contains(&text.len()) && text.trim() == text && !text.contains(char::is_control);
    let wrong = || Wrong::new(format!("1 to {TEXT_BYTES_MAX} bytes, to the letter as tokens have them"), "");
    if good { Ok(text.to_owned()) } else { Err(wrong()) }
}

fn scope(value: &DeValue<'_>) -> Result<String, Wrong> {
    let scope = named(value)?;
    match scope.contains(' ') {
        true => Err(Wrong::new("one scope", "write each in quotes of its own: one of them is enough")),
        false => Ok(scope),
    }
}

fn key_source(value: &DeValue<'_>, folder: &Path) -> Result<KeySource, Wrong> {
    let text = value::text(value)?;
    let expected = "a URL such as \"https://issuer.example/.well-known/jwks.json\", or a file such as \"keys.json\"";
    if !text.contains("://") {
        let path = value::path(folder)(value).map_err(|wrong| Wrong::new(expected, wrong.advice))?;
        return Ok(KeySource::File(path));
    }
    let url = UrlTemplate::parse(text)?;
    if text.contains('{') {
        return Err(Wrong::new(expected, "it has no variables"));
    }
    let uri: Uri = url.to_string().parse().map_err(|_| Wrong::new(expected, ""))?;
    if uri.scheme_str() == Some("http") && !is_this_machine(uri.host().unwrap_or_default()) {
        let advice = "write https: who can change the keys on their way can sign any token";
        return Err(Wrong::new("https, or http to this machine", advice));
    }
    if uri.path().ends_with("/.well-known/openid-configuration") {
        return Err(Wrong::new("the URL of the keys themselves", "write what stands there under jwks_uri"));
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

    const GOOD: &str = "issuer = \"https://issuer.example\"\naudience = [\"chat\"]\njwks = \"keys.json\"\n";

    /// The settings of these keys, and what is told of them, a line each.
    fn read(keys: &str) -> (Option<JwtSettings>, String) {
        let text = format!("[tokens]\n{keys}");
        let problems = Problems::of(Path::new("m.toml"), &text);
        let table = DeTable::parse(&text).unwrap();
        let mut whole = Section::whole(&problems, table.get_ref());
        let mut section = whole.section("tokens");
        let settings = jwt(&mut section, Path::new("/folder"));
        section.finish();
        let (errors, warnings) = problems.finish();
        assert_eq!(warnings, []);
        (settings, errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
    }

    fn settings(keys: &str) -> JwtSettings {
        let (settings, told) = read(keys);
        assert_eq!(told, "", "{keys}");
        settings.unwrap()
    }

    /// `GOOD` with this line in place of that of its key.
    fn with(line: &str) -> String {
        let key = line.split(' ').next().unwrap();
        let kept = GOOD.lines().filter(|good| !good.starts_with(key)).collect::<Vec<_>>().join("\n");
        format!("{kept}\n{line}")
    }

    fn assert_told(keys: &str, expected: &str) {
        let (_, told) = read(keys);
        assert!(told.contains(expected) && told.lines().count() == 1, "{keys}\nis told\n{told}\nnot\n{expected}");
    }

    #[test]
    fn every_key_comes_true() {
        let whole = settings(&format!("{GOOD}scopes = [\"chat:read\", \"chat:write\"]"));
        assert_eq!(whole.issuer, "https://issuer.example");
        assert_eq!(whole.audience, ["chat"]);
        assert_eq!(whole.scopes, ["chat:read", "chat:write"]);
        assert_eq!(whole.keys, KeySource::File("/folder/keys.json".into()));
        assert!(settings(GOOD).scopes.is_empty());
    }

    #[test]
    fn keys_come_over_https_or_from_this_machine() {
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
            assert_told(&with(&format!("jwks = {url:?}")), "expected https, or http to this machine; write https");
        }
    }

    #[test]
    fn what_is_no_place_of_keys_is_told_with_what_to_do() {
        for (jwks, told) in [
            ("\"ftp://issuer.example/keys\"", "it begins with https:// or http://"),
            ("\"https://user:secret@issuer.example/\"", "leave out the user"),
            ("\"https://${stageVariables.host}/keys\"", "it has no variables"),
            ("\"https://h/.well-known/openid-configuration\"", "write what stands there under jwks_uri"),
            ("\"\"", "m.toml:4: tokens.jwks: found \"\", expected a URL such as"),
            ("1", "tokens.jwks: found 1, expected a text"),
        ] {
            assert_told(&with(&format!("jwks = {jwks}")), told);
        }
    }

    #[test]
    fn an_issuer_an_audience_and_keys_have_no_default() {
        for key in ["issuer", "audience", "jwks"] {
            let kept: Vec<_> = GOOD.lines().filter(|line| !line.starts_with(key)).collect();
            let (_, told) = read(&kept.join("\n"));
            assert!(told.contains(key) && told.contains("which has no default"), "{told}");
            assert_eq!(told.lines().count(), 1, "{told}");
        }
    }

    #[test]
    fn an_issuer_is_a_text_without_blanks_around_it() {
        for issuer in ["\"\"", "\" https://issuer.example\"", "\"a\\nb\"", "7"] {
            assert_told(&with(&format!("issuer = {issuer}")), "tokens.issuer: found");
        }
        let (longest, longer) = ("i".repeat(TEXT_BYTES_MAX), "i".repeat(TEXT_BYTES_MAX + 1));
        assert_eq!(settings(&with(&format!("issuer = {longest:?}"))).issuer, longest);
        assert_told(&with(&format!("issuer = {longer:?}")), "expected 1 to 1024 bytes");
    }

    #[test]
    fn an_audience_and_scopes_are_lists_of_so_many() {
        assert_told(&with("audience = []"), "tokens.audience: found an empty list, expected at least one");
        assert_told(&with("scopes = [\"read write\"]"), "tokens.scopes[0]: found \"read write\", expected one scope");
        for (key, max) in [("audience", AUDIENCES_MAX), ("scopes", SCOPES_MAX)] {
            let list = |count| format!("{key} = {:?}", vec!["a"; count]);
            settings(&with(&list(max)));
            assert_told(&with(&list(max + 1)), &format!("expected at most {max}"));
        }
        assert_told(&with("audience = \"chat\""), "found \"chat\", expected a list; write audience = [...]");
    }

    #[test]
    fn an_unknown_key_is_told() {
        assert_told(&format!("{GOOD}isuer = \"a\""), "[tokens] has no key \"isuer\"; did you mean issuer?");
    }
}
