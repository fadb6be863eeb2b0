//! An integration of type "http".

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use http::Method;
use toml::de::DeValue;

use super::responses::responses;
use crate::config::context::ManifestContext;
use crate::config::section::Section;
use crate::config::value::{self, InvalidValue};
use crate::gateway::{HttpSettings, RequestParameter, Source, Target, UrlTemplate};
use crate::limits;

/// API Gateway's limits.
pub const TIMEOUTS: RangeInclusive<Duration> = Duration::from_millis(50)..=Duration::from_secs(29);

/// Returns `None` if the URL is missing or invalid, which is reported.
pub fn http(section: &mut Section<'_>, context: ManifestContext<'_>) -> Option<HttpSettings> {
    let url = section.read_required("url", url);
    let ca_file = ca_file(section, context, url.as_ref());
    let proxy = section.read("proxy", value::boolean).unwrap_or(true);
    let settings = HttpSettings {
        method: section.read("method", method).unwrap_or(Method::POST),
        proxy,
        timeout: section.read("timeout", value::duration(TIMEOUTS)).unwrap_or(limits::EVENT_TIMEOUT),
        concurrency: concurrency(section).unwrap_or(limits::INTEGRATION_REQUESTS_MAX as u32),
        ca_file,
        request_parameters: request_parameters(section),
        responses: responses(section, proxy),
        url: url?,
    };
    check_path_parameters(section, &settings);
    Some(settings)
}

/// Reads how many requests of an integration may run at once.
pub fn concurrency(section: &mut Section<'_>) -> Option<u32> {
    let count = section.read("concurrency", value::count(1..=limits::INTEGRATION_REQUESTS_MAX))?;
    Some(u32::try_from(count).expect("a small number"))
}

pub fn url(value: &DeValue<'_>) -> Result<UrlTemplate, InvalidValue> {
    Ok(UrlTemplate::parse(value::string(value)?)?)
}

/// Reads the file of certificate authorities, which only `https://` uses.
pub fn ca_file(section: &mut Section<'_>, context: ManifestContext<'_>, url: Option<&UrlTemplate>) -> Option<PathBuf> {
    let file = section.read("ca_file", value::path(context.folder))?;
    if url.is_some_and(|url| url.to_string().starts_with("http://")) {
        let name = section.name_of("ca_file");
        let problem = format!("{name}: found for a URL with http://, which uses no certificates");
        section.problems.warning(section.span_of("ca_file"), problem, "write https://, or remove it");
    }
    Some(file)
}

fn method(value: &DeValue<'_>) -> Result<Method, InvalidValue> {
    const METHODS: [Method; 7] =
        [Method::DELETE, Method::GET, Method::HEAD, Method::OPTIONS, Method::PATCH, Method::POST, Method::PUT];
    let text = value::string(value)?;
    METHODS.into_iter().find(|method| method.as_str() == text).ok_or_else(|| {
        let expected = "\"DELETE\", \"GET\", \"HEAD\", \"OPTIONS\", \"PATCH\", \"POST\" or \"PUT\"";
        let advice = match text.to_ascii_uppercase() {
            upper if upper == "ANY" => "choose one: a message has no method of its own".to_owned(),
            upper if upper != text => format!("write {upper:?}"),
            _ => String::new(),
        };
        InvalidValue::new(expected, advice)
    })
}

fn request_parameters(section: &mut Section<'_>) -> Vec<RequestParameter> {
    let table = section.section("request_parameters");
    let mut parameters: Vec<RequestParameter> = Vec::new();
    for entry in table.entries() {
        let to = match Target::parse(entry.key) {
            Ok(to) if parameters.iter().any(|other| other.to == to) => {
                table.report_name(&entry, InvalidValue::new("each target once", "header names are case-insensitive"));
                continue;
            }
            Ok(to) => to,
            Err(bad) => {
                table.report_name(&entry, bad.into());
                continue;
            }
        };
        let source = |value| Ok(Source::parse(value::string(value)?)?);
        if let Some(from) = table.parse(&table.name_of(entry.key), entry.value, source) {
            parameters.push(RequestParameter { to, from });
        }
    }
    parameters
}

/// Reports path parameters of the URL without a mapping, and mappings to path parameters that the URL does not have.
fn check_path_parameters(section: &Section<'_>, settings: &HttpSettings) {
    let mapped =
        |name: &str| settings.request_parameters.iter().any(|to| matches!(&to.to, Target::Path(to) if **to == *name));
    for name in settings.url.path_parameters().filter(|name| !mapped(name)) {
        let problem = format!("{}: found {{{name}}}, which no request parameter sets", section.name_of("url"));
        let advice =
            format!("add \"integration.request.path.{name}\" = \"route.request.body.{name}\" to request_parameters");
        section.problems.error(section.span_of("url"), problem, advice);
    }
    for parameter in &settings.request_parameters {
        if let Target::Path(name) = &parameter.to
            && !settings.url.path_parameters().any(|other| other == &**name)
        {
            let key = section.name_of("request_parameters");
            let problem = format!("{key}: found integration.request.path.{name}, but the URL has no {{{name}}}");
            let advice = format!("add {{{name}}} to the URL, or remove the mapping");
            section.problems.error(section.span_of("request_parameters"), problem, advice);
        }
    }
}
