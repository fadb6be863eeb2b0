//! A value in several parts, of which each thread uses one: threads that change a number for every event do not wait for
//! each other's caches. Knows nothing about the value.

use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Parts of a value. More threads than that share parts.
const PARTS: usize = 8;

/// Has a cache line of its own.
#[derive(Default)]
#[repr(align(64))]
struct Part<T>(T);

#[derive(Default)]
pub struct Sharded<T>([Part<T>; PARTS]);

impl<T> Sharded<T> {
    /// Returns the part of this thread.
    pub fn own(&self) -> &T {
        &self.0[own_index()].0
    }

    pub fn parts(&self) -> impl Iterator<Item = &T> {
        self.0.iter().map(|Part(part)| part)
    }
}

fn own_index() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static INDEX: Cell<Option<usize>> = const { Cell::new(None) };
    }
    INDEX.get().unwrap_or_else(|| {
        let index = NEXT.fetch_add(1, Ordering::Relaxed) % PARTS;
        INDEX.set(Some(index));
        index
    })
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn a_thread_always_has_the_same_part_and_all_parts_are_the_whole() {
        let sharded = Sharded::<AtomicUsize>::default();
        thread::scope(|scope| {
            for _ in 0..PARTS * 2 {
                scope.spawn(|| sharded.own().fetch_add(1, Ordering::Relaxed));
            }
        });
        // Threads of other tests take parts meanwhile.
        assert_eq!(sharded.parts().map(|part| part.load(Ordering::Relaxed)).sum::<usize>(), PARTS * 2);
        assert!(std::ptr::eq(sharded.own(), sharded.own()));
    }
}
