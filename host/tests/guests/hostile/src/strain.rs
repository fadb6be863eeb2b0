//! Taking too much of whatever there is.

use std::hint::black_box;
use std::thread::sleep;
use std::time::{Duration, Instant};

use jackfield_sdk::connections;
use jackfield_sdk::kv::{Bucket, KvError};
use jackfield_sdk::log::{self, Level};
use jackfield_sdk::prelude::RequestContext;

/// Calls itself so often, on the machine's stack alone.
#[inline(never)]
pub fn descend(depth: u64) -> u64 {
    if depth == 0 { 1 } else { descend(depth - 1).wrapping_mul(3) ^ depth }
}

/// Computes for so long.
pub fn work(time: Duration) {
    let started = Instant::now();
    while started.elapsed() < time {
        for step in 0..1000_u32 {
            black_box(step);
        }
    }
}

/// Waits so often for a moment; computes nothing.
pub fn naps(count: usize) {
    for _ in 0..count {
        sleep(Duration::from_millis(11));
    }
}

/// Takes so much memory at once, and does not look whether it gets it.
pub fn hoard(mebibytes: usize) -> usize {
    black_box(vec![1_u8; mebibytes << 20]).len() >> 20
}

/// Holds so many buckets open; says how many it got.
pub fn handles(count: usize) -> String {
    let mut held = Vec::new();
    while held.len() < count {
        match Bucket::open("shared") {
            Ok(bucket) => held.push(bucket),
            Err(error) => return format!("{} then {error}", held.len()),
        }
    }
    held.len().to_string()
}

/// Looks so often for a key that is not there.
pub fn looks(count: usize) -> Result<usize, KvError> {
    let bucket = Bucket::open("shared")?;
    for _ in 0..count {
        bucket.exists("nothing")?;
    }
    Ok(count)
}

/// Random bytes, all of one call.
pub fn random(count: usize) -> usize {
    wasip2::random::random::get_random_bytes(count as u64).len()
}

/// Posts one large message to itself.
pub fn post_large(context: &RequestContext, bytes: usize) -> String {
    match connections::post(&context.connection_id, "x".repeat(bytes)) {
        Ok(()) => "posted".to_owned(),
        Err(error) => format!("error: {error}"),
    }
}

/// Posts to so many connections with one call; says how many of them answered what the last one did.
pub fn post_many(context: &RequestContext, count: usize) -> String {
    let answers = connections::post_many((0..count).map(|_| &*context.connection_id), "x");
    let last = answers.last().copied();
    let same = answers.iter().filter(|answer| Some(**answer) == last).count();
    match last {
        Some(Err(error)) => format!("{} posted, {same} refused: {error}", count - same),
        _ => format!("{same} posted"),
    }
}

/// Says one word in a context of so many bytes, so often.
pub fn log_in_context(bytes: usize, count: usize) {
    let context = "c".repeat(bytes);
    for _ in 0..count {
        log::log(Level::Info, &context, "word");
    }
}

/// Lines with nothing or next to nothing in them.
pub fn log_short_lines(line: &str, count: usize) {
    log::info(format!("{line}\n").repeat(count));
}
