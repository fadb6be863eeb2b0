//! An integration that is a Lambda function, over the Invoke API.
//!
//! Works with every server that implements this API: the Runtime Interface Emulator of a container, SAM,
//! LocalStack, AWS.

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, USER_AGENT};
use http::{Request, StatusCode, Uri};
use serde::Deserialize;

use crate::capability::Caller;
use crate::capability::event_json::EventJson;
use crate::event::{Event, Response, now};
use crate::gateway::integration::client::{Client, Transport};
use crate::gateway::integration::proxy_response::{self, function_failure};
use crate::gateway::integration::responses::Responses;
use crate::gateway::integration::template::Scope;
use crate::gateway::integration::url::UrlTemplate;
use crate::json;
use crate::limits::INTEGRATION_RESPONSE_BYTES_MAX;
use crate::payload::Payload;
use crate::runtime::{Claim, InvokeError, check_message_size};
use crate::sigv4::{self, AMZ_DATE, BodyHash, SignatureHeaders, Signer};

/// The settings of one Lambda integration in the manifest.
#[derive(Clone, Debug, PartialEq)]
pub struct LambdaSettings {
    /// The Invoke endpoint.
    pub url: UrlTemplate,
    /// If true (`AWS_PROXY`), the function receives the whole event and returns the whole response.
    /// If false, it receives only the message.
    pub proxy: bool,
    pub timeout: Duration,
    /// The file of trusted certificate authorities; `None`: Mozilla's.
    pub ca_file: Option<PathBuf>,
    /// The access key that signs the calls; `None`: they are not signed.
    pub signer: Option<Signer>,
    /// How many executions of the function may run at once.
    pub concurrency: u32,
    /// Without proxy integration: the integration responses, selected by the `errorMessage` of the result.
    pub responses: Responses,
}

pub struct Lambda {
    name: Box<str>,
    settings: LambdaSettings,
    client: Client,
    /// Largest message that a peer may receive, in bytes.
    message_bytes: usize,
}

impl Lambda {
    pub fn new(name: &str, settings: LambdaSettings, transport: Transport, message_bytes: usize) -> Self {
        let client = Client::new(transport, settings.timeout, INTEGRATION_RESPONSE_BYTES_MAX);
        let client = client.for_function(name, settings.concurrency);
        Self { name: name.into(), settings, client, message_bytes }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// Calls the function and waits for its result, at most for the timeout.
    ///
    /// # Cancel safety
    /// Dropping the future closes the connection; the function may keep running, and its result is lost. A
    /// function that takes longer than its timeout keeps its place until it ends.
    pub async fn invoke(&self, caller: &Caller, event: &Event) -> Result<Response, InvokeError> {
        let payload = if self.settings.proxy { event_json(caller, event) } else { message(event) };
        let request = self.request(caller, payload)?;
        let result = check_invoked(self.client.send_for(Claim::of(caller, event), request).await?)?;
        let response = if self.settings.proxy {
            parse_proxy_response(&result)?
        } else {
            self.map_response(caller, event, &result)?
        };
        check_message_size(response, caller.message_bytes_max(self.message_bytes))
    }

    /// Calls the function with this payload and returns its result, which may be an error of the function.
    pub async fn call(&self, caller: &Caller, payload: Bytes) -> Result<http::Response<Bytes>, InvokeError> {
        let request = self.request(caller, payload)?;
        check_invoked(self.client.send(request).await?)
    }

    fn request(&self, caller: &Caller, payload: Bytes) -> Result<Request<Bytes>, InvokeError> {
        let url = self.settings.url.uri(caller, |_| None, &[]).map_err(InvokeError::failed)?;
        let host = url.authority().map_or("", |authority| authority.as_str()).to_owned();
        let headers = [
            ("host", host),
            ("content-type", "application/json".to_owned()),
            ("x-amz-invocation-type", "RequestResponse".to_owned()),
        ];
        let headers = headers.map(|(name, value)| (name.to_owned(), value));
        let mut request = Request::post(&url).header(USER_AGENT, concat!("jackfield/", env!("CARGO_PKG_VERSION")));
        if let Some(signer) = &self.settings.signer {
            let signer = Signer { region: region(&url).unwrap_or(&signer.region).to_owned(), ..signer.clone() };
            let (path, query) = (url.path(), url.query().unwrap_or_default());
            let signed = sigv4::Request { method: "POST", path, query, headers: &headers };
            let SignatureHeaders { amz_date, authorization } = signer.sign(&signed, BodyHash::sha256(&payload), now());
            request = request.header(AMZ_DATE, amz_date).header(AUTHORIZATION, authorization);
        }
        for (name, value) in headers {
            request = request.header(name, value);
        }
        Ok(request.body(payload).expect("URI and headers are valid"))
    }

    /// Applies the integration response that the function's result selects.
    fn map_response(
        &self,
        caller: &Caller,
        event: &Event,
        result: &http::Response<Bytes>,
    ) -> Result<Response, InvokeError> {
        let body = std::str::from_utf8(result.body());
        let body = body.map_err(|_| InvokeError::Malformed("a body that is not UTF-8".to_owned()))?;
        let error = error_message(body);
        let Some(integration_response) = self.settings.responses.select(&error) else {
            let found = function_failure(result.body()).unwrap_or_else(|| "no error".to_owned());
            let text = format!("{found}, for which responses has neither a pattern nor $default");
            return Err(InvokeError::Malformed(text));
        };
        // This is the status of the Invoke call. The integration response sets the status of the peer's response.
        let status = StatusCode::OK.as_u16();
        let scope = Scope { caller, event, body: Some(body), response: Some((status, result.headers())) };
        let payload = Some(body).filter(|body| !body.is_empty()).map(|body| Payload::from(body.to_owned()));
        let max = caller.message_bytes_max(self.message_bytes);
        let response = integration_response.render(status, &scope, payload, max);
        response.map_err(|_| InvokeError::Malformed(format!("a body of more than {max} bytes from its template")))
    }
}

/// Returns the region in the name of an AWS endpoint, such as `lambda.eu-west-1.amazonaws.com`; `None` for other hosts.
fn region(url: &Uri) -> Option<&str> {
    let mut labels = url.host()?.split('.').skip_while(|label| !matches!(*label, "lambda" | "lambda-fips"));
    labels.next()?;
    let region = labels.next()?;
    let is_aws = labels.any(|label| matches!(label, "amazonaws" | "aws"));
    is_aws.then_some(region)
}

fn event_json(caller: &Caller, event: &Event) -> Bytes {
    let json = serde_json::to_vec(&EventJson { caller, event });
    json.expect("every part of an event can be written as JSON").into()
}

/// Returns the payload without proxy integration: the message alone, or an empty object for events that have no
/// message.
fn message(event: &Event) -> Bytes {
    match event {
        Event::Message { body: Payload::Text(text), .. } => text.clone().into(),
        Event::Message { body: Payload::Binary(bytes), .. } => bytes.clone(),
        Event::Connect { .. } | Event::Disconnect(_) => Bytes::from_static(b"{}"),
    }
}

/// Parses the result of a function under proxy integration: its response, or its error.
fn parse_proxy_response(result: &http::Response<Bytes>) -> Result<Response, InvokeError> {
    if let Some(failure) = function_failure(result.body()) {
        return Err(InvokeError::failed(failure));
    }
    if let Some(kind) = result.headers().get("x-amz-function-error") {
        return Err(InvokeError::failed(String::from_utf8_lossy(kind.as_bytes()).into_owned()));
    }
    proxy_response::parse(result.body()).map_err(|error| InvokeError::Malformed(error.to_string()))
}

/// Returns the result if the service called the function. The error says why it did not, such as
/// `ResourceNotFoundException`.
fn check_invoked(result: http::Response<Bytes>) -> Result<http::Response<Bytes>, InvokeError> {
    if result.status().is_success() {
        return Ok(result);
    }
    let kind = result.headers().get("x-amzn-errortype").and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    Err(InvokeError::failed(format!("the Invoke API returned {} {kind}", result.status()).trim_end().to_owned()))
}

/// `$integration.response.body.errorMessage`, which selects the integration response; empty if there is none.
fn error_message(body: &str) -> String {
    #[derive(Deserialize)]
    struct Failure {
        #[serde(rename = "errorMessage")]
        error_message: String,
    }
    json::parse::<Failure>(body.as_bytes()).map(|failure| failure.error_message).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_region_is_read_from_the_name_of_an_aws_endpoint() {
        for (url, expected) in [
            ("https://lambda.eu-west-1.amazonaws.com/2015", Some("eu-west-1")),
            ("https://lambda-fips.us-gov-west-1.amazonaws.com:443/", Some("us-gov-west-1")),
            ("https://lambda.cn-north-1.amazonaws.com.cn/", Some("cn-north-1")),
            ("https://lambda.eu-central-1.api.aws/", Some("eu-central-1")),
            ("https://vpce-1-a.lambda.us-east-1.vpce.amazonaws.com/", Some("us-east-1")),
            ("http://127.0.0.1:4566/", None),
            ("http://lambda.internal.example/", None),
            ("http://lambda/", None),
        ] {
            assert_eq!(region(&url.parse().unwrap()), expected, "{url}");
        }
    }
}
