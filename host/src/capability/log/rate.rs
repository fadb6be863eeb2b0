//! The log rate of one plugin: how many bytes its events may log in any second, all of them together.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tracing::warn;

use crate::limits::PLUGIN_LOG_BYTES_PER_SECOND;

/// Slots of a second in which bytes are counted. A line is admitted by the sum of the current slot and this many before
/// it, so the sum covers a second and up to one slot more.
const SLOTS: usize = 8;
const SLOT: Duration = Duration::from_millis(1000 / SLOTS as u64);
/// Time from the first dropped line to the report, which counts all lines that were dropped until then.
const REPORT_AFTER: Duration = Duration::from_secs(1);

pub struct LogRate {
    plugin: Arc<str>,
    created: Instant,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    window: Window,
    /// Lines and bytes that were dropped and not reported yet.
    dropped: Dropped,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Dropped {
    lines: u64,
    bytes: usize,
}

impl LogRate {
    pub fn new(plugin: Arc<str>) -> Arc<Self> {
        Arc::new(Self { plugin, created: Instant::now(), state: Mutex::default() })
    }

    /// Counts a line, and returns whether it may be logged. A task reports the lines that may not, at most once a
    /// second.
    pub fn admit(self: &Arc<Self>, bytes: usize) -> bool {
        let slot = self.created.elapsed().as_millis() / SLOT.as_millis();
        let mut state = self.lock();
        if state.window.admit(u64::try_from(slot).unwrap_or(u64::MAX), bytes) {
            return true;
        }
        let is_first = state.dropped.lines == 0;
        state.dropped.lines += 1;
        state.dropped.bytes += bytes;
        drop(state);
        if is_first {
            self.report_later();
        }
        false
    }

    fn report_later(self: &Arc<Self>) {
        let rate = Arc::clone(self);
        // Events run on threads of the runtime. Where a line is logged elsewhere, such as in a test, it is reported now.
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => {
                runtime.spawn(async move {
                    tokio::time::sleep(REPORT_AFTER).await;
                    rate.report();
                });
            }
            Err(_) => rate.report(),
        }
    }

    fn report(&self) {
        let Dropped { lines, bytes } = std::mem::take(&mut self.lock().dropped);
        let (plugin, max) = (&self.plugin, PLUGIN_LOG_BYTES_PER_SECOND);
        warn!(%plugin, lines, bytes, "log lines of the plugin were dropped: it may log {max} bytes per second");
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The bytes of the last second, slot by slot.
#[derive(Default)]
struct Window {
    current: u64,
    /// Bytes of the current slot and of the `SLOTS` before it, each at its number modulo the length.
    bytes: [usize; SLOTS + 1],
    sum: usize,
}

impl Window {
    fn admit(&mut self, slot: u64, bytes: usize) -> bool {
        // A thread that has read the clock earlier counts into the current slot.
        while self.current < slot {
            if self.sum == 0 {
                self.current = slot;
                break;
            }
            self.current += 1;
            let oldest = self.current as usize % self.bytes.len();
            self.sum -= std::mem::take(&mut self.bytes[oldest]);
        }
        if self.sum + bytes > PLUGIN_LOG_BYTES_PER_SECOND {
            return false;
        }
        self.sum += bytes;
        let current = self.current as usize % self.bytes.len();
        self.bytes[current] += bytes;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_any_second_exactly_the_limit_is_admitted() {
        const MAX: usize = PLUGIN_LOG_BYTES_PER_SECOND;
        let slots = SLOTS as u64;
        let mut window = Window::default();
        assert!(!window.admit(7, MAX + 1));
        assert!(window.admit(7, MAX - 10));
        assert!(window.admit(10, 10));
        // The first bytes count for a whole second after their slot has ended.
        for slot in [10, 11, 7 + slots] {
            assert!(!window.admit(slot, 1), "{slot}");
        }
        assert!(!window.admit(8 + slots, MAX - 9));
        assert!(window.admit(8 + slots, MAX - 10));
        assert!(!window.admit(10 + slots, 1));
        assert!(window.admit(11 + slots, 10));
        assert!(!window.admit(11 + slots, 1));
        assert!(window.admit(10_000_000, MAX));
    }

    #[tokio::test]
    async fn dropped_lines_are_counted_until_they_are_reported() {
        let rate = LogRate::new("guest".into());
        assert!(rate.admit(PLUGIN_LOG_BYTES_PER_SECOND));
        assert!(!rate.admit(PLUGIN_LOG_BYTES_PER_SECOND));
        assert!(!rate.admit(PLUGIN_LOG_BYTES_PER_SECOND - 1));
        let dropped = rate.lock().dropped;
        assert_eq!(dropped, Dropped { lines: 2, bytes: 2 * PLUGIN_LOG_BYTES_PER_SECOND - 1 });
        let deadline = Instant::now() + Duration::from_secs(30);
        while rate.lock().dropped != Dropped::default() {
            assert!(Instant::now() < deadline, "the lines are never reported");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}
