//! Request bodies of `@connections` that never end.

use futures_util::future::join_all;

use crate::harm::{Attack, assert_rejected, flood, measure};
use crate::harness::{HOSTILE, HOSTILE_GRANTS, component};

/// Connections of each kind of endless body.
const ENDLESS_BODIES: usize = 20;
/// What the server may accept of one such body: it discards 16 MiB twice at most, and both kernels have buffers.
const ACCEPTED_BYTES_MAX: usize = 64 * 1024 * 1024;

#[tokio::test]
async fn bodies_without_an_end_are_cut_off_and_kept_nowhere() {
    let name = "endless bodies";
    let attack = Attack::start(name, &component(HOSTILE), "", HOSTILE_GRANTS).await;
    let mut peer = attack.server.connect("").await;
    let id = peer.id().await;
    let head = |path: &str, headers: &str| format!("POST {path} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n\r\n");
    let post = format!("/dev/@connections/{id}");
    let chunked = head(&post, "Transfer-Encoding: chunked");
    let letters = "a".repeat(64 * 1024);
    let chunk = format!("10000\r\n{letters}\r\n");
    let small_chunks = "1\r\na\r\n".repeat(10_000);
    let (trailers, more_trailers) = (format!("{chunked}0\r\n"), "X-Many: 1\r\n".repeat(6_000));
    let mut accepted = 0;
    for (what, start, more) in [
        ("a body of a tebibyte", head(&post, "Content-Length: 1099511627776"), &*letters),
        ("a length that is no number", head(&post, "Content-Length: 99999999999999999999999"), &letters),
        ("chunks without an end", chunked.clone(), &chunk),
        ("chunks of one byte without an end", chunked.clone(), &small_chunks),
        ("a chunk extension without an end", format!("{chunked}1;"), &letters),
        ("a chunk of any length", format!("{chunked}fffffffffffffff\r\n"), &letters),
        ("trailers without an end", trailers, &more_trailers),
        ("a body for an unknown connection", head("/dev/@connections/none", "Content-Length: 1099511627776"), &letters),
        ("a body for an unknown path", head("/nothing", "Transfer-Encoding: chunked"), &chunk),
    ] {
        let floods = (0..ENDLESS_BODIES)
            .map(|_| flood(attack.server.address, start.as_bytes(), more.as_bytes(), ACCEPTED_BYTES_MAX));
        let floods = join_all(floods).await;
        assert_rejected(what, &floods);
        accepted = floods.iter().map(|flood| flood.bytes).fold(accepted, usize::max);
    }
    let mib = 1024 * 1024;
    measure(
        name,
        "accepted of one body: at most 64 MiB",
        &format!("{} MiB", accepted / mib),
        accepted <= ACCEPTED_BYTES_MAX,
    );
    // Nothing of these bodies was delivered.
    assert_eq!(peer.ask("echo nothing else").await, "nothing else");
    attack.end(64).await;
}
