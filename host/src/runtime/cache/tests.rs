use std::fs::{self, File};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _, symlink};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use wasmtime::component::Component;

use super::verified::CodeSource;
use super::*;
use crate::limits::CODE_CACHE_BYTES_MAX;

/// The user `nobody`.
const OTHER_USER: u32 = 65534;

/// A cache in a folder of its own, which is `parent/cache`.
struct Site {
    parent: tempfile::TempDir,
    engine: Engine,
}

impl Site {
    fn new() -> Self {
        let mut config = wasmtime::Config::new();
        config.wasm_component_model(true);
        Self { parent: tempfile::tempdir().unwrap(), engine: Engine::new(&config).unwrap() }
    }

    fn folder(&self) -> PathBuf {
        self.parent.path().join("cache")
    }

    fn open(&self) -> CodeCache {
        self.open_with(CODE_CACHE_BYTES_MAX)
    }

    fn open_with(&self, bytes_max: u64) -> CodeCache {
        CodeCache::open(CodeCacheOptions { folder: &self.folder(), bytes_max }, &self.engine).unwrap()
    }

    /// The code of a component that exports something of this name.
    fn code(&self, export: &str) -> Vec<u8> {
        let text = format!(r#"(component (instance $i) (export "{export}" (instance $i)))"#);
        let component = Component::from_binary(&self.engine, &wat::parse_str(text).unwrap()).unwrap();
        component.serialize().unwrap()
    }

    /// The name of what the component exports that the cache returns.
    fn get(&self, cache: &CodeCache, content: &blake3::Hash) -> Option<String> {
        let component = cache.get(&self.engine, &StructureProbe::new(), content)?.component;
        let ty = component.component_type();
        let name = ty.exports(&self.engine).next().unwrap().0.to_owned();
        Some(name)
    }
}

fn content(text: &str) -> blake3::Hash {
    blake3::hash(text.as_bytes())
}

/// Writes a file of `length` bytes, last used `age` ago.
fn file_of_age(path: &Path, length: u64, age: Duration) {
    let file = File::create(path).unwrap();
    file.set_len(length).unwrap();
    file.set_modified(SystemTime::now() - age).unwrap();
}

#[test]
fn stored_code_is_returned_under_its_own_content_alone() {
    let site = Site::new();
    let cache = site.open();
    assert_eq!(site.get(&cache, &content("a")), None);
    cache.put(&content("a"), &site.code("first"));
    assert_eq!(site.get(&cache, &content("a")).unwrap(), "first");
    assert_eq!(site.get(&cache, &content("b")), None);
    // Another server.
    assert_eq!(site.get(&site.open(), &content("a")).unwrap(), "first");
    cache.put(&content("a"), &site.code("second"));
    assert_eq!(site.get(&cache, &content("a")).unwrap(), "second");
    assert_eq!(fs::read_dir(site.folder()).unwrap().count(), 1);
}

/// Seen: files with another owner, with mode 0666 and behind links were loaded, because only the folder was checked.
#[test]
fn a_planted_file_is_not_used_and_does_not_block() {
    type Plant = fn(&Path);
    fn chmod(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }
    fn set_length(path: &Path, length: u64) {
        File::options().write(true).open(path).unwrap().set_len(length).unwrap();
    }
    fn replace_with_link(path: &Path, link: fn(&Path, &Path)) {
        let target = path.with_extension("target");
        fs::rename(path, &target).unwrap();
        link(&target, path);
    }
    let plants: [(&str, Plant); 13] = [
        ("mode 666", |path| chmod(path, 0o666)),
        ("mode 640", |path| chmod(path, 0o640)),
        ("mode 602", |path| chmod(path, 0o602)),
        ("a link", |path| replace_with_link(path, |target, path| symlink(target, path).unwrap())),
        ("2 hard links", |path| replace_with_link(path, |target, path| fs::hard_link(target, path).unwrap())),
        ("a FIFO", |path| {
            fs::remove_file(path).unwrap();
            assert!(Command::new("mkfifo").args(["-m", "600"]).arg(path).status().unwrap().success());
        }),
        ("a socket", |path| {
            fs::remove_file(path).unwrap();
            // The path of a socket must be short.
            let short = path.with_file_name("socket");
            drop(UnixListener::bind(&short).unwrap());
            fs::rename(short, path).unwrap();
        }),
        ("a folder", |path| {
            fs::remove_file(path).unwrap();
            fs::create_dir(path).unwrap();
        }),
        ("damaged", |path| set_length(path, 1000)),
        ("damaged", |path| set_length(path, 31)),
        ("damaged", |path| set_length(path, 0)),
        ("damaged", |path| fs::write(path, vec![0; 10_000]).unwrap()),
        ("expected at most", |path| set_length(path, 1 << 40)),
    ];
    for (found, plant) in plants {
        let site = Site::new();
        let cache = site.open();
        let key = content("a");
        cache.put(&key, &site.code("stored"));
        assert!(site.get(&cache, &key).is_some());
        let path = site.folder().join(cache.name(&key));
        plant(&path);
        let started = Instant::now();
        let rejection = cache.read(&cache.name(&key)).err().map(|error| error.to_string());
        assert!(rejection.as_ref().is_some_and(|text| text.contains(found)), "{found}: {rejection:?}");
        assert!(started.elapsed() < Duration::from_secs(20), "{found}: read what it should only have looked at");
        assert_eq!(site.get(&cache, &key), None, "{found}");
        // Code that is stored again takes the place of everything but a folder.
        cache.put(&key, &site.code("again"));
        let expected = (found != "a folder").then(|| "again".to_owned());
        assert_eq!(site.get(&cache, &key), expected, "{found}");
    }
}

#[test]
fn a_planted_file_of_another_user_is_not_used() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root can give a file to another user");
        return;
    }
    let site = Site::new();
    let cache = site.open();
    let key = content("a");
    cache.put(&key, &site.code("stored"));
    let path = site.folder().join(cache.name(&key));
    std::os::unix::fs::chown(&path, Some(OTHER_USER), None).unwrap();
    let rejection = cache.read(&cache.name(&key)).err().unwrap().to_string();
    assert_eq!(
        rejection,
        "rejected cached code, which another user may have written: found a file of the user id 65534, expected a \
         file of this process's user; compiling again; delete the file"
    );
    cache.put(&key, &site.code("again"));
    assert_eq!(site.get(&cache, &key).unwrap(), "again");
}

#[test]
fn a_file_that_was_renamed_is_not_run_as_another_component() {
    let site = Site::new();
    let cache = site.open();
    cache.put(&content("a"), &site.code("first"));
    let [from, to] = ["a", "b"].map(|key| site.folder().join(cache.name(&content(key))));
    fs::rename(&from, &to).unwrap();
    assert_eq!(site.get(&cache, &content("b")), None);
    fs::rename(&to, &from).unwrap();
    assert_eq!(site.get(&cache, &content("a")).unwrap(), "first");
}

/// Seen: the folder was checked once, and then found again by its path for each file. With a parent folder that others
/// may write, another user replaced it, and the server ran that user's code.
#[test]
fn a_folder_that_takes_the_place_of_the_cache_is_never_used() {
    let site = Site::new();
    let cache = site.open();
    cache.put(&content("a"), &site.code("stored"));
    let moved = site.parent.path().join("moved");
    fs::rename(site.folder(), &moved).unwrap();
    let planted = site.open();
    planted.put(&content("a"), &site.code("planted"));
    planted.put(&content("b"), &site.code("planted"));
    assert_eq!(site.get(&cache, &content("a")).unwrap(), "stored");
    assert_eq!(site.get(&cache, &content("b")), None);
    cache.put(&content("b"), &site.code("new"));
    assert_eq!(site.get(&cache, &content("b")).unwrap(), "new");
    assert_eq!(site.get(&planted, &content("b")).unwrap(), "planted");
    assert_eq!(fs::read_dir(moved).unwrap().count(), 2);
    // A link is no folder either.
    fs::remove_dir_all(site.folder()).unwrap();
    symlink(site.parent.path().join("moved"), site.folder()).unwrap();
    let error = CodeCache::open(CodeCacheOptions { folder: &site.folder(), bytes_max: 1 << 20 }, &site.engine);
    assert!(error.err().unwrap().to_string().contains("is a link or a file, expected a folder"));
}

#[test]
fn without_proc_the_code_is_copied() {
    let site = Site::new();
    let cache = site.open();
    let name = cache.name(&content("a"));
    cache.put(&content("a"), &site.code("stored"));
    let open = || cache.folder.open_file(&c_name(&name)).unwrap().unwrap();
    let copied = VerifiedCode::copy(open(), &name).unwrap().unwrap();
    assert!(matches!(copied.source(), CodeSource::Bytes(_)));
    assert!(trusted::deserialize_component(&site.engine, &copied).is_ok());
    assert!(VerifiedCode::copy(open(), "another name").unwrap().is_none());
    let read = VerifiedCode::read(open(), &name).unwrap().unwrap();
    assert_eq!(matches!(read.source(), CodeSource::File(_)), Path::new("/proc/self/fd").exists());
    for length in [31, 1000, 0] {
        let path = site.folder().join(&name);
        File::options().write(true).open(path).unwrap().set_len(length).unwrap();
        assert!(VerifiedCode::copy(open(), &name).unwrap().is_none(), "{length}");
    }
}

#[test]
fn the_least_recently_used_files_are_removed_beyond_the_size() {
    const MIB: u64 = 1024 * 1024;
    let site = Site::new();
    let cache = site.open_with(16 * MIB);
    // Of another version of the engine, and of the oldest use first.
    let file = |index: u64| {
        let path = site.folder().join(format!("{index:064x}-{:016x}.cwasm", 7));
        file_of_age(&path, MIB, Duration::from_secs(1000 - index));
        path
    };
    let files: Vec<_> = (0..16).map(file).collect();
    let left = || (0..files.len()).filter(|index| files[*index].exists()).collect::<Vec<_>>();
    drop(site.open_with(16 * MIB));
    assert_eq!(left(), (0..16).collect::<Vec<_>>(), "the files have exactly the size of the cache");
    // The oldest file is used again.
    File::open(&files[0]).unwrap().set_modified(SystemTime::now()).unwrap();
    cache.put(&content("a"), &site.code("stored"));
    drop(site.open_with(16 * MIB));
    assert_eq!(left(), [0].into_iter().chain(3..16).collect::<Vec<_>>(), "one sixteenth is freed");
    assert_eq!(site.get(&cache, &content("a")).unwrap(), "stored");
    drop(site.open_with(4 * MIB));
    assert_eq!(left(), [0, 14, 15]);
    assert_eq!(site.get(&cache, &content("a")).unwrap(), "stored");
}

#[test]
fn a_cache_that_stores_code_stays_within_its_size() {
    let site = Site::new();
    let code = site.code("stored");
    let one = charge((code.len() + HASH_BYTES) as u64);
    let cache = site.open_with(10 * one);
    let used = || cache.folder.entries(is_cache_file).unwrap().iter().map(|file| charge(file.bytes)).sum::<u64>();
    for index in 0..50 {
        cache.put(&content(&index.to_string()), &code);
        assert!(used() <= 10 * one);
        assert!(site.get(&cache, &content(&index.to_string())).is_some(), "what was just stored stays");
    }
    assert!(used() >= 9 * one);
    // The limit on one file, on both sides.
    for (bytes_max, expected) in [(one, true), (one - 1, false)] {
        let site = Site::new();
        let cache = site.open_with(bytes_max);
        cache.put(&content("a"), &code);
        assert_eq!(site.get(&cache, &content("a")).is_some(), expected, "{bytes_max}");
    }
}

#[test]
fn several_servers_share_the_size_of_one_folder() {
    let site = Site::new();
    let code = site.code("stored");
    let one = charge((code.len() + HASH_BYTES) as u64);
    let most = 64 * one;
    let servers: Vec<_> = (0..4).map(|_| site.open_with(most)).collect();
    std::thread::scope(|scope| {
        for (index, server) in servers.iter().enumerate() {
            let code = &code;
            scope.spawn(move || {
                for file in 0..100 {
                    let key = content(&format!("{}", index / 2 * 1000 + file));
                    server.put(&key, code);
                    // Another server may have removed it; it is never half written.
                    assert!(server.read(&server.name(&key)).is_ok());
                }
            });
        }
    });
    let used: u64 = servers[0].folder.entries(is_cache_file).unwrap().iter().map(|file| charge(file.bytes)).sum();
    // Each of the other servers may store a sixteenth before it counts again.
    assert!(used <= most + 4 * (most / SLACK + one), "{}", used / one);
    assert!(!servers[0].folder.entries(is_unfinished).unwrap().iter().any(|_| true), "an unfinished file was left");
}

#[test]
fn unfinished_files_of_processes_that_have_ended_are_removed() {
    let site = Site::new();
    drop(site.open());
    let unfinished = |name: &str| site.folder().join(format!("{:064x}-{:016x}.{name}.unfinished", 1, 2));
    let old = UNFINISHED_AGE + Duration::from_secs(5);
    let (dead, young, locked) = (unfinished("1-dead"), unfinished("2-young"), unfinished("3-locked"));
    file_of_age(&dead, 10, old);
    file_of_age(&young, 10, UNFINISHED_AGE / 2);
    file_of_age(&locked, 10, old);
    [&dead, &young, &locked]
        .iter()
        .for_each(|path| fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap());
    let writer = File::options().write(true).mode(0o600).open(&locked).unwrap();
    writer.lock().unwrap();
    let letter = site.folder().join("letter.unfinished");
    file_of_age(&letter, 10, old);
    drop(site.open());
    assert_eq!([&dead, &young, &locked, &letter].map(|path| path.exists()), [false, true, true, true]);
    drop(writer);
    drop(site.open());
    assert!(!locked.exists(), "the process that wrote it has ended");
}

/// A guest writes files as the user of the server, so that the owner and the mode of what it plants are right.
#[test]
fn a_guest_that_may_write_into_the_cache_is_rejected() {
    let site = Site::new();
    let cache = site.open();
    let inner = site.folder().join("inner");
    fs::create_dir(&inner).unwrap();
    let link = site.parent.path().join("link");
    symlink(site.parent.path(), &link).unwrap();
    let other = site.parent.path().join("other");
    fs::create_dir(&other).unwrap();
    let check = |host: &Path, write| {
        let files = vec![FileGrant { host: host.to_owned(), guest: "/data".to_owned(), write }];
        cache.check_grants(&Grants { files, ..Grants::default() })
    };
    for host in [site.parent.path(), &site.folder(), &inner, &link, Path::new("/")] {
        let error = check(host, true).unwrap_err().to_string();
        assert!(error.contains("it may write to") && error.contains("change files"), "{error}");
        assert!(check(host, false).is_ok(), "{}", host.display());
    }
    assert!(check(&other, true).is_ok());
}
