//! The classic point-to-multipoint programs in virtual time, over the machines that also run on sockets.

mod receiver;
mod sender;

pub use receiver::ClassicReceiver;
pub use sender::{ClassicSender, Task};

use event::NodeReport;

/// How many progress reports a transfer is worth: enough for triggers, few enough for a log.
const REPORTS: u64 = 200;

/// Tells progress in steps of a share of the whole.
#[derive(Debug)]
struct Progress {
    /// What the program knows of the whole; 0 where it is not told before the end.
    known: u64,
    told: Option<u64>,
}

impl Progress {
    fn new(known: u64) -> Self {
        Progress { known, told: None }
    }

    /// The report that `bytes` of `total` are worth, if any.
    fn at(&mut self, bytes: u64, total: u64) -> Option<NodeReport> {
        let step = (total / REPORTS).max(1);
        if self.told.is_some_and(|told| bytes < total && bytes < told + step) || self.told == Some(bytes) {
            return None;
        }
        self.told = Some(bytes);
        Some(NodeReport::Progress { bytes, total: self.known, received: bytes })
    }
}
