//! What a testbed sees of a download: samples as it goes, facts when they happen.

use std::fs::File;
use std::os::fd::AsFd;

use event::{NodeReport, SourceState as Told};
use fetch::{CloseReason, Digest, Engine, Progress, SourceState};
use machine::{Rate, Span, Time};

use super::Format;
use super::link::Link;
use crate::events::EventSink;

/// Between two samples of the progress.
const PROGRESS_EVERY: Span = Span::from_millis(20);

/// Between two samples of the sources' speeds.
const SOURCES_EVERY: Span = Span::from_millis(100);

/// Writes the reports of one download.
#[derive(Debug)]
pub(crate) struct Reporter {
    sinks: Vec<EventSink>,
    progress: Progress,
    progress_due: Time,
    sources: Vec<Sample>,
    sources_due: Time,
    /// Whether something may have happened since the last samples.
    stale: bool,
}

/// What was last told of a source.
#[derive(Clone, Debug, Default, PartialEq)]
struct Sample {
    state: Option<Told>,
    why: Option<String>,
    rate: Rate,
    received: u64,
}

/// A source as it is told, where there is no link to ask.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Seen {
    pub(crate) name: String,
    pub(crate) state: Told,
    pub(crate) rate: Rate,
    /// Body bytes.
    pub(crate) received: u64,
}

impl Reporter {
    /// Reports to the testbed, and with `--format json` to stdout as well.
    pub(crate) fn new(events: EventSink, format: Format) -> Self {
        let stdout = (format == Format::Json).then(|| std::io::stdout().as_fd().try_clone_to_owned().ok()).flatten();
        let mut sinks = vec![events];
        sinks.extend(stdout.map(|stdout| EventSink::new(File::from(stdout))));
        sinks.retain(EventSink::is_connected);
        Reporter {
            sinks,
            progress: Progress::default(),
            progress_due: Time::ZERO,
            sources: Vec::new(),
            sources_due: Time::ZERO,
            stale: false,
        }
    }

    pub(crate) fn ready(&self) {
        self.tell(&NodeReport::Ready);
    }

    /// The engine was given something: samples may be due.
    pub(crate) fn touch(&mut self) {
        self.stale = !self.sinks.is_empty();
    }

    /// When [`Reporter::sample`] has something to do.
    pub(crate) fn deadline(&self) -> Option<Time> {
        self.stale.then(|| self.progress_due.min(self.sources_due))
    }

    /// Reports what changed, as often as it may be.
    pub(crate) fn sample(&mut self, now: Time, engine: &Engine, links: &[std::sync::Arc<Link>]) {
        if !self.stale || now < self.progress_due.min(self.sources_due) {
            return;
        }
        let mut changed = false;
        if now >= self.progress_due {
            self.progress_due = now + PROGRESS_EVERY;
            changed |= self.sample_progress(engine.progress(), false);
        }
        if now >= self.sources_due {
            self.sources_due = now + SOURCES_EVERY;
            for (index, link) in links.iter().enumerate() {
                changed |= self.sample_source(index, link, engine, false);
            }
            // Nothing moved for a whole round: nothing to do until the engine hears something.
            self.stale = changed;
        }
    }

    /// Whether [`Reporter::sample_of`] has something to do.
    pub(crate) fn is_due(&self, now: Time) -> bool {
        self.deadline().is_some_and(|at| at <= now)
    }

    /// As [`Reporter::sample`], of sources that keep their places in `seen`.
    pub(crate) fn sample_of(&mut self, now: Time, progress: Progress, seen: &[Seen]) {
        if !self.is_due(now) {
            return;
        }
        let mut changed = false;
        if now >= self.progress_due {
            self.progress_due = now + PROGRESS_EVERY;
            changed |= self.sample_progress(progress, false);
        }
        if now >= self.sources_due {
            self.sources_due = now + SOURCES_EVERY;
            for (index, seen) in seen.iter().enumerate() {
                changed |= self.sample_seen(index, seen, false);
            }
            self.stale = changed;
        }
    }

    /// The last word on all of that.
    pub(crate) fn last_of(&mut self, progress: Progress, seen: &[Seen]) {
        self.sample_progress(progress, true);
        for (index, seen) in seen.iter().enumerate() {
            self.sample_seen(index, seen, true);
        }
    }

    /// A source changed its state.
    pub(crate) fn source(&mut self, index: usize, link: &Link, engine: &Engine) {
        self.sample_source(index, link, engine, true);
    }

    /// The last word on the progress, which must not be lost.
    pub(crate) fn last_progress(&mut self, engine: &Engine, links: &[std::sync::Arc<Link>]) {
        self.sample_progress(engine.progress(), true);
        for (index, link) in links.iter().enumerate() {
            self.sample_source(index, link, engine, true);
        }
    }

    pub(crate) fn finished(&self, bytes: u64, sha256: Option<Digest>) {
        self.tell(&NodeReport::Finished { bytes, sha256: sha256.map(|digest| digest.to_string()) });
    }

    fn sample_progress(&mut self, progress: Progress, surely: bool) -> bool {
        let Some(total) = progress.length else { return false };
        if progress == self.progress && !surely {
            return false;
        }
        self.progress = progress;
        let report = NodeReport::Progress { bytes: progress.here, total, received: progress.received };
        self.put(&report, surely);
        true
    }

    fn sample_source(&mut self, index: usize, link: &Link, engine: &Engine, surely: bool) -> bool {
        let Some(id) = engine.source_id(index) else { return false };
        let status = engine.source(id);
        let (state, why) = told(&status.state, link);
        let rate = Rate::from_bits_per_sec(status.rate.saturating_mul(8));
        let seen = Seen { name: link.name.clone(), state, rate, received: status.received };
        self.put_source(index, &seen, why, surely)
    }

    fn sample_seen(&mut self, index: usize, seen: &Seen, surely: bool) -> bool {
        self.put_source(index, seen, None, surely)
    }

    fn put_source(&mut self, index: usize, seen: &Seen, why: Option<String>, surely: bool) -> bool {
        let Seen { state, rate, received, .. } = *seen;
        let sample = Sample { state: Some(state), why: why.clone(), rate, received };
        if self.sources.len() <= index {
            self.sources.resize(index + 1, Sample::default());
        }
        if self.sources[index] == sample {
            return false;
        }
        self.sources[index] = sample;
        self.put(&NodeReport::Source { source: seen.name.clone(), state, received, rate, why }, surely);
        true
    }

    fn tell(&self, report: &NodeReport) {
        self.put(report, true);
    }

    fn put(&self, report: &NodeReport, surely: bool) {
        for sink in &self.sinks {
            if surely { sink.tell(report) } else { _ = sink.sample(report) }
        }
    }
}

/// A source's state in the testbed's words.
fn told(state: &SourceState, link: &Link) -> (Told, Option<String>) {
    match state {
        SourceState::Connecting => (Told::Connecting, None),
        SourceState::Alive => (Told::Alive, None),
        SourceState::Down(why @ CloseReason::TimedOut) => (Told::Stalled, Some(link.in_words(*why))),
        SourceState::Down(why) => (Told::Dead, Some(link.in_words(*why))),
        SourceState::SetApart(why) => (Told::Rejected, Some(why.to_string())),
    }
}
