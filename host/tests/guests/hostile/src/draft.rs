//! Calls of the first draft of wasi:keyvalue, which the SDK does not support.

wit_bindgen::generate!({
    path: "../../../../wit",
    inline: "
        package hostile:guest;
        world draft {
            include wasi:keyvalue/imports@0.2.0-draft;
        }
    ",
    world: "hostile:guest/draft",
    generate_all,
});

use wasi::keyvalue0_2_0_draft::{atomics, batch, store};

pub fn run_command(command: &str) -> String {
    let bucket = match store::open("shared") {
        Ok(bucket) => bucket,
        Err(error) => return format!("error: {error:?}"),
    };
    let (word, rest) = command.split_once(' ').unwrap_or((command, ""));
    match word {
        "increment" => format!("{:?}", atomics::increment(&bucket, rest, 3)),
        "many" => {
            let pairs = [("a".to_owned(), b"1".to_vec()), ("b".to_owned(), b"2".to_vec())];
            let set = batch::set_many(&bucket, &pairs);
            let got = batch::get_many(&bucket, &["a".to_owned(), "missing".to_owned(), "b".to_owned()]);
            let deleted = batch::delete_many(&bucket, &["a".to_owned(), "b".to_owned()]);
            format!("{set:?} {got:?} {deleted:?} {:?}", bucket.exists("a"))
        }
        "set" => {
            let (key, value) = rest.split_once(' ').unwrap_or((rest, ""));
            format!("{:?}", bucket.set(key, value.as_bytes()))
        }
        "set-many" => format!("{:?}", batch::set_many(&bucket, &[(rest.to_owned(), b"1".to_vec())])),
        "keys" => {
            let (mut count, mut cursor) = (0, None);
            loop {
                let page = match bucket.list_keys(cursor) {
                    Ok(page) => page,
                    Err(error) => return format!("error: {error:?}"),
                };
                count += page.keys.len();
                cursor = page.cursor;
                if cursor.is_none() {
                    return count.to_string();
                }
            }
        }
        _ => format!("no such command: {command}"),
    }
}
