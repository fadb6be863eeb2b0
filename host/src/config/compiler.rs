//! `[compiler]`: the limits of the processes that compile components.

use std::time::Duration;

use super::section::Section;
use super::value::{self, MIB};
use crate::limits::CompilerLimits;

/// A shorter time would not be enough to start the process on a busy machine.
const CPU_TIME_MIN: Duration = Duration::from_secs(1);
/// The process itself needs a part of this.
const MEMORY_BYTES_MIN: usize = 128 * MIB;
const TIME_MAX: Duration = Duration::from_secs(60 * 60);

pub fn compiler(mut section: Section<'_>) -> CompilerLimits {
    let default = CompilerLimits::default();
    let limits = CompilerLimits {
        cpu_time: section.read("cpu_time", value::duration(CPU_TIME_MIN..=TIME_MAX)).unwrap_or(default.cpu_time),
        memory_bytes: section.read("memory", value::size(MEMORY_BYTES_MIN..=MIB * MIB)).unwrap_or(default.memory_bytes),
        timeout: section.read("timeout", value::duration(CPU_TIME_MIN..=TIME_MAX)).unwrap_or(default.timeout),
    };
    section.finish();
    limits
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::Config;

    fn parse(keys: &str) -> Result<CompilerLimits, String> {
        let config = Config::parse(&format!("[compiler]\n{keys}"), Path::new("/project/jackfield.toml"));
        config.map(|config| config.compiler).map_err(|problems| problems[0].to_string())
    }

    #[test]
    fn limits_are_accepted_up_to_their_bounds() {
        assert_eq!(parse(""), Ok(CompilerLimits::default()));
        let (cpu_time, timeout) = (Duration::from_secs(1), Duration::from_secs(60 * 60));
        assert_eq!(
            parse("cpu_time = \"1s\"\nmemory = \"128MiB\"\ntimeout = \"1h\""),
            Ok(CompilerLimits { cpu_time, memory_bytes: 128 * MIB, timeout })
        );
        for wrong in ["cpu_time = \"999ms\"", "memory = \"127MiB\"", "timeout = \"1h 1s\"", "timeout = \"none\""] {
            assert!(parse(wrong).unwrap_err().contains("expected"), "{wrong}");
        }
    }

    #[test]
    fn a_change_takes_effect_at_the_next_start() {
        let parse = |text| Config::parse(text, Path::new("/project/jackfield.toml")).unwrap();
        let changed = parse("[compiler]\nmemory = \"2GiB\"").changed_startup_keys(&parse(""));
        assert_eq!(changed, ["[compiler]"]);
    }
}
