//! Who is admitted follows the manifest on the disk: API keys, access keys of `@connections`, and users who sign their
//! handshakes, after every way in which the manifest can change.

use std::fs::{self, File};
use std::io::Write as _;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::api_keys::hash;
use crate::components::{hostile_version, replace_file, wait_for_version};
use crate::deployments::deployments;
use crate::harm;
use crate::harness::{HOSTILE_GRANTS, Peer, Server, Site, eventually};
use crate::iam::handshake;
use crate::signer::{Request, SECRET, Signer};

/// The bar for the time until a removed key is refused.
const REVOCATION_MAX: Duration = Duration::from_secs(1);

/// The owner of one API key and of one access key.
#[derive(Clone, Copy)]
struct Owner {
    api_key: &'static str,
    access_key: &'static str,
}

const KEPT: Owner = Owner { api_key: "the API key that is always valid", access_key: "AKIDKEPT" };
const REMOVED: Owner = Owner { api_key: "the API key that is removed", access_key: "AKIDREMOVED" };
const ADDED: Owner = Owner { api_key: "the API key that is added", access_key: "AKIDADDED" };

impl Owner {
    fn sections(self) -> String {
        let Self { api_key, access_key } = self;
        format!(
            "[api_keys.{access_key}]\nhash = \"{}\"\n[access_keys.{access_key}]\nsecret = {SECRET:?}\n\
             actions = [\"execute-api:Invoke\", \"execute-api:ManageConnections\"]\n",
            hash(api_key)
        )
    }

    fn signer(self) -> Signer {
        Signer { key: self.access_key, ..Signer::default() }
    }
}

/// A manifest with the keys of these owners. The stage `dev` requires an API key, `open` nothing, and `users` a signed
/// handshake.
fn manifest(owners: &[Owner], sections: &str) -> String {
    let keys: String = owners.iter().map(|owner| owner.sections()).collect();
    format!(
        "{sections}\n{keys}[admin]\nlisten = \"127.0.0.1:0\"\n[authorizers.signed]\ntype = \"iam\"\n\
         [integrations.guest]\ncomponent = \"guest.wasm\"\n{HOSTILE_GRANTS}\n[routes]\n\
         \"$connect\" = {{ integration = \"guest\", api_key_required = true }}\n\
         \"$default\" = {{ integration = \"guest\", route_response = true }}\n\
         [stages.dev]\n[stages.open]\nroutes = {{ \"$connect\" = \"guest\" }}\n\
         [stages.users]\nroutes = {{ \"$connect\" = {{ integration = \"guest\", authorizer = \"signed\" }} }}\n"
    )
}

fn site(owners: &[Owner]) -> Site {
    let site = Site::new(&manifest(owners, ""));
    replace_file(&site.path().join("guest.wasm"), hostile_version(1));
    site
}

/// A server, and the connection that the calls of `@connections` ask for.
struct Scene {
    server: Server,
    peer: Peer,
    path: String,
}

impl Scene {
    async fn start(site: Site) -> Self {
        Self::start_with(site, &["serve"]).await
    }

    async fn start_with(site: Site, arguments: &[&str]) -> Self {
        Self::with(site.start(arguments)).await
    }

    async fn with(server: Server) -> Self {
        let mut peer = server.try_connect_to("/open", &[]).await.unwrap();
        let path = format!("/open/@connections/{}", peer.id().await.replace('=', "%3D"));
        Self { server, peer, path }
    }

    async fn restart(self) -> Self {
        let site = self.server.site.clone();
        drop(self);
        Self::start(site).await
    }

    fn save(&self, owners: &[Owner], sections: &str) {
        fs::write(self.server.site.manifest(), manifest(owners, sections)).unwrap();
    }

    /// Whether the API key, a signed call of `@connections`, and a signed handshake are accepted.
    async fn admitted(&self, owner: Owner) -> [bool; 3] {
        let api_key = self.server.try_connect("", &[("x-api-key", owner.api_key)]).await;
        let call = owner.signer().send(&self.server, "GET", &self.path, "").await.status;
        let handshake = handshake(&self.server, &owner.signer(), "/users").await;
        assert!([200, 403].contains(&call) && [101, 403].contains(&handshake), "{call} {handshake}");
        [api_key.is_ok(), call == 200, handshake == 101]
    }

    async fn assert_admitted(&self, owner: Owner, is_admitted: bool, when: &str) {
        assert_eq!(self.admitted(owner).await, [is_admitted; 3], "{} {when}", owner.access_key);
    }

    /// Returns how long it took.
    async fn wait_until_admitted(&self, owner: Owner, is_admitted: bool, when: &str) -> Duration {
        let start = Instant::now();
        let what = format!("{} is admitted: {is_admitted}, {when}", owner.access_key);
        eventually(&what, async || self.admitted(owner).await == [is_admitted; 3]).await;
        println!("after {:?}: {what}", start.elapsed());
        start.elapsed()
    }

    async fn roll_back(&self, number: &str) {
        let (code, _, stderr) = deployments(&self.server, &["--rollback", number]).await;
        assert_eq!(code, 0, "{stderr}");
    }
}

/// A change of the manifest that a message can detect.
fn colour(colour: &str) -> String {
    format!("[api]\nid = {colour:?}\n")
}

/// A manifest with these origins, or without a list.
fn with_origins(origins: Option<&str>) -> String {
    let origins = origins.map(|origins| format!("[connection]\norigins = {origins}\n")).unwrap_or_default();
    manifest(&[KEPT], &origins)
}

#[tokio::test]
async fn a_removed_origin_stays_rejected_after_every_next_change() {
    let page = ("origin", "https://removed.example");
    let site = Site::new(&with_origins(Some("[\"https://kept.example\", \"https://removed.example\"]")));
    replace_file(&site.path().join("guest.wasm"), hostile_version(1));
    let scene = Scene::start(site).await;
    let save = |text: &str| fs::write(scene.server.site.manifest(), text).unwrap();
    let is_admitted =
        async |origin: &'static str| scene.server.try_connect_to("/open", &[("origin", origin)]).await.is_ok();
    assert!(is_admitted(page.1).await && !is_admitted("https://other.example").await);
    let kept = with_origins(Some("[\"https://kept.example\"]"));
    save(&kept);
    eventually("the page is rejected", async || !is_admitted(page.1).await).await;
    scene.server.log.wait_for_line(&["applied the access settings"]).await;

    scene.roll_back("1").await;
    assert!(!is_admitted(page.1).await, "after a roll-back");
    replace_file(&scene.server.site.path().join("guest.wasm"), hostile_version(2));
    eventually("the new version is live", async || scene.server.log.text().matches(" live plugin=guest").count() > 0)
        .await;
    assert!(!is_admitted(page.1).await, "after a new component");
    // What is wrong elsewhere neither admits a page nor keeps one.
    save(&format!("{kept}unknown = 1\n"));
    save(&with_origins(Some("[]")).replace("[routes]", "unknown = 1\n[routes]"));
    eventually("no page is admitted", async || !is_admitted("https://kept.example").await).await;
    assert!(scene.server.try_connect_to("/open", &[]).await.is_ok(), "a client that is no browser");
    save(&with_origins(Some("[\"https:/\"]")));
    scene.server.log.wait_for_line(&["connection.origins[0]: found \"https:/\""]).await;
    assert!(!is_admitted("https://kept.example").await, "an invalid list leaves the one before");
    save(&with_origins(None));
    eventually("without a list all are admitted", async || is_admitted("https://other.example").await).await;
    save(&kept);
    let scene = scene.restart().await;
    assert!(scene.server.try_connect_to("/open", &[page]).await.is_err(), "after a restart");
}

// Seen: a roll-back, and then any saved file, made removed keys valid again.
#[tokio::test]
async fn a_removed_key_stays_invalid_after_every_next_change() {
    let mut scene = Scene::start(site(&[KEPT, REMOVED])).await;
    scene.assert_admitted(REMOVED, true, "at first").await;
    scene.save(&[KEPT], "");
    let took = scene.wait_until_admitted(REMOVED, false, "after it was removed").await;
    harm::measure_time("revoked keys", "time until a removed key is refused", took, REVOCATION_MAX);
    scene.server.log.wait_for_line(&["live", "deployment=2"]).await;

    scene.roll_back("1").await;
    scene.assert_admitted(REMOVED, false, "after a rollback").await;
    replace_file(&scene.server.site.path().join("guest.wasm"), hostile_version(2));
    wait_for_version(&mut scene.peer, 2, 1).await;
    scene.assert_admitted(REMOVED, false, "after a rollback and a saved component").await;

    for (number, name) in [(5, "first"), (6, "second")] {
        scene.save(&[KEPT], &colour(name));
        scene.server.log.wait_for_line(&["live", &format!("deployment={number}")]).await;
        scene.assert_admitted(REMOVED, false, "after another reload").await;
    }
    scene.assert_admitted(KEPT, true, "always").await;
    scene.roll_back("1").await;
    let scene = scene.restart().await;
    scene.assert_admitted(REMOVED, false, "after a restart").await;
    scene.assert_admitted(KEPT, true, "after a restart").await;
    scene.save(&[KEPT, REMOVED], "");
    scene.wait_until_admitted(REMOVED, true, "after it was added again").await;
}

// Seen: a revocation waited until every component loaded.
#[tokio::test]
async fn keys_are_removed_and_added_whatever_else_in_the_manifest_is_wrong() {
    let mut scene = Scene::start(site(&[KEPT, REMOVED])).await;
    let mut longest = Duration::ZERO;
    for (wrong, problem) in [
        ("unknown_key = 1\n", "unknown_key"),
        ("[integrations.missing]\ncomponent = \"missing.wasm\"\n", "missing.wasm: file not found"),
        ("[integrations.damaged]\ncomponent = \"jackfield.toml\"\n", "it is not WebAssembly"),
        ("[models.a]\nschema = \"missing.json\"\n", "missing.json: file not found"),
        ("[access_keys.SECRETLESS]\nsecret_env = \"JACKFIELD_TEST_IS_NOT_SET\"\n", "JACKFIELD_TEST_IS_NOT_SET"),
        ("[api_keys.damaged]\nhash = 5\n", "api_keys.damaged.hash"),
        ("throttle = 5\n", "throttle: found 5"),
    ] {
        scene.save(&[KEPT], wrong);
        longest = longest.max(scene.wait_until_admitted(REMOVED, false, wrong).await);
        scene.assert_admitted(KEPT, true, wrong).await;
        scene.save(&[KEPT, REMOVED, ADDED], wrong);
        scene.wait_until_admitted(ADDED, true, wrong).await;
        scene.assert_admitted(REMOVED, true, "after it was added again").await;
        scene.save(&[KEPT, REMOVED], wrong);
        longest = longest.max(scene.wait_until_admitted(ADDED, false, wrong).await);
        scene.server.log.wait_for_line(&[problem, "the old version keeps serving"]).await;
    }
    let what = "time until a removed key is refused, if the manifest has another problem";
    harm::measure_time("revoked keys", what, longest, REVOCATION_MAX);

    // A rollback works too, and changes nothing about the keys.
    scene.save(&[KEPT], "unknown_key = 1\n");
    scene.wait_until_admitted(REMOVED, false, "before the rollback").await;
    scene.roll_back("1").await;
    scene.assert_admitted(REMOVED, false, "after a rollback while the manifest has an error").await;
    replace_file(&scene.server.site.path().join("guest.wasm"), hostile_version(2));
    wait_for_version(&mut scene.peer, 2, 1).await;
    scene.assert_admitted(REMOVED, false, "after a saved component").await;
    scene.assert_admitted(KEPT, true, "after a saved component").await;
}

#[tokio::test]
async fn keys_stay_while_the_manifest_is_not_toml_or_empty_and_the_log_says_so_once() {
    let scene = Scene::start(site(&[KEPT, REMOVED])).await;
    let words = ["(line 1 is not TOML)", "all keys stay as they were"];
    let lines = || scene.server.log.text().lines().filter(|line| words.iter().all(|word| line.contains(word))).count();
    for _ in 0..2 {
        scene.save(&[KEPT], "[api\n");
        scene.server.log.wait_for_line(&words).await;
        scene.assert_admitted(REMOVED, true, "while the manifest is not TOML").await;
    }
    fs::write(scene.server.site.manifest(), "\n").unwrap();
    scene.server.log.wait_for_line(&["(it is empty)", words[1]]).await;
    scene.assert_admitted(REMOVED, true, "while the manifest is empty").await;
    assert_eq!(lines(), 1);
    scene.save(&[KEPT], "");
    scene.wait_until_admitted(REMOVED, false, "after the manifest was corrected").await;
    scene.assert_admitted(KEPT, true, "always").await;
    scene.server.log.wait_for_line(&["the keys of the manifest can be read again"]).await;
}

// Seen: with `--poll`, a removed key was valid for the interval and a second.
#[tokio::test]
async fn a_removed_key_is_rejected_at_once_whatever_the_interval_of_polling_is() {
    let scene = Scene::start_with(site(&[KEPT, REMOVED]), &["serve", "--poll", "1h"]).await;
    scene.save(&[KEPT], "");
    let took = scene.wait_until_admitted(REMOVED, false, "after it was removed").await;
    harm::measure_time("revoked keys", "time until a removed key is refused, with --poll 1h", took, REVOCATION_MAX);
    scene.save(&[KEPT, ADDED], "");
    scene.wait_until_admitted(ADDED, true, "after it was added").await;
    scene.assert_admitted(REMOVED, false, "after another key was added").await;
    scene.assert_admitted(KEPT, true, "always").await;
}

// Seen: a removed key was valid for 10 s while the program that had removed it held the file open.
#[tokio::test]
async fn a_key_that_is_removed_by_a_writer_that_holds_the_manifest_open_is_rejected_before_it_is_closed() {
    for arguments in [&["serve"][..], &["serve", "--poll", "1h"]] {
        let scene = Scene::start_with(site(&[KEPT, REMOVED]), arguments).await;
        let start = Instant::now();
        let mut writer = File::create(scene.server.site.manifest()).unwrap();
        writer.write_all(manifest(&[KEPT, ADDED], "").as_bytes()).unwrap();
        let took = scene.wait_until_admitted(REMOVED, false, "while the manifest is held open").await;
        let what = "time until a removed key is refused, if the manifest is held open";
        harm::measure_time("revoked keys", what, took, REVOCATION_MAX);
        scene.assert_admitted(KEPT, true, "while the manifest is held open").await;
        if arguments.len() == 1 && start.elapsed() < Duration::from_secs(8) {
            scene.assert_admitted(ADDED, false, "while the manifest is held open").await;
        }
        assert!(start.elapsed() < Duration::from_secs(10), "the manifest was read because it was open for too long");
        drop(writer);
        scene.wait_until_admitted(ADDED, true, "after the manifest was closed").await;
        scene.assert_admitted(REMOVED, false, "after the manifest was closed").await;
    }
}

#[tokio::test]
async fn a_slow_editor_rejects_no_key_that_stays() {
    const PAUSE: Duration = Duration::from_millis(400);
    let text = manifest(&[KEPT, REMOVED], "[api]\nid = \"another\"\n");
    let keys = text.find("[api_keys").unwrap();
    for arguments in [&["serve"][..], &["serve", "--poll", "50ms"]] {
        // The editor pauses when the file is empty, or before the keys. On a busy machine it may pause for too long.
        'cut: for cut in [0, keys] {
            for _ in 0..5 {
                let scene = Scene::start_with(site(&[KEPT, REMOVED]), arguments).await;
                let (path, text) = (scene.server.site.manifest(), text.clone());
                let editing = std::thread::spawn(move || {
                    let start = Instant::now();
                    let mut editor = File::create(path).unwrap();
                    editor.write_all(&text.as_bytes()[..cut]).unwrap();
                    std::thread::sleep(PAUSE);
                    editor.write_all(&text.as_bytes()[cut..]).unwrap();
                    start.elapsed()
                });
                let mut admitted = true;
                while !editing.is_finished() || !scene.server.log.text().contains("deployment=2") {
                    admitted &= scene.admitted(KEPT).await == [true; 3] && scene.admitted(REMOVED).await == [true; 3];
                }
                if editing.join().unwrap() < PAUSE + Duration::from_millis(100) {
                    assert!(admitted, "a key was rejected, {arguments:?}, {cut}");
                    let log = scene.server.log.text();
                    assert!(!log.contains("applied the access settings"), "{log}");
                    continue 'cut;
                }
            }
            panic!("the machine is too busy for this test");
        }
    }
}

#[tokio::test]
async fn a_key_that_is_removed_while_the_server_starts_is_rejected_from_the_first_request_on() {
    let build = "component = \"guest.wasm\"\nbuild = \"touch started; until test -e go; do sleep 0.05; done\"\n";
    let text = |owners: &[Owner]| manifest(owners, "").replace("component = \"guest.wasm\"\n", build);
    let site = Site::new(&text(&[KEPT, REMOVED]));
    replace_file(&site.path().join("guest.wasm"), hostile_version(1));
    let starting = std::thread::spawn({
        let site = site.clone();
        move || site.start(&["dev"])
    });
    eventually("the build runs", async || site.path().join("started").exists()).await;
    fs::write(site.manifest(), text(&[KEPT])).unwrap();
    fs::write(site.path().join("go"), "").unwrap();
    let scene = Scene::with(starting.join().unwrap()).await;
    scene.assert_admitted(REMOVED, false, "at the first request").await;
    scene.assert_admitted(KEPT, true, "at the first request").await;
}

#[tokio::test]
async fn an_open_connection_of_a_removed_key_stays_open() {
    let scene = Scene::start(site(&[KEPT, REMOVED])).await;
    let mut peer = scene.server.connect_with(REMOVED).await;
    scene.save(&[KEPT], "");
    scene.wait_until_admitted(REMOVED, false, "after it was removed").await;
    assert_eq!(peer.ask("version").await, "00000001");
}

impl Server {
    async fn connect_with(&self, owner: Owner) -> Peer {
        self.try_connect("", &[("x-api-key", owner.api_key)]).await.unwrap()
    }
}

#[tokio::test]
async fn a_key_that_is_removed_while_the_body_of_its_call_arrives_is_rejected() {
    let scene = Scene::start(site(&[KEPT, REMOVED])).await;
    let body = "hello";
    let request = Request { method: "POST", path: &scene.path, body, headers: &[] };
    let mut calls = Vec::new();
    for (owner, status) in [(REMOVED, "403"), (KEPT, "200")] {
        let mut stream = TcpStream::connect(scene.server.address).await.unwrap();
        let head = owner.signer().head(&request);
        stream.write_all(format!("{head}{}", &body[..2]).as_bytes()).await.unwrap();
        calls.push((stream, status));
    }
    // The server has received both heads when it answers requests that were sent later.
    tokio::time::sleep(Duration::from_millis(200)).await;
    scene.save(&[KEPT], "");
    scene.wait_until_admitted(REMOVED, false, "after it was removed").await;
    for (mut stream, status) in calls {
        stream.write_all(&body.as_bytes()[2..]).await.unwrap();
        let mut response = String::new();
        stream.read_to_string(&mut response).await.unwrap();
        assert!(response.starts_with(&format!("HTTP/1.1 {status}")), "{response}");
    }
}

#[tokio::test]
async fn the_removal_of_the_last_access_key_allows_no_unsigned_calls() {
    let mut scene = Scene::start(site(&[REMOVED])).await;
    let unsigned = async |scene: &Scene| scene.server.request("GET", &scene.path, "").await.status;
    assert_eq!(unsigned(&scene).await, 403);
    scene.save(&[], "");
    scene.wait_until_admitted(REMOVED, false, "after it was removed").await;
    scene.server.log.wait_for_line(&["WARN", "the last access key was removed", "signatures = \"off\""]).await;
    assert_eq!(unsigned(&scene).await, 403);
    scene.save(&[], "[management]\nsignatures = \"off\"\n");
    eventually("unsigned calls are allowed", async || unsigned(&scene).await == 200).await;
    assert_eq!(scene.peer.ask("version").await, "00000001");
}
