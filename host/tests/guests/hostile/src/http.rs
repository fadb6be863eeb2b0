//! GET requests over wasi:http.

use wasip2::http::outgoing_handler;
use wasip2::http::types::{Fields, OutgoingRequest, Scheme};

/// Returns the status and the body of `http://host:port/path`, or the error.
pub fn fetch(url: &str) -> String {
    match try_fetch(url) {
        Ok(answer) => format!("{} {}", answer.status, answer.body),
        Err(error) => format!("error: {error}"),
    }
}

/// As `fetch`, and follows every redirect to an absolute URL.
pub fn follow(url: &str) -> String {
    let mut url = url.to_owned();
    for redirects in 0..10 {
        match try_fetch(&url) {
            Ok(Answer { location: Some(location), .. }) => url = location,
            Ok(answer) => return format!("after {redirects} redirects: {} {}", answer.status, answer.body),
            Err(error) => return format!("after {redirects} redirects: error: {error}"),
        }
    }
    "too many redirects".to_owned()
}

struct Answer {
    status: u16,
    location: Option<String>,
    body: String,
}

fn try_fetch(url: &str) -> Result<Answer, String> {
    let (scheme, rest) = url.split_once("://").ok_or("no scheme")?;
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let request = OutgoingRequest::new(Fields::new());
    let scheme = if scheme == "https" { Scheme::Https } else { Scheme::Http };
    request.set_scheme(Some(&scheme)).map_err(|()| "bad scheme")?;
    request.set_authority(Some(authority)).map_err(|()| "bad authority")?;
    request.set_path_with_query(Some(&format!("/{path}"))).map_err(|()| "bad path")?;
    let future = outgoing_handler::handle(request, None).map_err(|error| format!("{error:?}"))?;
    future.subscribe().block();
    let response = future.get().ok_or("not ready")?.map_err(|()| "taken")?.map_err(|error| format!("{error:?}"))?;
    let location = response.headers().get("location").into_iter().next();
    let location = location.map(|value| String::from_utf8_lossy(&value).into_owned());
    let body = response.consume().map_err(|()| "no body")?;
    let stream = body.stream().map_err(|()| "no stream")?;
    let mut bytes = Vec::new();
    while let Ok(more) = stream.blocking_read(64 * 1024) {
        bytes.extend(more);
    }
    Ok(Answer { status: response.status(), location, body: String::from_utf8_lossy(&bytes).into_owned() })
}
