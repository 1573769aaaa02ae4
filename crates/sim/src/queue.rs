//! Events in order of time.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use machine::Time;

/// What will happen, earliest first; what happens at the same time, in the order in which it was planned.
#[derive(Debug)]
pub struct Queue<E> {
    heap: BinaryHeap<Reverse<Planned<E>>>,
    planned: u64,
    now: Time,
}

#[derive(Debug)]
struct Planned<E> {
    at: Time,
    order: u64,
    event: E,
}

impl<E> Default for Queue<E> {
    fn default() -> Self {
        Queue { heap: BinaryHeap::new(), planned: 0, now: Time::ZERO }
    }
}

impl<E> Queue<E> {
    /// The current time: that of the last event taken.
    pub fn now(&self) -> Time {
        self.now
    }

    /// Plans an event; one in the past happens now.
    pub fn plan(&mut self, at: Time, event: E) {
        self.heap.push(Reverse(Planned { at: at.max(self.now), order: self.planned, event }));
        self.planned += 1;
    }

    /// When the next event is planned for.
    pub fn next_at(&self) -> Option<Time> {
        self.heap.peek().map(|Reverse(planned)| planned.at)
    }

    /// Takes the next event, and moves the time there.
    pub fn take(&mut self) -> Option<E> {
        let Reverse(planned) = self.heap.pop()?;
        self.now = planned.at;
        Some(planned.event)
    }
}

impl<E> PartialEq for Planned<E> {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.order) == (other.at, other.order)
    }
}

impl<E> Eq for Planned<E> {}

impl<E> PartialOrd for Planned<E> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<E> Ord for Planned<E> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_times_keep_their_order_and_the_past_happens_now() {
        let mut queue = Queue::default();
        let at = Time::from_nanos;
        queue.plan(at(5), 'b');
        queue.plan(at(5), 'c');
        queue.plan(at(1), 'a');
        assert_eq!((queue.take(), queue.take(), queue.now()), (Some('a'), Some('b'), at(5)));
        queue.plan(at(0), 'd');
        assert_eq!((queue.take(), queue.take(), queue.take(), queue.now()), (Some('c'), Some('d'), None, at(5)));
    }
}
