//! Deadlines by key, earliest first.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use crate::Time;

/// A set of deadlines, at most one a key. Keys with the same deadline come out in their own order, so a run is
/// repeatable.
///
/// ```
/// use machine::{Time, Timers};
///
/// let mut timers = Timers::default();
/// timers.set("retry", Time::from_nanos(20));
/// timers.set("give up", Time::from_nanos(90));
/// timers.set("retry", Time::from_nanos(30)); // moves it
/// assert_eq!(timers.next(), Some((Time::from_nanos(30), "retry")));
/// assert_eq!(timers.pop(Time::from_nanos(29)), None);
/// assert_eq!(timers.pop(Time::from_nanos(30)), Some((Time::from_nanos(30), "retry")));
/// ```
#[derive(Clone, Debug)]
pub struct Timers<K> {
    armed: BTreeMap<K, Time>,
    /// Invariant: the top, if any, is armed at exactly that time. Others may be stale, from a timer moved or cancelled.
    heap: BinaryHeap<Reverse<(Time, K)>>,
}

impl<K: Ord + Copy> Default for Timers<K> {
    fn default() -> Self {
        Timers { armed: BTreeMap::new(), heap: BinaryHeap::new() }
    }
}

impl<K: Ord + Copy> Timers<K> {
    /// Arms the timer `key` for `at`, moving it if it was armed.
    pub fn set(&mut self, key: K, at: Time) {
        if self.armed.insert(key, at) != Some(at) {
            self.heap.push(Reverse((at, key)));
        }
        self.discard_stale();
    }

    /// Disarms the timer `key`; whether it was armed.
    pub fn cancel(&mut self, key: K) -> bool {
        let was_armed = self.armed.remove(&key).is_some();
        self.discard_stale();
        was_armed
    }

    /// When `key` is armed for, if it is.
    pub fn get(&self, key: K) -> Option<Time> {
        self.armed.get(&key).copied()
    }

    /// The earliest deadline.
    pub fn next(&self) -> Option<(Time, K)> {
        self.heap.peek().map(|Reverse(entry)| *entry)
    }

    /// Takes the earliest deadline that has come by `now`.
    pub fn pop(&mut self, now: Time) -> Option<(Time, K)> {
        let (at, key) = self.next().filter(|(at, _)| *at <= now)?;
        self.heap.pop();
        self.armed.remove(&key);
        self.discard_stale();
        Some((at, key))
    }

    fn discard_stale(&mut self) {
        while let Some(Reverse((at, key))) = self.heap.peek() {
            if self.armed.get(key) == Some(at) {
                return;
            }
            self.heap.pop();
        }
    }
}
