//! An integration of type "http".

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use http::Method;
use toml::de::DeValue;

use super::Around;
use super::responses::responses;
use crate::config::section::Section;
use crate::config::value::{self, Wrong};
use crate::gateway::{BadMapping, HttpSettings, RequestParameter, Source, Target, UrlTemplate};
use crate::limits;

/// API Gateway's bounds.
pub const TIMEOUTS: RangeInclusive<Duration> = Duration::from_millis(50)..=Duration::from_secs(29);

/// `None` where it has no URL, which is then told.
pub fn http(section: &mut Section<'_>, around: Around<'_>) -> Option<HttpSettings> {
    let url = section.read_needed("url", url);
    let ca_file = ca_file(section, around, url.as_ref());
    let proxy = section.read("proxy", value::flag).unwrap_or(true);
    let settings = HttpSettings {
        method: section.read("method", method).unwrap_or(Method::POST),
        proxy,
        timeout: section.read("timeout", value::duration(TIMEOUTS)).unwrap_or(limits::EVENT_TIMEOUT),
        ca_file,
        request_parameters: request_parameters(section),
        responses: responses(section, proxy),
        url: url?,
    };
    check_path_parameters(section, &settings);
    Some(settings)
}

pub fn url(value: &DeValue<'_>) -> Result<UrlTemplate, Wrong> {
    Ok(UrlTemplate::parse(value::text(value)?)?)
}

/// Where its authorities stand. They are for `https://` alone.
pub fn ca_file(section: &mut Section<'_>, around: Around<'_>, url: Option<&UrlTemplate>) -> Option<PathBuf> {
    let file = section.read("ca_file", value::path(around.folder))?;
    if url.is_some_and(|url| url.to_string().starts_with("http://")) {
        let name = section.name_of("ca_file");
        let problem = format!("{name}: found for a URL that begins with http://, where nobody shows a certificate");
        section.problems.warning(section.span_of("ca_file"), problem, "write https://, or leave it out");
    }
    Some(file)
}

fn method(value: &DeValue<'_>) -> Result<Method, Wrong> {
    const METHODS: [Method; 7] =
        [Method::DELETE, Method::GET, Method::HEAD, Method::OPTIONS, Method::PATCH, Method::POST, Method::PUT];
    let text = value::text(value)?;
    METHODS.into_iter().find(|method| method.as_str() == text).ok_or_else(|| {
        let expected = "\"DELETE\", \"GET\", \"HEAD\", \"OPTIONS\", \"PATCH\", \"POST\" or \"PUT\"";
        let advice = match text.to_ascii_uppercase() {
            upper if upper == "ANY" => "name one: a message has no method of its own".to_owned(),
            upper if upper != text => format!("write {upper:?}"),
            _ => String::new(),
        };
        Wrong::new(expected, advice)
    })
}

fn request_parameters(section: &mut Section<'_>) -> Vec<RequestParameter> {
    let table = section.section("request_parameters");
    let mut parameters: Vec<RequestParameter> = Vec::new();
    for entry in table.entries() {
        let to = match Target::parse(entry.key) {
            Ok(to) if parameters.iter().any(|other| other.to == to) => {
                table.wrong_key(&entry, Wrong::new("each target once", "the case of a header's name does not tell"));
                continue;
            }
            Ok(to) => to,
            Err(bad) => {
                table.wrong_key(&entry, bad.into());
                continue;
            }
        };
        let source = |value| Ok(Source::parse(value::text(value)?)?);
        if let Some(from) = table.meaning(&table.name_of(entry.key), entry.value, source) {
            parameters.push(RequestParameter { to, from });
        }
    }
    parameters
}

/// Each path parameter of the URL is mapped, and none that it does not have.
fn check_path_parameters(section: &Section<'_>, settings: &HttpSettings) {
    let mapped =
        |name: &str| settings.request_parameters.iter().any(|to| matches!(&to.to, Target::Path(to) if **to == *name));
    for name in settings.url.path_parameters().filter(|name| !mapped(name)) {
        let problem = format!("{}: found {{{name}}}, to which nothing is mapped", section.name_of("url"));
        let advice =
            format!("add \"integration.request.path.{name}\" = \"route.request.body.{name}\" to request_parameters");
        section.problems.error(section.span_of("url"), problem, advice);
    }
    for parameter in &settings.request_parameters {
        if let Target::Path(name) = &parameter.to
            && !settings.url.path_parameters().any(|other| other == &**name)
        {
            let name_of = section.name_of("request_parameters");
            let problem =
                format!("{name_of}: found integration.request.path.{name}, for which the URL has no {{{name}}}");
            let advice = format!("write {{{name}}} into the URL, or leave it out");
            section.problems.error(section.span_of("request_parameters"), problem, advice);
        }
    }
}

impl From<BadMapping> for Wrong {
    fn from(bad: BadMapping) -> Self {
        let BadMapping { found, expected, advice } = bad;
        Self { found, expected, advice }
    }
}
