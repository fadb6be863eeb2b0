//! Files that are read while a program writes them: no part of a manifest, a component or a schema is ever served.
//!
//! Seen: an editor that truncated the manifest and wrote it 0.4 s later made every message in between Forbidden, because
//! an empty file is a valid API without routes; and a manifest that was cut before the line of its authorizer admitted
//! everybody.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::components::{hostile_version, replace_file};
use crate::harness::{HOSTILE_GRANTS, Peer, Server, Site, TEST_AUTHORIZER, component, eventually, make_old};

/// How long a writer pauses between two writes.
const PAUSE: Duration = Duration::from_millis(400);

/// A manifest whose last lines say that only peers with `?decide=allow` are admitted.
fn manifest(colour: &str) -> String {
    let authorizer = component(TEST_AUTHORIZER);
    format!(
        "[api]\nstage_variables = {{ colour = {colour:?} }}\n[api_keys.first]\nhash = \"sha256:{}\"\n\
         [integrations.guest]\ncomponent = \"guest.wasm\"\n{HOSTILE_GRANTS}\n\
         [authorizers.login]\ncomponent = {authorizer:?}\n\
         grants = [\"connections\", \"connection-store\"]\n[routes]\n\
         \"$default\" = {{ integration = \"guest\", route_response = true }}\n\
         \"$connect\" = {{ integration = \"guest\", authorizer = \"login\" }}\n",
        "0".repeat(64)
    )
}

fn site() -> Site {
    let site = Site::new(&manifest("green"));
    replace_file(&site.path().join("guest.wasm"), hostile_version(1));
    site
}

/// How a program writes a file.
#[derive(Clone, Copy, Debug)]
enum Style {
    /// It opens the file once.
    HeldOpen,
    /// It closes the file after each part.
    Closed,
}

/// A program that truncates a file and then writes parts of it.
struct Writer {
    path: PathBuf,
    file: Option<File>,
    style: Style,
}

impl Writer {
    fn truncate(path: &Path, style: Style) -> Self {
        let file = File::create(path).unwrap();
        Self { path: path.to_owned(), file: matches!(style, Style::HeldOpen).then_some(file), style }
    }

    fn write(&mut self, part: &[u8]) {
        match (&mut self.file, self.style) {
            (Some(file), _) => file.write_all(part).unwrap(),
            (None, _) => File::options().append(true).open(&self.path).unwrap().write_all(part).unwrap(),
        }
    }
}

/// A server and a connected peer.
struct Scene {
    server: Server,
    peer: Peer,
}

impl Scene {
    async fn start(arguments: &[&str]) -> Self {
        Self::with(site().start(arguments)).await
    }

    async fn with(server: Server) -> Self {
        let peer = server.connect("?decide=allow&who=alice").await;
        Self { server, peer }
    }

    /// Returns what a server never does that has an authorizer and a route for messages; empty if it is not seen.
    async fn seen(&mut self) -> String {
        let denied = self.server.try_connect("?decide=deny&who=mallory", &[]).await.err();
        let answer = self.peer.ask("variable colour").await;
        let is_right = denied == Some(403) && ["green", "blue"].contains(&&*answer);
        if is_right { String::new() } else { format!("a peer without permission: {denied:?}, a message: {answer}\n") }
    }

    /// Writes another manifest in two parts, with pauses. Returns what was seen meanwhile, and the longest pause.
    async fn write_manifest_slowly(&mut self, style: Style, pause: Duration) -> (String, Duration) {
        let path = self.server.site.manifest();
        // A thread of its own writes, so that nothing else prolongs its pauses.
        let writing = std::thread::spawn(move || {
            let text = manifest("blue");
            let (first, rest) = text.split_at(text.find("\"$connect\"").unwrap());
            let mut writer = Writer::truncate(&path, style);
            let pauses = [first, rest].map(|part| {
                let start = Instant::now();
                std::thread::sleep(pause);
                writer.write(part.as_bytes());
                start.elapsed()
            });
            pauses.into_iter().max().unwrap()
        });
        let mut seen = String::new();
        while !writing.is_finished() || self.peer.ask("variable colour").await != "blue" {
            seen += &self.seen().await;
        }
        for _ in 0..10 {
            seen += &self.seen().await;
        }
        (seen, writing.join().unwrap())
    }
}

/// Writes a manifest slowly and asserts that no part of it is served. Tries again if the writer pauses for longer than
/// `pause_max`, as on a busy machine: the server does not wait for longer.
async fn assert_no_part_is_served(arguments: &[&str], style: Style, pause: Duration, pause_max: Duration) {
    for _ in 0..5 {
        let (seen, longest_pause) = Scene::start(arguments).await.write_manifest_slowly(style, pause).await;
        if longest_pause < pause_max {
            assert_eq!(seen, "", "{style:?}");
            return;
        }
    }
    panic!("the machine is too busy for this test");
}

#[tokio::test]
async fn a_manifest_is_not_served_while_its_writer_holds_it_open() {
    // Longer than the server waits for a file that its writer closes after each part.
    assert_no_part_is_served(&["serve"], Style::HeldOpen, 4 * PAUSE, 10 * PAUSE).await;
}

#[tokio::test]
async fn a_manifest_that_is_closed_after_each_part_is_not_served_before_the_last_one() {
    assert_no_part_is_served(&["serve"], Style::Closed, PAUSE, 2 * PAUSE).await;
}

#[tokio::test]
async fn with_polling_a_manifest_is_not_served_while_its_writer_pauses() {
    for style in [Style::HeldOpen, Style::Closed] {
        assert_no_part_is_served(&["serve", "--poll", "50ms"], style, PAUSE, 2 * PAUSE).await;
    }
}

#[tokio::test]
async fn a_manifest_that_its_writer_never_closes_is_served_after_ten_seconds() {
    let mut scene = Scene::start(&["serve"]).await;
    let start = Instant::now();
    let mut writer = Writer::truncate(&scene.server.site.manifest(), Style::HeldOpen);
    writer.write(manifest("blue").as_bytes());
    while scene.peer.ask("variable colour").await != "blue" {
        assert!(start.elapsed() < Duration::from_secs(60), "the manifest is never read");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(start.elapsed() >= Duration::from_secs(10), "{:?}", start.elapsed());
    drop(writer);
}

#[tokio::test]
async fn keys_are_kept_while_the_manifest_is_written() {
    let scene = Scene::start(&["serve"]).await;
    let text = manifest("green");
    let mut writer = Writer::truncate(&scene.server.site.manifest(), Style::HeldOpen);
    writer.write(&text.as_bytes()[..text.find("[api_keys").unwrap()]);
    tokio::time::sleep(PAUSE).await;
    writer.write(&text.as_bytes()[text.find("[api_keys").unwrap()..]);
    writer.write(b"[api_keys.second]\nhash = \"sha256:");
    tokio::time::sleep(PAUSE).await;
    writer.write(format!("{}\"\n", "1".repeat(64)).as_bytes());
    drop(writer);
    let line = scene.server.log.wait_for_line(&["applied the access settings of the manifest"]).await;
    assert!(line.contains("added=\"api_keys.second\"") && !line.contains("removed"), "{line}");
}

#[tokio::test]
async fn a_component_that_is_held_open_is_not_read_even_if_the_manifest_changes() {
    let mut scene = Scene::start(&["serve"]).await;
    let guest = scene.server.site.path().join("guest.wasm");
    let bytes = hostile_version(2);
    let mut writer = Writer::truncate(&guest, Style::HeldOpen);
    writer.write(&bytes[..bytes.len() / 2]);
    fs::write(scene.server.site.manifest(), manifest("blue")).unwrap();
    scene.server.log.wait_for_line(&["guest.wasm: still being written", "the old version keeps serving"]).await;
    assert_eq!(scene.peer.ask("version").await, "00000001");
    writer.write(&bytes[bytes.len() / 2..]);
    drop(writer);
    let peer = &mut scene.peer;
    while peer.ask("version").await != "00000002" || peer.ask("variable colour").await != "blue" {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(!scene.server.log.text().contains("truncated or damaged"));
}

/// Starts a server while a thread writes the manifest in two parts: the first before the server starts, the second after
/// the pause. Returns the server with what was seen, and the pause.
async fn start_while_the_manifest_is_written(arguments: &[&str], style: Style, pause: Duration) -> (String, Duration) {
    let site = site();
    let text = manifest("blue");
    let mut writer = Writer::truncate(&site.manifest(), style);
    // The first half is a valid manifest that lets everybody in.
    let (first, rest) = text.split_at(text.find("\"$connect\"").unwrap());
    writer.write(first.as_bytes());
    let rest = rest.to_owned();
    let start = Instant::now();
    let writing = std::thread::spawn(move || {
        std::thread::sleep(pause);
        writer.write(rest.as_bytes());
        start.elapsed()
    });
    let mut scene = Scene::with(site.start(arguments)).await;
    let mut seen = String::new();
    while !writing.is_finished() {
        seen += &scene.seen().await;
    }
    for _ in 0..10 {
        seen += &scene.seen().await;
    }
    assert_eq!(scene.peer.ask("variable colour").await, "blue");
    (seen, writing.join().unwrap())
}

/// Asserts that a server which starts while its manifest is written serves no part of it. Tries again if the writer
/// pauses for longer than `pause_max`, as on a busy machine.
async fn assert_no_part_is_served_at_the_start(style: Style, pause: Duration, pause_max: Duration) {
    for arguments in [&["serve"][..], &["serve", "--poll", "1h"]] {
        let mut is_busy = true;
        for _ in 0..5 {
            let (seen, longest_pause) = start_while_the_manifest_is_written(arguments, style, pause).await;
            is_busy = longest_pause >= pause_max;
            if !is_busy {
                assert_eq!(seen, "", "{style:?} {arguments:?}");
                break;
            }
        }
        assert!(!is_busy, "the machine is too busy for this test");
    }
}

// Seen: a server that was started while its manifest was written read the half, and admitted everybody.
#[tokio::test]
async fn a_server_that_starts_waits_until_the_writer_of_its_manifest_has_closed_it() {
    assert_no_part_is_served_at_the_start(Style::HeldOpen, 4 * PAUSE, 20 * PAUSE).await;
}

#[tokio::test]
async fn a_server_that_starts_between_two_parts_of_its_manifest_waits_for_the_second_one() {
    assert_no_part_is_served_at_the_start(Style::Closed, PAUSE, 2 * PAUSE).await;
}

#[tokio::test]
async fn a_manifest_that_is_truncated_when_the_server_starts_is_no_problem() {
    for style in [Style::HeldOpen, Style::Closed] {
        let site = site();
        let text = fs::read_to_string(site.manifest()).unwrap();
        let mut writer = Writer::truncate(&site.manifest(), style);
        let writing = std::thread::spawn(move || {
            std::thread::sleep(PAUSE);
            writer.write(text.as_bytes());
        });
        let mut scene = Scene::with(site.serve()).await;
        writing.join().unwrap();
        assert_eq!(scene.seen().await, "");
    }
}

#[tokio::test]
async fn a_manifest_that_is_held_open_for_good_delays_the_start_by_ten_seconds_and_only_after_a_change() {
    let site = site();
    let mut writer = Writer::truncate(&site.manifest(), Style::HeldOpen);
    writer.write(manifest("blue").as_bytes());
    let start = Instant::now();
    let mut scene = Scene::with(site.clone().serve()).await;
    assert!(start.elapsed() >= Duration::from_secs(9), "{:?}", start.elapsed());
    scene.server.log.wait_for_line(&["INFO", "waiting until the program that writes it has closed it"]).await;
    scene.server.log.wait_for_line(&["WARN", "jackfield.toml: still being written after 10s"]).await;
    assert_eq!(scene.seen().await, "");
    drop(scene);

    make_old(&site.manifest());
    let server = site.serve();
    let log = server.log.clone();
    assert_eq!(Scene::with(server).await.seen().await, "");
    assert!(!log.text().contains("waiting until the program"), "{}", log.text());
    drop(writer);
}

#[tokio::test]
async fn a_manifest_that_changes_again_and_again_is_read_after_ten_seconds() {
    let site = site();
    let text = manifest("blue");
    let mut writer = Writer::truncate(&site.manifest(), Style::HeldOpen);
    writer.write(text.as_bytes());
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let writing = std::thread::spawn(move || {
        while stopped.recv_timeout(PAUSE / 2).is_err() {
            writer.write(b"# another line\n");
        }
    });
    let server = site.serve();
    server.log.wait_for_line(&["WARN", "jackfield.toml: still being written after 10s: it is read all the same"]).await;
    stop.send(()).unwrap();
    writing.join().unwrap();
    assert_eq!(Scene::with(server).await.seen().await, "");
}

/// A schema that only objects with a text match.
const SCHEMA: &str = r#"{"type": "object", "required": ["text"], "properties": {"text": {"type": "string"}}}"#;

#[tokio::test]
async fn components_and_schemas_that_are_being_written_are_complete_when_a_server_starts_or_a_manifest_names_them() {
    let with_model = |name: &str| format!("{}[models.{name}]\nschema = \"{name}.json\"\n", manifest("blue"));
    // Writes the first half of a file, and the rest after a pause.
    let write_slowly = |path: &Path, content: Vec<u8>| {
        let mut writer = Writer::truncate(path, Style::HeldOpen);
        writer.write(&content[..content.len() / 2]);
        std::thread::spawn(move || {
            std::thread::sleep(4 * PAUSE);
            writer.write(&content[content.len() / 2..]);
        })
    };
    let site = Site::new(&with_model("first"));
    let writing = [
        write_slowly(&site.path().join("guest.wasm"), hostile_version(1)),
        write_slowly(&site.path().join("first.json"), SCHEMA.into()),
    ];
    let mut scene = Scene::with(site.serve()).await;
    writing.into_iter().for_each(|writing| writing.join().unwrap());
    assert_eq!(scene.peer.ask("version").await, "00000001");

    let writing = write_slowly(&scene.server.site.path().join("second.json"), SCHEMA.into());
    fs::write(scene.server.site.manifest(), with_model("second").replace("blue", "green")).unwrap();
    eventually("the manifest is served", async || scene.server.log.text().contains("deployment=2")).await;
    writing.join().unwrap();
    assert_eq!(scene.peer.ask("variable colour").await, "green");
    assert!(!scene.server.log.text().contains("ERROR"), "{}", scene.server.log.text());
}

#[test]
fn a_server_does_not_start_with_an_empty_manifest() {
    let site = site();
    for text in ["", " \n\n"] {
        fs::write(site.manifest(), text).unwrap();
        let (code, stdout, stderr) = site.run(&["serve", "--listen", "127.0.0.1:0"]);
        assert_eq!((code, &*stdout), (1, ""));
        assert!(stderr.contains("jackfield.toml: found nothing, expected a manifest"), "{stderr}");
    }
}
