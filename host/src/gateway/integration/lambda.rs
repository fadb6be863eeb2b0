//! An integration that is a Lambda function, over the Invoke API.
//!
//! Whoever speaks it will do: the Runtime Interface Emulator of a container, SAM, LocalStack, AWS.

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, USER_AGENT};
use http::{Request, StatusCode, Uri};
use serde::Deserialize;

use crate::capability::Caller;
use crate::event::{Event, Response, now};
use crate::gateway::event_json::EventJson;
use crate::gateway::integration::client::{Client, Transport};
use crate::gateway::integration::proxy_response;
use crate::gateway::integration::responses::Responses;
use crate::gateway::integration::template::Scope;
use crate::gateway::integration::url::UrlTemplate;
use crate::limits::INTEGRATION_RESPONSE_BYTES_MAX;
use crate::payload::Payload;
use crate::runtime::{InvokeError, message_fits};
use crate::sigv4::{self, AMZ_DATE, BodyHash, Signature, Signer};

/// What the manifest says of one.
#[derive(Clone, Debug, PartialEq)]
pub struct LambdaSettings {
    /// Where it is invoked.
    pub url: UrlTemplate,
    /// Whether the function gets the event, and its answer is the response (`AWS_PROXY`). Else it
    /// gets the message alone.
    pub proxy: bool,
    pub timeout: Duration,
    /// The authorities that it believes; `None`: Mozilla's.
    pub ca_file: Option<PathBuf>,
    /// Who calls; `None`: nobody in particular.
    pub signer: Option<Signer>,
    /// How many of it run at once.
    pub concurrency: usize,
    /// Where it is no proxy: what is made of the answer, chosen by its `errorMessage`.
    pub responses: Responses,
}

pub struct Lambda {
    name: Box<str>,
    settings: LambdaSettings,
    client: Client,
    /// The largest message.
    message_bytes: usize,
}

impl Lambda {
    pub fn new(name: &str, settings: LambdaSettings, transport: Transport, message_bytes: usize) -> Self {
        let client = Client::new(transport, settings.timeout, INTEGRATION_RESPONSE_BYTES_MAX);
        let client = client.of_function(name, settings.concurrency);
        Self { name: name.into(), settings, client, message_bytes }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// Calls the function and waits for what it answers, within the timeout.
    ///
    /// # Cancel safety
    /// Dropping the future closes the connection; the function may run on unheard. One that takes longer than its timeout
    /// keeps its place until it answers.
    pub async fn invoke(&self, caller: &Caller, event: &Event) -> Result<Response, InvokeError> {
        let payload = if self.settings.proxy { event_json(caller, event) } else { message(event) };
        let request = self.request(caller, payload)?;
        let answer = served(self.client.send_in_turn(request, event.wait_max()).await?)?;
        let response = match self.settings.proxy {
            true => pass(&answer)?,
            false => self.select(caller, event, &answer)?,
        };
        message_fits(response, self.message_bytes)
    }

    /// What the function answers to this payload, which may be its failure.
    pub async fn call(&self, caller: &Caller, payload: Bytes) -> Result<http::Response<Bytes>, InvokeError> {
        let request = self.request(caller, payload)?;
        served(self.client.send(request).await?)
    }

    fn request(&self, caller: &Caller, payload: Bytes) -> Result<Request<Bytes>, InvokeError> {
        let url = self.settings.url.uri(caller, |_| None, &[]).map_err(InvokeError::Failed)?;
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
            let Signature { amz_date, authorization } = signer.sign(&signed, BodyHash::of(&payload), now());
            request = request.header(AMZ_DATE, amz_date).header(AUTHORIZATION, authorization);
        }
        for (name, value) in headers {
            request = request.header(name, value);
        }
        Ok(request.body(payload).expect("its parts are good"))
    }

    /// The integration response for what the function answered.
    fn select(&self, caller: &Caller, event: &Event, answer: &http::Response<Bytes>) -> Result<Response, InvokeError> {
        let body = std::str::from_utf8(answer.body());
        let body = body.map_err(|_| InvokeError::Malformed("what is no UTF-8".to_owned()))?;
        let error = error_message(body);
        let Some(integration_response) = self.settings.responses.select(&error) else {
            let what = proxy_response::failure(answer.body()).unwrap_or_else(|| "no error".to_owned());
            let text = format!("{what}, for which responses has neither a pattern nor $default");
            return Err(InvokeError::Malformed(text));
        };
        // The status of the call: that of the peer is the integration response's to say.
        let status = StatusCode::OK.as_u16();
        let scope = Scope { caller, event, body: Some(body), response: Some((status, answer.headers())) };
        let payload = Some(body).filter(|body| !body.is_empty()).map(|body| Payload::from(body.to_owned()));
        let max = self.message_bytes;
        let response = integration_response.answer(status, &scope, payload, max);
        response.map_err(|_| InvokeError::Malformed(format!("its template makes a body of more than {max} bytes")))
    }
}

/// The region that an endpoint of AWS has in its name, such as `lambda.eu-west-1.amazonaws.com`.
fn region(url: &Uri) -> Option<&str> {
    let mut labels = url.host()?.split('.').skip_while(|label| !matches!(*label, "lambda" | "lambda-fips"));
    labels.next()?;
    let region = labels.next()?;
    let is_of_aws = labels.any(|label| matches!(label, "amazonaws" | "aws"));
    is_of_aws.then_some(region)
}

fn event_json(caller: &Caller, event: &Event) -> Bytes {
    let json = serde_json::to_vec(&EventJson { caller, event });
    json.expect("an event has nothing that JSON has not").into()
}

/// What a function gets that is not told of the event: the message, or where there is none an empty object.
fn message(event: &Event) -> Bytes {
    match event {
        Event::Message { body: Payload::Text(text), .. } => text.clone().into(),
        Event::Message { body: Payload::Binary(bytes), .. } => bytes.clone(),
        Event::Connect { .. } | Event::Disconnect(_) => Bytes::from_static(b"{}"),
    }
}

/// A function under proxy integration has answered a response, or it has failed.
fn pass(answer: &http::Response<Bytes>) -> Result<Response, InvokeError> {
    if let Some(failure) = proxy_response::failure(answer.body()) {
        return Err(InvokeError::Failed(failure));
    }
    if let Some(kind) = answer.headers().get("x-amz-function-error") {
        return Err(InvokeError::Failed(String::from_utf8_lossy(kind.as_bytes()).into_owned()));
    }
    proxy_response::parse(answer.body()).map_err(|error| InvokeError::Malformed(error.to_string()))
}

/// The answer if it is the function's; else why the service did not call it, such as
/// `ResourceNotFoundException`.
fn served(answer: http::Response<Bytes>) -> Result<http::Response<Bytes>, InvokeError> {
    if answer.status().is_success() {
        return Ok(answer);
    }
    let kind = answer.headers().get("x-amzn-errortype").and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    Err(InvokeError::Failed(format!("the Invoke API answered {} {kind}", answer.status()).trim_end().to_owned()))
}

/// `$integration.response.body.errorMessage`, by which an integration response is chosen.
fn error_message(body: &str) -> String {
    #[derive(Deserialize)]
    struct Failure {
        #[serde(rename = "errorMessage")]
        error_message: String,
    }
    serde_json::from_str::<Failure>(body).map(|failure| failure.error_message).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_region_is_that_of_an_endpoint_of_aws_where_its_name_has_one() {
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
