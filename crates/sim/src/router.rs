//! A router in virtual time: the wire forwards for as long as this runs.

use std::collections::VecDeque;

use event::NodeReport;
use machine::Time;

use crate::program::{Act, Datagram, Program};

/// A program that does nothing by itself.
pub(crate) struct Router {
    acts: VecDeque<Act>,
}

impl Router {
    /// Ready at once.
    pub(crate) fn new() -> Self {
        Router { acts: VecDeque::from([Act::Report(NodeReport::Ready)]) }
    }
}

impl Program for Router {
    /// It listens on no port.
    fn receive(&mut self, _now: Time, _datagram: Datagram) {}

    fn advance(&mut self, _now: Time) {}

    fn deadline(&self) -> Option<Time> {
        None
    }

    fn poll(&mut self) -> Option<Act> {
        self.acts.pop_front()
    }

    fn terminate(&mut self) -> i32 {
        0
    }
}
