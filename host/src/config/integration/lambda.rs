//! An integration of type "lambda".

use toml::de::DeValue;

use super::http::{TIMEOUTS, ca_file, concurrency, url};
use super::responses::responses;
use crate::config::context::ManifestContext;
use crate::config::section::Section;
use crate::config::suggestion::nearest;
use crate::config::value::{self, InvalidValue};
use crate::gateway::{LambdaSettings, Responses, UrlTemplate};
use crate::limits;
use crate::sigv4::Signer;

/// Returns `None` if the URL of the function is missing or invalid, which is reported.
pub fn lambda(section: &mut Section<'_>, context: ManifestContext<'_>) -> Option<LambdaSettings> {
    let proxy = section.read("proxy", value::boolean).unwrap_or(true);
    let responses = responses(section, proxy);
    let settings = function(section, context)?;
    Some(LambdaSettings { proxy, responses, ..settings })
}

/// Reads a function without `proxy` and `responses`, which an authorizer does not have.
pub fn function(section: &mut Section<'_>, context: ManifestContext<'_>) -> Option<LambdaSettings> {
    let url = function_url(section);
    let ca_file = ca_file(section, context, url.as_ref());
    let signer = section.read("sign_with", |value| signer(value, context));
    let timeout = section.read("timeout", value::duration(TIMEOUTS)).unwrap_or(limits::EVENT_TIMEOUT);
    let concurrency = concurrency(section);
    let url = url?;
    let concurrency = concurrency.unwrap_or_else(|| default_concurrency(&url));
    let (proxy, responses) = (true, Responses::default());
    Some(LambdaSettings { url, proxy, timeout, ca_file, signer, concurrency, responses })
}

/// Parses the id of an access key, which then signs the requests to Lambda.
fn signer(value: &DeValue<'_>, context: ManifestContext<'_>) -> Result<Signer, InvalidValue> {
    let id = value::string(value)?;
    let Some(secret) = context.access_keys.get(id) else {
        let advice = match nearest(id, context.access_keys.keys().map(String::as_str)) {
            Some(nearest) => format!("did you mean {nearest:?}?"),
            None => "add [access_keys.ID] with its secret_env".to_owned(),
        };
        return Err(InvalidValue::new("the id of an existing access key", advice));
    };
    let (access_key, secret) = (id.to_owned(), secret.clone());
    Ok(Signer { access_key, secret, region: context.region.to_owned(), service: "lambda" })
}

/// Returns 1 for the Runtime Interface Emulator, which fails when two events overlap.
///
/// The emulator has only one function, which always has the name in this path.
fn default_concurrency(url: &UrlTemplate) -> u32 {
    let is_emulator = url.to_string().ends_with("/2015-03-31/functions/function/invocations");
    if is_emulator { 1 } else { limits::INTEGRATION_REQUESTS_MAX as u32 }
}

/// Reads `url`, or builds the URL of the Invoke API from `endpoint` and `function`.
fn function_url(section: &mut Section<'_>) -> Option<UrlTemplate> {
    let url = section.read("url", url_without_path_parameters);
    let endpoint = section.read("endpoint", url_without_path_parameters);
    let function = section.read("function", function_name);
    let advice = "write url = \"http://127.0.0.1:9000/2015-03-31/functions/function/invocations\", \
        or endpoint = \"http://127.0.0.1:9001\" and function = \"NAME\"";
    let name = section.name_of("url");
    match (section.contains("url"), section.contains("endpoint"), section.contains("function")) {
        (true, false, false) => url,
        (true, ..) => {
            let problem = format!("{name}: found together with endpoint or function, which replace it");
            section.problems.error(section.span_of("url"), problem, "remove url, or endpoint and function");
            None
        }
        (false, true, true) => {
            let (endpoint, function) = (endpoint?, function?);
            let endpoint = endpoint.to_string();
            let url = format!("{}/2015-03-31/functions/{function}/invocations", endpoint.trim_end_matches('/'));
            Some(UrlTemplate::parse(&url).expect("a URL without a query stays valid with a longer path"))
        }
        (false, ..) => {
            let problem = format!("{name}: found none, expected the URL at which the function is invoked");
            section.problems.error(section.span(), problem, advice);
            None
        }
    }
}

fn url_without_path_parameters(value: &DeValue<'_>) -> Result<UrlTemplate, InvalidValue> {
    let template = url(value)?;
    if let Some(name) = template.path_parameters().next() {
        return Err(InvalidValue::new(
            "a URL in which only ${stageVariables.NAME} is a variable",
            format!("remove {{{name}}}"),
        ));
    }
    Ok(template)
}

/// Parses a name or an ARN, or a part of them, with or without `${stageVariables.NAME}`.
fn function_name<'m>(value: &'m DeValue<'m>) -> Result<&'m str, InvalidValue> {
    let text = value::string(value)?;
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || "-_:.${}".contains(c);
    let is_valid =
        !text.is_empty() && text.chars().all(is_allowed) && UrlTemplate::parse(&format!("http://h/{text}")).is_ok();
    let invalid =
        || InvalidValue::new("the name or the ARN of a function, which can contain ${stageVariables.NAME}", "");
    if is_valid { Ok(text) } else { Err(invalid()) }
}
