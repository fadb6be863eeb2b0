//! Tests the behaviour that every storage engine must have (`engines`), and that of sled.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use super::*;
use crate::connections::PeerApiKey;
use crate::id::{ApiNumber, NodeId};

mod engines;
mod nodes;
mod redis_server;

use engines::{BUCKET, bucket, full, get, set, store_text, text, usage};

/// Every test creates this stage first, so it has the same number in each backend.
fn stage(backend: &Backend) -> StageId {
    backend.stages().id(ApiNumber(0), "dev")
}

/// The shared store of that stage.
fn shared(backend: &Backend) -> ConnectionStore<'_> {
    backend.connection_store(stage(backend), &StoreName::Shared)
}

/// A temporary folder, which is deleted at the end of the test.
struct TempFolder(PathBuf);

impl TempFolder {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("jackfield-backend-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        Self(std::env::temp_dir().join(name))
    }

    fn try_open(&self, durability: Durability) -> anyhow::Result<Backend> {
        Backend::open_sled(&SledOptions { folder: self.0.clone(), durability })
    }

    fn open(&self) -> Backend {
        self.try_open(Durability::Interval(limits::FLUSH_INTERVAL)).unwrap()
    }
}

impl Drop for TempFolder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn fields(fields: &[(&str, &str)]) -> Vec<Field> {
    fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn row(backend: &Backend, attributes: &[(&str, &str)]) -> Row {
    let peer = Peer {
        source_ip: "203.0.113.7".to_owned(),
        user_agent: Some("curl/8".to_owned()),
        domain_name: "example.com".to_owned(),
        authorizer: fields(&[("principalId", "alice")]),
        user: Some("alice".to_owned()),
        api_key: Some(PeerApiKey::id_only("team")),
    };
    let (id, stage) = (ConnectionId::random(NodeId(0)), stage(backend));
    Row { id, stage, connected_at: 1_700_000_000_000, admitted: true, peer, attributes: fields(attributes) }
}

async fn add(backend: &Backend, id: ConnectionId, name: &str, value: &str) -> Result<(), BackendError> {
    shared(backend).add(id, name.to_owned(), value.to_owned()).await
}

async fn matching(backend: &Backend, name: &str, value: &str) -> Vec<ConnectionId> {
    shared(backend).matching(name.to_owned(), value.to_owned()).await.unwrap()
}

async fn assert_consistent(backend: &Backend) {
    assert_eq!(backend.verify().await.unwrap(), Vec::<String>::new());
}

fn too_large(text: &str) -> BackendError {
    BackendError::TooLarge(text.to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_rows_of_concurrent_changes_are_there_when_the_folder_is_opened_again() {
    let folder = TempFolder::new();
    let backend = folder.open();
    engines::change_concurrently(&backend).await;
    let rows = backend.rows().await.unwrap();
    drop(backend);
    let backend = folder.open();
    assert_eq!(backend.rows().await.unwrap(), rows);
    assert_consistent(&backend).await;
}

#[tokio::test]
async fn stages_and_stores_are_there_when_the_folder_is_opened_again() {
    let folder = TempFolder::new();
    let names = ["moderation", "presence"].map(|name| StoreName::Named(name.into()));
    let ids = {
        let backend = folder.open();
        // The numbers of the stages are others than after the restart.
        backend.stages().id(ApiNumber(0), "unused");
        let mut ids = Vec::new();
        for name in ["prod", "dev"] {
            let stage = backend.stages().id(ApiNumber(0), name);
            let row = Row { stage, ..row(&backend, &[("stage", name)]) };
            backend.insert_row(row.clone()).await.unwrap();
            for store in &names {
                let store = backend.connection_store(stage, store);
                store.put(row.id, fields(&[("in", name), ("of", "all")])).await.unwrap();
            }
            backend.connection_store(stage, &names[1]).put(row.id, vec![]).await.unwrap();
            ids.push(row.id);
        }
        ids
    };
    let backend = folder.open();
    assert_consistent(&backend).await;
    for (index, name) in ["prod", "dev"].into_iter().enumerate() {
        let stage = backend.stages().id(ApiNumber(0), name);
        let store = backend.connection_store(stage, &names[0]);
        assert_eq!(store.get(ids[index]).await.unwrap().attributes, fields(&[("in", name), ("of", "all")]));
        assert_eq!(store.matching(store_text("of"), store_text("all")).await, Ok(vec![]));
        assert_eq!(store.get(ids[1 - index]).await, Err(BackendError::NoSuchConnection));
        assert_eq!(backend.connection_store(stage, &names[1]).get(ids[index]).await.unwrap().attributes, []);
        let left = backend.left_behind(stage, None);
        assert_eq!(left.iter().map(|row| (row.id, &row.attributes[0].1[..])).collect::<Vec<_>>(), [(ids[index], name)]);
    }
    let rows = backend.rows().await.unwrap();
    for row in rows {
        backend.delete_row(row.stage, row.id).await.unwrap();
    }
    drop(backend);
    assert_eq!(folder.open().rows().await, Ok(vec![]));
}

#[tokio::test]
async fn the_usage_of_a_bucket_is_exact_after_a_restart_and_after_a_crash() {
    let folder = TempFolder::new();
    let backend = folder.try_open(Durability::Always).unwrap();
    for (key, bytes) in [("a", 10_000), ("a", 20_000), ("b", 5), ("c", 7), ("größe", 0)] {
        set(&backend, key, &vec![0; bytes]).await.unwrap();
    }
    backend.delete("bucket", text("c")).await.unwrap();
    backend.set(Bucket { name: "bucke", ..BUCKET }, text("tx"), vec![0; 9]).await.unwrap();
    let expected = (20_001 + 6 + 7, 3);
    assert_eq!(usage(&backend).await, expected);
    // The copy is what a process finds after its predecessor was killed.
    let copy = TempFolder::new();
    copy_files(&folder.0, &copy.0);
    drop(backend);
    for folder in [&folder, &copy] {
        let backend = folder.open();
        assert_eq!(usage(&backend).await, expected);
        let quota = bucket("bucket", expected.0 + 1, 10);
        assert_eq!(
            backend.set(quota, text("b"), vec![0; 7]).await,
            Err(full(&format!("{} bytes", expected.0 + 2), "size", expected.0 + 1))
        );
        assert_eq!(backend.set(quota, text("b"), vec![0; 6]).await, Ok(()));
        assert_consistent(&backend).await;
    }
}

// ---- the folder --------------------------------------------------------------------------------

#[tokio::test]
async fn written_data_is_there_when_the_folder_is_opened_again() {
    for durability in [Durability::Interval(limits::FLUSH_INTERVAL), Durability::Always] {
        let folder = TempFolder::new();
        let large = vec![7; 100_000];
        let mut rows = Vec::new();
        {
            let backend = folder.try_open(durability).unwrap();
            rows.extend(
                [&[("room", "general")][..], &[], &[("room", "general"), ("user", "bob")]]
                    .map(|attributes| row(&backend, attributes)),
            );
            rows.sort_by_key(|row| row.id);
            let short_lived = row(&backend, &[("room", "general")]);
            for row in rows.iter().chain([&short_lived]) {
                backend.insert_row(row.clone()).await.unwrap();
            }
            backend.delete_row(stage(&backend), short_lived.id).await.unwrap();
            set(&backend, "k", &large).await.unwrap();
            backend.increment(BUCKET, "n".to_owned(), 3).await.unwrap();
        }
        let backend = folder.try_open(durability).unwrap();
        assert_consistent(&backend).await;
        assert_eq!(backend.rows().await.unwrap(), rows);
        assert_eq!(matching(&backend, "room", "general").await, [], "no query returns them");
        assert_eq!(get(&backend, "k").await, Some(large));
        assert_eq!(backend.increment(BUCKET, "n".to_owned(), 1).await, Ok(4));
        for row in rows {
            backend.delete_row(stage(&backend), row.id).await.unwrap();
        }
        drop(backend);
        assert_eq!(folder.try_open(durability).unwrap().rows().await, Ok(Vec::new()));
    }
}

/// Seen: after a crash, queries and posts by attribute found the connections of the process before.
#[tokio::test]
async fn rows_of_an_earlier_process_are_reached_by_their_ids_and_no_query_returns_them() {
    let folder = TempFolder::new();
    let named = StoreName::parse("presence").unwrap();
    let mut ids = Vec::new();
    {
        let backend = folder.open();
        for _ in 0..limits::PAGE_ITEMS + 3 {
            let row = row(&backend, &[("room", "general")]);
            ids.push(row.id);
            backend.insert_row(row.clone()).await.unwrap();
            let presence = backend.connection_store(row.stage, &named);
            presence.put(row.id, fields(&[("seat", "a")])).await.unwrap();
        }
    }
    ids.sort();
    let backend = folder.open();
    let stage = stage(&backend);
    assert_eq!(backend.stages_left_behind(), [stage]);
    let first = backend.left_behind(stage, None);
    let second = backend.left_behind(stage, Some(first.last().unwrap().id));
    assert_eq!((first.len(), second.len()), (limits::PAGE_ITEMS, 3));
    assert_eq!(first.iter().chain(&second).map(|row| row.id).collect::<Vec<_>>(), ids);
    assert_eq!(backend.left_behind(stage, Some(ids[ids.len() - 1])), []);

    let new = row(&backend, &[("room", "general")]);
    backend.insert_row(new.clone()).await.unwrap();
    let presence = backend.connection_store(stage, &named);
    // Its `$disconnect` reads and changes the row.
    assert_eq!(shared(&backend).get(ids[0]).await.unwrap().attributes, fields(&[("room", "general")]));
    shared(&backend).put(ids[0], fields(&[("room", "lobby")])).await.unwrap();
    presence.add(ids[0], store_text("seat"), store_text("b")).await.unwrap();
    assert_eq!(presence.get(ids[0]).await.unwrap().attributes, fields(&[("seat", "a"), ("seat", "b")]));
    assert_eq!(matching(&backend, "room", "general").await, [new.id]);
    assert_eq!(matching(&backend, "room", "lobby").await, []);
    assert_eq!(presence.matching(store_text("seat"), store_text("a")).await, Ok(vec![]));
    assert_eq!(presence.query(store_text("seat"), store_text("b"), None).await.unwrap().items, []);
    for store in [shared(&backend), presence] {
        assert_eq!(store.scan(None).await.unwrap().items.into_iter().map(|row| row.id).collect::<Vec<_>>(), [new.id]);
    }
    assert_consistent(&backend).await;
    for id in ids {
        backend.delete_row(stage, id).await.unwrap();
    }
    assert_eq!(backend.stages_left_behind(), []);
    assert_eq!(backend.rows().await, Ok(vec![new]));
    assert_consistent(&backend).await;
}

/// Source: stratum-mining/sv2-apps#391, where one poisoned lock made every new connection fail.
#[tokio::test]
async fn a_panic_while_the_rows_are_locked_leaves_the_store_usable() {
    let folder = TempFolder::new();
    let backend = folder.open();
    let [first, second] = [&[("room", "general")][..], &[]].map(|attributes| row(&backend, attributes));
    backend.insert_row(first.clone()).await.unwrap();
    let panicking = tokio::spawn({
        let backend = backend.clone();
        async move { backend.sled().unwrap().panic_with_the_rows() }
    });
    assert!(panicking.await.unwrap_err().is_panic());
    backend.insert_row(second.clone()).await.unwrap();
    assert_eq!(shared(&backend).get(second.id).await, Ok(second));
    assert_eq!(matching(&backend, "room", "general").await, [first.id]);
    backend.flush().await.unwrap();
    assert_consistent(&backend).await;
}

#[tokio::test]
async fn an_admitted_row_survives_a_kill_before_the_next_save() {
    let folder = TempFolder::new();
    let backend = folder.try_open(Durability::Interval(Duration::from_secs(60))).unwrap();
    let journals = |folder: &TempFolder| {
        let names =
            std::fs::read_dir(&folder.0).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.starts_with("journal-")).count()
    };
    // What a process finds after its predecessor was killed.
    let killed = || {
        let copy = TempFolder::new();
        copy_files(&folder.0, &copy.0);
        copy
    };
    backend.flush().await.unwrap();
    let [admitted, waiting, closed] =
        [&[("room", "general")][..], &[], &[]].map(|attributes| row(&backend, attributes));
    for row in [&admitted, &waiting, &closed] {
        backend.insert_row(Row { admitted: false, ..row.clone() }).await.unwrap();
    }
    backend.admit_row(admitted.stage, admitted.id).await.unwrap();
    backend.admit_row(closed.stage, closed.id).await.unwrap();
    let copy = killed();
    let found = copy.open();
    let mut expected = vec![admitted.clone(), closed.clone()];
    expected.sort_by_key(|row| row.id);
    assert_eq!(found.rows().await, Ok(expected), "one whose handshake was not answered is not there");
    assert_consistent(&found).await;
    assert_eq!(journals(&copy), 0, "they are saved");
    drop(found);
    assert_eq!(copy.open().rows().await.unwrap().len(), 2);

    // What was saved since is newer than the journal.
    shared(&backend).put(admitted.id, fields(&[("room", "lobby")])).await.unwrap();
    backend.delete_row(closed.stage, closed.id).await.unwrap();
    assert_eq!(journals(&folder), 1);
    let journal = std::fs::read(folder.0.join("journal-0")).unwrap();
    backend.flush().await.unwrap();
    assert_eq!(journals(&folder), 0);
    let copy = killed();
    std::fs::write(copy.0.join("journal-0"), &journal).unwrap();
    let found = copy.open();
    assert_eq!(shared(&found).get(admitted.id).await.unwrap().attributes, fields(&[("room", "lobby")]));
    assert!(shared(&found).get(waiting.id).await.is_ok());
    drop(found);
    // A store that its process has closed needs no journal, also if it could not be deleted.
    std::fs::write(copy.0.join("journal-7"), &journal).unwrap();
    let found = copy.open();
    found.delete_row(closed.stage, closed.id).await.unwrap();
    drop(found);
    std::fs::write(copy.0.join("journal-7"), &journal).unwrap();
    let found = copy.open();
    assert_eq!(shared(&found).get(closed.id).await, Err(BackendError::NoSuchConnection));
    assert_eq!(journals(&copy), 0);
}

#[tokio::test]
async fn a_row_is_saved_within_the_interval() {
    let folder = TempFolder::new();
    let backend = folder.open();
    let row = row(&backend, &[]);
    backend.insert_row(row.clone()).await.unwrap();
    tokio::time::sleep(2 * limits::FLUSH_INTERVAL).await;
    // The copy is what a process finds after its predecessor was killed: the store was not closed.
    let copy = TempFolder::new();
    copy_files(&folder.0, &copy.0);
    assert_eq!(copy.open().rows().await, Ok(vec![row]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn with_durability_always_a_completed_write_survives_a_crash() {
    let folder = TempFolder::new();
    let backend = folder.try_open(Durability::Always).unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..16 {
        let backend = backend.clone();
        tasks.spawn(async move {
            set(&backend, &task.to_string(), b"v").await.unwrap();
            let row = row(&backend, &[("n", &task.to_string())]);
            backend.insert_row(row).await.unwrap();
        });
    }
    tasks.join_all().await;
    let copy = TempFolder::new();
    copy_files(&folder.0, &copy.0);
    let after = copy.open();
    assert_consistent(&after).await;
    assert_eq!(after.rows().await, backend.rows().await);
    assert_eq!(after.list_keys("bucket", KeysFrom::Start).await.unwrap().items.len(), 16);
}

fn copy_files(from: &std::path::Path, to: &std::path::Path) {
    std::fs::create_dir_all(to.join("blobs")).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_file() {
            std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}

fn open_error(folder: &TempFolder) -> String {
    match folder.try_open(Durability::Always) {
        Ok(_) => "opened".to_owned(),
        Err(error) => format!("{error:#}"),
    }
}

#[tokio::test]
async fn a_folder_in_use_is_rejected_until_it_is_released() {
    let folder = TempFolder::new();
    let backend = folder.open();
    let path = folder.0.display();
    let expected = format!("the store in {path} is in use by another process; stop it, or choose another folder");
    assert_eq!(open_error(&folder), expected);
    drop(backend.clone());
    assert_eq!(open_error(&folder), expected);
    drop(backend);
    assert_eq!(open_error(&folder), "opened");
}

#[tokio::test]
async fn a_folder_that_cannot_be_created_is_rejected() {
    let folder = TempFolder::new();
    std::fs::write(&folder.0, "a file").unwrap();
    let inside = TempFolder(folder.0.join("data"));
    let expected = format!(
        "cannot create the folder {} for the store; check that its parent folder is writable",
        inside.0.display()
    );
    assert!(open_error(&inside).starts_with(&expected), "{}", open_error(&inside));
    std::fs::remove_file(&folder.0).unwrap();
}

#[tokio::test]
async fn a_damaged_folder_is_rejected_with_advice() {
    let folder = TempFolder::new();
    let backend = folder.open();
    set(&backend, "k", &[7; 100_000]).await.unwrap();
    drop(backend);
    for entry in std::fs::read_dir(&folder.0).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() && !path.ends_with("conf") {
            let mut bytes = std::fs::read(&path).unwrap();
            bytes.iter_mut().for_each(|byte| *byte ^= 0x55);
            std::fs::write(path, bytes).unwrap();
        }
    }
    let error = open_error(&folder);
    assert!(error.contains("is damaged ("), "{error}");
    assert!(error.contains("; import an export if you have one"), "{error}");
    assert!(error.ends_with(", or move the folder away to start with an empty one"), "{error}");
}

#[tokio::test]
async fn a_folder_of_another_format_is_rejected() {
    let folder = TempFolder::new();
    drop(folder.open());
    ::sled::open(&folder.0).unwrap().insert("format", "jackfield 4").unwrap();
    let path = folder.0.display();
    let expected = format!(
        "cannot open the store in {path}: its format is \"jackfield 4\", and this version knows \"jackfield 3\"; \
         use the version that wrote it"
    );
    assert_eq!(open_error(&folder), expected);
}

/// Replaces the file of sled in `folder` with the one in `from`.
fn replace_database(folder: &TempFolder, from: &std::path::Path) {
    for name in ["db", "conf"] {
        std::fs::copy(from.join(name), folder.0.join(name)).unwrap();
    }
    for entry in std::fs::read_dir(&folder.0).unwrap() {
        let path = entry.unwrap().path();
        if path.file_name().unwrap().to_str().unwrap().starts_with("snap.") {
            std::fs::remove_file(path).unwrap();
        }
    }
}

/// Seen: sled opens a file that was cut off, or one of an earlier day, without an error and with older data.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_with_other_contents_than_its_last_server_left_is_damaged() {
    let (folder, earlier) = (TempFolder::new(), TempFolder::new());
    let backend = folder.open();
    set(&backend, "a", b"1").await.unwrap();
    drop(backend);
    copy_files(&folder.0, &earlier.0);
    let backend = folder.open();
    set(&backend, "b", b"22").await.unwrap();
    let row = row(&backend, &[]);
    backend.insert_row(row).await.unwrap();
    backend.export(None, || true).await.unwrap().unwrap();
    drop(backend);
    assert_eq!(open_error(&folder), "opened", "nothing has changed");

    replace_database(&folder, &earlier.0);
    let error = open_error(&folder);
    let expected = "is damaged: found 1 keys, 2 bytes, 0 rows, expected 2 keys, 5 bytes, 1 rows, which the last server \
                    left; import the last good export: jackfield store import --replace ";
    assert!(error.contains(expected), "{error}");
    assert_eq!(open_error(&folder), error, "it stays so");
    std::fs::remove_file(folder.0.join("jackfield-store")).unwrap();
    assert_eq!(get(&folder.open(), "a").await, Some(b"1".to_vec()), "what was found is served without the marker");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_with_a_marker_but_without_data_is_lost_and_one_without_both_is_new() {
    let folder = TempFolder::new();
    let backend = folder.open();
    set(&backend, "a", b"1").await.unwrap();
    let (export, _) = backend.export(None, || true).await.unwrap().unwrap();
    drop(backend);
    let database = folder.0.join("db");
    for cut_off in [true, false] {
        if cut_off {
            std::fs::write(&database, "").unwrap();
        } else {
            std::fs::remove_file(&database).unwrap();
        }
        let error = open_error(&folder);
        let path = folder.0.display();
        let expected = format!(
            "the store in {path} is lost: found jackfield-store, which a server wrote together with a store, but no \
             data in the file db; put the files of the store back, or import the last good export: jackfield store \
             import --replace {}, or delete {path}/jackfield-store to start with an empty store",
            export.display()
        );
        assert_eq!(error, expected);
    }
    assert!(!database.exists(), "a rejected folder stays as it is");
    std::fs::remove_file(folder.0.join("jackfield-store")).unwrap();
    assert_eq!(get(&folder.open(), "a").await, None);
}

/// A store with keys of all sizes, and a row with attributes in two stores.
async fn filled(folder: &TempFolder) -> Backend {
    let backend = folder.open();
    for bytes in [0, 1, 6144, 6145, limits::VALUE_BYTES_MAX] {
        set(&backend, &format!("{bytes} bytes"), &vec![b'x'; bytes]).await.unwrap();
    }
    for number in 0..600 {
        set(&backend, &format!("key {number}"), number.to_string().as_bytes()).await.unwrap();
    }
    let row = row(&backend, &[("room", "general")]);
    let (id, stage) = (row.id, row.stage);
    backend.insert_row(row).await.unwrap();
    let named = StoreName::parse("moderation").unwrap();
    backend.connection_store(stage, &named).add(id, "muted".to_owned(), "yes".to_owned()).await.unwrap();
    backend
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_import_brings_back_every_key_and_row_of_an_export() {
    let (folder, other) = (TempFolder::new(), TempFolder::new());
    let backend = filled(&folder).await;
    let (export, summary) = backend.export(None, || true).await.unwrap().unwrap();
    assert_eq!((summary.keys, summary.rows), (605, 1));
    assert_eq!(backend.export(None, || true).await.unwrap(), None, "there is one with the same writes");
    let rows = backend.rows().await.unwrap();
    let usage_before = usage(&backend).await;

    let refused = Backend::import(&folder.0, &export, true).unwrap_err().to_string();
    assert!(refused.contains("is in use by another process"), "{refused}");
    let imported = Backend::import(&other.0, &export, false).unwrap();
    assert_eq!((imported.summary, imported.moved_to), (summary, None));
    let restored = other.open();
    assert_consistent(&restored).await;
    assert_eq!(restored.rows().await.unwrap(), rows);
    assert_eq!(usage(&restored).await, usage_before);
    let named = StoreName::parse("moderation").unwrap();
    let found = restored.connection_store(stage(&restored), &named).get(rows[0].id).await.unwrap();
    assert_eq!(found.attributes, fields(&[("muted", "yes")]));
    for bytes in [0, 1, 6144, 6145, limits::VALUE_BYTES_MAX] {
        assert_eq!(get(&restored, &format!("{bytes} bytes")).await, Some(vec![b'x'; bytes]));
    }
    assert_eq!(get(&restored, "key 599").await, Some(b"599".to_vec()));

    // A store that is there is only replaced if this is asked for, and its files are kept.
    set(&restored, "newer", b"1").await.unwrap();
    drop(restored);
    let refused = Backend::import(&other.0, &export, false).unwrap_err().to_string();
    assert!(refused.contains("found a store in") && refused.contains("add --replace"), "{refused}");
    let moved_to = Backend::import(&other.0, &export, true).unwrap().moved_to.unwrap();
    assert_eq!(get(&other.open(), "newer").await, None);
    let before = Backend::open_sled(&SledOptions { folder: moved_to, durability: Durability::Always }).unwrap();
    assert_eq!(get(&before, "newer").await, Some(b"1".to_vec()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_export_changes_nothing_when_it_is_imported() {
    let (folder, other) = (TempFolder::new(), TempFolder::new());
    let (export, _) = filled(&folder).await.export(None, || true).await.unwrap().unwrap();
    let mut bytes = std::fs::read(&export).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&export, bytes).unwrap();
    let error = format!("{:#}", Backend::import(&other.0, &export, true).unwrap_err());
    assert!(error.ends_with("it is damaged: its content does not match its checksum"), "{error}");
    assert!(!other.0.exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_export_during_writes_has_whole_values_and_can_be_imported() {
    let (folder, other) = (TempFolder::new(), TempFolder::new());
    let backend = filled(&folder).await;
    let writing = tokio::spawn({
        let backend = backend.clone();
        async move {
            for round in (0..=u8::MAX).cycle() {
                for key in ["first", "large", "key 300"] {
                    set(&backend, key, &vec![round; 10_000 + usize::from(round)]).await.unwrap();
                }
            }
        }
    });
    for _ in 0..5 {
        let (export, summary) = backend.export(None, || true).await.unwrap().unwrap();
        assert!(summary.keys >= 605);
        Backend::import(&other.0, &export, other.0.exists()).unwrap();
        let restored = other.open();
        assert_consistent(&restored).await;
        let value = get(&restored, "key 300").await.unwrap();
        assert!(value == b"300" || value.iter().all(|byte| *byte == value[0]), "of one write");
    }
    writing.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn exports_are_written_at_each_interval_and_two_are_kept_and_an_abandoned_one_leaves_no_file() {
    let folder = TempFolder::new();
    let backend = filled(&folder).await;
    let stop = CancellationToken::new();
    let interval = Duration::from_millis(20);
    let exporting = tokio::spawn(backend.clone().export_regularly(interval, interval, stop.clone()));
    let newest = || exports::list(&folder.0).unwrap().into_iter().next();
    let mut seen = Vec::new();
    while seen.len() < 4 {
        set(&backend, "another", &[0]).await.unwrap();
        tokio::time::sleep(Duration::from_millis(5)).await;
        if let Some(path) = newest().filter(|path| !seen.contains(path)) {
            seen.push(path);
        }
    }
    stop.cancel();
    exporting.await.unwrap();
    set(&backend, "another", &[0]).await.unwrap();
    backend.export_at_stop(Duration::ZERO).await;
    let exports = Backend::exports(&folder.0).unwrap();
    assert_eq!(exports.len(), limits::EXPORTS_KEPT);
    assert!(exports.iter().all(|(_, summary)| summary.is_ok()));
    assert_eq!(std::fs::read_dir(folder.0.join("exports")).unwrap().count(), limits::EXPORTS_KEPT);
    let before = newest();
    backend.export_at_stop(limits::STOP_EXPORT_TIMEOUT).await;
    assert_ne!(newest(), before);
}

/// sled panics when it opens damaged files: each damage is an error or a store, and never the end of the process.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_with_any_damage_opens_or_is_rejected() {
    let (folder, copy) = (TempFolder::new(), TempFolder::new());
    let backend = filled(&folder).await;
    backend.flush().await.unwrap();
    copy_files(&folder.0, &copy.0);
    drop(backend);
    let names: Vec<_> = std::fs::read_dir(&copy.0).unwrap().map(|entry| entry.unwrap().path()).collect();
    let files: Vec<_> = names.iter().filter(|path| path.is_file()).collect();
    let mut random = 42_u64;
    let mut rejected = 0;
    for round in 0..32 {
        let damaged = TempFolder::new();
        copy_files(&copy.0, &damaged.0);
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let file = damaged.0.join(files[round % files.len()].file_name().unwrap());
        let mut bytes = std::fs::read(&file).unwrap();
        let at = usize::try_from(random >> 33).unwrap() % bytes.len().max(1);
        match round / files.len() % 3 {
            0 => bytes.truncate(at),
            1 => bytes[at..].iter_mut().step_by(997).for_each(|byte| *byte ^= 0x10),
            _ => bytes[at..].iter_mut().take(4096).for_each(|byte| *byte = 0),
        }
        std::fs::write(file, bytes).unwrap();
        rejected += usize::from(open_error(&damaged) != "opened");
    }
    assert!(rejected > 3, "only {rejected} of them were rejected");
}

/// Measured: 3.5 MiB for 100 connections of 200 bytes at a time, 6.5 MiB for 5,000; docs/store.md has the bound.
#[tokio::test]
async fn the_files_stay_small_over_a_hundred_thousand_connections() {
    const AT_A_TIME: usize = 500;
    let folder = TempFolder::new();
    let backend = folder.open();
    let mut open = Vec::new();
    for _ in 0..100_000 / AT_A_TIME {
        let before = std::mem::take(&mut open);
        for number in 0..AT_A_TIME {
            let row = row(&backend, &[("room", "general"), ("user", &number.to_string())]);
            open.push((row.stage, row.id));
            backend.insert_row(row).await.unwrap();
        }
        backend.flush().await.unwrap();
        for (stage, id) in before {
            backend.delete_row(stage, id).await.unwrap();
        }
    }
    backend.flush().await.unwrap();
    let files = std::fs::read_dir(&folder.0).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len());
    let bytes: u64 = files.sum();
    // A row has about 200 bytes.
    let allowed = 8 * 1024 * 1024 + 4 * 200 * AT_A_TIME as u64;
    println!("{bytes} bytes");
    assert!(bytes <= allowed, "{bytes} bytes, expected at most {allowed}");
    assert_eq!(backend.rows().await.unwrap().len(), AT_A_TIME);
}
