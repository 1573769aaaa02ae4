//! What a receiver tells: the required line, what became of files, reports for a testbed.

use std::fs::File;
use std::io::Write as _;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::path::Path;

use event::NodeReport;
use machine::{Seed, Span, Time};
use p2mp::LossTally;
use serde_json::json;

use super::Format;
use crate::events::EventSink;

/// Between two samples of the progress.
const PROGRESS_EVERY: Span = Span::from_millis(20);

/// Between two samples of what the loss service did.
const DISCARDED_EVERY: Span = Span::from_millis(100);

/// Tells of everything that one receiver hears.
#[derive(Debug)]
pub(super) struct Reporter {
    /// The testbed, and with `--format json` stdout.
    sinks: Vec<EventSink>,
    format: Format,
    due: Time,
    discarded_due: Time,
    discarded: LossTally,
}

impl Reporter {
    pub(super) fn new(events: EventSink, format: Format) -> Self {
        let stdout = (format == Format::Json).then(|| std::io::stdout().as_fd().try_clone_to_owned().ok()).flatten();
        let mut sinks = vec![events];
        sinks.extend(stdout.map(|stdout| EventSink::new(File::from(stdout))));
        sinks.retain(EventSink::is_connected);
        Reporter { sinks, format, due: Time::ZERO, discarded_due: Time::ZERO, discarded: LossTally::default() }
    }

    /// Where reports go.
    pub(super) fn sinks(&self) -> &[EventSink] {
        &self.sinks
    }

    /// The socket is bound: senders may begin.
    pub(super) fn ready(&self, address: SocketAddr, drawn: Option<Seed>) {
        match drawn {
            Some(seed) => eprintln!("listening on {address}; --seed {seed} repeats what the loss service discards"),
            None => eprintln!("listening on {address}"),
        }
        self.tell(&NodeReport::Ready);
    }

    /// A sender has begun, and this is where its file goes.
    pub(super) fn begun(&self, source: SocketAddr, path: &Path) {
        eprintln!("{}: begun by {source}", path.display());
    }

    /// The loss service discarded a segment: the line that the assignment wants on stdout.
    pub(super) fn discarded(&self, sequence: u64) {
        match self.format {
            // A reader that is gone is no reason to stop.
            Format::Human => _ = writeln!(std::io::stdout(), "Packet loss, sequence number = {sequence}"),
            Format::Json => {
                let fact = json!({ "kind": "packet-loss", "sequence": sequence });
                self.sinks.last().into_iter().for_each(|stdout| stdout.tell(&NodeReport::Other(fact.clone())));
            }
        }
    }

    /// So many bytes are in hand. How many there will be no classic sender says before the end.
    pub(super) fn progress(&mut self, now: Time, bytes: u64) {
        if now >= self.due && !self.sinks.is_empty() {
            self.due = now + PROGRESS_EVERY;
            let report = NodeReport::Progress { bytes, total: 0, received: bytes };
            self.sinks.iter().for_each(|sink| _ = sink.sample(&report));
        }
    }

    /// So far the loss service did this; nothing is told of one that does nothing.
    pub(super) fn losses(&mut self, now: Time, tally: Option<LossTally>) {
        let changed = tally.filter(|tally| now >= self.discarded_due && *tally != self.discarded);
        let Some(tally) = changed else { return };
        self.discarded_due = now + DISCARDED_EVERY;
        let report = discarded(tally);
        // One that finds no room comes again.
        let untold = self.sinks.iter().filter(|sink| !sink.sample(&report)).count();
        if untold == 0 {
            self.discarded = tally;
        }
    }

    /// The program ends, and this is all that the loss service did.
    pub(super) fn all_losses(&self, tally: Option<LossTally>) {
        if let Some(tally) = tally.filter(|tally| *tally != self.discarded) {
            self.tell(&discarded(tally));
        }
    }

    /// A file is under its final name.
    pub(super) fn complete(&self, path: &Path, source: SocketAddr, length: u64, took: Span) {
        self.tell(&NodeReport::Progress { bytes: length, total: length, received: length });
        self.tell(&NodeReport::Finished { bytes: length, sha256: None });
        eprintln!("{}: {length} bytes from {source} in {:.3} s", path.display(), took.as_secs_f64());
    }

    /// A sender stays away.
    pub(super) fn lost_sender(&self, source: SocketAddr, bytes: u64) {
        eprintln!("{source} fell silent; the {bytes} bytes that it sent are thrown away");
    }

    fn tell(&self, report: &NodeReport) {
        self.sinks.iter().for_each(|sink| sink.tell(report));
    }
}

fn discarded(tally: LossTally) -> NodeReport {
    NodeReport::Discarded { arrived: tally.arrived, discarded: tally.discarded }
}
