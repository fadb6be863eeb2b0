//! Whether a server can be the store of nodes: what it is, whether it keeps what is written, and what the user may do.

use std::sync::LazyLock;

use redis::{InfoDict, Script};

use super::RedisOptions;

/// The commands of nodes, each with arguments of the right form. `KEY` and `CHANNEL` stand for a name with the prefix.
/// Commands with a `|` have a subcommand.
const COMMANDS: &[(&str, &[&str])] = &[
    ("CLIENT|ID", &[]),
    ("CLIENT|KILL", &["ID", "1"]),
    ("DEL", &["KEY"]),
    ("EVALSHA", &["0", "1", "KEY"]),
    ("EXISTS", &["KEY"]),
    ("GET", &["KEY"]),
    ("HDEL", &["KEY", "f"]),
    ("HEXISTS", &["KEY", "f"]),
    ("HGET", &["KEY", "f"]),
    ("HGETALL", &["KEY"]),
    ("HINCRBY", &["KEY", "f", "1"]),
    ("HKEYS", &["KEY"]),
    ("HLEN", &["KEY"]),
    ("HMGET", &["KEY", "f"]),
    ("HSET", &["KEY", "f", "v"]),
    ("HSETNX", &["KEY", "f", "v"]),
    ("HSTRLEN", &["KEY", "f"]),
    ("PING", &[]),
    ("PTTL", &["KEY"]),
    ("PUBLISH", &["CHANNEL", "m"]),
    ("SADD", &["KEY", "m"]),
    ("SCRIPT|LOAD", &["return 1"]),
    ("SET", &["KEY", "v"]),
    ("SMEMBERS", &["KEY"]),
    ("SRANDMEMBER", &["KEY", "1"]),
    ("SREM", &["KEY", "m"]),
    ("SUBSCRIBE", &["CHANNEL"]),
    ("TIME", &[]),
    ("ZADD", &["KEY", "0", "m"]),
    ("ZRANGE", &["KEY", "0", "1"]),
    ("ZREM", &["KEY", "m"]),
    ("ZREMRANGEBYSCORE", &["KEY", "0", "1"]),
    ("ZSCORE", &["KEY", "m"]),
];

/// Oldest supported version of Redis: the scripts need functions of it, and older ones get no corrections.
const REDIS_VERSION_MIN: u32 = 7;

/// Checks the answer of `INFO`.
pub fn check_info(info: &InfoDict) -> Result<(), String> {
    let text = |key: &str| info.get::<String>(key);
    let is = |key: &str, value: &str| text(key).is_some_and(|found| found == value);
    // Valkey has another name for it.
    let has_mode = |mode: &str| is("redis_mode", mode) || is("server_mode", mode);
    if has_mode("sentinel") {
        return Err(
            "found a Sentinel, expected the server with the data; Sentinel is not supported: write the address \
                    of the primary in url (SENTINEL GET-MASTER-ADDR-BY-NAME NAME)"
                .to_owned(),
        );
    }
    if text("valkey_version").is_none() {
        let found = text("redis_version").unwrap_or_default();
        let major = found.split('.').next().and_then(|major| major.parse::<u32>().ok());
        if major.is_none_or(|major| major < REDIS_VERSION_MIN) {
            let found = if found.is_empty() { "no version".to_owned() } else { format!("Redis {found}") };
            return Err(format!("found {found}, expected Redis {REDIS_VERSION_MIN} or later, or Valkey; update it"));
        }
    }
    if is("cluster_enabled", "1") || has_mode("cluster") {
        return Err("found a node of a cluster (cluster_enabled:1), expected a single server; Redis Cluster is not \
                    supported: use a server with cluster-enabled no"
            .to_owned());
    }
    if is("role", "slave") {
        let part = |key: &str| text(key).unwrap_or_default();
        let primary = format!("{}:{}", part("master_host"), part("master_port"));
        return Err(format!(
            "found a replica, expected a primary, because nodes write; write the address of the primary in url: \
             {primary}"
        ));
    }
    let policy = text("maxmemory_policy").unwrap_or_else(|| "noeviction".to_owned());
    if policy != "noeviction" {
        return Err(format!(
            "the store has maxmemory-policy {policy}, which removes rows and keys when its memory is full; set it to \
             noeviction"
        ));
    }
    Ok(())
}

/// Returns a call that asks which of the commands the user may not run. `key` has the prefix of all names.
pub fn check_rights(key: &str) -> redis::ScriptInvocation<'static> {
    static SCRIPT: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("scripts/refused_commands.lua")));
    let mut call = SCRIPT.prepare_invoke();
    for (command, arguments) in COMMANDS {
        let names: Vec<&str> = command.split('|').collect();
        call.arg(*command).arg(names.len() + arguments.len()).arg(names);
        for argument in *arguments {
            call.arg(if matches!(*argument, "KEY" | "CHANNEL") { key } else { *argument });
        }
    }
    call
}

/// Returns an error if there are refused commands.
pub fn check_refused(refused: &[String], options: &RedisOptions) -> Result<(), String> {
    if refused.is_empty() {
        return Ok(());
    }
    let (user, refused) = (options.user(), refused.join(", "));
    let names = format!("{}:*", options.prefix);
    Err(format!("its user {user} may not run {refused} on keys and channels {names}; {}", options.grant()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(info: &str) -> Result<(), String> {
        check_info(&InfoDict::new(info))
    }

    #[test]
    fn a_store_is_redis_7_or_valkey() {
        let standalone = "redis_mode:standalone\r\nrole:master\r\ncluster_enabled:0\r\nmaxmemory_policy:noeviction";
        for version in [
            "redis_version:7.0.0",
            "redis_version:7.4.2",
            "redis_version:8.2.1",
            "redis_version:10.0.0",
            "redis_version:7.2.4\r\nserver_name:valkey\r\nvalkey_version:7.2.5",
            "redis_version:7.2.4\r\nserver_name:valkey\r\nvalkey_version:9.0.1",
        ] {
            assert_eq!(check(&format!("{version}\r\n{standalone}")), Ok(()), "{version}");
        }
        for (version, found) in [
            ("redis_version:6.2.14", "found Redis 6.2.14, expected Redis 7 or later, or Valkey"),
            ("redis_version:2.8.0", "found Redis 2.8.0, expected"),
            ("", "found no version, expected"),
            ("redis_version:unstable", "found Redis unstable, expected"),
        ] {
            let error = check(&format!("{version}\r\n{standalone}")).unwrap_err();
            assert!(error.starts_with(found), "{version}: {error}");
        }
    }

    #[test]
    fn valkey_names_its_mode_differently() {
        let valkey = "redis_version:7.2.4\r\nvalkey_version:8.1.0\r\n";
        assert_eq!(check(&format!("{valkey}server_mode:standalone\r\nrole:master")), Ok(()));
        for (mode, found) in [("sentinel", "found a Sentinel"), ("cluster", "found a node of a cluster")] {
            let error = check(&format!("{valkey}server_mode:{mode}")).unwrap_err();
            assert!(error.starts_with(found), "{error}");
        }
    }

    fn assert_checked(command: &str) {
        // INFO is the first command, and fails itself. KEYS is only for tests. The last one is in this file.
        let name = |known: &str| known.split('|').next() == Some(command);
        let is_known = COMMANDS.iter().any(|(known, _)| *known == command || name(known));
        assert!(
            is_known || ["INFO", "KEYS", ").skip(1) {\n                assert_checked(call.split('"].contains(&command),
            "{command}"
        );
    }

    #[test]
    fn every_command_of_a_node_is_checked() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/backend/redis/scripts");
        for file in std::fs::read_dir(folder).unwrap() {
            let text = std::fs::read_to_string(file.unwrap().path()).unwrap();
            for call in text.split("call('").skip(1) {
                assert_checked(call.split('\'').next().unwrap());
            }
        }
        let sources = folder.trim_end_matches("/scripts");
        let files = std::fs::read_dir(sources).unwrap().chain(std::fs::read_dir(format!("{sources}/rows")).unwrap());
        for file in files {
            let text = std::fs::read_to_string(file.unwrap().path()).unwrap_or_default();
            for call in text.split("cmd(\"").skip(1) {
                assert_checked(call.split('"').next().unwrap());
            }
        }
    }
}
