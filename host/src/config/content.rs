//! The hash of what a deployment has of a manifest: the same on machines that differ only in what is read at the start, and
//! with other comments, spaces and line breaks.

use toml::de::{DeTable, DeValue};

/// Sections that are read only at the start, and are no part of a deployment. They often differ from machine to machine.
const STARTUP_SECTIONS: [&str; 4] = ["admin", "backend", "compiler", "server"];

/// Returns the hash of a manifest without the sections that are read only at the start.
pub fn content(manifest: &DeTable<'_>) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new();
    update_table(&mut hasher, manifest, |key| !STARTUP_SECTIONS.contains(&key));
    hasher.finalize()
}

fn update_table(hasher: &mut blake3::Hasher, table: &DeTable<'_>, is_included: impl Fn(&str) -> bool) {
    let mut entries: Vec<_> = table.iter().filter(|(key, _)| is_included(key.get_ref())).collect();
    entries.sort_by(|(a, _), (b, _)| a.get_ref().cmp(b.get_ref()));
    update(hasher, b't', &(entries.len() as u64).to_le_bytes());
    for (key, value) in entries {
        update(hasher, b'k', key.get_ref().as_bytes());
        update_value(hasher, value.get_ref());
    }
}

fn update_value(hasher: &mut blake3::Hasher, value: &DeValue<'_>) {
    match value {
        DeValue::String(text) => update(hasher, b's', text.as_bytes()),
        DeValue::Integer(number) => update(hasher, b'i', format!("{} {}", number.radix(), number.as_str()).as_bytes()),
        DeValue::Float(number) => update(hasher, b'f', number.as_str().as_bytes()),
        DeValue::Boolean(value) => update(hasher, b'b', &[u8::from(*value)]),
        DeValue::Datetime(time) => update(hasher, b'd', time.to_string().as_bytes()),
        DeValue::Array(values) => {
            update(hasher, b'a', &(values.len() as u64).to_le_bytes());
            values.iter().for_each(|value| update_value(hasher, value.get_ref()));
        }
        DeValue::Table(table) => update_table(hasher, table, |_| true),
    }
}

/// Adds a value with its type and length, so that no two manifests have the same bytes.
fn update(hasher: &mut blake3::Hasher, kind: u8, bytes: &[u8]) {
    hasher.update(&[kind]).update(&(bytes.len() as u64).to_le_bytes()).update(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_content_is_that_of_a_deployment_and_not_of_the_text_or_the_machine() {
        let hash = |text: &str| content(DeTable::parse(text).unwrap().get_ref());
        let text =
            "[server]\nlisten = \"127.0.0.1:1\"\n[api]\nid = \"a\"\nstage_variables = { b = \"c\", d = \"e\" }\n";
        for same in [
            "# A comment.\n[api]\nid='a'\n[api.stage_variables]\nd = 'e'\nb = \"\\u0063\"\n",
            "server.listen = \"127.0.0.1:2\"\nadmin.listen = \"127.0.0.1:3\"\napi = { stage_variables.d = \"e\", \
             stage_variables.b = \"c\", id = \"a\" }\nbackend.url = \"sled:x\"\n[compiler]\ntimeout = \"1s\"",
        ] {
            assert_eq!(hash(same), hash(text), "{same}");
        }
        let mut others = vec![hash(text)];
        for other in [
            "[api]\nid = \"a\"\nstage_variables = { b = \"c\", d = \"f\" }",
            "[api]\nid = \"a\"\nstage_variables = { b = \"cd\", d = \"\" }",
            "[api]\nid = \"a\"\nstage_variables = { b = [\"c\"], d = \"e\" }",
            "[api]\nid = \"a\"\nstage_variables = { b = 1, d = true }",
            "[api]\nid = \"a\"\nstage_variables = { b = 1.0, d = true }",
            "[api]\nid = \"a\"\nstage_variables = { b = 1, d = false }",
            "[api]\nid = \"a\"\n[api.stage_variables.server]\nb = \"c\"",
            "[api]\nid = \"a\"\n[api.stage_variables.admin]\nb = \"c\"",
            "[api]\nid = \"a\"\n[stage_variables]\nb = \"c\"\nd = \"e\"",
        ] {
            assert!(!others.contains(&hash(other)), "{other}");
            others.push(hash(other));
        }
    }
}
