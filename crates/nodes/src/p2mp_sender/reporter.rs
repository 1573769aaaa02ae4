//! What a sender tells: the required lines, a summary for people, reports for a testbed.

use std::collections::BTreeSet;
use std::io::{self, IsTerminal as _, Write as _};

use event::{Delivery, NodeReport, Rounds, Transferred};
use machine::{Span, Time};
use p2mp::classic::Summary;
use serde_json::json;

use indicatif::{ProgressBar, ProgressDrawTarget};

use super::Format;
use crate::downloader::bars::{Speed, style, summary as far};
use crate::events::EventSink;

/// Between two samples of the progress.
const PROGRESS_EVERY: Span = Span::from_millis(20);

/// Between two looks at the bar.
const DRAW_EVERY: Span = Span::from_millis(100);

/// Tells of one transfer.
#[derive(Debug)]
pub(super) struct Reporter {
    /// The testbed, and with `--format json` stdout.
    sinks: Vec<EventSink>,
    format: Format,
    total: u64,
    due: Time,
    /// Where a person looks on.
    bar: Option<Bar>,
    /// Receivers of whom it is told that the kernel knows no way to them.
    refused: BTreeSet<usize>,
}

/// How far everybody is, below what is said.
#[derive(Debug)]
struct Bar {
    drawn: ProgressBar,
    speed: Speed,
    due: Time,
}

impl Reporter {
    /// Reports go to `sinks`; with [`Format::Json`] the last one is stdout.
    pub(super) fn new(sinks: Vec<EventSink>, format: Format, total: u64) -> Self {
        let bar = (format == Format::Human && io::stderr().is_terminal()).then(|| {
            let drawn = ProgressBar::new(total);
            drawn.set_style(style("{wide_bar} {msg}"));
            Bar { drawn, speed: Speed::default(), due: Time::ZERO }
        });
        Reporter { sinks, format, total, due: Time::ZERO, bar, refused: BTreeSet::new() }
    }

    pub(super) fn ready(&self) {
        self.tell(&NodeReport::Ready);
    }

    /// A timer expired: the line that the assignment wants on stdout.
    pub(super) fn timed_out(&self, receiver: Option<&str>, sequence: u32) {
        match self.format {
            // A reader that is gone is no reason to stop.
            Format::Human => {
                self.beside_the_bar(|| _ = writeln!(io::stdout(), "Timeout, sequence number = {sequence}"));
            }
            Format::Json => {
                let fact = json!({ "kind": "timeout", "sequence": sequence, "receiver": receiver });
                self.sinks.last().into_iter().for_each(|stdout| stdout.tell(&NodeReport::Other(fact.clone())));
            }
        }
    }

    pub(super) fn gave_up(&self, receiver: &str, sequence: u32, after: Span) {
        let line = format!("{receiver}: given up, it did not acknowledge sequence number {sequence} in {after}");
        self.beside_the_bar(|| eprintln!("{line}"));
    }

    /// The kernel does not send to this receiver, and says `why`. Said once: it may be different the next time.
    pub(super) fn refused(&mut self, receiver: usize, name: &str, why: &str) {
        if self.refused.insert(receiver) {
            self.beside_the_bar(|| eprintln!("{name}: cannot send: {why}; trying until it is given up"));
        }
    }

    /// The user has stopped it.
    pub(super) fn interrupted(&self, bytes: u64) {
        if let Some(bar) = &self.bar {
            // The terminal echoed `^C` and has moved its cursor, so drawing again would miss the bar's line.
            bar.drawn.set_draw_target(ProgressDrawTarget::hidden());
            eprintln!();
        }
        eprintln!("interrupted; every receiver has {bytes} of {} bytes", self.total);
    }

    /// Everybody who is left has so many bytes.
    pub(super) fn progress(&mut self, now: Time, bytes: u64) {
        if let Some(bar) = self.bar.as_mut().filter(|bar| bar.due <= now) {
            bar.due = now + DRAW_EVERY;
            bar.speed.sample(now, bytes);
            bar.drawn.set_position(bytes);
            bar.drawn.set_message(far(bytes, Some(self.total), bar.speed.per_second()));
        }
        if now >= self.due && !self.sinks.is_empty() {
            self.due = now + PROGRESS_EVERY;
            let report = NodeReport::Progress { bytes, total: self.total, received: bytes };
            self.sinks.iter().for_each(|sink| _ = sink.sample(&report));
        }
    }

    /// The transfer is over; `names` are the receivers' in their order.
    pub(super) fn finished(&self, summary: &Summary, names: &[String]) {
        let transferred = transferred(summary, names);
        self.tell(&NodeReport::Progress { bytes: summary.bytes, total: self.total, received: summary.bytes });
        self.tell(&NodeReport::Transferred(transferred.clone()));
        if summary.is_complete() {
            self.tell(&NodeReport::Finished { bytes: summary.bytes, sha256: None });
        }
        if let Some(bar) = &self.bar {
            bar.drawn.finish_and_clear();
        }
        eprint!("{}", words(&transferred));
    }

    /// Says something while the bar is not there.
    fn beside_the_bar(&self, say: impl FnOnce()) {
        match &self.bar {
            Some(bar) => bar.drawn.suspend(say),
            None => say(),
        }
    }

    fn tell(&self, report: &NodeReport) {
        self.sinks.iter().for_each(|sink| sink.tell(report));
    }
}

fn transferred(summary: &Summary, names: &[String]) -> Transferred {
    let receivers = names.iter().zip(&summary.receivers).map(|(name, delivery)| Delivery {
        name: name.clone(),
        complete: delivery.complete,
        retransmissions: delivery.retransmissions,
    });
    let p2mp::classic::Rounds { count, needless, waited } = summary.rounds;
    Transferred {
        seconds: summary.elapsed.as_secs_f64(),
        segments: summary.segments,
        bytes: summary.bytes,
        rounds: Some(Rounds { count, needless, waited: waited.as_secs_f64() }),
        receivers: receivers.collect(),
    }
}

/// The summary for people.
fn words(transferred: &Transferred) -> String {
    let Transferred { seconds, segments, bytes, receivers, .. } = transferred;
    let mean = match segments {
        0 => String::new(),
        _ => format!(", {:.3} ms a segment", transferred.mean_seconds() * 1e3),
    };
    let complete = receivers.iter().filter(|receiver| receiver.complete).count();
    let all = receivers.len();
    let mut words =
        format!("{bytes} bytes in {segments} segments to {complete} of {all} receivers: {seconds:.3} s{mean}\n");
    let wide = receivers.iter().map(|receiver| receiver.name.chars().count()).max().unwrap_or(0);
    for Delivery { name, complete, retransmissions } in receivers {
        let fate = if *complete { "complete" } else { "given up" };
        let plural = if *retransmissions == 1 { "" } else { "s" };
        words.push_str(&format!("  {name:<wide$}  {fate}  {retransmissions} retransmission{plural}\n"));
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_says_who_has_it_and_what_it_took() {
        let delivery =
            |name: &str, complete, retransmissions| Delivery { name: name.into(), complete, retransmissions };
        let receivers = vec![delivery("a", true, 1), delivery("10.0.0.2", false, 7)];
        let transferred = Transferred { seconds: 1.5, segments: 20, bytes: 10_000, rounds: None, receivers };
        let expected = "10000 bytes in 20 segments to 1 of 2 receivers: 1.500 s, 75.000 ms a segment\n  \
                        a         complete  1 retransmission\n  10.0.0.2  given up  7 retransmissions\n";
        assert_eq!(words(&transferred), expected);
    }
}
