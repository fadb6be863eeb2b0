//! The files of the store: what is served of a lost or damaged one, exports, and a full disk.

use std::fs::{self, Permissions};
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::harm;
use crate::harness::{Server, Site, eventually};

/// Writes a key, and stops the server. Returns its site and its export.
async fn stopped_with_a_key(value: &str) -> (Site, PathBuf) {
    let mut server = Site::hostile().serve();
    assert_eq!(server.connect("").await.ask(&format!("set colour {value}")).await, "set");
    let site = stop(&mut server).await;
    let exports = exports(&site);
    assert_eq!(exports.len(), 1, "a server that stops writes an export");
    (site, exports[0].clone())
}

async fn stop(server: &mut Server) -> Site {
    server.signal("TERM");
    assert_eq!(server.wait_for_exit().await, Some(0));
    server.site.clone()
}

fn exports(site: &Site) -> Vec<PathBuf> {
    let entries = fs::read_dir(site.path().join("data/exports")).unwrap();
    let mut exports: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    exports.sort();
    exports
}

/// The path of an export as the verbs print it.
fn display_name(export: &Path) -> String {
    format!("data/exports/{}", export.file_name().unwrap().to_str().unwrap())
}

async fn colour(site: &Site) -> String {
    let mut server = site.clone().serve();
    let colour = server.connect("").await.ask("get colour").await;
    stop(&mut server).await;
    colour
}

#[tokio::test]
async fn a_store_whose_files_were_lost_is_not_served_empty_and_an_import_brings_it_back() {
    let (site, export) = stopped_with_a_key("blue").await;
    let data = site.path().join("data");
    fs::remove_file(data.join("db")).unwrap();
    let (code, _, stderr) = site.run(&["serve"]);
    assert_eq!(code, 1);
    assert!(stderr.contains("is lost: found jackfield-store"), "{stderr}");
    assert!(
        stderr.contains("jackfield store import --replace ") && stderr.contains(&display_name(&export)),
        "{stderr}"
    );

    let (code, stdout, _) = site.run(&["store", "check"]);
    assert_eq!(code, 1, "{stdout}");
    assert!(stdout.contains(&format!("good export: {}: 3 keys and 0 rows of 20", display_name(&export))), "{stdout}");
    assert!(stdout.contains("bad store: the store in ") && stdout.contains(" is lost"), "{stdout}");
    assert!(stdout.ends_with(&format!("last good export: {}\n", display_name(&export))), "{stdout}");

    let (code, stdout, stderr) = site.run(&["store", "import", &display_name(&export)]);
    assert_eq!((code, stdout.starts_with("imported 3 keys and 0 rows of 20")), (0, true), "{stdout}{stderr}");
    let (_, moved_to) = stdout.trim_end().split_once("; the files of the store before are in ").unwrap();
    assert!(site.path().join(moved_to).join("conf").exists(), "what was left of the lost store is kept");
    let (code, stdout, _) = site.run(&["store", "check"]);
    assert_eq!((code, stdout.contains("good store: data\n")), (0, true), "{stdout}");
    assert_eq!(colour(&site).await, "blue");

    // A folder that was deleted as a whole begins empty.
    fs::remove_dir_all(&data).unwrap();
    assert_eq!(colour(&site).await, "none");
}

#[tokio::test]
async fn a_damaged_store_is_rejected_with_the_name_of_the_last_good_export_and_is_kept_by_an_import() {
    let (site, export) = stopped_with_a_key("blue").await;
    let database = site.path().join("data/db");
    let mut bytes = fs::read(&database).unwrap();
    bytes.iter_mut().for_each(|byte| *byte ^= 0x55);
    fs::write(&database, &bytes).unwrap();
    // A newer export that is damaged too is not the one to import.
    let newer = site.path().join("data/exports/store-2999-01-01T00-00-00.000Z.export");
    fs::write(&newer, &fs::read(&export).unwrap()[..50]).unwrap();
    for arguments in [&["serve"][..], &["store", "export"]] {
        let (code, _, stderr) = site.run(arguments);
        assert_eq!(code, 1);
        assert!(stderr.contains("is damaged (") && stderr.contains(&display_name(&export)), "{stderr}");
    }
    let (code, stdout, _) = site.run(&["store", "check"]);
    assert_eq!(code, 1);
    let bad = format!("bad export: {}: it is incomplete: found its end before its checksum", display_name(&newer));
    assert!(stdout.contains(&bad) && stdout.ends_with(&format!("{}\n", display_name(&export))), "{stdout}");

    let (code, _, stderr) = site.run(&["store", "import", &display_name(&newer), "--replace"]);
    assert_eq!((code, stderr.contains("it is incomplete")), (1, true), "{stderr}");
    let (code, _, stderr) = site.run(&["store", "import", &display_name(&export)]);
    assert_eq!((code, stderr.contains("add --replace")), (1, true), "{stderr}");
    let (code, stdout, stderr) = site.run(&["store", "import", &display_name(&export), "--replace"]);
    assert_eq!(code, 0, "{stderr}");
    let (_, moved_to) = stdout.trim_end().split_once("; the files of the store before are in ").unwrap();
    assert!(fs::read(site.path().join(moved_to).join("db")).unwrap().len() >= bytes.len() / 2);
    assert_eq!(colour(&site).await, "blue");
}

#[tokio::test]
async fn a_store_in_use_is_neither_exported_nor_replaced_and_two_exports_are_kept() {
    let (site, export) = stopped_with_a_key("blue").await;
    let copy = site.path().join("copy.export");
    let (code, stdout, stderr) = site.run(&["store", "export", "--to", "copy.export"]);
    assert_eq!((code, &*stderr), (0, ""), "{stdout}");
    assert!(stdout.ends_with(" to copy.export\n"), "{stdout}");
    for value in ["red", "green"] {
        let mut server = site.clone().serve();
        assert_eq!(server.connect("").await.ask(&format!("set colour {value}")).await, "set");
        for arguments in [&["store", "export"][..], &["store", "import", "copy.export", "--replace"]] {
            let (code, _, stderr) = site.run(arguments);
            assert_eq!((code, stderr.contains("in use by another process")), (1, true), "{stderr}");
        }
        let (code, stdout, _) = site.run(&["store", "check"]);
        assert_eq!((code, stdout.contains("is in use by a server, so it was not read")), (0, true), "{stdout}");
        stop(&mut server).await;
    }
    let kept = exports(&site);
    assert_eq!((kept.len(), kept.contains(&export)), (2, false));
    for (export, expected) in [(&kept[0], "red"), (&kept[1], "green"), (&copy, "blue")] {
        let (code, _, stderr) = site.run(&["store", "import", export.to_str().unwrap(), "--replace"]);
        assert_eq!(code, 0, "{stderr}");
        assert_eq!(colour(&site).await, expected);
    }
}

#[tokio::test]
async fn only_the_user_of_the_server_can_enter_the_folder_of_the_store() {
    let site = Site::hostile();
    let data = site.path().join("data");
    fs::create_dir(&data).unwrap();
    fs::set_permissions(&data, Permissions::from_mode(0o755)).unwrap();
    let mode = || fs::metadata(&data).unwrap().mode() & 0o7777;
    let mut server = site.serve();
    server.log.wait_for_line(&["WARN", "other users could access the store in", "(mode 0755)", "now 0700"]).await;
    assert_eq!(mode(), 0o700);
    let site = stop(&mut server).await;
    fs::remove_dir_all(&data).unwrap();
    let server = site.serve();
    assert_eq!(mode(), 0o700);
    assert!(!server.log.text().contains("other users"));
}

/// Size of the disk of the store. A store needs half a MiB at least.
const DISK_MIB: u64 = 16;
/// The bar: how long after there is room a write may still fail.
const RECOVERY_MAX: Duration = Duration::from_secs(5);

/// Starts a server whose store is on a small disk of its own. Returns the folder as this process can reach it; `None` if
/// this user may not mount one.
fn serve_on_small_disk(site: &Site) -> Option<(Server, PathBuf)> {
    fs::create_dir(site.path().join("data")).unwrap();
    let may_mount = "mount -t tmpfs -o size=1m tmpfs data";
    let tried = Command::new("unshare").args(["-m", "sh", "-c", may_mount]).current_dir(site.path()).output();
    if !tried.is_ok_and(|tried| tried.status.success()) {
        eprintln!("not tested: this user may not mount a small disk (it needs unshare, mount and the rights of root)");
        return None;
    }
    let serve = site.command(&["serve"]);
    let mut command = Command::new("unshare");
    let script = format!("mount -t tmpfs -o size={DISK_MIB}m,mode=700 tmpfs data && exec \"$@\"");
    command.args(["-m", "sh", "-c", &script, "sh"]).arg(serve.get_program()).args(serve.get_args());
    command.current_dir(site.path());
    for (name, value) in serve.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    let server = site.clone().launch(command);
    // The mount is visible only in the process of the server.
    let data = format!("/proc/{}/root{}", server.process.id(), site.path().join("data").display());
    Some((server, data.into()))
}

/// Fills the disk with one file.
fn fill(data: &Path) -> PathBuf {
    let path = data.join("filler");
    let mut file = fs::File::create(&path).unwrap();
    while file.write_all(&[0; 4096]).is_ok() {}
    path
}

/// Seen: after a full disk, every write failed until the server was restarted, and each failure was a line of the log.
#[tokio::test]
async fn after_a_full_disk_writes_succeed_again_and_no_acknowledged_write_is_lost() {
    let site = Site::hostile_with("[backend]\nflush_interval = \"20ms\"\n");
    let Some((mut server, data)) = serve_on_small_disk(&site) else { return };
    let mut peer = server.connect("").await;
    let mut acknowledged = Vec::new();
    for round in 0..2 {
        assert_eq!(peer.ask("set before kept").await, "set");
        let filler = fill(&data);
        let began = Instant::now();
        let mut failed = 0;
        for number in 0.. {
            let key = format!("key-{round}-{number}");
            let answer = peer.ask(&format!("set {key} {}", "x".repeat(500))).await;
            if answer == "set" {
                acknowledged.push(key);
            } else {
                assert!(answer.contains("No space left on device") || answer.contains("disk"), "{answer}");
                failed += 1;
            }
            if failed > 200 {
                break;
            }
            assert!(began.elapsed() < Duration::from_secs(60), "no write has failed after {number}");
        }
        // Keys are still read, and connections come and go.
        assert_eq!(peer.ask("get before").await, "kept");
        server.connect("").await.close(1000, "").await;
        let log = server.log.text();
        let lines = log.matches("cannot write the store").count();
        let lines_max = 1 + usize::try_from(began.elapsed().as_secs() / 10).unwrap() + round;
        assert!((1..=lines_max).contains(&lines), "{lines} lines in {:?}", began.elapsed());
        assert_eq!(log.matches(" ERROR ").count(), lines, "sled has no lines of its own: {log}");

        fs::remove_file(filler).unwrap();
        let room = Instant::now();
        let retry = tokio::sync::Mutex::new(&mut peer);
        eventually("writes succeed again", async || retry.lock().await.ask("set after room").await == "set").await;
        harm::measure_time("a full disk", "until writes succeed again", room.elapsed(), RECOVERY_MAX);
        let recoveries = || server.log.text().matches(" s after its failure").count();
        eventually("the recovery is logged", async || recoveries() == round + 1).await;
    }
    // The disk fails just before the stop, and has room a moment later.
    let filler = fill(&data);
    let retry = tokio::sync::Mutex::new(&mut peer);
    eventually("a write fails", async || {
        retry.lock().await.ask(&format!("set last {}", "x".repeat(5000))).await != "set"
    })
    .await;
    fs::remove_file(filler).unwrap();
    assert_eq!(peer.ask("get after").await, "room");
    for key in &acknowledged {
        assert_ne!(peer.ask(&format!("get {key}")).await, "none", "{key} was acknowledged");
    }
    drop(peer);
    server.signal("TERM");
    assert_eq!(server.wait_for_exit().await, Some(0));
}
