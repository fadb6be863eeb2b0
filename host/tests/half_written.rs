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
use crate::harness::{HOSTILE_GRANTS, Peer, Server, Site, TEST_AUTHORIZER, component, eventually};

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

/// A server, a connected peer, and what happened in all attempts until now.
struct Scene {
    server: Server,
    peer: Peer,
}

impl Scene {
    async fn start(arguments: &[&str]) -> Self {
        let server = site().start(arguments);
        let peer = server.connect("?decide=allow&who=alice").await;
        Self { server, peer }
    }

    /// Asserts for as long as `time` that no peer without permission is admitted, and that each message is answered.
    async fn assert_served_for(&mut self, time: Duration, when: &str) {
        let end = Instant::now() + time;
        while Instant::now() < end {
            let denied = self.server.try_connect("?decide=deny&who=mallory", &[]).await.err();
            assert_eq!(denied, Some(403), "{when}");
            let answer = self.peer.ask("variable colour").await;
            assert!(["green", "blue"].contains(&&*answer), "{when}: {answer}");
        }
    }

    async fn write_manifest_slowly(&mut self, style: Style) {
        let text = manifest("blue");
        let (first, rest) = text.split_at(text.find("\"$connect\"").unwrap());
        let mut writer = Writer::truncate(&self.server.site.manifest(), style);
        self.assert_served_for(PAUSE, "truncated").await;
        writer.write(first.as_bytes());
        self.assert_served_for(PAUSE, "cut before the line of the authorizer").await;
        writer.write(rest.as_bytes());
        drop(writer);
        while self.peer.ask("variable colour").await != "blue" {
            self.assert_served_for(Duration::from_millis(20), "complete").await;
        }
        self.assert_served_for(PAUSE, "live").await;
    }
}

#[tokio::test]
async fn a_manifest_is_not_served_while_its_writer_holds_it_open() {
    Scene::start(&["serve"]).await.write_manifest_slowly(Style::HeldOpen).await;
}

#[tokio::test]
async fn a_manifest_that_is_closed_after_each_part_is_not_served_before_the_last_one() {
    Scene::start(&["serve"]).await.write_manifest_slowly(Style::Closed).await;
}

#[tokio::test]
async fn with_polling_a_manifest_is_not_served_while_its_writer_pauses() {
    for style in [Style::HeldOpen, Style::Closed] {
        Scene::start(&["serve", "--poll", "50ms"]).await.write_manifest_slowly(style).await;
    }
}

#[tokio::test]
async fn a_manifest_that_its_writer_never_closes_is_served_after_ten_seconds() {
    let mut scene = Scene::start(&["serve"]).await;
    let start = Instant::now();
    let mut writer = Writer::truncate(&scene.server.site.manifest(), Style::HeldOpen);
    writer.write(manifest("blue").as_bytes());
    scene.assert_served_for(PAUSE, "held open").await;
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

#[tokio::test]
async fn a_manifest_that_is_being_written_is_no_problem_at_the_start() {
    let site = site();
    let text = fs::read_to_string(site.manifest()).unwrap();
    let mut writer = Writer::truncate(&site.manifest(), Style::HeldOpen);
    let writing = std::thread::spawn(move || {
        std::thread::sleep(PAUSE);
        writer.write(text.as_bytes());
    });
    let server = site.serve();
    writing.join().unwrap();
    let mut peer = server.connect("?decide=allow&who=alice").await;
    assert_eq!(peer.ask("variable colour").await, "green");
    eventually("others are rejected", async || {
        server.try_connect("?decide=deny&who=mallory", &[]).await.err() == Some(403)
    })
    .await;
}
