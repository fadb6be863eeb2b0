//! Calls that are no functions of the contract: what a handler does with the means of its own language.

use std::hash::{BuildHasher as _, RandomState};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use super::calls::Call;
use super::values::{hex, to_bytes};
use crate::{Result, log};

/// Makes a call whose name begins with `language.`.
///
/// # Errors
/// If the call is `language.throw`.
pub fn call(call: &Call<'_>) -> Result<Value> {
    Ok(match call.name() {
        "language.clock" => {
            let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is later than 1970");
            json!({ "ok": since.as_millis() as u64 })
        }
        // Each state has 128 random bits, of which a hash shows 64.
        "language.random" => {
            json!({ "ok": format!("{:016x}{:016x}", RandomState::new().hash_one(0), RandomState::new().hash_one(1)) })
        }
        "language.print" => {
            println!("{}", call.text("text"));
            json!("ok")
        }
        "language.log" => {
            let text = call.text("text");
            match call.text("level") {
                "trace" => log::trace(text),
                "debug" => log::debug(text),
                "info" => log::info(text),
                "warn" => log::warn(text),
                "error" => log::error(text),
                "critical" => log::critical(text),
                level => panic!("{level:?} is no level"),
            }
            json!("ok")
        }
        "language.json" => match serde_json::from_str::<Value>(call.text("text")) {
            Ok(value) => json!({ "ok": value.to_string() }),
            Err(_) => json!("invalid"),
        },
        "language.throw" => return Err(call.text("message").into()),
        "language.panic" => panic!("{}", call.text("message")),
        "language.loop" => loop {
            std::hint::spin_loop();
        },
        "language.allocate" => {
            let bytes = vec![1_u8; call.number("bytes") as usize];
            assert_eq!(std::hint::black_box(&bytes).last(), Some(&1));
            json!("ok")
        }
        "language.binary" => json!({ "ok": hex(&to_bytes(call.0)) }),
        name => panic!("{name:?} is no call"),
    })
}
