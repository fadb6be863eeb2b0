//! The behaviour that every storage engine must have. Each test runs on each of them.

use super::*;

// ---- connection rows ---------------------------------------------------------------------------

async fn a_row_is_returned_as_it_was_inserted(backend: Backend) {
    let row = row(&backend, &[("room", "general")]);
    backend.insert_row(row.clone()).await.unwrap();
    assert_eq!(shared(&backend).get(row.id).await, Ok(row));
}

async fn attributes_are_sorted_and_have_no_duplicates(backend: Backend) {
    let row = row(&backend, &[("b", "1"), ("a", "2"), ("b", "1")]);
    backend.insert_row(row.clone()).await.unwrap();
    add(&backend, row.id, "a", "1").await.unwrap();
    add(&backend, row.id, "a", "2").await.unwrap();
    assert_eq!(shared(&backend).get(row.id).await.unwrap().attributes, fields(&[("a", "1"), ("a", "2"), ("b", "1")]));
    assert_consistent(&backend).await;
}

async fn put_replaces_all_attributes(backend: Backend) {
    let row = row(&backend, &[("room", "general"), ("user", "alice")]);
    backend.insert_row(row.clone()).await.unwrap();
    shared(&backend).put(row.id, fields(&[("room", "random"), ("user", "alice")])).await.unwrap();
    assert_eq!(matching(&backend, "room", "general").await, []);
    assert_eq!(matching(&backend, "room", "random").await, [row.id]);
    assert_eq!(matching(&backend, "user", "alice").await, [row.id]);
    assert_consistent(&backend).await;
}

async fn remove_deletes_one_attribute_or_all_of_a_name(backend: Backend) {
    let row = row(&backend, &[("room", "a"), ("room", "b"), ("room", "c"), ("user", "alice")]);
    backend.insert_row(row.clone()).await.unwrap();
    shared(&backend).remove(row.id, "room".to_owned(), Some("b".to_owned())).await.unwrap();
    let left = fields(&[("room", "a"), ("room", "c"), ("user", "alice")]);
    assert_eq!(shared(&backend).get(row.id).await.unwrap().attributes, left);
    shared(&backend).remove(row.id, "room".to_owned(), None).await.unwrap();
    assert_eq!(shared(&backend).get(row.id).await.unwrap().attributes, fields(&[("user", "alice")]));
    assert_eq!(matching(&backend, "room", "a").await, []);
    assert_consistent(&backend).await;
}

async fn attributes_of_a_missing_row_cannot_be_changed(backend: Backend) {
    let id = row(&backend, &[]).id;
    assert_eq!(shared(&backend).get(id).await, Err(BackendError::NoSuchConnection));
    assert_eq!(add(&backend, id, "room", "general").await, Err(BackendError::NoSuchConnection));
    assert_eq!(shared(&backend).put(id, fields(&[("room", "general")])).await, Err(BackendError::NoSuchConnection));
    assert_eq!(shared(&backend).remove(id, "room".to_owned(), None).await, Err(BackendError::NoSuchConnection));
    assert_eq!(scan(&backend).await, []);
    assert_eq!(matching(&backend, "room", "general").await, []);
}

async fn deleting_a_row_removes_it_from_the_index(backend: Backend) {
    let row = row(&backend, &[("room", "general")]);
    backend.insert_row(row.clone()).await.unwrap();
    backend.delete_row(stage(&backend), row.id).await.unwrap();
    backend.delete_row(stage(&backend), row.id).await.unwrap();
    assert_eq!(shared(&backend).get(row.id).await, Err(BackendError::NoSuchConnection));
    assert_eq!(matching(&backend, "room", "general").await, []);
    assert_consistent(&backend).await;
}

async fn a_row_that_is_inserted_again_has_only_its_new_attributes(backend: Backend) {
    let before = row(&backend, &[("room", "general")]);
    backend.insert_row(before.clone()).await.unwrap();
    backend.insert_row(Row { attributes: Vec::new(), ..before }).await.unwrap();
    assert_eq!(matching(&backend, "room", "general").await, []);
    assert_consistent(&backend).await;
}

async fn names_and_values_that_concatenate_to_the_same_text_are_distinct(backend: Backend) {
    let pairs = [("ab", "c"), ("a", "bc"), ("", "abc"), ("abc", ""), ("a\0", "bc"), ("a", "\0bc"), ("", "")];
    for pair in pairs {
        backend.insert_row(row(&backend, &[pair])).await.unwrap();
    }
    for (name, value) in pairs {
        assert_eq!(matching(&backend, name, value).await.len(), 1, "{name:?} {value:?}");
    }
}

async fn the_size_of_an_attribute_is_limited(backend: Backend) {
    let row = row(&backend, &[]);
    backend.insert_row(row.clone()).await.unwrap();
    let (name, value) = ("n".repeat(limits::ATTRIBUTE_NAME_BYTES_MAX), "v".repeat(limits::ATTRIBUTE_VALUE_BYTES_MAX));
    assert_eq!(add(&backend, row.id, &name, &value).await, Ok(()));
    assert_eq!(matching(&backend, &name, &value).await, [row.id]);

    let long_name = too_large("the attribute's name has 65 bytes; at most 64 are allowed");
    assert_eq!(add(&backend, row.id, &format!("{name}n"), "").await, Err(long_name.clone()));
    assert_eq!(shared(&backend).put(row.id, vec![(format!("{name}n"), String::new())]).await, Err(long_name));
    let long_value = too_large("the attribute's value has 1025 bytes; at most 1024 are allowed");
    assert_eq!(add(&backend, row.id, "n", &format!("{value}v")).await, Err(long_value));
}

async fn the_number_of_attributes_of_a_row_is_limited(backend: Backend) {
    let row = row(&backend, &[]);
    backend.insert_row(row.clone()).await.unwrap();
    let full: Vec<Field> = (0..limits::ROW_ATTRIBUTES_MAX).map(|n| ("n".to_owned(), format!("{n:02}"))).collect();
    let twice = [full.clone(), full.clone()].concat();
    assert_eq!(shared(&backend).put(row.id, twice).await, Ok(()));
    assert_eq!(add(&backend, row.id, "n", "00").await, Ok(()));

    let too_many = too_large("the row has 65 attributes; at most 64 are allowed");
    assert_eq!(add(&backend, row.id, "n", "64").await, Err(too_many.clone()));
    let more = [full.clone(), fields(&[("n", "64")])].concat();
    assert_eq!(shared(&backend).put(row.id, more.clone()).await, Err(too_many.clone()));
    assert_eq!(backend.insert_row(Row { attributes: more, ..row.clone() }).await, Err(too_many));
    assert_eq!(shared(&backend).get(row.id).await.unwrap().attributes, full);
    assert_eq!(matching(&backend, "n", "64").await, []);
}

/// Returns all rows of the stage, with their attributes in the shared store.
pub async fn scan(backend: &Backend) -> Vec<Row> {
    let (mut all, mut cursor) = (Vec::new(), None);
    loop {
        let page = shared(backend).scan(cursor).await.unwrap();
        all.extend(page.items);
        cursor = page.cursor;
        if cursor.is_none() {
            return all;
        }
    }
}

async fn pages_contain_all_rows_sorted_by_id(backend: Backend) {
    for count in [0, 1, limits::PAGE_ITEMS, limits::PAGE_ITEMS + 1, 2 * limits::PAGE_ITEMS + 1] {
        let room = format!("of {count}");
        let mut ids = Vec::new();
        for _ in 0..count {
            let row = row(&backend, &[("room", &room)]);
            ids.push(row.id);
            backend.insert_row(row).await.unwrap();
        }
        ids.sort();
        let (mut found, mut pages, mut cursor) = (Vec::new(), 0, None);
        loop {
            let page = shared(&backend).query("room".to_owned(), room.clone(), cursor).await.unwrap();
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
    let all = scan(&backend).await;
    assert!(all.is_sorted_by_key(|row| row.id));
    assert_eq!(all.len(), 4 * limits::PAGE_ITEMS + 3);
}

async fn a_page_continues_after_the_last_one_although_rows_were_deleted(backend: Backend) {
    for _ in 0..=limits::PAGE_ITEMS {
        backend.insert_row(row(&backend, &[("room", "general")])).await.unwrap();
    }
    let first = shared(&backend).scan(None).await.unwrap();
    // The row that the cursor names is deleted too.
    for row in &first.items {
        backend.delete_row(stage(&backend), row.id).await.unwrap();
    }
    let left = scan(&backend).await;
    assert_eq!(left.len(), 1);
    assert_eq!(shared(&backend).scan(first.cursor.clone()).await.unwrap(), Page { items: left.clone(), cursor: None });
    let rest = shared(&backend).query("room".to_owned(), "general".to_owned(), first.cursor).await.unwrap();
    assert_eq!(rest.items, left);
}

async fn a_page_of_large_rows_has_fewer_rows(backend: Backend) {
    let large: Vec<Field> = (0..limits::ROW_ATTRIBUTES_MAX)
        .map(|n| (format!("{n}"), "v".repeat(limits::ATTRIBUTE_VALUE_BYTES_MAX)))
        .collect();
    for _ in 0..10 {
        backend.insert_row(Row { attributes: large.clone(), ..row(&backend, &[]) }).await.unwrap();
    }
    let page = shared(&backend).scan(None).await.unwrap();
    assert_eq!(page.items.len(), 7, "each row has 66 KiB, and a page ends at 400 KiB");
    assert_eq!(shared(&backend).scan(page.cursor).await.unwrap().items.len(), 3);
}

async fn a_cursor_that_no_page_returned_is_rejected(backend: Backend) {
    for cursor in ["", "1", "L0SM9cOFvHcCI/w=", "L0SM9cOFvHcCIhw=="] {
        let error = Err(BackendError::Invalid("the cursor is none that a page has given".to_owned()));
        assert_eq!(shared(&backend).scan(Some(cursor.to_owned())).await, error);
        assert_eq!(shared(&backend).query("n".to_owned(), "v".to_owned(), Some(cursor.to_owned())).await, error);
    }
}

/// Inserts, changes and deletes the same few rows in several tasks.
pub async fn change_concurrently(backend: &Backend) {
    let ids: Vec<_> = (0..8).map(|_| row(backend, &[]).id).collect();
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..8_usize {
        let (backend, ids) = (backend.clone(), ids.clone());
        tasks.spawn(async move {
            for step in 0..500 {
                let (id, value) = (ids[(task + step) % 8], format!("{}", step % 5));
                // The row may or may not exist at this time, so the result does not matter.
                let _ = match (task * 7 + step) % 6 {
                    0 => backend.insert_row(Row { id, ..row(&backend, &[("n", &value)]) }).await,
                    1 => backend.delete_row(stage(&backend), id).await,
                    2 => shared(&backend).remove(id, "n".to_owned(), None).await,
                    3 => shared(&backend).put(id, fields(&[("m", &value), ("n", &value)])).await,
                    _ => add(&backend, id, "n", &value).await,
                };
                if step % 100 == 0 {
                    backend.flush().await.unwrap();
                }
            }
        });
    }
    tasks.join_all().await;
}

async fn the_index_agrees_with_the_rows_after_concurrent_changes(backend: Backend) {
    change_concurrently(&backend).await;
    assert_consistent(&backend).await;
}

// ---- stages and stores -------------------------------------------------------------------------

/// Seen before: `get`, `put`, `add` and `remove` found a row by its connection id alone, so a plugin read and wrote the
/// rows of every stage.
async fn a_row_exists_only_in_its_own_stage(backend: Backend) {
    let row = row(&backend, &[("room", "general")]);
    backend.insert_row(row.clone()).await.unwrap();
    let prod = backend.stages().id(ApiNumber(0), "prod");
    let store = backend.connection_store(prod, &StoreName::Shared);
    let own = store_text;
    let unchanged = || async { assert_eq!(shared(&backend).get(row.id).await, Ok(row.clone())) };
    // Both a stage without any row, and one with a row of its own.
    for _ in 0..2 {
        let gone = Err(BackendError::NoSuchConnection);
        assert_eq!(store.get(row.id).await.map(drop), gone);
        assert_eq!(store.put(row.id, fields(&[("room", "x")])).await, gone);
        assert_eq!(store.add(row.id, own("room"), own("x")).await, gone);
        assert_eq!(store.remove(row.id, own("room"), None).await, gone);
        assert_eq!(backend.admit_row(prod, row.id).await, gone);
        backend.delete_row(prod, row.id).await.unwrap();
        assert_eq!(store.matching(own("room"), own("general")).await, Ok(vec![]));
        assert_eq!(store.query(own("room"), own("general"), None).await.unwrap().items, []);
        unchanged().await;
        let other = Row { stage: prod, attributes: fields(&[("user", "bob")]), ..self::row(&backend, &[]) };
        backend.insert_row(other).await.unwrap();
    }
    assert_eq!(store.scan(None).await.unwrap().items.len(), 2);
    assert_eq!(shared(&backend).scan(None).await.unwrap().items, [row]);
    assert_eq!(store.matching(own("user"), own("bob")).await.unwrap().len(), 2);
    assert_eq!(matching(&backend, "user", "bob").await, []);
    assert_consistent(&backend).await;
}

pub fn store_text(text: &str) -> String {
    text.to_owned()
}

async fn each_store_of_a_stage_has_its_own_attributes_of_every_row(backend: Backend) {
    let (row, other) = (row(&backend, &[("room", "general")]), row(&backend, &[]));
    backend.insert_row(row.clone()).await.unwrap();
    backend.insert_row(other.clone()).await.unwrap();
    let names = ["moderation", "presence"].map(|name| StoreName::Named(name.into()));
    let [moderation, presence] = names.each_ref().map(|name| backend.connection_store(stage(&backend), name));
    let text = store_text;

    assert_eq!(moderation.get(row.id).await, Ok(Row { attributes: vec![], ..row.clone() }));
    moderation.add(row.id, text("room"), text("hidden")).await.unwrap();
    moderation.add(row.id, text("flag"), text("1")).await.unwrap();
    presence.put(row.id, fields(&[("room", "general")])).await.unwrap();
    presence.put(other.id, fields(&[("room", "general")])).await.unwrap();
    assert_eq!(shared(&backend).get(row.id).await.unwrap().attributes, fields(&[("room", "general")]));
    assert_eq!(moderation.get(row.id).await.unwrap().attributes, fields(&[("flag", "1"), ("room", "hidden")]));
    assert_eq!(matching(&backend, "room", "general").await, [row.id]);
    assert_eq!(moderation.matching(text("room"), text("general")).await, Ok(vec![]));
    assert_eq!(moderation.matching(text("room"), text("hidden")).await, Ok(vec![row.id]));
    let mut both = [row.id, other.id];
    both.sort();
    assert_eq!(presence.matching(text("room"), text("general")).await.unwrap(), both);
    let found = presence.query(text("room"), text("general"), None).await.unwrap().items;
    assert_eq!(found.iter().map(|row| row.id).collect::<Vec<_>>(), both);
    assert_eq!(moderation.scan(None).await.unwrap().items.len(), 2, "every store has every row");

    moderation.remove(row.id, text("flag"), None).await.unwrap();
    moderation.remove(row.id, text("room"), Some(text("hidden"))).await.unwrap();
    assert_eq!(moderation.get(row.id).await.unwrap().attributes, []);
    assert_eq!(presence.get(row.id).await.unwrap().attributes, fields(&[("room", "general")]));
    assert_consistent(&backend).await;

    // The end of a connection removes its row from every store.
    moderation.add(row.id, text("room"), text("hidden")).await.unwrap();
    backend.delete_row(stage(&backend), row.id).await.unwrap();
    for store in [shared(&backend), moderation, presence] {
        assert_eq!(store.get(row.id).await, Err(BackendError::NoSuchConnection));
        assert_eq!(store.add(row.id, text("a"), text("b")).await, Err(BackendError::NoSuchConnection));
    }
    assert_eq!(moderation.matching(text("room"), text("hidden")).await, Ok(vec![]));
    assert_eq!(presence.matching(text("room"), text("general")).await, Ok(vec![other.id]));
    assert_consistent(&backend).await;
}

async fn the_attributes_of_each_store_have_the_limits_of_a_row(backend: Backend) {
    let full: Vec<Field> = (0..limits::ROW_ATTRIBUTES_MAX).map(|n| ("n".to_owned(), format!("{n:02}"))).collect();
    let row = Row { attributes: full.clone(), ..row(&backend, &[]) };
    backend.insert_row(row.clone()).await.unwrap();
    let name = StoreName::Named("moderation".into());
    let store = backend.connection_store(stage(&backend), &name);
    assert_eq!(store.put(row.id, full.clone()).await, Ok(()));
    let too_many = too_large("the row has 65 attributes; at most 64 are allowed");
    assert_eq!(store.add(row.id, store_text("n"), store_text("64")).await, Err(too_many));
    assert_eq!(store.get(row.id).await.unwrap().attributes, full);
}

// ---- key-value buckets -------------------------------------------------------------------------

pub const BUCKET: Bucket<'_> = bucket("bucket", limits::BUCKET_BYTES_MAX, limits::BUCKET_KEYS_MAX);

pub const fn bucket(name: &str, bytes: u64, keys: u64) -> Bucket<'_> {
    Bucket { name, quota: BucketQuota { bytes, keys } }
}

pub async fn get(backend: &Backend, key: &str) -> Option<Vec<u8>> {
    backend.get("bucket", key.to_owned()).await.unwrap()
}

pub async fn set(backend: &Backend, key: &str, value: &[u8]) -> Result<(), BackendError> {
    backend.set(BUCKET, key.to_owned(), value.to_vec()).await
}

async fn a_key_has_the_value_that_was_set_last(backend: Backend) {
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

async fn keys_of_different_buckets_are_distinct(backend: Backend) {
    for (bucket, key) in [("a", "bc"), ("ab", "c"), ("", "abc"), ("abc", "")] {
        backend.set(Bucket { name: bucket, ..BUCKET }, key.to_owned(), bucket.as_bytes().to_vec()).await.unwrap();
    }
    for (bucket, key) in [("a", "bc"), ("ab", "c"), ("", "abc"), ("abc", "")] {
        assert_eq!(backend.get(bucket, key.to_owned()).await, Ok(Some(bucket.as_bytes().to_vec())));
        assert_eq!(backend.list_keys(bucket, KeysFrom::Start).await.unwrap().items, [key]);
    }
}

async fn the_size_of_a_key_is_limited(backend: Backend) {
    let key = "k".repeat(limits::KEY_BYTES_MAX);
    assert_eq!(set(&backend, &key, b"v").await, Ok(()));
    assert_eq!(get(&backend, &key).await.as_deref(), Some(&b"v"[..]));
    let longer = format!("{key}k");
    let error = too_large("the key has 1025 bytes; at most 1024 are allowed");
    assert_eq!(set(&backend, &longer, b"v").await, Err(error.clone()));
    assert_eq!(backend.increment(BUCKET, longer.clone(), 1).await, Err(error.clone()));
    assert_eq!(backend.get("bucket", longer.clone()).await, Err(error.clone()));
    assert_eq!(backend.exists("bucket", longer.clone()).await, Err(error.clone()));
    assert_eq!(backend.delete("bucket", longer).await, Err(error));
}

async fn the_size_of_a_value_is_limited(backend: Backend) {
    // The sizes around the limits at which a value is split into parts, and the largest size.
    for size in [6143, 6144, 6145, 2 * 6144, 2 * 6144 + 1, limits::VALUE_BYTES_MAX] {
        let value: Vec<u8> = (0..size).map(|n| (n % 251) as u8).collect();
        set(&backend, "k", &value).await.unwrap();
        assert_eq!(get(&backend, "k").await, Some(value));
        assert_consistent(&backend).await;
    }
    let error = too_large("the value has 409601 bytes; at most 409600 are allowed");
    assert_eq!(set(&backend, "k", &vec![0; limits::VALUE_BYTES_MAX + 1]).await, Err(error.clone()));
    let swapped = backend.compare_and_swap(BUCKET, "k".to_owned(), None, vec![0; limits::VALUE_BYTES_MAX + 1]).await;
    assert_eq!(swapped, Err(error));
    backend.delete("bucket", "k".to_owned()).await.unwrap();
    assert_eq!(get(&backend, "k").await, None);
    assert_consistent(&backend).await;
}

async fn keys_are_listed_in_order_one_page_at_a_time(backend: Backend) {
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

async fn the_last_page_of_keys_has_no_cursor_even_if_it_is_full(backend: Backend) {
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

async fn an_increment_starts_at_zero_or_at_a_decimal_number(backend: Backend) {
    let increment = |delta| backend.increment(BUCKET, "n".to_owned(), delta);
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

async fn a_swap_writes_only_over_the_expected_value(backend: Backend) {
    let swap = |expected: Option<&[u8]>, new: &[u8]| {
        backend.compare_and_swap(BUCKET, "k".to_owned(), expected.map(blake3::hash), new.to_vec())
    };
    assert_eq!(swap(Some(b""), b"1").await, Ok(Err(None)));
    assert_eq!(swap(None, b"1").await, Ok(Ok(())));
    assert_eq!(swap(None, b"2").await, Ok(Err(Some(b"1".to_vec()))));
    assert_eq!(swap(Some(b"1"), b"2").await, Ok(Ok(())));
    assert_eq!(get(&backend, "k").await.as_deref(), Some(&b"2"[..]));
}

async fn concurrent_increments_and_swaps_lose_no_update(backend: Backend) {
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let backend = backend.clone();
        tasks.spawn(async move {
            for _ in 0..1000 {
                backend.increment(BUCKET, "incremented".to_owned(), 1).await.unwrap();
                let mut seen = get(&backend, "swapped").await;
                loop {
                    let number = seen.as_ref().map_or(0, |text| str::from_utf8(text).unwrap().parse().unwrap());
                    let new = (number + 1_u32).to_string().into_bytes();
                    match backend
                        .compare_and_swap(BUCKET, "swapped".to_owned(), seen.as_deref().map(blake3::hash), new)
                        .await
                        .unwrap()
                    {
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

async fn a_batch_returns_values_in_the_order_of_its_keys(backend: Backend) {
    let keys = |keys: &[&str]| keys.iter().map(|key| (*key).to_owned()).collect::<Vec<_>>();
    let pairs = [("b", "2"), ("a", "0"), ("a", "1")];
    let pairs = pairs.map(|(key, value)| (key.to_owned(), value.as_bytes().to_vec()));
    backend.set_many(BUCKET, pairs.to_vec()).await.unwrap();
    let values = backend.get_many("bucket", keys(&["a", "x", "b", "a"])).await.unwrap();
    assert_eq!(values, [Some(b"1".to_vec()), None, Some(b"2".to_vec()), Some(b"1".to_vec())]);
    backend.delete_many("bucket", keys(&["a", "x"])).await.unwrap();
    assert_eq!(backend.get_many("bucket", keys(&["a", "b"])).await.unwrap(), [None, Some(b"2".to_vec())]);
    assert_eq!(backend.get_many("bucket", Vec::new()).await, Ok(Vec::new()));
}

async fn the_number_of_keys_in_a_batch_is_limited(backend: Backend) {
    for (count, fits) in [(limits::BATCH_KEYS_MAX, true), (limits::BATCH_KEYS_MAX + 1, false)] {
        let keys: Vec<String> = (0..count).map(|n| n.to_string()).collect();
        let pairs = keys.iter().map(|key| (key.clone(), b"v".to_vec())).collect();
        let error = too_large("the batch has 257 keys; at most 256 are allowed");
        let expected = if fits { Ok(()) } else { Err(error) };
        assert_eq!(backend.set_many(BUCKET, pairs).await, expected);
        assert_eq!(backend.get_many("bucket", keys.clone()).await.map(drop), expected);
        assert_eq!(backend.delete_many("bucket", keys).await, expected);
    }
}

async fn the_size_of_a_batch_is_limited(backend: Backend) {
    let value = vec![0; limits::HOST_CALL_BYTES / 8];
    let pairs: Vec<_> = (0..8).map(|n| (n.to_string(), value.clone())).collect();
    let keys: Vec<_> = (0..8).map(|n| n.to_string()).collect();
    backend.set_many(BUCKET, pairs.clone()).await.unwrap();
    assert_eq!(backend.get_many("bucket", keys.clone()).await.unwrap().len(), 8);

    set(&backend, "one byte", b"1").await.unwrap();
    let error = Err(too_large("the batch has 2097153 bytes; at most 2097152 are allowed"));
    let keys = [keys, vec!["one byte".to_owned()]].concat();
    assert_eq!(backend.get_many("bucket", keys).await.map(drop), error);
    let pairs = [pairs, vec![("one byte".to_owned(), b"1".to_vec())]].concat();
    assert_eq!(backend.set_many(BUCKET, pairs).await, error);
}

// ---- quotas of buckets -------------------------------------------------------------------------

const KEY: &str = "key";

pub fn text(text: &str) -> String {
    text.to_owned()
}

pub async fn usage(backend: &Backend) -> (u64, u64) {
    let BucketUsage { bytes, keys } = backend.bucket_usage("bucket").await.unwrap();
    (bytes, keys)
}

pub fn full(found: &str, limit: &str, allowed: u64) -> BackendError {
    BackendError::BucketFull(format!(
        "the bucket \"bucket\" is full: it would have {found}, and its {limit} in the manifest ([buckets]) allows {allowed}"
    ))
}

async fn a_bucket_holds_as_many_bytes_as_its_quota_allows_and_no_more(backend: Backend) {
    // Small values are in an entry, large ones in parts.
    for size in [10, 6144, 6145, 100_000] {
        let bucket = bucket("bucket", size + 3, 10);
        let value = |bytes: u64| vec![b'x'; usize::try_from(bytes).unwrap()];
        let error = full(&format!("{} bytes", size + 4), "size", size + 3);
        assert_eq!(backend.set(bucket, text(KEY), value(size + 1)).await, Err(error.clone()), "{size}");
        assert_eq!(usage(&backend).await, (0, 0));
        assert_eq!(backend.set(bucket, text(KEY), value(size)).await, Ok(()));
        assert_eq!(usage(&backend).await, (size + 3, 1));
        // A larger value does not fit, the same size and a smaller one do, and another key does not.
        assert_eq!(backend.set(bucket, text(KEY), value(size + 1)).await, Err(error.clone()));
        assert_eq!(get(&backend, KEY).await, Some(value(size)), "a rejected write changes nothing");
        assert_eq!(backend.set(bucket, text(KEY), value(size)).await, Ok(()));
        let one = full(&format!("{} bytes", size + 4), "size", size + 3);
        assert_eq!(backend.set(bucket, text("k"), vec![]).await, Err(one.clone()));
        assert_eq!(
            backend.increment(bucket, text("n"), 1).await.map(drop),
            Err(full(&format!("{} bytes", size + 5), "size", size + 3))
        );
        let swap = |expected: Option<Vec<u8>>, new: Vec<u8>| {
            backend.compare_and_swap(bucket, text(KEY), expected.as_deref().map(blake3::hash), new)
        };
        assert_eq!(swap(Some(value(size)), value(size + 1)).await, Err(error.clone()));
        assert_eq!(swap(None, value(size + 1)).await, Ok(Err(Some(value(size)))), "the value is compared first");
        assert_eq!(swap(Some(value(size)), value(size - 1)).await, Ok(Ok(())));
        assert_eq!(usage(&backend).await, (size + 2, 1));
        assert_eq!(backend.set(bucket, text("k"), vec![]).await, Ok(()));
        assert_eq!(usage(&backend).await, (size + 3, 2));
        assert_consistent(&backend).await;
        // Other buckets are not affected.
        assert_eq!(backend.set(Bucket { name: "other", ..bucket }, text("k"), vec![]).await, Ok(()));
        backend.delete_many("bucket", vec![text(KEY), text("k"), text("missing"), text(KEY)]).await.unwrap();
        assert_eq!(usage(&backend).await, (0, 0));
        assert_consistent(&backend).await;
    }
}

async fn a_bucket_holds_as_many_keys_as_its_quota_allows_and_no_more(backend: Backend) {
    let bucket = bucket("bucket", 1000, 2);
    assert_eq!(backend.set(bucket, text("a"), vec![1]).await, Ok(()));
    assert_eq!(backend.increment(bucket, text("b"), 9).await, Ok(9));
    let error = full("3 keys", "keys", 2);
    assert_eq!(backend.set(bucket, text("c"), vec![]).await, Err(error.clone()));
    assert_eq!(backend.increment(bucket, text("c"), 1).await, Err(error.clone()));
    assert_eq!(backend.compare_and_swap(bucket, text("c"), None, vec![]).await, Err(error.clone()));
    assert_eq!(backend.exists("bucket", text("c")).await, Ok(false));
    assert_eq!(backend.increment(bucket, text("b"), 1).await, Ok(10), "an existing key can grow");
    assert_eq!(usage(&backend).await, (5, 2));
    backend.delete("bucket", text("a")).await.unwrap();
    assert_eq!(backend.set(bucket, text("c"), vec![]).await, Ok(()));
    assert_consistent(&backend).await;
}

async fn of_a_batch_that_fills_a_bucket_the_pairs_before_the_first_that_does_not_fit_are_written(backend: Backend) {
    let bucket = bucket("bucket", 40, 10);
    let pairs = [("a", 9), ("b", 9), ("a", 18), ("c", 20), ("d", 0)];
    let pairs = pairs.map(|(key, bytes)| (text(key), vec![b'x'; bytes]));
    let error = full("50 bytes", "size", 40);
    assert_eq!(backend.set_many(bucket, pairs.to_vec()).await, Err(error));
    let values = backend.get_many("bucket", ["a", "b", "c", "d"].map(text).to_vec()).await.unwrap();
    let bytes: Vec<_> = values.iter().map(|value| value.as_ref().map(Vec::len)).collect();
    assert_eq!(bytes, [Some(18), Some(9), None, None]);
    assert_eq!(usage(&backend).await, (29, 2));
    assert_eq!(backend.set_many(bucket, vec![(text("c"), vec![0; 10])]).await, Ok(()));
    assert_consistent(&backend).await;
}

async fn a_bucket_that_is_over_a_lowered_quota_can_only_shrink(backend: Backend) {
    set(&backend, "a", &[0; 100]).await.unwrap();
    set(&backend, "b", &[0; 100]).await.unwrap();
    let lowered = bucket("bucket", 50, 1);
    assert_eq!(backend.set(lowered, text("c"), vec![]).await, Err(full("3 keys", "keys", 1)));
    assert_eq!(backend.set(lowered, text("a"), vec![0; 101]).await, Err(full("203 bytes", "size", 50)));
    for bytes in [100, 99, 0] {
        assert_eq!(backend.set(lowered, text("a"), vec![0; bytes]).await, Ok(()), "{bytes}");
    }
    backend.delete_many("bucket", vec![text("a"), text("b")]).await.unwrap();
    assert_eq!(backend.set(lowered, text("c"), vec![0; 49]).await, Ok(()));
    assert_consistent(&backend).await;
}

/// Makes a test on each engine of each of these functions.
macro_rules! on_every_engine {
    ($($name:ident,)*) => {
        mod sled { $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
            async fn $name() {
                let folder = super::TempFolder::new();
                super::$name(folder.open()).await;
            }
        )* }

        mod redis { $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
            async fn $name() {
                super::$name(super::redis_server::backend().await).await;
            }
        )* }
    };
}

on_every_engine! {
    a_row_is_returned_as_it_was_inserted,
    attributes_are_sorted_and_have_no_duplicates,
    put_replaces_all_attributes,
    remove_deletes_one_attribute_or_all_of_a_name,
    attributes_of_a_missing_row_cannot_be_changed,
    deleting_a_row_removes_it_from_the_index,
    a_row_that_is_inserted_again_has_only_its_new_attributes,
    names_and_values_that_concatenate_to_the_same_text_are_distinct,
    the_size_of_an_attribute_is_limited,
    the_number_of_attributes_of_a_row_is_limited,
    pages_contain_all_rows_sorted_by_id,
    a_page_continues_after_the_last_one_although_rows_were_deleted,
    a_page_of_large_rows_has_fewer_rows,
    a_cursor_that_no_page_returned_is_rejected,
    the_index_agrees_with_the_rows_after_concurrent_changes,
    a_row_exists_only_in_its_own_stage,
    each_store_of_a_stage_has_its_own_attributes_of_every_row,
    the_attributes_of_each_store_have_the_limits_of_a_row,
    a_key_has_the_value_that_was_set_last,
    keys_of_different_buckets_are_distinct,
    the_size_of_a_key_is_limited,
    the_size_of_a_value_is_limited,
    keys_are_listed_in_order_one_page_at_a_time,
    the_last_page_of_keys_has_no_cursor_even_if_it_is_full,
    an_increment_starts_at_zero_or_at_a_decimal_number,
    a_swap_writes_only_over_the_expected_value,
    concurrent_increments_and_swaps_lose_no_update,
    a_batch_returns_values_in_the_order_of_its_keys,
    the_number_of_keys_in_a_batch_is_limited,
    the_size_of_a_batch_is_limited,
    a_bucket_holds_as_many_bytes_as_its_quota_allows_and_no_more,
    a_bucket_holds_as_many_keys_as_its_quota_allows_and_no_more,
    of_a_batch_that_fills_a_bucket_the_pairs_before_the_first_that_does_not_fit_are_written,
    a_bucket_that_is_over_a_lowered_quota_can_only_shrink,
}
