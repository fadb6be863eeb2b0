//! Uses too much of each resource that the host limits.

use std::hint::black_box;
use std::thread::sleep;
use std::time::{Duration, Instant};

use jackfield_sdk::connections;
use jackfield_sdk::kv::{Bucket, KvError};
use jackfield_sdk::log::{self, Level};
use jackfield_sdk::prelude::RequestContext;

/// Recurses `depth` times. Its frames use only the native stack and no linear memory.
#[inline(never)]
pub fn descend(depth: u64) -> u64 {
    if depth == 0 { 1 } else { descend(depth - 1).wrapping_mul(3) ^ depth }
}

/// Computes for this time.
pub fn work(time: Duration) {
    let started = Instant::now();
    while started.elapsed() < time {
        for step in 0..1000_u32 {
            black_box(step);
        }
    }
}

/// Computes `count` steps, each of which takes about as long as any other.
pub fn steps(count: usize) {
    for step in 0..count {
        black_box(step);
    }
}

/// Sleeps `count` times for a short time, without computing.
pub fn naps(count: usize) {
    for _ in 0..count {
        sleep(Duration::from_millis(11));
    }
}

/// Allocates up to so many blocks of one mebibyte, until an allocation fails. Returns the blocks.
pub fn grow(mebibytes: usize) -> Vec<Vec<u8>> {
    let mut held = Vec::new();
    for _ in 0..mebibytes {
        let mut block: Vec<u8> = Vec::new();
        if block.try_reserve_exact(1 << 20).is_err() {
            break;
        }
        block.push(1);
        held.push(black_box(block));
    }
    held
}

/// Allocates memory in one block, and traps if the allocation fails.
pub fn allocate(mebibytes: usize) -> usize {
    black_box(vec![1_u8; mebibytes << 20]).len() >> 20
}

/// Opens `count` buckets at the same time. Returns how many it could open.
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

/// Opens `count` files or sockets at the same time. Returns how many it could open.
pub fn hold_many<T>(count: usize, open: impl Fn() -> std::io::Result<T>) -> String {
    let mut held = Vec::new();
    while held.len() < count {
        match open() {
            Ok(opened) => held.push(opened),
            Err(error) => return format!("{} then {error}", held.len()),
        }
    }
    held.len().to_string()
}

/// Looks up a missing key `count` times.
pub fn lookups(count: usize) -> Result<usize, KvError> {
    let bucket = Bucket::open("shared")?;
    for _ in 0..count {
        bucket.exists("nothing")?;
    }
    Ok(count)
}

/// Gets `count` random bytes with one call.
pub fn random(count: usize) -> usize {
    wasip2::random::random::get_random_bytes(count as u64).len()
}

/// Posts one message of `bytes` bytes to its own connection.
pub fn post_large(context: &RequestContext, bytes: usize) -> String {
    match connections::post(&context.connection_id, "x".repeat(bytes)) {
        Ok(()) => "posted".to_owned(),
        Err(error) => format!("error: {error}"),
    }
}

/// Posts to `count` connections with one call. Returns how many of the results are the same as the last one.
pub fn post_many(context: &RequestContext, count: usize) -> String {
    let results = connections::post_many((0..count).map(|_| &*context.connection_id), "x");
    let last = results.last().copied();
    let same = results.iter().filter(|result| Some(**result) == last).count();
    match last {
        Some(Err(error)) => format!("{} posted, {same} refused: {error}", count - same),
        _ => format!("{same} posted"),
    }
}

/// Logs one word `count` times, with a context of `bytes` bytes.
pub fn log_in_context(bytes: usize, count: usize) {
    let context = "c".repeat(bytes);
    for _ in 0..count {
        log::log(Level::Info, &context, "word");
    }
}

/// Logs a very short or empty line `count` times with one call.
pub fn log_short_lines(line: &str, count: usize) {
    log::info(format!("{line}\n").repeat(count));
}
