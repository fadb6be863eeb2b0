//! An integration of type "lambda".

use toml::de::DeValue;

use super::Around;
use super::http::{TIMEOUTS, ca_file, url};
use super::responses::responses;
use crate::config::other_names::nearest;
use crate::config::section::Section;
use crate::config::value::{self, Wrong};
use crate::gateway::{LambdaSettings, Responses, UrlTemplate};
use crate::limits;
use crate::sigv4::Signer;

/// `None` where it is not known where to invoke it, which is then told.
pub fn lambda(section: &mut Section<'_>, around: Around<'_>) -> Option<LambdaSettings> {
    let proxy = section.read("proxy", value::flag).unwrap_or(true);
    let responses = responses(section, proxy);
    let settings = function_alone(section, around)?;
    Some(LambdaSettings { proxy, responses, ..settings })
}

/// A function whose answer is read by somebody else: an authorizer.
pub fn function_alone(section: &mut Section<'_>, around: Around<'_>) -> Option<LambdaSettings> {
    let url = function_url(section);
    let ca_file = ca_file(section, around, url.as_ref());
    let signer = section.read("sign_with", |value| signer(value, around));
    let timeout = section.read("timeout", value::duration(TIMEOUTS)).unwrap_or(limits::EVENT_TIMEOUT);
    let concurrency = section.read("concurrency", value::count(1..=limits::INTEGRATION_REQUESTS_MAX));
    let url = url?;
    let concurrency = concurrency.unwrap_or_else(|| default_concurrency(&url));
    let (proxy, responses) = (true, Responses::default());
    Some(LambdaSettings { url, proxy, timeout, ca_file, signer, concurrency, responses })
}

/// The access key of this id, which signs for Lambda.
fn signer(value: &DeValue<'_>, around: Around<'_>) -> Result<Signer, Wrong> {
    let id = value::text(value)?;
    let Some(secret) = around.access_keys.get(id) else {
        let advice = match nearest(id, around.access_keys.keys().map(String::as_str)) {
            Some(nearest) => format!("did you mean {nearest:?}?"),
            None => "add [access_keys.ID] with its secret_env".to_owned(),
        };
        return Err(Wrong::new("the id of an access key that is there", advice));
    };
    let (access_key, secret) = (id.to_owned(), secret.clone());
    Ok(Signer { access_key, secret, region: around.region.to_owned(), service: "lambda" })
}

/// The Runtime Interface Emulator has one function, of this name, and breaks down where two of its
/// events overlap.
fn default_concurrency(url: &UrlTemplate) -> usize {
    let is_emulator = url.to_string().ends_with("/2015-03-31/functions/function/invocations");
    if is_emulator { 1 } else { limits::INTEGRATION_REQUESTS_MAX }
}

/// Either `url`, or `endpoint` and `function`, of which the Invoke API's URL is made.
fn function_url(section: &mut Section<'_>) -> Option<UrlTemplate> {
    let whole = section.read("url", plain_url);
    let endpoint = section.read("endpoint", plain_url);
    let function = section.read("function", function);
    let is_written = |keys: &[&str]| keys.iter().any(|key| section.is_written(key));
    let advice = "write url = \"http://127.0.0.1:9000/2015-03-31/functions/function/invocations\", \
        or endpoint = \"http://127.0.0.1:9001\" and function = \"NAME\"";
    let name = section.name_of("url");
    match (is_written(&["url"]), is_written(&["endpoint"]), is_written(&["function"])) {
        (true, false, false) => whole,
        (true, ..) => {
            let problem = format!("{name}: found beside endpoint or function, of which the URL is made");
            section.problems.error(section.span_of("url"), problem, "leave out either");
            None
        }
        (false, true, true) => {
            let (endpoint, function) = (endpoint?, function?);
            let endpoint = endpoint.to_string();
            let url = format!("{}/2015-03-31/functions/{function}/invocations", endpoint.trim_end_matches('/'));
            Some(UrlTemplate::parse(&url).expect("a path behind a URL without a query is one"))
        }
        (false, ..) => {
            let problem = format!("{name}: found none, expected where the function is invoked");
            section.problems.error(section.span(), problem, advice);
            None
        }
    }
}

fn plain_url(value: &DeValue<'_>) -> Result<UrlTemplate, Wrong> {
    let template = url(value)?;
    if let Some(name) = template.path_parameters().next() {
        return Err(Wrong::new(
            "a URL in which only ${stageVariables.NAME} is a variable",
            format!("leave out {{{name}}}"),
        ));
    }
    Ok(template)
}

/// A name, an ARN, or parts of them, with `${stageVariables.NAME}` in it.
fn function<'m>(value: &'m DeValue<'m>) -> Result<&'m str, Wrong> {
    let text = value::text(value)?;
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-_:.${}".contains(c);
    let good = !text.is_empty() && text.chars().all(allowed) && UrlTemplate::parse(&format!("http://h/{text}")).is_ok();
    let wrong = || Wrong::new("the name or the ARN of a function, perhaps with ${stageVariables.NAME}", "");
    if good { Ok(text) } else { Err(wrong()) }
}
