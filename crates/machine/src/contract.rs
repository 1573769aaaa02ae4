//! What a state machine is here.

use crate::Time;

/// A core that cannot do I/O: everything it knows comes in through its methods, everything it wants goes out through
/// [`poll`](Machine::poll).
///
/// The driver's loop, on sockets as in virtual time:
///
/// 1. [`handle`](Machine::handle) whatever arrived, or [`advance`](Machine::advance) when the deadline has come;
/// 2. [`poll`](Machine::poll) until it returns `None`, and carry out each output;
/// 3. wait for input, at most until [`deadline`](Machine::deadline).
///
/// Invariant: `now` never decreases from call to call, and two machines that are given the same calls return the same
/// outputs.
pub trait Machine {
    /// What can happen to it.
    type Input;
    /// What it wants done.
    type Output;
    /// Why it wants to be woken; shown in traces, so that an idle loop is seen for what it is.
    type Why: Copy + std::fmt::Debug;

    /// Takes one input.
    fn handle(&mut self, now: Time, input: Self::Input);

    /// Lets every deadline up to `now` fire. Harmless when none is due.
    fn advance(&mut self, now: Time);

    /// The next thing to do, or `None` when there is nothing until the next input or deadline.
    fn poll(&mut self) -> Option<Self::Output>;

    /// When [`advance`](Machine::advance) must be called at the latest, and what for.
    fn deadline(&self) -> Option<(Time, Self::Why)>;
}
