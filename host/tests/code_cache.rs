//! The cache of compiled code: what a restart compiles, and which files in the folder are never run.

use std::fs::{self, File};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

use crate::harm;
use crate::harness::{CHAT, ECHO, Server, Site, TEST_TIMEOUT, component, manifest};
use crate::wat;

/// The user `nobody`.
const OTHER_USER: u32 = 65534;
const GRANTS: &str = r#"grants = ["connections", "connection-store"]"#;

/// A cache folder for one test.
struct TestCache {
    folder: PathBuf,
    parent: tempfile::TempDir,
}

impl TestCache {
    fn new() -> Self {
        let parent = tempfile::tempdir().unwrap();
        Self { folder: parent.path().join("cache"), parent }
    }

    /// The section of the manifest. `keys` are further keys of it.
    fn section(&self, keys: &str) -> String {
        format!("[server]\ncache = {:?}\n{keys}", self.folder)
    }

    fn serve(&self) -> Server {
        self.serve_with("")
    }

    fn serve_with(&self, keys: &str) -> Server {
        Site::new(&manifest(&component(ECHO), &self.section(keys), GRANTS)).serve()
    }

    /// Creates the folder as the server does.
    fn create(&self) {
        fs::DirBuilder::new().mode(0o700).create(&self.folder).unwrap();
    }

    fn files(&self) -> Vec<PathBuf> {
        files(&self.folder)
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

fn is_root() -> bool {
    let is_root = fs::metadata("/proc/self").unwrap().uid() == 0;
    if !is_root {
        eprintln!("skipped the part with files of another user: only root can make them");
    }
    is_root
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().permissions().mode() & 0o777
}

async fn assert_echoes(server: &Server) {
    assert_eq!(server.connect("").await.ask("hello").await, "hello");
}

/// Returns whether the component was compiled at the start, from the log.
async fn was_compiled(server: &Server) -> bool {
    let line = server.log.wait_for_line(&["loaded", "plugin=guest"]).await;
    !line.contains("compile=cached")
}

#[tokio::test]
async fn the_second_start_compiles_nothing() {
    let cache = TestCache::new();
    let first = cache.serve();
    assert!(was_compiled(&first).await);
    assert_echoes(&first).await;
    drop(first);
    assert_eq!(cache.files().len(), 1);
    let second = cache.serve();
    assert!(!was_compiled(&second).await);
    assert_echoes(&second).await;
}

#[tokio::test]
async fn only_the_user_has_access_to_compiled_code() {
    let cache = TestCache::new();
    assert_echoes(&cache.serve()).await;
    assert_eq!(mode(&cache.folder), 0o700);
    assert_eq!(mode(&cache.files()[0]), 0o600);
}

#[tokio::test]
async fn a_cache_that_other_users_can_access_is_not_used_and_the_server_starts() {
    for mode in [0o750, 0o701, 0o770] {
        let cache = TestCache::new();
        cache.create();
        set_mode(&cache.folder, mode);
        let server = cache.serve();
        server
            .log
            .wait_for_line(&["WARN", "cannot cache compiled code", "other users have access to", "chmod 700"])
            .await;
        assert!(was_compiled(&server).await);
        assert_echoes(&server).await;
        assert_eq!(cache.files().len(), 0, "mode {mode:o}");
    }
}

#[tokio::test]
async fn a_cache_of_another_user_or_behind_a_link_is_not_used_and_the_server_starts() {
    let cache = TestCache::new();
    drop(cache.serve());
    let target = cache.parent.path().join("target");
    fs::rename(&cache.folder, &target).unwrap();
    symlink(&target, &cache.folder).unwrap();
    let server = cache.serve();
    server.log.wait_for_line(&["WARN", "cannot cache compiled code", "is a link or a file, expected a folder"]).await;
    assert!(was_compiled(&server).await);
    assert_echoes(&server).await;
    drop(server);
    if !is_root() {
        return;
    }
    fs::remove_file(&cache.folder).unwrap();
    fs::rename(&target, &cache.folder).unwrap();
    chown(&cache.folder, Some(OTHER_USER), None).unwrap();
    let server = cache.serve();
    let expected = ["WARN", "cannot cache compiled code", "belongs to another user", "found the user id 65534"];
    server.log.wait_for_line(&expected).await;
    assert!(was_compiled(&server).await);
    assert_echoes(&server).await;
}

#[tokio::test]
async fn damaged_compiled_code_is_compiled_again() {
    let cache = TestCache::new();
    drop(cache.serve());
    let path = cache.files().remove(0);
    let whole = fs::read(&path).unwrap();
    let mut one_bit = whole.clone();
    one_bit[whole.len() / 2] ^= 1;
    for damaged in [&whole[..whole.len() / 2], &whole[..10], b"", &one_bit] {
        fs::write(&path, damaged).unwrap();
        let server = cache.serve();
        server.log.wait_for_line(&["WARN", "cached code is damaged; compiling again"]).await;
        assert!(was_compiled(&server).await);
        assert_echoes(&server).await;
        drop(server);
        assert_eq!(fs::read(&path).unwrap(), whole, "compiling again gave a different file");
    }
}

/// Seen: files in the folder that had another owner, mode 0666 or were links were loaded.
#[tokio::test]
async fn planted_code_is_never_run_and_is_logged_once() {
    type Plant = fn(&Path);
    let mut plants: Vec<(&str, Plant)> = vec![
        ("found mode 666, expected mode 600", |path| set_mode(path, 0o666)),
        ("found a link, expected a file", |path| {
            let target = path.with_extension("target");
            fs::rename(path, &target).unwrap();
            symlink(target, path).unwrap();
        }),
        ("found 2 hard links, expected one", |path| fs::hard_link(path, path.with_extension("other")).unwrap()),
    ];
    if is_root() {
        plants.push(("found a file of the user id 65534", |path| chown(path, Some(OTHER_USER), None).unwrap()));
    }
    let cache = TestCache::new();
    drop(cache.serve());
    let path = cache.files().remove(0);
    for (found, plant) in plants {
        plant(&path);
        let server = cache.serve();
        server.log.wait_for_line(&["WARN", "rejected cached code", found, "compiling again", "delete the file"]).await;
        assert!(was_compiled(&server).await, "{found}");
        assert_echoes(&server).await;
        assert_eq!(server.log.text().matches("rejected cached code").count(), 1, "{found}");
        drop(server);
        let metadata = fs::symlink_metadata(&path).unwrap();
        let after = (metadata.is_file(), metadata.uid(), metadata.nlink(), mode(&path));
        assert_eq!(after, (true, fs::metadata(&cache.folder).unwrap().uid(), 1, 0o600), "{found}");
        assert!(!was_compiled(&cache.serve()).await, "{found}: it was not stored again");
    }
}

/// Seen: with a parent folder that others may write, another user replaced the folder while the server ran, and the
/// next reload ran the native code in it.
#[tokio::test]
async fn a_folder_that_takes_the_place_of_the_cache_of_a_running_server_is_not_used() {
    let planted = TestCache::new();
    drop(Site::new(&manifest(&component(CHAT), &planted.section(""), GRANTS)).serve());
    assert_eq!(planted.files().len(), 1);

    let cache = TestCache::new();
    let server = Site::new(&manifest(Path::new("guest.wasm"), &cache.section(""), GRANTS));
    fs::copy(component(ECHO), server.path().join("guest.wasm")).unwrap();
    let server = server.serve();
    assert_echoes(&server).await;
    let moved = cache.parent.path().join("moved");
    fs::rename(&cache.folder, &moved).unwrap();
    fs::rename(&planted.folder, &cache.folder).unwrap();

    let next = server.site.path().join("next.wasm");
    fs::copy(component(CHAT), &next).unwrap();
    fs::rename(next, server.site.path().join("guest.wasm")).unwrap();
    let line = server.log.wait_for_line(&["live", "plugin=guest"]).await;
    assert!(!line.contains("compile=cached"), "the code of the planted folder was run: {line}");
    assert_eq!(files(&moved).len(), 2, "the code is stored in the folder that was opened at the start");
    assert_eq!(cache.files().len(), 1);
}

/// A guest writes files as the user of the server, so that what it plants in the cache would be run.
#[test]
fn a_component_that_may_write_to_the_cache_does_not_load() {
    let cache = TestCache::new();
    for (write, expected) in [(true, 1), (false, 0)] {
        let files = format!(r#"files = [{{ host = {:?}, guest = "/data", write = {write} }}]"#, cache.parent.path());
        let site = Site::new(&manifest(&component(ECHO), &cache.section(""), &format!("{GRANTS}\n{files}")));
        let (code, _, stderr) = site.run(&["check"]);
        assert_eq!(code, expected, "{stderr}");
        assert_eq!(stderr.contains("it may write to"), write, "{stderr}");
    }
}

#[test]
fn without_an_absolute_cache_folder_nothing_is_cached_and_a_warning_says_so() {
    let site = Site::new(&manifest(&component(ECHO), "", GRANTS));
    let check = |cache: &str, home: &str| {
        let output = site.command(&["check"]).env("XDG_CACHE_HOME", cache).env("HOME", home).output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{stderr}");
        assert!(!site.path().join("relative").exists());
        stderr.contains("compiled code is not cached: found no absolute path")
    };
    assert!(check("relative", ""));
    assert!(check("", "relative"));
    let home = tempfile::tempdir().unwrap();
    assert!(!check("relative", home.path().to_str().unwrap()));
    assert_eq!(files(&home.path().join(".cache/jackfield")).len(), 1);
}

#[tokio::test]
async fn other_files_in_the_cache_folder_are_not_removed() {
    const SIZE: u64 = 4 * 1024 * 1024;
    let cache = TestCache::new();
    cache.create();
    let old = |name: String| {
        let file = File::create(cache.folder.join(&name)).unwrap();
        file.set_len(SIZE / 16).unwrap();
        file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000)).unwrap();
        cache.folder.join(name)
    };
    let other_files: Vec<_> = (0..20).map(|index| old(format!("letter {index}.txt"))).collect();
    let unused: Vec<_> = (0..20).map(|index| old(format!("{index:064x}-{:016x}.cwasm", 0))).collect();
    let server = cache.serve_with("cache_size = \"4MiB\"");
    assert_echoes(&server).await;
    assert!(other_files.iter().all(|path| path.exists()), "a file that is not from the cache was removed");
    let left = unused.iter().filter(|path| path.exists()).count() as u64;
    assert!((1..16).contains(&left), "{left} unused files are left of 20, which are larger than the cache");
    drop(server);
    assert!(!was_compiled(&cache.serve_with("cache_size = \"4MiB\"")).await);
}

/// Seen: the cache held 64 files, so that a restart with more plugins compiled nearly all of them.
#[tokio::test]
async fn a_manifest_with_a_thousand_components_restarts_from_the_cache() {
    const COUNT: usize = 1000;
    const RESTART_MAX: Duration = Duration::from_secs(3);
    let cache = TestCache::new();
    let mut text = cache.section("");
    for index in 0..COUNT {
        text += &format!("[integrations.guest-{index}]\ncomponent = \"{index}.wasm\"\n");
    }
    text += "[routes]\n\"$default\" = { integration = \"guest-0\", route_response = true }\n";
    for index in 0..COUNT {
        text += &format!("route-{index} = {{ integration = \"guest-{index}\", route_response = true }}\n");
    }
    let site = Site::new(&text);
    for index in 0..COUNT {
        // Each component has another constant, and so another content.
        let fields = format!("(global i32 (i32.const {index}))");
        let digit = format!("(i32.const {})", index % 10);
        let bytes = wat::lean_module(&wat::digit_handler(&fields, &digit));
        fs::write(site.path().join(format!("{index}.wasm")), bytes).unwrap();
    }
    // Mapped code is an open file. The soft limit is raised before components are loaded.
    let command = |verb: &str| {
        let command = site.command(&[verb]);
        let mut limited = Command::new("sh");
        limited.args(["-c", r#"ulimit -Sn 256; exec "$0" "$@""#]).arg(command.get_program()).args(command.get_args());
        limited.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?)))).env_remove("RUST_LOG");
        limited.current_dir(site.path());
        limited
    };
    let start = |name: &str| {
        let started = Instant::now();
        let server = site.clone().launch(command("serve"));
        let took = started.elapsed();
        println!("{name} start of {COUNT} components: {took:?}");
        (server, took)
    };
    drop(start("first"));
    assert_eq!(cache.files().len(), COUNT);
    let checked = command("check").output().unwrap();
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
    let (server, took) = start("second");
    // A server of the tests listens when all of its components are loaded.
    let what = "time until a restart from the cache listens";
    harm::measure_time("a thousand integrations", what, took, RESTART_MAX);
    let deadline = Instant::now() + TEST_TIMEOUT;
    let cached = |log: &str| log.matches("compile=cached").count();
    while cached(&server.log.text()) < COUNT && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(cached(&server.log.text()), COUNT);
    let mut peer = server.connect("").await;
    assert_eq!(peer.ask(r#"{"action":"route-7"}"#).await, "7");
    assert_eq!(peer.ask(r#"{"action":"route-999"}"#).await, "9");
}
