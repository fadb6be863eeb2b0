//! Component files that are much too large, that are no files, and that change while they are read and compiled.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, id};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::components::{EMPTY_COMPONENT, hostile_version, large_hostile, replace_file, wait_for_version};
use crate::harm::{Attack, MemoryPeak, hostile_site};
use crate::harness::{Server, TEST_TIMEOUT};

const MIB: usize = 1024 * 1024;
/// The largest component file, `COMPONENT_BYTES_MAX`.
const FILE_BYTES_MAX: usize = 64 * MIB;

/// A component with a custom section at its end, so that the file has `length` bytes.
fn padded(mut component: Vec<u8>, length: usize) -> Vec<u8> {
    // A custom section: its id, its length in five bytes, and its name, which is empty.
    let content = length - component.len() - 6;
    component.push(0);
    for shift in [0, 7, 14, 21, 28] {
        let more = if shift < 28 { 0x80 } else { 0 };
        component.push((content >> shift) as u8 & 0x7f | more);
    }
    component.resize(length, 0);
    component
}

async fn start(name: &'static str) -> Attack {
    Attack::start_in(name, &hostile_site(&hostile_version(1))).await
}

/// Replaces the component by what `place` makes at the path, and waits until the log has the words.
async fn assert_rejected(server: &Server, place: impl FnOnce(&Path), words: &str) {
    let guest = server.site.path().join("guest.wasm");
    let new = guest.with_extension("new");
    place(&new);
    fs::rename(&new, &guest).unwrap();
    server.log.wait_for_line(&["guest.wasm", words]).await;
    assert_eq!(server.connect("").await.ask("version").await, "00000001");
}

#[tokio::test]
async fn a_component_of_100_mb_is_rejected_unread_and_one_of_64_mib_goes_live() {
    let name = "100 MB dropped in";
    let attack = start(name).await;
    let words = "100000000 bytes, more than the limit of 67108864";
    assert_rejected(
        &attack.server,
        |path| fs::write(path, padded(EMPTY_COMPONENT.to_vec(), 100_000_000)).unwrap(),
        words,
    )
    .await;
    // The file has no blocks on the disk, but its length counts.
    let sparse = |path: &Path| File::create(path).unwrap().set_len(1 << 40).unwrap();
    assert_rejected(&attack.server, sparse, "1099511627776 bytes, more than the limit of 67108864").await;
    let server = attack.end(16).await;

    let guest = server.site.path().join("guest.wasm");
    let one_more = padded(hostile_version(2), FILE_BYTES_MAX + 1);
    assert_rejected(
        &server,
        |path| fs::write(path, one_more).unwrap(),
        "67108865 bytes, more than the limit of 67108864",
    )
    .await;
    let memory = MemoryPeak::start(&server);
    replace_file(&guest, padded(hostile_version(2), FILE_BYTES_MAX));
    wait_for_version(&mut server.connect("").await, 2, 1).await;
    // The file is in memory once, and what is made of it.
    memory.measure(name, "memory for 64 MiB", 192);
}

#[tokio::test]
async fn a_component_that_is_a_pipe_a_device_or_a_loop_of_links_is_rejected_unread() {
    let attack = start("no file dropped in").await;
    let pipe = |path: &Path| assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
    assert_rejected(&attack.server, pipe, "not a file").await;
    assert_rejected(&attack.server, |path| symlink("guest.wasm", path).unwrap(), "symbolic links").await;
    assert_rejected(&attack.server, |path| symlink("/dev/zero", path).unwrap(), "not a file").await;
    replace_file(&attack.server.site.path().join("guest.wasm"), hostile_version(2));
    wait_for_version(&mut attack.server.connect("").await, 2, 1).await;
    attack.end(16).await;
}

#[tokio::test]
async fn a_component_that_is_replaced_while_it_compiles_goes_live_in_its_last_version() {
    let attack = start("files replaced while they compile").await;
    let guest = attack.server.site.path().join("guest.wasm");
    let mut peer = attack.server.connect("").await;
    // The numbers make components that are not in the cache of compiled code.
    let first = id() % 1_000_000 * 10 + 2;
    let numbers = first..first + 4;
    for number in numbers.clone() {
        replace_file(&guest, large_hostile(number, 3));
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    // Versions may be skipped, but none goes back to an older one.
    let (mut newest, deadline) = (1, Instant::now() + 2 * TEST_TIMEOUT);
    while newest != numbers.end - 1 {
        assert!(Instant::now() < deadline, "the last version is not live");
        let version = peer.ask("version").await.parse().unwrap();
        assert!(version == newest || version > newest && numbers.contains(&version), "{version} after {newest}");
        newest = version;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    attack.end(256).await;
}

#[tokio::test]
async fn a_component_that_is_overwritten_again_and_again_goes_live_when_it_is_whole() {
    let attack = start("files overwritten in place").await;
    let guest = attack.server.site.path().join("guest.wasm");
    let versions = [hostile_version(1), hostile_version(2)];
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // The same file is emptied and written in pieces, so that it is hardly ever whole.
            for version in versions.iter().cycle() {
                let mut file = File::create(&guest).unwrap();
                for piece in version.chunks(64 * 1024) {
                    file.write_all(piece).unwrap();
                    std::thread::sleep(Duration::from_millis(5));
                }
                if stop.load(Ordering::SeqCst) {
                    return;
                }
            }
        });
        std::thread::sleep(Duration::from_secs(3));
        stop.store(true, Ordering::SeqCst);
    });
    fs::write(&guest, hostile_version(3)).unwrap();
    let peer = tokio::sync::Mutex::new(attack.server.connect("").await);
    // Every answer is of a whole version.
    crate::harness::eventually("the last version is live", async || {
        let version = peer.lock().await.ask("version").await;
        assert!(["00000001", "00000002", "00000003"].contains(&&*version), "{version}");
        version == "00000003"
    })
    .await;
    attack.end(64).await;
}
