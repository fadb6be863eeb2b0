//! Tests with real folders and real events. Only limits and lost events are simulated, because a real system causes them too rarely.

use std::{
    collections::BTreeSet,
    fs::{self, File, FileTimes},
    io::Write as _,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc::sync_channel,
    },
    time::{Duration, Instant, SystemTime},
};

use notify::{Event, EventHandler, EventKind, RecursiveMode, event::Flag};
use tokio::sync::mpsc;

use super::{Backend, Timing, WatchMode, WatchTarget, Watcher, WatcherOptions, inbox::Handler, notify_backend};

const DEBOUNCE: Duration = Duration::from_millis(100);
/// Far more than needed, because the machine may be busy.
const TIMEOUT: Duration = Duration::from_secs(10);
/// An interval longer than any test.
const NEVER: Duration = Duration::from_secs(3600);
const EVENTS_ONLY: Timing = Timing::new(DEBOUNCE, NEVER);
/// As `EVENTS_ONLY`, with so much time for pauses of a writer that a busy machine does not prolong them beyond it.
const PATIENT: Timing = Timing { partial_write_quiet: Duration::from_secs(3), ..EVENTS_ONLY };
const POLL: WatchMode = WatchMode::Poll(Duration::from_millis(50));
/// How long a test waits for a report that must not arrive.
const SILENCE: Duration = Duration::from_millis(500);

#[test]
fn a_file_written_in_place_is_reported() {
    let folder = Folder::new();
    let file = folder.write("plugin.wasm", "one");
    let mut scene = Scene::watch([WatchTarget::File(file.clone())]);
    fs::write(&file, "two").unwrap();
    scene.expect(&WatchTarget::File(file));
    scene.expect_silence();
}

#[test]
fn a_file_replaced_by_a_rename_is_reported_every_time() {
    let folder = Folder::new();
    let file = folder.write("plugin.wasm", "one");
    let mut scene = Scene::watch([WatchTarget::File(file.clone())]);
    for content in ["two", "three"] {
        fs::rename(folder.write(".plugin.wasm.new", content), &file).unwrap();
        scene.expect(&WatchTarget::File(file.clone()));
        scene.expect_silence();
    }
}

#[test]
fn a_file_that_does_not_exist_yet_is_reported_when_it_does() {
    let folder = Folder::new();
    let file = folder.path("target/wasm32-wasip2/release/plugin.wasm");
    let mut scene = Scene::watch([WatchTarget::File(file.clone())]);
    folder.write("target/wasm32-wasip2/release/plugin.wasm", "one");
    scene.expect(&WatchTarget::File(file.clone()));
    fs::write(&file, "two").unwrap();
    scene.expect(&WatchTarget::File(file));
}

#[test]
fn folders_removed_several_levels_up_and_made_again_are_followed() {
    let folder = Folder::new();
    let file = folder.write("target/wasm32-wasip2/release/plugin.wasm", "one");
    let target = WatchTarget::File(file.clone());
    let mut scene = Scene::watch([target.clone()]);
    for content in ["two", "three"] {
        fs::remove_dir_all(folder.path("target")).unwrap();
        scene.expect(&target);
        folder.write("target/wasm32-wasip2/release/plugin.wasm", content);
        scene.expect(&target);
    }
    scene.expect_silence();
    fs::write(&file, "four").unwrap();
    scene.expect(&target);
}

#[test]
fn folders_removed_and_made_again_at_once_are_followed() {
    let folder = Folder::new();
    let file = folder.write("target/release/plugin.wasm", "one");
    let target = WatchTarget::File(file.clone());
    let mut scene = Scene::watch([target.clone()]);
    for round in 0..20 {
        fs::remove_dir_all(folder.path("target")).unwrap();
        folder.write("target/release/plugin.wasm", &format!("round {round}"));
    }
    scene.expect(&target);
    scene.drain();
    fs::write(&file, "last").unwrap();
    scene.expect(&target);
}

#[test]
fn a_folder_moved_away_far_above_is_noticed_by_the_safety_scan() {
    let folder = Folder::new();
    let file = folder.write("a/b/c/plugin.wasm", "one");
    let target = WatchTarget::File(file.clone());
    let mut scene = Scene::start(WatchMode::Notify, DEBOUNCE, [target.clone()]);
    fs::rename(folder.path("a"), folder.path("old")).unwrap();
    folder.write("a/b/c/plugin.wasm", "two");
    scene.expect(&target);
    fs::write(&file, "three").unwrap();
    scene.expect_within(&target, super::SAFETY_SCAN_INTERVAL - DEBOUNCE);
}

#[cfg(unix)]
#[test]
fn a_link_that_is_repointed_is_reported_and_then_its_new_target_is_watched() {
    let folder = Folder::new();
    folder.write("v1/plugin.wasm", "one");
    let second = folder.write("v2/plugin.wasm", "two");
    let link = folder.link("v1/plugin.wasm", "live/plugin.wasm", "../");
    let target = WatchTarget::File(link.clone());
    let mut scene = Scene::watch([target.clone()]);

    fs::rename(folder.link("v2/plugin.wasm", "live/next", "../"), &link).unwrap();
    scene.expect(&target);
    scene.expect_silence();
    fs::write(second, "three").unwrap();
    scene.expect(&target);
    fs::write(folder.path("v1/plugin.wasm"), "not watched").unwrap();
    scene.expect_silence();
}

#[cfg(unix)]
#[test]
fn a_mounted_config_map_is_reported_when_its_data_link_is_swapped() {
    let folder = Folder::new();
    folder.write("mount/..2024_01/plugin.wasm", "one");
    folder.link("..2024_01", "mount/..data", "");
    let file = folder.link("..data/plugin.wasm", "mount/plugin.wasm", "");
    let target = WatchTarget::File(file);
    let mut scene = Scene::watch([target.clone()]);
    for (old, new) in [("..2024_01", "..2024_02"), ("..2024_02", "..2024_03")] {
        folder.write(&format!("mount/{new}/plugin.wasm"), new);
        fs::rename(folder.link(new, "mount/..data_tmp", ""), folder.path("mount/..data")).unwrap();
        fs::remove_dir_all(folder.path("mount").join(old)).unwrap();
        scene.expect(&target);
        scene.expect_silence();
    }
}

#[cfg(unix)]
#[test]
fn links_in_a_circle_are_a_file_that_does_not_exist() {
    let folder = Folder::new();
    let file = folder.link("b", "a", "");
    folder.link("a", "b", "");
    let target = WatchTarget::File(file.clone());
    let mut scene = Scene::watch([target.clone()]);
    fs::remove_file(&file).unwrap();
    fs::write(&file, "a file at last").unwrap();
    scene.expect(&target);
}

#[test]
fn reading_a_file_or_writing_its_neighbour_is_no_change() {
    let folder = Folder::new();
    let file = folder.write("plugin.wasm", "one");
    let mut scene = Scene::watch([WatchTarget::File(file.clone())]);
    fs::read(&file).unwrap();
    folder.write("neighbour.wasm", "two");
    scene.expect_silence();
}

#[test]
fn a_burst_of_writes_is_reported_once_and_after_its_end() {
    let folder = Folder::new();
    let file = folder.write("plugin.wasm", "");
    let target = WatchTarget::File(file.clone());
    let mut scene = Scene::watch_with(4 * DEBOUNCE, [target.clone()]);
    let mut writer = File::create(&file).unwrap();
    for _ in 0..480 {
        writer.write_all(&[0; 64 * 1024]).unwrap();
        std::thread::sleep(Duration::from_millis(2));
    }
    drop(writer);
    assert_eq!(scene.try_next(), None, "reported while it was written");
    scene.expect(&target);
    scene.expect_silence();
}

/// A writer that holds a file open and writes it in two parts, with pauses.
struct SlowWriter(File);

impl SlowWriter {
    fn truncate(file: &Path) -> SlowWriter {
        SlowWriter(File::create(file).unwrap())
    }

    fn write(&mut self, content: &str) {
        self.0.write_all(content.as_bytes()).unwrap();
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_file_is_reported_when_its_writer_has_closed_it_however_long_that_takes() {
    let folder = Folder::new();
    let file = folder.write("jackfield.toml", "a manifest");
    let mut scene = Scene::watch([WatchTarget::File(file.clone())]);
    assert_eq!(scene.read(&file).unwrap(), b"a manifest");
    let mut writer = SlowWriter::truncate(&file);
    scene.expect_silence();
    writer.write("the first half");
    scene.expect_silence();
    assert!(scene.read(&file).is_err_and(|error| error.kind() == std::io::ErrorKind::TimedOut));
    writer.write(" and the second half");
    drop(writer);
    scene.expect(&WatchTarget::File(file.clone()));
    assert_eq!(scene.read(&file).unwrap(), b"the first half and the second half");
    scene.expect_silence();
}

#[cfg(target_os = "linux")]
#[test]
fn a_file_that_is_renamed_into_place_is_complete_although_its_writer_has_not_closed_it() {
    let folder = Folder::new();
    let file = folder.write("jackfield.toml", "a manifest");
    let mut scene = Scene::watch([WatchTarget::File(file.clone())]);
    let mut writer = SlowWriter::truncate(&folder.path("new"));
    writer.write("another manifest");
    fs::rename(folder.path("new"), &file).unwrap();
    scene.expect(&WatchTarget::File(file.clone()));
    assert_eq!(scene.read(&file).unwrap(), b"another manifest");
}

#[cfg(target_os = "linux")]
#[test]
fn a_file_that_stays_open_is_reported_and_read_after_the_maximum_and_again_when_it_changes() {
    let folder = Folder::new();
    let file = folder.write("jackfield.toml", "a manifest");
    let held_open_max = 10 * DEBOUNCE;
    let timing = Timing { held_open_max, ..EVENTS_ONLY };
    let mut scene = Scene::open(timing, [WatchTarget::File(file.clone())], notify_backend);
    let start = Instant::now();
    let mut writer = SlowWriter::truncate(&file);
    writer.write("one");
    scene.expect(&WatchTarget::File(file.clone()));
    assert!(start.elapsed() >= held_open_max);
    assert_eq!(scene.read(&file).unwrap(), b"one");
    writer.write(", two");
    scene.expect(&WatchTarget::File(file.clone()));
    assert_eq!(scene.read(&file).unwrap(), b"one, two");
}

#[test]
fn a_partially_valid_file_is_not_reported_while_its_writer_pauses_even_if_it_closes_it() {
    let folder = Folder::new();
    let file = folder.write("jackfield.toml", "a manifest");
    let (sender, changes) = mpsc::channel(1);
    let partially_valid = Some(file.clone());
    let mut watcher = Watcher::start_with(PATIENT, partially_valid, sender, notify_backend).unwrap();
    watcher.set(BTreeSet::from([WatchTarget::File(file.clone())])).unwrap();
    let mut scene = Scene { watcher, changes };
    drop(SlowWriter::truncate(&file));
    scene.expect_silence();
    let append = |content: &str| File::options().append(true).open(&file).unwrap().write_all(content.as_bytes());
    append("the first half").unwrap();
    scene.expect_silence();
    append(" and the second half").unwrap();
    scene.expect(&WatchTarget::File(file.clone()));
    assert_eq!(scene.read(&file).unwrap(), b"the first half and the second half");
}

#[test]
fn while_polling_a_file_is_reported_when_its_writer_does_not_pause_any_more() {
    let folder = Folder::new();
    let file = folder.write("jackfield.toml", "a manifest");
    let polling = Timing { scan_interval: DEBOUNCE / 2, ..PATIENT };
    let mut scene = Scene::open(polling, [WatchTarget::File(file.clone())], |_| Ok(None));
    let mut writer = SlowWriter::truncate(&file);
    scene.expect_silence();
    writer.write("the first half");
    scene.expect_silence();
    writer.write(" and the second half");
    scene.expect(&WatchTarget::File(file.clone()));
    assert_eq!(scene.read(&file).unwrap(), b"the first half and the second half");
}

#[test]
fn a_change_anywhere_below_a_folder_is_reported() {
    let folder = Folder::new();
    folder.write("src/deep/er/lib.rs", "one");
    let target = WatchTarget::Folder(folder.path("src"));
    let mut scene = Scene::watch([target.clone()]);
    for (name, content) in [
        ("src/main.rs", "new"),
        ("src/deep/er/lib.rs", "changed"),
        ("src/new/folder/mod.rs", "new, with its folders"),
        ("src/new/folder/mod.rs", "changed in a folder that was not there at first"),
    ] {
        folder.write(name, content);
        scene.expect(&target);
        scene.expect_silence();
    }
    fs::remove_dir_all(folder.path("src/deep")).unwrap();
    scene.expect(&target);
}

#[test]
fn a_folder_removed_and_made_again_is_followed() {
    let folder = Folder::new();
    folder.write("src/lib.rs", "one");
    let target = WatchTarget::Folder(folder.path("src"));
    let mut scene = Scene::watch([target.clone()]);
    fs::remove_dir_all(folder.path("src")).unwrap();
    scene.expect(&target);
    folder.write("src/lib.rs", "two");
    scene.expect(&target);
    scene.drain();
    folder.write("src/lib.rs", "three");
    scene.expect(&target);
}

#[test]
fn files_of_builds_and_editors_below_a_folder_are_not_reported() {
    let folder = Folder::new();
    folder.write("lib.rs", "one");
    folder.write("target/debug/lib.rlib", "one");
    let mut scene = Scene::watch([WatchTarget::Folder(folder.path(""))]);
    folder.write("target/debug/lib.rlib", "two");
    folder.write("sub/target/debug/lib.rlib", "two");
    scene.expect(&WatchTarget::Folder(folder.path("")));
    scene.drain();
    for name in
        [".git/index", "node_modules/left-pad/index.js", "sub/target/x", ".lib.rs.swp", "lib.rs~", ".#lib.rs", "4913"]
    {
        folder.write(name, "new");
    }
    fs::remove_dir_all(folder.path("target")).unwrap();
    scene.expect_silence();
}

#[test]
fn a_folder_target_that_is_a_file_is_watched_as_a_file() {
    let folder = Folder::new();
    let file = folder.write("Cargo.toml", "one");
    let mut scene = Scene::watch([WatchTarget::Folder(file.clone())]);
    folder.write("Cargo.lock", "not watched");
    scene.expect_silence();
    fs::write(&file, "two").unwrap();
    scene.expect(&WatchTarget::Folder(file));
}

#[test]
fn two_targets_in_one_folder_are_reported_separately() {
    let folder = Folder::new();
    let [one, two] = ["one.wasm", "two.wasm"].map(|name| WatchTarget::File(folder.write(name, "1")));
    let mut scene = Scene::watch([one, two.clone()]);
    folder.write("two.wasm", "2");
    assert_eq!(scene.next(TIMEOUT), Some(vec![two]));
    scene.expect_silence();
}

#[test]
fn new_targets_keep_pending_changes_and_drop_what_is_no_longer_watched() {
    let folder = Folder::new();
    let [kept, dropped, added] = ["kept", "dropped", "added"].map(|name| WatchTarget::File(folder.write(name, "1")));
    let mut scene = Scene::watch_with(4 * DEBOUNCE, [kept.clone(), dropped]);
    folder.write("kept", "2");
    folder.write("dropped", "2");
    scene.watcher.set(BTreeSet::from([kept.clone(), added.clone()])).unwrap();
    assert_eq!(scene.next(TIMEOUT), Some(vec![kept]));
    folder.write("dropped", "3");
    scene.expect_silence();
    folder.write("added", "2");
    assert_eq!(scene.next(TIMEOUT), Some(vec![added]));
}

#[test]
fn a_listener_that_is_behind_gets_everything_later() {
    let folder = Folder::new();
    let targets = ["one", "two", "three"].map(|name| WatchTarget::File(folder.write(name, "1")));
    let mut scene = Scene::watch(targets.clone());
    for name in ["one", "two", "three"] {
        folder.write(name, "2");
        std::thread::sleep(2 * DEBOUNCE);
    }
    assert_eq!(scene.next(TIMEOUT), Some(vec![targets[0].clone()]));
    let mut rest = BTreeSet::new();
    while rest.len() < 2 {
        rest.extend(scene.next(TIMEOUT).expect("the rest is reported later"));
    }
    assert_eq!(rest, BTreeSet::from([targets[1].clone(), targets[2].clone()]));
    scene.expect_silence();
}

#[test]
fn the_thread_ends_with_the_watcher() {
    let Scene { watcher, mut changes } = Scene::watch([]);
    drop(watcher);
    let end = Instant::now() + TIMEOUT;
    while !matches!(changes.try_recv(), Err(mpsc::error::TryRecvError::Disconnected)) {
        assert!(Instant::now() < end, "the thread still holds the channel");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn without_a_listener_a_set_is_an_error() {
    let Scene { mut watcher, changes } = Scene::watch([]);
    drop(changes);
    // The thread notices when it wakes, which is now.
    let _ = watcher.set(BTreeSet::new());
    assert!(watcher.set(BTreeSet::new()).is_err());
}

#[test]
fn polling_sees_writes_renames_removals_and_new_files() {
    let folder = Folder::new();
    let file = folder.write("target/plugin.wasm", "one");
    let target = WatchTarget::File(file.clone());
    let mut scene = Scene::start(POLL, DEBOUNCE, [target.clone()]);
    fs::write(&file, "in place").unwrap();
    scene.expect(&target);
    fs::rename(folder.write("new", "by rename"), &file).unwrap();
    scene.expect(&target);
    fs::remove_dir_all(folder.path("target")).unwrap();
    scene.expect(&target);
    folder.write("target/plugin.wasm", "new");
    scene.expect(&target);
    scene.expect_silence();
}

#[cfg(unix)]
#[test]
fn polling_sees_another_file_of_the_same_size_and_time() {
    let folder = Folder::new();
    let time = FileTimes::new().set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000));
    let [file, other] = ["plugin.wasm", "other.wasm"].map(|name| {
        let path = folder.write(name, name.split('.').next().unwrap());
        File::options().write(true).open(&path).unwrap().set_len(1).unwrap();
        File::options().write(true).open(&path).unwrap().set_times(time).unwrap();
        path
    });
    let target = WatchTarget::File(file.clone());
    let mut scene = Scene::start(POLL, DEBOUNCE, [target.clone()]);
    scene.expect_silence();
    fs::rename(other, file).unwrap();
    scene.expect(&target);
}

#[cfg(unix)]
#[test]
fn polling_sees_other_content_of_the_same_size_and_time_in_the_same_file() {
    let folder = Folder::new();
    let time = FileTimes::new().set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000));
    let write = |content: &str| {
        let path = folder.write("src/plugin.wasm", content);
        File::options().write(true).open(&path).unwrap().set_times(time).unwrap();
        path
    };
    let file = write("one");
    for (content, target) in [("two", WatchTarget::File(file)), ("six", WatchTarget::Folder(folder.path("src")))] {
        let mut scene = Scene::start(POLL, DEBOUNCE, [target.clone()]);
        scene.expect_silence();
        write(content);
        scene.expect(&target);
        scene.expect_silence();
    }
}

#[test]
fn polling_sees_a_change_below_a_folder_but_not_in_its_target() {
    let folder = Folder::new();
    folder.write("src/lib.rs", "one");
    let target = WatchTarget::Folder(folder.path("src"));
    let mut scene = Scene::start(POLL, DEBOUNCE, [target.clone()]);
    folder.write("src/target/debug/lib.rlib", "new");
    scene.expect_silence();
    folder.write("src/deep/er/lib.rs", "new");
    scene.expect(&target);
    scene.expect_silence();
}

#[test]
fn a_burst_of_writes_is_reported_once_while_polling() {
    let folder = Folder::new();
    let file = folder.write("plugin.wasm", "");
    let target = WatchTarget::File(file.clone());
    let mut scene = Scene::start(POLL, 4 * DEBOUNCE, [target.clone()]);
    let mut writer = File::create(&file).unwrap();
    for _ in 0..400 {
        writer.write_all(&[0; 4096]).unwrap();
        std::thread::sleep(Duration::from_millis(2));
    }
    assert_eq!(scene.try_next(), None, "reported while it was written");
    scene.expect(&target);
    scene.expect_silence();
}

#[test]
fn when_the_limit_of_watches_is_reached_the_watcher_polls_and_adds_no_more_watches() {
    let folder = Folder::new();
    let [one, two] = ["a/one.wasm", "b/two.wasm"].map(|name| WatchTarget::File(folder.write(name, "1")));
    let watch_calls = Arc::new(AtomicUsize::new(0));
    let backend = FullBackend(watch_calls.clone());
    let mut scene = Scene::open(EVENTS_ONLY, [one.clone(), two], |_| Ok(Some(Box::new(backend))));
    folder.write("a/one.wasm", "2");
    scene.expect(&one);
    assert_eq!(watch_calls.load(Ordering::SeqCst), 1);
}

#[test]
fn when_notify_cannot_start_the_watcher_polls() {
    let folder = Folder::new();
    let target = WatchTarget::File(folder.write("plugin.wasm", "1"));
    let too_many_open_files = std::io::Error::from_raw_os_error(24);
    let mut scene = Scene::open(EVENTS_ONLY, [target.clone()], |_| Err(notify::Error::io(too_many_open_files)));
    folder.write("plugin.wasm", "2");
    scene.expect(&target);
}

#[test]
fn when_events_were_lost_everything_is_reported() {
    let folder = Folder::new();
    let targets = [WatchTarget::File(folder.path("missing.wasm")), WatchTarget::Folder(folder.path(""))];
    let (give_handler, handler) = sync_channel(1);
    let mut scene = Scene::open(EVENTS_ONLY, targets.clone(), |handler| {
        give_handler.send(handler).unwrap();
        Ok(Some(Box::new(SilentBackend)))
    });
    let overflow = Event::new(EventKind::Other).set_flag(Flag::Rescan);
    handler.recv().unwrap().handle_event(Ok(overflow));
    assert_eq!(scene.next(TIMEOUT), Some(targets.to_vec()));
    scene.expect_silence();
}

#[test]
fn more_paths_than_fit_count_as_lost_events() {
    let folder = Folder::new();
    let target = WatchTarget::File(folder.write("plugin.wasm", "1"));
    let (give_handler, handler) = sync_channel(1);
    let mut scene = Scene::open(EVENTS_ONLY, [target.clone()], |handler| {
        give_handler.send(handler).unwrap();
        Ok(Some(Box::new(SilentBackend)))
    });
    let mut event = Event::new(EventKind::Any);
    event.paths = (0..=super::INBOX_PATHS_MAX).map(|n| folder.path(&n.to_string())).collect();
    let mut handler: Handler = handler.recv().unwrap();
    let excess = event.paths.pop().unwrap();
    handler.handle_event(Ok(event.clone()));
    scene.expect_silence();
    event.paths.push(excess);
    handler.handle_event(Ok(event));
    scene.expect(&target);
}

#[test]
fn the_safety_scan_finds_changes_without_an_event() {
    let folder = Folder::new();
    let target = WatchTarget::File(folder.write("plugin.wasm", "1"));
    let timing = Timing::new(DEBOUNCE, 2 * DEBOUNCE);
    let mut scene = Scene::open(timing, [target.clone()], |_| Ok(Some(Box::new(SilentBackend))));
    folder.write("plugin.wasm", "written through a link in another folder");
    scene.expect(&target);
}

/// A watcher and the receiver of its reports.
struct Scene {
    watcher: Watcher,
    changes: mpsc::Receiver<Vec<WatchTarget>>,
}

impl Scene {
    /// Uses events only, because the safety scan would hide a missing event.
    fn watch<const N: usize>(targets: [WatchTarget; N]) -> Scene {
        Self::watch_with(DEBOUNCE, targets)
    }

    fn watch_with<const N: usize>(debounce: Duration, targets: [WatchTarget; N]) -> Scene {
        let timing = Timing::new(debounce, NEVER);
        Self::open(timing, targets, notify_backend)
    }

    fn start<const N: usize>(mode: WatchMode, debounce: Duration, targets: [WatchTarget; N]) -> Scene {
        let (sender, changes) = mpsc::channel(1);
        let options = WatcherOptions { mode, debounce, partially_valid: None };
        let mut watcher = Watcher::start(options, sender).unwrap();
        watcher.set(BTreeSet::from(targets)).unwrap();
        Scene { watcher, changes }
    }

    fn open<const N: usize>(
        timing: Timing,
        targets: [WatchTarget; N],
        open: impl FnOnce(Handler) -> notify::Result<Option<Backend>>,
    ) -> Scene {
        let (sender, changes) = mpsc::channel(1);
        let mut watcher = Watcher::start_with(timing, None, sender, open).unwrap();
        watcher.set(BTreeSet::from(targets)).unwrap();
        Scene { watcher, changes }
    }

    fn read(&self, file: &Path) -> std::io::Result<Vec<u8>> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(self.watcher.reader().read(file, 1000))
    }

    fn try_next(&mut self) -> Option<Vec<WatchTarget>> {
        self.changes.try_recv().ok()
    }

    fn next(&mut self, timeout: Duration) -> Option<Vec<WatchTarget>> {
        let end = Instant::now() + timeout;
        loop {
            let report = self.try_next();
            if report.is_some() || Instant::now() > end {
                return report;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn expect(&mut self, target: &WatchTarget) {
        self.expect_within(target, TIMEOUT);
    }

    fn expect_within(&mut self, target: &WatchTarget, timeout: Duration) {
        let report = self.next(timeout).expect("a change is reported");
        assert!(report.contains(target), "{report:?}");
    }

    fn expect_silence(&mut self) {
        assert_eq!(self.next(SILENCE), None);
    }

    fn drain(&mut self) {
        while self.next(SILENCE).is_some() {}
    }
}

/// A temporary folder, removed with its content when dropped.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Folder {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("jackfield-watch-{}-{count}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Writes a file and creates its parent folders.
    fn write(&self, name: &str, content: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        path
    }

    /// Creates a relative link. `up` leads from the folder of `link` to the folder in which `to` starts.
    #[cfg(unix)]
    fn link(&self, to: &str, link: &str, up: &str) -> PathBuf {
        let path = self.path(link);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::os::unix::fs::symlink(format!("{up}{to}"), &path).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A backend that has reached its limit of watches. Counts the calls.
struct FullBackend(Arc<AtomicUsize>);

impl notify::Watcher for FullBackend {
    fn new<F: EventHandler>(_: F, _: notify::Config) -> notify::Result<Self> {
        unreachable!("tests create it themselves")
    }

    fn watch(&mut self, _: &Path, _: RecursiveMode) -> notify::Result<()> {
        self.0.fetch_add(1, Ordering::SeqCst);
        Err(notify::Error::new(notify::ErrorKind::MaxFilesWatch))
    }

    fn unwatch(&mut self, _: &Path) -> notify::Result<()> {
        Ok(())
    }

    fn kind() -> notify::WatcherKind {
        notify::WatcherKind::NullWatcher
    }
}

/// A backend that accepts watches and never reports an event.
struct SilentBackend;

impl notify::Watcher for SilentBackend {
    fn new<F: EventHandler>(_: F, _: notify::Config) -> notify::Result<Self> {
        unreachable!("tests create it themselves")
    }

    fn watch(&mut self, _: &Path, _: RecursiveMode) -> notify::Result<()> {
        Ok(())
    }

    fn unwatch(&mut self, _: &Path) -> notify::Result<()> {
        Ok(())
    }

    fn kind() -> notify::WatcherKind {
        notify::WatcherKind::NullWatcher
    }
}
