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
