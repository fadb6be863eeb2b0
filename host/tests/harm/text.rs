//! Text that is not text: bytes that are not UTF-8, and strings outside of a guest's memory.

use std::fs;

use crate::harm::{Attack, site, status};
use crate::wat;
use crate::wire::UPGRADE;

const INTERNAL: &str = "Internal server error";

/// A guest whose response depends on the letter of the message; `a` is answered with `x`.
fn guest() -> String {
    // The response is at `RESPONSE_ADDRESS` and its one character at 600. Page 2 of the memory is the last one.
    let import = r#"(import "jackfield:gateway/connection-store@0.1.0" "get" (func $get (param i32 i32 i32)))"#;
    let bad_byte = "(i32.store8 (i32.const 600) (i32.const 0xff))";
    let actions = [
        ('b', bad_byte.to_owned()),
        // A character of two bytes, of which the second is missing.
        ('c', "(i32.store8 (i32.const 600) (i32.const 0xc3))".to_owned()),
        // The text of a failure.
        (
            'd',
            format!(
                "{bad_byte} (i32.store8 (i32.const 512) (i32.const 1)) (i32.store (i32.const 516) (i32.const 600)) (i32.store (i32.const 520) (i32.const 1))"
            ),
        ),
        // The name of a header, whose value is empty.
        (
            'e',
            format!(
                "{bad_byte} (i32.store (i32.const 616) (i32.const 600)) (i32.store (i32.const 620) (i32.const 1)) (i32.store (i32.const 520) (i32.const 616)) (i32.store (i32.const 524) (i32.const 1))"
            ),
        ),
        // An argument of a host function.
        ('f', format!("{bad_byte} (call $get (i32.const 600) (i32.const 1) (i32.const 8192))")),
        // A body that begins at the end of the memory, and one that is longer than every memory.
        ('g', "(i32.store (i32.const 536) (i32.const 0x1ffff)) (i32.store (i32.const 540) (i32.const 2))".to_owned()),
        (
            'h',
            "(i32.store (i32.const 536) (i32.const 0xffffffff)) (i32.store (i32.const 540) (i32.const 0xffffffff))"
                .to_owned(),
        ),
        // An argument outside of the memory, and a result that does not fit into it.
        ('i', "(call $get (i32.const 0xfffffff0) (i32.const 0x7fffffff) (i32.const 8192))".to_owned()),
        ('j', "(call $get (i32.const 600) (i32.const 1) (i32.const 0x1fffc))".to_owned()),
    ];
    let body: String = actions
        .iter()
        .map(|(letter, action)| {
            let letter = u32::from(*letter);
            format!("(if (i32.eq (i32.load8_u (local.get 12)) (i32.const {letter})) (then {action}))\n")
        })
        .collect();
    let body = format!("(i32.store8 (i32.const 600) (i32.const 120)) {body} (i32.const {})", wat::RESPONSE_ADDRESS);
    wat::handler("", &body).replacen("(module", &format!("(module {import}"), 1)
}

async fn start(name: &'static str) -> Attack {
    let site = site("guest.wasm".as_ref(), "", r#"grants = ["connection-store"]"#);
    fs::write(site.path().join("guest.wasm"), wat::lean_module(&guest())).unwrap();
    Attack::start_in(name, &site).await
}

#[tokio::test]
async fn strings_of_a_guest_that_are_not_utf_8_or_outside_of_its_memory_fail_only_its_event() {
    let attack = start("wrong UTF-8 of a guest").await;
    let mut peer = attack.server.connect("").await;
    for letter in 'b'..='j' {
        let answer = peer.ask(&letter.to_string()).await;
        assert!(answer.contains(INTERNAL), "to {letter}: {answer}");
        // The next event of the same connection has a new instance.
        assert_eq!(peer.ask("a").await, "x", "after {letter}");
    }
    attack.end(16).await;
}

#[tokio::test]
async fn handshakes_with_bytes_that_are_not_utf_8_and_messages_of_many_brackets_are_answered() {
    let attack = start("wrong UTF-8 and deep JSON of peers").await;
    let request = |path: &str, header: &str| format!("GET {path} HTTP/1.1\r\n{UPGRADE}{header}\r\n");
    for (what, request) in [
        ("a query", request("/dev?name=%ff%fe", "")),
        ("a path", request("/dev%ff", "")),
        (
            "an id",
            "GET /dev/@connections/%ff%fe%00 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".to_owned(),
        ),
        ("a header", request("/dev", "X-Latin: \u{ff}\u{fe}\r\n")),
    ] {
        // The characters above 0x7f of a request stand for single bytes.
        let bytes: Vec<u8> = request.chars().map(|letter| letter as u8).collect();
        let status = status(attack.server.address, &bytes).await;
        assert!([101, 400, 403, 426].contains(&status), "{what}: {status}");
    }
    let mut peer = attack.server.connect("").await;
    for (open, close) in [("[", "]"), (r#"{"a":"#, "}"), (r#"{"action":"#, "}")] {
        let depth = 32_000 / (open.len() + close.len());
        // The message selects no route of its own, so `$default` answers.
        assert_eq!(peer.ask(&format!("{}1{}", open.repeat(depth), close.repeat(depth))).await, "x");
        assert_eq!(peer.ask(&open.repeat(depth)).await, "x");
    }
    attack.end(16).await;
}
