//! The list of the modules that are built into the engine.

use std::sync::LazyLock;

use jackfield_common::builtins::Builtins;

const LIST: &str = include_str!("../../../js-engine/builtins.json");

/// Returns the list of the engine.
pub fn builtins() -> &'static Builtins {
    static BUILTINS: LazyLock<Builtins> =
        LazyLock::new(|| serde_json::from_str(LIST).expect("a test parses the list of built-in modules"));
    &BUILTINS
}

#[cfg(test)]
mod tests {
    use jackfield_common::builtins::Kind;

    use super::*;

    #[test]
    fn a_built_in_module_is_known_with_and_without_its_prefix() {
        let list = builtins();
        for name in ["jackfield", "node:crypto", "crypto", "util/types", "aws-sdk", "aws-sdk/clients/s3"] {
            assert_eq!(list.kind(name), Kind::Available, "{name}");
        }
        for name in ["net", "node:net", "fs/promises", "node:child_process", "node:test", "node:nonsense"] {
            assert!(matches!(list.kind(name), Kind::Missing(_)), "{name}");
        }
        for name in
            ["test", "./net", "uuid", "string_decoder/", "aws-sdk/lib/core", "@aws-sdk/client-dynamodb", "node", ""]
        {
            assert_eq!(list.kind(name), Kind::Other, "{name}");
        }
    }

    #[test]
    fn no_module_is_both_there_and_missing() {
        assert_eq!(builtins().contradictions(), [""; 0]);
    }

    #[test]
    fn the_list_has_no_other_keys() {
        let list: serde_json::Value = serde_json::from_str(LIST).unwrap();
        let keys = |value: &serde_json::Value| {
            let mut keys: Vec<_> = value.as_object().unwrap().keys().cloned().collect();
            keys.sort();
            keys
        };
        assert_eq!(keys(&list), keys(&serde_json::to_value(builtins()).unwrap()));
    }
}
