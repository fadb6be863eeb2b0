//! Tests the behaviour that every storage engine must have, and that of sled.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use super::*;
use crate::connections::PeerApiKey;
use crate::id::NodeId;

const STAGE: &str = "dev";

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

fn row(attributes: &[(&str, &str)]) -> Row {
    let peer = Peer {
        source_ip: "203.0.113.7".to_owned(),
        user_agent: Some("curl/8".to_owned()),
        domain_name: "example.com".to_owned(),
        authorizer: fields(&[("principalId", "alice")]),
        user: Some("alice".to_owned()),
        api_key: Some(PeerApiKey::id_only("team")),
    };
    let (id, stage) = (ConnectionId::random(NodeId(0)), STAGE.to_owned());
    Row { id, stage, connected_at: 1_700_000_000_000, admitted: true, peer, attributes: fields(attributes) }
}

async fn add(backend: &Backend, id: ConnectionId, name: &str, value: &str) -> Result<(), BackendError> {
    backend.add(id, name.to_owned(), value.to_owned()).await
}

async fn matching(backend: &Backend, name: &str, value: &str) -> Vec<ConnectionId> {
    backend.matching(name.to_owned(), value.to_owned()).await.unwrap()
}

async fn assert_consistent(backend: &Backend) {
    assert_eq!(backend.verify().await.unwrap(), Vec::<String>::new());
}

fn too_large(text: &str) -> BackendError {
    BackendError::TooLarge(text.to_owned())
}

// ---- connection rows ---------------------------------------------------------------------------

#[tokio::test]
async fn a_row_is_returned_as_it_was_inserted() {
    let folder = TempFolder::new();
    let backend = folder.open();
    let row = row(&[("room", "general")]);
    backend.insert_row(row.clone()).await.unwrap();
    assert_eq!(backend.row(row.id).await, Ok(row));
}

#[tokio::test]
async fn attributes_are_sorted_and_have_no_duplicates() {
    let folder = TempFolder::new();
    let backend = folder.open();
    let row = row(&[("b", "1"), ("a", "2"), ("b", "1")]);
    backend.insert_row(row.clone()).await.unwrap();
    add(&backend, row.id, "a", "1").await.unwrap();
    add(&backend, row.id, "a", "2").await.unwrap();
    assert_eq!(backend.row(row.id).await.unwrap().attributes, fields(&[("a", "1"), ("a", "2"), ("b", "1")]));
    assert_consistent(&backend).await;
}

#[tokio::test]
async fn put_replaces_all_attributes() {
    let folder = TempFolder::new();
    let backend = folder.open();
    let row = row(&[("room", "general"), ("user", "alice")]);
    backend.insert_row(row.clone()).await.unwrap();
    backend.put(row.id, fields(&[("room", "random"), ("user", "alice")])).await.unwrap();
    assert_eq!(matching(&backend, "room", "general").await, []);
    assert_eq!(matching(&backend, "room", "random").await, [row.id]);
    assert_eq!(matching(&backend, "user", "alice").await, [row.id]);
    assert_consistent(&backend).await;
}

#[tokio::test]
async fn remove_deletes_one_attribute_or_all_of_a_name() {
    let folder = TempFolder::new();
    let backend = folder.open();
    let row = row(&[("room", "a"), ("room", "b"), ("room", "c"), ("user", "alice")]);
    backend.insert_row(row.clone()).await.unwrap();
    backend.remove(row.id, "room".to_owned(), Some("b".to_owned())).await.unwrap();
    let left = fields(&[("room", "a"), ("room", "c"), ("user", "alice")]);
    assert_eq!(backend.row(row.id).await.unwrap().attributes, left);
    backend.remove(row.id, "room".to_owned(), None).await.unwrap();
    assert_eq!(backend.row(row.id).await.unwrap().attributes, fields(&[("user", "alice")]));
    assert_eq!(matching(&backend, "room", "a").await, []);
    assert_consistent(&backend).await;
}

#[tokio::test]
async fn attributes_of_a_missing_row_cannot_be_changed() {
    let folder = TempFolder::new();
    let backend = folder.open();
    let id = row(&[]).id;
    assert_eq!(backend.row(id).await, Err(BackendError::NoSuchConnection));
    assert_eq!(add(&backend, id, "room", "general").await, Err(BackendError::NoSuchConnection));
    assert_eq!(backend.put(id, fields(&[("room", "general")])).await, Err(BackendError::NoSuchConnection));
    assert_eq!(backend.remove(id, "room".to_owned(), None).await, Err(BackendError::NoSuchConnection));
    assert_eq!(backend.rows().await, Ok(Vec::new()));
    assert_eq!(matching(&backend, "room", "general").await, []);
}

#[tokio::test]
async fn deleting_a_row_removes_it_from_the_index() {
    let folder = TempFolder::new();
    let backend = folder.open();
    let row = row(&[("room", "general")]);
    backend.insert_row(row.clone()).await.unwrap();
    backend.delete_row(row.id).await.unwrap();
    backend.delete_row(row.id).await.unwrap();
    assert_eq!(backend.row(row.id).await, Err(BackendError::NoSuchConnection));
    assert_eq!(matching(&backend, "room", "general").await, []);
    assert_consistent(&backend).await;
}

#[tokio::test]
async fn a_row_that_is_inserted_again_has_only_its_new_attributes() {
    let folder = TempFolder::new();
    let backend = folder.open();
    let before = row(&[("room", "general")]);
    backend.insert_row(before.clone()).await.unwrap();
    backend.insert_row(Row { attributes: Vec::new(), ..before }).await.unwrap();
    assert_eq!(matching(&backend, "room", "general").await, []);
    assert_consistent(&backend).await;
}

#[tokio::test]
async fn names_and_values_that_concatenate_to_the_same_text_are_distinct() {
    let folder = TempFolder::new();
    let backend = folder.open();
    let pairs = [("ab", "c"), ("a", "bc"), ("", "abc"), ("abc", ""), ("a\0", "bc"), ("a", "\0bc"), ("", "")];
    for pair in pairs {
        backend.insert_row(row(&[pair])).await.unwrap();
    }
    for (name, value) in pairs {
        assert_eq!(matching(&backend, name, value).await.len(), 1, "{name:?} {value:?}");
    }
}

#[tokio::test]
async fn the_size_of_an_attribute_is_limited() {
    let folder = TempFolder::new();
    let backend = folder.open();
    let row = row(&[]);
    backend.insert_row(row.clone()).await.unwrap();
    let (name, value) = ("n".repeat(limits::ATTRIBUTE_NAME_BYTES_MAX), "v".repeat(limits::ATTRIBUTE_VALUE_BYTES_MAX));
    assert_eq!(add(&backend, row.id, &name, &value).await, Ok(()));
    assert_eq!(matching(&backend, &name, &value).await, [row.id]);

    let long_name = too_large("the attribute's name has 65 bytes; at most 64 are allowed");
    assert_eq!(add(&backend, row.id, &format!("{name}n"), "").await, Err(long_name.clone()));
    assert_eq!(backend.put(row.id, vec![(format!("{name}n"), String::new())]).await, Err(long_name));
    let long_value = too_large("the attribute's value has 1025 bytes; at most 1024 are allowed");
    assert_eq!(add(&backend, row.id, "n", &format!("{value}v")).await, Err(long_value));
}

#[tokio::test]
async fn the_number_of_attributes_of_a_row_is_limited() {
    let folder = TempFolder::new();
    let backend = folder.open();
    let row = row(&[]);
    backend.insert_row(row.clone()).await.unwrap();
    let full: Vec<Field> = (0..limits::ROW_ATTRIBUTES_MAX).map(|n| ("n".to_owned(), format!("{n:02}"))).collect();
    let twice = [full.clone(), full.clone()].concat();
    assert_eq!(backend.put(row.id, twice).await, Ok(()));
    assert_eq!(add(&backend, row.id, "n", "00").await, Ok(()));

    let too_many = too_large("the row has 65 attributes; at most 64 are allowed");
    assert_eq!(add(&backend, row.id, "n", "64").await, Err(too_many.clone()));
    let more = [full.clone(), fields(&[("n", "64")])].concat();
    assert_eq!(backend.put(row.id, more.clone()).await, Err(too_many.clone()));
    assert_eq!(backend.insert_row(Row { attributes: more, ..row.clone() }).await, Err(too_many));
    assert_eq!(backend.row(row.id).await.unwrap().attributes, full);
    assert_eq!(matching(&backend, "n", "64").await, []);
}

#[tokio::test]
async fn pages_contain_all_rows_sorted_by_id() {
    let folder = TempFolder::new();
    let backend = folder.open();
    for count in [0, 1, limits::PAGE_ITEMS, limits::PAGE_ITEMS + 1, 2 * limits::PAGE_ITEMS + 1] {
        let room = format!("of {count}");
        let mut ids = Vec::new();
        for _ in 0..count {
            let row = row(&[("room", &room)]);
            ids.push(row.id);
            backend.insert_row(row).await.unwrap();
        }
        ids.sort();
        let (mut found, mut pages, mut cursor) = (Vec::new(), 0, None);
        loop {
            let page = backend.query(STAGE, "room".to_owned(), room.clone(), cursor).await.unwrap();
            found.extend(page.items.iter().map(|row| row.id));
            pages += 1;
            cursor = page.cursor;
            if cursor.is_none() {
                break;
            }
        }
        assert_eq!(found, ids);
        assert_eq!(pages, count.div_ceil(limits::PAGE_ITEMS).max(1), "of {count} rows");
        assert_eq!(matching(&backend, "room", &room).await, ids);
    }
    let (mut all, mut cursor) = (Vec::new(), None);
    loop {
        let page = backend.scan(STAGE, cursor).await.unwrap();
        all.extend(page.items);
        cursor = page.cursor;
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!(all, backend.rows().await.unwrap());
    assert_eq!(all.len(), 4 * limits::PAGE_ITEMS + 3);
}

#[tokio::test]
async fn a_page_continues_after_the_last_one_although_rows_were_deleted() {
    let folder = TempFolder::new();
    let backend = folder.open();
    for _ in 0..=limits::PAGE_ITEMS {
        backend.insert_row(row(&[("room", "general")])).await.unwrap();
    }
    let first = backend.scan(STAGE, None).await.unwrap();
    // The row that the cursor names is deleted too.
    for row in &first.items {
        backend.delete_row(row.id).await.unwrap();
    }
    let left = backend.rows().await.unwrap();
    assert_eq!(backend.scan(STAGE, first.cursor.clone()).await.unwrap(), Page { items: left.clone(), cursor: None });
    let rest = backend.query(STAGE, "room".to_owned(), "general".to_owned(), first.cursor).await.unwrap();
    assert_eq!(rest.items, left);
}

#[tokio::test]
async fn a_page_of_large_rows_has_fewer_rows() {
    let folder = TempFolder::new();
    let backend = folder.open();
    let large: Vec<Field> = (0..limits::ROW_ATTRIBUTES_MAX)
        .map(|n| (format!("{n}"), "v".repeat(limits::ATTRIBUTE_VALUE_BYTES_MAX)))
        .collect();
    for _ in 0..10 {
        backend.insert_row(Row { attributes: large.clone(), ..row(&[]) }).await.unwrap();
    }
    let page = backend.scan(STAGE, None).await.unwrap();
    assert_eq!(page.items.len(), 7, "each row has 66 KiB, and a page ends at 400 KiB");
    assert_eq!(backend.scan(STAGE, page.cursor).await.unwrap().items.len(), 3);
}

#[tokio::test]
async fn a_cursor_that_no_page_returned_is_rejected() {
    let folder = TempFolder::new();
    let backend = folder.open();
    for cursor in ["", "1", "L0SM9cOFvHcCI/w=", "L0SM9cOFvHcCIhw=="] {
        let error = Err(BackendError::Invalid("the cursor is none that a page has given".to_owned()));
        assert_eq!(backend.scan(STAGE, Some(cursor.to_owned())).await, error);
        assert_eq!(backend.query(STAGE, "n".to_owned(), "v".to_owned(), Some(cursor.to_owned())).await, error);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_index_agrees_with_the_rows_after_concurrent_changes() {
    let folder = TempFolder::new();
    let backend = folder.open();
    let ids: Vec<_> = (0..8).map(|_| row(&[]).id).collect();
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..8_usize {
        let (backend, ids) = (backend.clone(), ids.clone());
        tasks.spawn(async move {
            for step in 0..500 {
                let (id, value) = (ids[(task + step) % 8], format!("{}", step % 5));
                // The row may or may not exist at this time, so the result does not matter.
                let _ = match (task * 7 + step) % 6 {
                    0 => backend.insert_row(Row { id, ..row(&[("n", &value)]) }).await,
                    1 => backend.delete_row(id).await,
                    2 => backend.remove(id, "n".to_owned(), None).await,
                    3 => backend.put(id, fields(&[("m", &value), ("n", &value)])).await,
                    _ => add(&backend, id, "n", &value).await,
                };
                if step % 100 == 0 {
                    backend.flush().await.unwrap();
                }
            }
        });
    }
    tasks.join_all().await;
    assert_consistent(&backend).await;
    let rows = backend.rows().await.unwrap();
    drop(backend);
    let backend = folder.open();
    assert_eq!(backend.rows().await.unwrap(), rows);
    assert_consistent(&backend).await;
}

// ---- key-value buckets -------------------------------------------------------------------------

async fn get(backend: &Backend, key: &str) -> Option<Vec<u8>> {
    backend.get("bucket", key.to_owned()).await.unwrap()
}

async fn set(backend: &Backend, key: &str, value: &[u8]) -> Result<(), BackendError> {
    backend.set("bucket", key.to_owned(), value.to_vec()).await
}

#[tokio::test]
async fn a_key_has_the_value_that_was_set_last() {
    let folder = TempFolder::new();
    let backend = folder.open();
    assert_eq!(get(&backend, "k").await, None);
    for value in [&b"one"[..], b"", b"\xff\x00"] {
        set(&backend, "k", value).await.unwrap();
        assert_eq!(get(&backend, "k").await.as_deref(), Some(value));
    }
    assert_eq!(backend.exists("bucket", "k".to_owned()).await, Ok(true));
    backend.delete("bucket", "k".to_owned()).await.unwrap();
    backend.delete("bucket", "k".to_owned()).await.unwrap();
    assert_eq!(backend.exists("bucket", "k".to_owned()).await, Ok(false));
    assert_eq!(get(&backend, "k").await, None);
}

#[tokio::test]
async fn keys_of_different_buckets_are_distinct() {
    let folder = TempFolder::new();
    let backend = folder.open();
    for (bucket, key) in [("a", "bc"), ("ab", "c"), ("", "abc"), ("abc", "")] {
        backend.set(bucket, key.to_owned(), bucket.as_bytes().to_vec()).await.unwrap();
    }
    for (bucket, key) in [("a", "bc"), ("ab", "c"), ("", "abc"), ("abc", "")] {
        assert_eq!(backend.get(bucket, key.to_owned()).await, Ok(Some(bucket.as_bytes().to_vec())));
        assert_eq!(backend.list_keys(bucket, KeysFrom::Start).await.unwrap().items, [key]);
    }
}

#[tokio::test]
async fn the_size_of_a_key_is_limited() {
    let folder = TempFolder::new();
    let backend = folder.open();
    let key = "k".repeat(limits::KEY_BYTES_MAX);
    assert_eq!(set(&backend, &key, b"v").await, Ok(()));
    assert_eq!(get(&backend, &key).await.as_deref(), Some(&b"v"[..]));
    let longer = format!("{key}k");
    let error = too_large("the key has 1025 bytes; at most 1024 are allowed");
    assert_eq!(set(&backend, &longer, b"v").await, Err(error.clone()));
    assert_eq!(backend.increment("bucket", longer.clone(), 1).await, Err(error.clone()));
    assert_eq!(backend.get("bucket", longer.clone()).await, Err(error.clone()));
    assert_eq!(backend.exists("bucket", longer.clone()).await, Err(error.clone()));
    assert_eq!(backend.delete("bucket", longer).await, Err(error));
}

#[tokio::test]
async fn the_size_of_a_value_is_limited() {
    let folder = TempFolder::new();
    let backend = folder.open();
    // The sizes around the limits at which a value is split into parts, and the largest size.
    for size in [6143, 6144, 6145, 2 * 6144, 2 * 6144 + 1, limits::VALUE_BYTES_MAX] {
        let value: Vec<u8> = (0..size).map(|n| (n % 251) as u8).collect();
        set(&backend, "k", &value).await.unwrap();
        assert_eq!(get(&backend, "k").await, Some(value));
        assert_consistent(&backend).await;
    }
    let error = too_large("the value has 409601 bytes; at most 409600 are allowed");
    assert_eq!(set(&backend, "k", &vec![0; limits::VALUE_BYTES_MAX + 1]).await, Err(error.clone()));
    let swapped = backend.compare_and_swap("bucket", "k".to_owned(), None, vec![0; limits::VALUE_BYTES_MAX + 1]).await;
    assert_eq!(swapped, Err(error));
    backend.delete("bucket", "k".to_owned()).await.unwrap();
    assert_eq!(get(&backend, "k").await, None);
    assert_consistent(&backend).await;
}

#[tokio::test]
async fn keys_are_listed_in_order_one_page_at_a_time() {
    let folder = TempFolder::new();
    let backend = folder.open();
    let count = 2 * limits::PAGE_ITEMS + 1;
    let keys: Vec<String> = (0..count).map(|n| format!("key {n:04}")).collect();
    for key in keys.iter().rev() {
        set(&backend, key, b"").await.unwrap();
    }
    let (mut found, mut from) = (Vec::new(), KeysFrom::Start);
    loop {
        let page = backend.list_keys("bucket", from).await.unwrap();
        found.extend(page.items);
        match page.cursor {
            Some(cursor) => from = KeysFrom::Cursor(cursor),
            None => break,
        }
    }
    assert_eq!(found, keys);

    let skipped = backend.list_keys("bucket", KeysFrom::Skip(300)).await.unwrap();
    assert_eq!(skipped.items, keys[300..]);
    assert_eq!(skipped.cursor, None);
    for from in [KeysFrom::Skip(count as u64), KeysFrom::Skip(u64::MAX), KeysFrom::Cursor("\u{10ffff}".to_owned())] {
        assert_eq!(backend.list_keys("bucket", from).await, Ok(Page { items: Vec::new(), cursor: None }));
    }
}

#[tokio::test]
async fn the_last_page_of_keys_has_no_cursor_even_if_it_is_full() {
    let folder = TempFolder::new();
    let backend = folder.open();
    for n in 0..limits::PAGE_ITEMS {
        set(&backend, &format!("{n:04}"), b"").await.unwrap();
    }
    assert_eq!(backend.list_keys("bucket", KeysFrom::Start).await.unwrap().cursor, None);
    set(&backend, "one more", b"").await.unwrap();
    let page = backend.list_keys("bucket", KeysFrom::Start).await.unwrap();
    assert_eq!(page.items.len(), limits::PAGE_ITEMS);
    let rest = backend.list_keys("bucket", KeysFrom::Cursor(page.cursor.unwrap())).await.unwrap();
    assert_eq!(rest.items, ["one more"]);
}

#[tokio::test]
async fn an_increment_starts_at_zero_or_at_a_decimal_number() {
    let folder = TempFolder::new();
    let backend = folder.open();
    let increment = |delta| backend.increment("bucket", "n".to_owned(), delta);
    assert_eq!(increment(5).await, Ok(5));
    assert_eq!(increment(-7).await, Ok(-2));
    assert_eq!(get(&backend, "n").await.as_deref(), Some(&b"-2"[..]));
    set(&backend, "n", i64::MAX.to_string().as_bytes()).await.unwrap();
    assert_eq!(increment(0).await, Ok(i64::MAX));

    let overflow = "9223372036854775807 and 1 do not fit in 64 bits together";
    assert_eq!(increment(1).await, Err(BackendError::Invalid(overflow.to_owned())));
    assert_eq!(get(&backend, "n").await, Some(i64::MAX.to_string().into_bytes()));
    for value in [b"".to_vec(), b"one".to_vec(), b"1.5".to_vec(), b"\xff".to_vec(), vec![b'1'; 10_000]] {
        set(&backend, "n", &value).await.unwrap();
        let not_a_number = "the value of the key is no decimal number of 64 bits";
        assert_eq!(increment(1).await, Err(BackendError::Invalid(not_a_number.to_owned())));
        assert_eq!(get(&backend, "n").await, Some(value));
    }
}

#[tokio::test]
async fn a_swap_writes_only_over_the_expected_value() {
    let folder = TempFolder::new();
    let backend = folder.open();
    let swap = |expected: Option<&[u8]>, new: &[u8]| {
        backend.compare_and_swap("bucket", "k".to_owned(), expected.map(<[u8]>::to_vec), new.to_vec())
    };
    assert_eq!(swap(Some(b""), b"1").await, Ok(Err(None)));
    assert_eq!(swap(None, b"1").await, Ok(Ok(())));
    assert_eq!(swap(None, b"2").await, Ok(Err(Some(b"1".to_vec()))));
    assert_eq!(swap(Some(b"1"), b"2").await, Ok(Ok(())));
    assert_eq!(get(&backend, "k").await.as_deref(), Some(&b"2"[..]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn concurrent_increments_and_swaps_lose_no_update() {
    let folder = TempFolder::new();
    let backend = folder.open();
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let backend = backend.clone();
        tasks.spawn(async move {
            for _ in 0..1000 {
                backend.increment("bucket", "incremented".to_owned(), 1).await.unwrap();
                let mut seen = get(&backend, "swapped").await;
                loop {
                    let number = seen.as_ref().map_or(0, |text| str::from_utf8(text).unwrap().parse().unwrap());
                    let new = (number + 1_u32).to_string().into_bytes();
                    match backend.compare_and_swap("bucket", "swapped".to_owned(), seen, new).await.unwrap() {
                        Ok(()) => break,
                        Err(current) => seen = current,
                    }
                }
            }
        });
    }
    tasks.join_all().await;
    assert_eq!(get(&backend, "incremented").await.as_deref(), Some(&b"8000"[..]));
    assert_eq!(get(&backend, "swapped").await.as_deref(), Some(&b"8000"[..]));
}

#[tokio::test]
async fn a_batch_returns_values_in_the_order_of_its_keys() {
    let folder = TempFolder::new();
    let backend = folder.open();
    let keys = |keys: &[&str]| keys.iter().map(|key| (*key).to_owned()).collect::<Vec<_>>();
    let pairs = [("b", "2"), ("a", "0"), ("a", "1")];
    let pairs = pairs.map(|(key, value)| (key.to_owned(), value.as_bytes().to_vec()));
    backend.set_many("bucket", pairs.to_vec()).await.unwrap();
    let values = backend.get_many("bucket", keys(&["a", "x", "b", "a"])).await.unwrap();
    assert_eq!(values, [Some(b"1".to_vec()), None, Some(b"2".to_vec()), Some(b"1".to_vec())]);
    backend.delete_many("bucket", keys(&["a", "x"])).await.unwrap();
    assert_eq!(backend.get_many("bucket", keys(&["a", "b"])).await.unwrap(), [None, Some(b"2".to_vec())]);
    assert_eq!(backend.get_many("bucket", Vec::new()).await, Ok(Vec::new()));
}

#[tokio::test]
async fn the_number_of_keys_in_a_batch_is_limited() {
    let folder = TempFolder::new();
    let backend = folder.open();
    for (count, fits) in [(limits::BATCH_KEYS_MAX, true), (limits::BATCH_KEYS_MAX + 1, false)] {
        let keys: Vec<String> = (0..count).map(|n| n.to_string()).collect();
        let pairs = keys.iter().map(|key| (key.clone(), b"v".to_vec())).collect();
        let error = too_large("the batch has 257 keys; at most 256 are allowed");
        let expected = if fits { Ok(()) } else { Err(error) };
        assert_eq!(backend.set_many("bucket", pairs).await, expected);
        assert_eq!(backend.get_many("bucket", keys.clone()).await.map(drop), expected);
        assert_eq!(backend.delete_many("bucket", keys).await, expected);
    }
}

#[tokio::test]
async fn the_size_of_a_batch_is_limited() {
    let folder = TempFolder::new();
    let backend = folder.open();
    let value = vec![0; limits::HOST_CALL_BYTES / 8];
    let pairs: Vec<_> = (0..8).map(|n| (n.to_string(), value.clone())).collect();
    let keys: Vec<_> = (0..8).map(|n| n.to_string()).collect();
    backend.set_many("bucket", pairs.clone()).await.unwrap();
    assert_eq!(backend.get_many("bucket", keys.clone()).await.unwrap().len(), 8);

    set(&backend, "one byte", b"1").await.unwrap();
    let error = Err(too_large("the batch has 2097153 bytes; at most 2097152 are allowed"));
    let keys = [keys, vec!["one byte".to_owned()]].concat();
    assert_eq!(backend.get_many("bucket", keys).await.map(drop), error);
    let pairs = [pairs, vec![("one byte".to_owned(), b"1".to_vec())]].concat();
    assert_eq!(backend.set_many("bucket", pairs).await, error);
}

// ---- the folder --------------------------------------------------------------------------------

#[tokio::test]
async fn written_data_is_there_when_the_folder_is_opened_again() {
    for durability in [Durability::Interval(limits::FLUSH_INTERVAL), Durability::Always] {
        let folder = TempFolder::new();
        let large = vec![7; 100_000];
        let mut rows = [row(&[("room", "general")]), row(&[]), row(&[("room", "general"), ("user", "bob")])];
        rows.sort_by_key(|row| row.id);
        {
            let backend = folder.try_open(durability).unwrap();
            let short_lived = row(&[("room", "general")]);
            for row in rows.iter().chain([&short_lived]) {
                backend.insert_row(row.clone()).await.unwrap();
            }
            backend.delete_row(short_lived.id).await.unwrap();
            set(&backend, "k", &large).await.unwrap();
            backend.increment("bucket", "n".to_owned(), 3).await.unwrap();
        }
        let backend = folder.try_open(durability).unwrap();
        assert_consistent(&backend).await;
        assert_eq!(backend.rows().await.unwrap(), rows);
        assert_eq!(matching(&backend, "room", "general").await.len(), 2);
        assert_eq!(get(&backend, "k").await, Some(large));
        assert_eq!(backend.increment("bucket", "n".to_owned(), 1).await, Ok(4));
        for row in rows {
            backend.delete_row(row.id).await.unwrap();
        }
        drop(backend);
        assert_eq!(folder.try_open(durability).unwrap().rows().await, Ok(Vec::new()));
    }
}

#[tokio::test]
async fn a_row_is_saved_within_the_interval() {
    let folder = TempFolder::new();
    let backend = folder.open();
    let row = row(&[]);
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
            let row = row(&[("n", &task.to_string())]);
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
    assert!(error.ends_with("; move the folder away to start with an empty one"), "{error}");
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
