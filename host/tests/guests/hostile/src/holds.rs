//! Has the host hold memory: each function keeps what it creates, waits, and returns how much there was.

wit_bindgen::generate!({
    path: "../../../../wit",
    inline: "
        package hostile:holds;
        world draft2 {
            include wasi:keyvalue/imports@0.2.0-draft2;
        }
    ",
    world: "hostile:holds/draft2",
    generate_all,
});

use std::time::Duration;

use wasi::keyvalue0_2_0_draft2::{atomics, store};
use wasip2::clocks::monotonic_clock::subscribe_duration;
use wasip2::http::types::{Fields, OutgoingBody, OutgoingRequest};
use wasip2::io::poll::poll;

/// Runs `WHAT COUNT BYTES MILLISECONDS`.
pub fn run_command(command: &str) -> String {
    let mut words = command.split(' ');
    let what = words.next().unwrap_or_default();
    let mut number = || words.next().and_then(|word| word.parse().ok()).unwrap_or(0);
    let (count, bytes, wait) = (number(), number(), Duration::from_millis(number() as u64));
    match what {
        "fields" => held(count, wait, |_| {
            let fields = Fields::new();
            fields.append("name", &vec![b'x'; bytes]).map_err(|error| format!("{error:?}"))?;
            Ok(fields)
        }),
        "paths" => held(count, wait, |_| {
            let request = OutgoingRequest::new(Fields::new());
            let path = format!("/{}", "x".repeat(bytes));
            request.set_path_with_query(Some(&path)).map_err(|()| "not a path".to_owned())?;
            Ok(request)
        }),
        "bodies" => held(count, wait, |_| {
            let request = OutgoingRequest::new(Fields::new());
            let body = request.body().map_err(|()| "no body".to_owned())?;
            let stream = body.write().map_err(|()| "no stream".to_owned())?;
            stream.write(&vec![b'x'; bytes]).map_err(|error| format!("{error:?}"))?;
            Ok::<(_, OutgoingBody, OutgoingRequest), String>((stream, body, request))
        }),
        "cas" => {
            let bucket = store::open("shared").expect("the bucket is granted");
            held(count, wait, |_| atomics::Cas::new(&bucket, "big").map_err(|error| format!("{error:?}")))
        }
        "poll" => {
            let pollable = subscribe_duration(wait.as_nanos() as u64);
            poll(&vec![&pollable; count]).len().to_string()
        }
        _ => format!("no such command: {what}"),
    }
}

/// Creates values until one fails, and waits before it drops them.
fn held<T>(count: usize, wait: Duration, create: impl FnMut(usize) -> Result<T, String>) -> String {
    let values: Result<Vec<T>, String> = (0..count).map(create).collect();
    std::thread::sleep(wait);
    match values {
        Ok(values) => values.len().to_string(),
        Err(error) => error,
    }
}
