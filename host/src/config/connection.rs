//! `[connection]`: the limits of each WebSocket connection.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::time::Duration;

use toml::de::DeValue;

use super::profile::Profile;
use super::section::Section;
use super::value::{self, InvalidValue, MIB};
use crate::address::OriginPattern;
use crate::limits::ConnectionLimits;

const MESSAGE_BYTES: RangeInclusive<usize> = 1..=16 * MIB;
/// The minimum is short enough for tests, the maximum long enough for every use.
const WAITS: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_secs(30 * 24 * 60 * 60);

/// Reads the origins of web pages that may connect. `None`: the manifest has no list, or one with an error.
pub fn origins(section: &mut Section<'_>) -> Option<BTreeSet<OriginPattern>> {
    let errors_before = section.problems.error_count();
    let origins = section.read_list("origins", origin);
    let is_valid = section.contains("origins") && section.problems.error_count() == errors_before;
    is_valid.then(|| origins.into_iter().collect())
}

fn origin(value: &DeValue<'_>) -> Result<OriginPattern, InvalidValue> {
    let invalid = |advice| {
        InvalidValue::new("an origin such as \"https://app.example.com\" or \"https://*.example.com\"", advice)
    };
    OriginPattern::parse(value.as_str().unwrap_or_default()).map_err(invalid)
}

pub fn connection(mut section: Section<'_>, profile: Profile, strict: bool) -> ConnectionLimits {
    let default = profile.connection();
    let message_size = section.read("message_size", value::size(MESSAGE_BYTES));
    let message_bytes = message_size.unwrap_or(default.message_bytes);
    let limits = ConnectionLimits {
        message_bytes,
        // A size that is not written adapts to those that are.
        frame_bytes: match section.read("frame_size", value::size_or_none(MESSAGE_BYTES)) {
            Some(written) => written.unwrap_or(message_bytes),
            None => default.frame_bytes.min(message_bytes),
        },
        strict,
        ping_resets_idle: section.read("ping_resets_idle", value::boolean).unwrap_or(default.ping_resets_idle),
        idle_timeout: section.read("idle_timeout", value::duration_or_none(WAITS)).unwrap_or(default.idle_timeout),
        duration: section.read("duration", value::duration_or_none(WAITS)).unwrap_or(default.duration),
        ping_interval: section.read("ping_interval", value::duration_or_none(WAITS)).unwrap_or(default.ping_interval),
        write_timeout: section.read("write_timeout", value::duration(WAITS)).unwrap_or(default.write_timeout),
        outbox_messages: section
            .read("outbox_messages", value::count(1..=1_000_000))
            .unwrap_or(default.outbox_messages),
        outbox_bytes: section
            .read("outbox_size", value::size(1..=1024 * MIB))
            .unwrap_or(default.outbox_bytes.max(message_bytes)),
        read_buffer_bytes: section.read("read_buffer", value::size(256..=MIB)).unwrap_or(default.read_buffer_bytes),
    };
    // After an invalid `message_size` the others would be compared with its default and be reported without reason.
    if message_size.is_some() || !section.contains("message_size") {
        check_message_size(&section, &limits);
    }
    profile.check_connection_quotas(&section, &limits);
    section.finish();
    limits
}

/// Reports sizes that contradict `message_size`.
fn check_message_size(section: &Section<'_>, limits: &ConnectionLimits) {
    let message_size = value::format_size(limits.message_bytes);
    if limits.frame_bytes > limits.message_bytes {
        let found = value::format_size(limits.frame_bytes);
        let problem = format!("connection.frame_size: found {found}, expected at most message_size ({message_size})");
        section.problems.error(section.span_of("frame_size"), problem, "lower it, or raise message_size");
    }
    if limits.outbox_bytes < limits.message_bytes {
        let found = value::format_size(limits.outbox_bytes);
        let problem = format!("connection.outbox_size: found {found}, expected at least message_size ({message_size})");
        let advice = "raise it, because the largest message would not fit";
        section.problems.error(section.span_of("outbox_size"), problem, advice);
    }
}
