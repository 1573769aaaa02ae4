//! A run in virtual time, in this process: nothing is raised, so nothing can be left.

use std::fs::File;
use std::io::{self, BufWriter, Write};

use anyhow::Context;
use conductor::RunDirectory;
use conductor::directory::Log;
use event::{Event, NodeReport, Record, RunState, run_directory as names};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use report::LiveView;
use scenario::About;
use sim::{Audience, Cast, Roles};
use topology::Plan;
use topology::plan::NodeId;

use super::{Refused, Show};
use crate::status::Status;

/// Whether every program of the plan exists in virtual time.
pub(super) fn check(plan: &Plan) -> Result<(), Refused> {
    if plan.is_recorded() {
        let why =
            anyhow::anyhow!("`--engine sim`: packets have no bytes in virtual time, so `--pcap` has nothing to record");
        return Err(Refused::Machine(why));
    }
    Roles.check(plan).map_err(|why| Refused::Machine(anyhow::anyhow!("`--engine sim`: {why}")))
}

/// Runs the plan to its verdict.
pub(super) fn run(plan: &Plan, directory: RunDirectory, about: About, show: Show) -> anyhow::Result<Status> {
    let form = report::Output::of_stdout(show == Show::Records);
    let view = match show {
        Show::Nothing => None,
        // Nobody could follow a panel: hours pass in a second. Lines stay.
        Show::Run => Some(LiveView::to_writer(report::Output::Plain, Box::new(io::stdout()))),
        Show::Records => Some(LiveView::new(form)),
    };
    let mut recorder = Recorder {
        log: directory.open_log()?,
        outputs: plan.nodes().iter().map(|_| None).collect(),
        plan,
        directory: &directory,
        view: view.transpose().context("no output")?,
        shows_progress: show == Show::Records,
        state: RunState::default(),
        signals: Interrupts::hear().context("cannot listen for signals")?,
        failed: None,
    };
    let outcome = sim::run(plan, about, &mut Roles, &mut recorder);
    recorder.finish()?;
    Ok(Status::Judged(outcome?))
}

/// Writes what a run tells to where a run on namespaces leaves it.
struct Recorder<'a> {
    plan: &'a Plan,
    directory: &'a RunDirectory,
    log: Log,
    /// By node, once it has printed something.
    outputs: Vec<Option<BufWriter<File>>>,
    view: Option<LiveView>,
    shows_progress: bool,
    state: RunState,
    signals: Interrupts,
    /// The first thing that could not be written; nothing more is.
    failed: Option<anyhow::Error>,
}

impl Recorder<'_> {
    fn attempt(&mut self, write: impl FnOnce(&mut Self) -> anyhow::Result<()>) {
        if self.failed.is_none() {
            self.failed = write(self).err();
        }
    }

    fn print(&mut self, node: NodeId, line: &str) -> anyhow::Result<()> {
        let path = names::node(self.directory.path(), &self.plan.node(node).name).join(names::STDOUT);
        let output = match &mut self.outputs[node.index()] {
            Some(output) => output,
            none => {
                let file = File::create(&path).with_context(|| format!("cannot create {}", path.display()))?;
                none.insert(BufWriter::new(file))
            }
        };
        writeln!(output, "{line}").with_context(|| format!("cannot write {}", path.display()))
    }

    fn finish(mut self) -> anyhow::Result<()> {
        self.attempt(|recorder| {
            recorder.log.flush()?;
            recorder.outputs.iter_mut().flatten().try_for_each(|output| output.flush()).context("cannot write output")
        });
        if let Some(view) = self.view {
            view.finish();
        }
        self.failed.map_or(Ok(()), Err)
    }
}

impl Audience for Recorder<'_> {
    fn record(&mut self, record: &Record) {
        self.attempt(|recorder| Ok(recorder.log.write(record)?));
        let Some(view) = &mut self.view else { return };
        self.state.apply(record);
        let progress = matches!(&record.event, Event::NodeReported { report: NodeReport::Progress { .. }, .. });
        // As lines, thousands of seconds of progress are no news.
        if self.shows_progress || !progress {
            view.observe(record, &self.state);
        }
    }

    fn printed(&mut self, node: NodeId, line: &str) {
        self.attempt(|recorder| recorder.print(node, line));
    }

    fn interrupted(&mut self) -> Option<&'static str> {
        // What cannot be written any more need not be computed any further.
        if self.failed.is_some() { Some("a full or broken disk") } else { self.signals.next() }
    }
}

/// SIGINT, SIGTERM and SIGHUP, heard instead of being killed by them for as long as this lives.
struct Interrupts {
    before: SigSet,
    descriptor: SignalFd,
}

impl Interrupts {
    fn hear() -> nix::Result<Self> {
        let heard = SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP]);
        let before = SigSet::thread_get_mask()?;
        heard.thread_block()?;
        let descriptor = SignalFd::with_flags(&heard, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
        Ok(Interrupts { before, descriptor })
    }

    fn next(&mut self) -> Option<&'static str> {
        let signal = self.descriptor.read_signal().ok()??;
        Signal::try_from(signal.ssi_signo as i32).ok().map(Signal::as_str)
    }
}

impl Drop for Interrupts {
    fn drop(&mut self) {
        let _unchanged_at_worst = self.before.thread_set_mask();
    }
}
