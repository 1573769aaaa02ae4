//! What people and the testbed see of a fast sender: a bar for each receiver on a terminal, a line for each thing that
//! happened elsewhere, and events.

use std::fmt::Write as _;
use std::io::{IsTerminal as _, Write as _};

use event::{Delivery, NodeReport, Transferred};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget};
use machine::{Span, Time};
use p2mp::fast::{Layout, Manifest, Sender};

use super::Options;
use crate::downloader::bars::{Speed, size, style, summary};
use crate::events::EventSink;
use crate::exit::Exit;

/// Between two looks at the bars.
const DRAW_EVERY: Span = Span::from_millis(100);

/// Between two samples of the progress.
const SAMPLE_EVERY: Span = Span::from_millis(50);

pub(super) struct Show {
    names: Vec<String>,
    manifest: Manifest,
    /// Of each receiver.
    verdicts: Vec<Option<Verdict>>,
    group: Option<std::net::IpAddr>,
    bars: Option<Bars>,
    sinks: Vec<EventSink>,
    sample_due: Time,
    sampled: u64,
    symbols: u64,
    payload: u64,
    began: Time,
    /// The last verdict's time.
    settled: Time,
    shows: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Verdict {
    Complete,
    Failed,
    GivenUp,
}

struct Bars {
    all: MultiProgress,
    each: Vec<(ProgressBar, Speed)>,
    due: Time,
}

impl Show {
    pub(super) fn new(now: Time, options: Options, manifest: Manifest) -> Self {
        let names: Vec<String> = options.receivers.into_iter().map(|(name, _)| name).collect();
        let bars = (options.shows && std::io::stderr().is_terminal()).then(|| Bars::new(now, names.len()));
        options.sinks.iter().for_each(|sink| sink.tell(&NodeReport::Ready));
        Show {
            verdicts: vec![None; names.len()],
            names,
            manifest,
            group: options.group,
            bars,
            sinks: options.sinks,
            sample_due: now,
            sampled: u64::MAX,
            symbols: 0,
            payload: 0,
            began: now,
            settled: now,
            shows: options.shows,
        }
    }

    pub(super) fn joined(&self, receiver: usize) {
        self.say(&format!("{}: there", self.names[receiver]));
    }

    pub(super) fn started(&mut self, layout: &Layout, by_multicast: bool) {
        (self.symbols, self.payload) = (layout.symbols(), layout.payload().into());
        let way = match self.group {
            Some(group) if by_multicast => format!("to {group}"),
            _ => "to each receiver by itself".to_owned(),
        };
        self.say(&format!("sending {way}, {} bytes a datagram", layout.payload()));
    }

    pub(super) fn completed(&mut self, now: Time, receiver: usize) {
        self.settle(now, receiver, Verdict::Complete);
        let seconds = now.since(self.began).as_secs_f64();
        self.say(&format!("{}: has everything, checked, after {seconds:.3} s", self.names[receiver]));
    }

    pub(super) fn failed(&mut self, now: Time, receiver: usize, why: &str) {
        self.settle(now, receiver, Verdict::Failed);
        self.say(&format!("{}: failed: {why}", self.names[receiver]));
    }

    pub(super) fn gave_up(&mut self, now: Time, receiver: usize) {
        self.settle(now, receiver, Verdict::GivenUp);
        self.say(&format!("{}: given up", self.names[receiver]));
    }

    fn settle(&mut self, now: Time, receiver: usize, verdict: Verdict) {
        self.verdicts[receiver] = Some(verdict);
        self.settled = now;
    }

    /// When [`Show::draw`] has something to do.
    pub(super) fn deadline(&self) -> Option<Time> {
        let samples = (!self.sinks.is_empty() && self.symbols > 0).then_some(self.sample_due);
        self.bars.as_ref().map(|bars| bars.due).into_iter().chain(samples).min()
    }

    /// Shows how far everybody is, if that is due.
    pub(super) fn draw(&mut self, now: Time, machine: &Sender) {
        if self.deadline().is_none_or(|due| now < due) {
            return;
        }
        self.sample(now, machine);
        let (symbols, length) = (self.symbols, self.manifest.length());
        if let Some(bars) = self.bars.as_mut().filter(|bars| bars.due <= now) {
            bars.due = now + DRAW_EVERY;
            for (((bar, speed), member), name) in bars.each.iter_mut().zip(machine.members()).zip(&self.names) {
                let bytes = scaled(length, member.symbols(), symbols);
                speed.sample(now, bytes);
                bar.set_length(length);
                bar.set_position(bytes);
                let far = match symbols {
                    0 => "waiting for receivers".to_owned(),
                    _ => summary(bytes, Some(length), speed.per_second()),
                };
                bar.set_message(format!("{name:<16} {far}"));
            }
        }
    }

    /// The user has stopped it.
    pub(super) fn interrupted(&mut self, machine: &Sender) {
        if let Some(bars) = self.bars.take() {
            // The terminal echoed `^C` and has moved its cursor, so drawing again would miss the bars' lines.
            bars.all.set_draw_target(ProgressDrawTarget::hidden());
            let _ = writeln!(std::io::stderr());
        }
        let least = machine.members().iter().map(|member| member.symbols()).min().unwrap_or(0);
        let bytes = scaled(self.manifest.length(), least, self.symbols);
        self.say(&format!("interrupted; every receiver has {bytes} of {} bytes", self.manifest.length()));
    }

    /// The last word: who has the files.
    pub(super) fn finish(&mut self, machine: &Sender) -> Exit {
        let seconds = self.settled.since(self.began).as_secs_f64();
        let complete = self.verdicts.iter().filter(|verdict| **verdict == Some(Verdict::Complete)).count();
        // What became of each stands in lines of its own.
        if let Some(bars) = self.bars.take() {
            bars.each.iter().for_each(|(bar, _)| bar.finish_and_clear());
        }
        let (length, all) = (self.manifest.length(), self.names.len());
        let mut line = format!("{complete} of {all} have {} in {seconds:.3} s", size(length));
        if self.symbols > 0 {
            let speed = (length as f64 / seconds.max(1e-9)) as u64;
            let sends = machine.packets() as f64 / self.symbols as f64;
            let _ = write!(line, ", {}/s; {} datagrams with data, {sends:.3} of each", size(speed), machine.packets());
        }
        self.say(&line);
        let is_complete = |index: usize| self.verdicts[index] == Some(Verdict::Complete);
        let receivers = self.names.iter().enumerate().map(|(index, name)| Delivery {
            name: name.clone(),
            complete: is_complete(index),
            retransmissions: machine.members()[index].packets.saturating_sub(self.symbols),
        });
        let report = NodeReport::Transferred(Transferred {
            seconds,
            segments: self.symbols,
            bytes: if complete > 0 { length } else { 0 },
            rounds: None,
            receivers: receivers.collect(),
        });
        self.sinks.iter().for_each(|sink| sink.tell(&report));
        if complete == all { Exit::Done } else { Exit::Failed }
    }

    /// The progress is that of the slowest who is still waited for, or of the fastest at all.
    fn sample(&mut self, now: Time, machine: &Sender) {
        if self.sinks.is_empty() || now < self.sample_due || self.symbols == 0 {
            return;
        }
        self.sample_due = now + SAMPLE_EVERY;
        let waited_for = machine.members().iter().filter(|member| !member.is_settled()).map(|member| member.symbols());
        let symbols = waited_for.min().unwrap_or(self.symbols);
        if symbols == self.sampled {
            return;
        }
        let total = self.manifest.length();
        let bytes = scaled(total, symbols, self.symbols);
        let report = NodeReport::Progress { bytes, total, received: 0 };
        if self.sinks.iter().all(|sink| sink.sample(&report)) {
            self.sampled = symbols;
        }
    }

    fn say(&self, line: &str) {
        match &self.bars {
            _ if !self.shows => {}
            // A terminal that is gone is no reason to stop.
            Some(bars) => _ = bars.all.println(line),
            None => _ = writeln!(std::io::stderr(), "{line}"),
        }
    }
}

impl Bars {
    fn new(now: Time, count: usize) -> Self {
        /// More lines than a terminal has help nobody.
        const MOST: usize = 20;
        let all = MultiProgress::new();
        let each = (0..count.min(MOST)).map(|_| {
            let bar = all.add(ProgressBar::new(0));
            bar.set_style(style("{bar:20} {msg}"));
            (bar, Speed::default())
        });
        let each = each.collect();
        Bars { all, each, due: now }
    }
}

fn scaled(length: u64, symbols: u64, all: u64) -> u64 {
    (u128::from(length) * u128::from(symbols) / u128::from(all.max(1))) as u64
}
