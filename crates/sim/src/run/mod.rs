//! A plan in virtual time: the scenario, the link models and the nodes' programs on one clock.
//!
//! The same scenario machine as on namespaces drives it, and its records are the same; so all that reports on a run
//! reports on this one. What takes no time here: starting a program, and computing.

mod host;
mod wire;

use std::path::Path;

use event::{Event, ExitStatus, NodeReport, Record, Verdict};
use machine::{Machine, Span, Time, Timers};
use scenario::{About, FileFinding, Input, Measurements, Output, Scenario};
use topology::Plan;
use topology::plan::{FileId, FileSource, NodeId, Ready};

use self::host::Host;
use self::wire::Wire;
pub(crate) use self::wire::weigh;
use crate::program::{Act, Datagram, Disk, Kept, Program};

/// Makes the programs of a plan's nodes.
pub trait Cast {
    /// The program of `node`, which starts now and finds `disk`.
    ///
    /// # Errors
    /// When there is none; see [`check`](Cast::check).
    fn start(&mut self, plan: &Plan, node: NodeId, disk: &Disk, now: Time) -> Result<Box<dyn Program>, String>;

    /// Why this plan cannot be run in virtual time, in words that follow "cannot …".
    ///
    /// # Errors
    /// The first node whose program is not there.
    fn check(&self, plan: &Plan) -> Result<(), String>;
}

/// Hears what a run tells, as it happens.
pub trait Audience {
    /// A record of the log.
    fn record(&mut self, record: &Record);

    /// A line that a node's program prints.
    fn printed(&mut self, node: NodeId, line: &str);

    /// Whether somebody asks the run to stop, and by which signal. Asked now and then.
    fn interrupted(&mut self) -> Option<&'static str> {
        None
    }
}

/// Why there is no verdict.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RunError {
    /// Some program exists only as a process.
    #[error("{0}")]
    Unable(String),
    /// Programs answer each other without any time passing, for ever.
    #[error("virtual time stands still at {at}: the nodes' programs answer each other over links without delay")]
    Stuck {
        /// Since the beginning.
        at: Span,
    },
}

/// More happenings than this at one instant are endless: a node of the largest topology has hundreds of them.
const MOST_AT_ONCE: u64 = 50_000_000;

/// How often [`Audience::interrupted`] is asked, in happenings.
const LOOK_UP_EVERY: u64 = 1 << 14;

/// Runs `plan` to its verdict.
///
/// # Errors
/// When a program cannot be had in virtual time, or time stands still.
pub fn run(plan: &Plan, about: About, cast: &mut dyn Cast, audience: &mut dyn Audience) -> Result<Verdict, RunError> {
    cast.check(plan).map_err(RunError::Unable)?;
    let run = Run {
        scenario: Scenario::new(plan.clone(), about, Time::ZERO),
        wire: Wire::new(plan),
        hosts: plan.nodes().iter().map(|_| Host::default()).collect(),
        timers: Timers::default(),
        follows: Vec::new(),
        now: Time::ZERO,
        plan,
        cast,
        audience,
    };
    run.conduct()
}

struct Run<'a> {
    plan: &'a Plan,
    scenario: Scenario,
    wire: Wire,
    hosts: Vec<Host>,
    timers: Timers<NodeId>,
    /// By node: whether its lines matter to the scenario.
    follows: Vec<bool>,
    now: Time,
    cast: &'a mut dyn Cast,
    audience: &'a mut dyn Audience,
}

impl Run<'_> {
    fn conduct(mut self) -> Result<Verdict, RunError> {
        self.follows = self.plan.node_ids().map(|node| self.scenario.follows(node)).collect();
        self.scenario.handle(self.now, Input::Raised { took: Span::ZERO });
        let (mut happenings, mut at_once) = (0_u64, 0_u64);
        loop {
            if let Some(verdict) = self.carry_out() {
                return Ok(verdict);
            }
            happenings += 1;
            if happenings.is_multiple_of(LOOK_UP_EVERY)
                && let Some(signal) = self.audience.interrupted()
            {
                self.scenario.handle(self.now, Input::Interrupted { signal: signal.to_owned() });
                continue;
            }
            let next = [self.wire.deadline(), self.timers.next().map(|(at, _)| at)].into_iter().flatten().min();
            let scene = self.scenario.deadline().map(|(at, _)| at);
            let at = match (next, scene) {
                (None, None) => unreachable!("until its verdict a scenario waits at least for its wall limit"),
                (Some(at), None) | (None, Some(at)) => at,
                (Some(next), Some(scene)) => next.min(scene),
            };
            at_once = if at > self.now { 0 } else { at_once + 1 };
            if at_once > MOST_AT_ONCE {
                return Err(RunError::Stuck { at: self.now.since(Time::ZERO) });
            }
            self.now = self.now.max(at);
            // At one instant what is under way arrives before anybody loses patience, and both before the next fault.
            if let Some((node, datagram)) = self.wire.poll(self.now, self.plan) {
                self.hosts[node.index()].receive(self.now, datagram);
                self.attend(node);
            } else if let Some((_, node)) = self.timers.pop(self.now) {
                self.hosts[node.index()].advance(self.now);
                self.attend(node);
            } else {
                self.scenario.advance(self.now);
            }
        }
    }

    /// Does what the node's program wants, until it wants nothing more.
    fn attend(&mut self, node: NodeId) {
        while let Some(act) = self.hosts[node.index()].poll() {
            match act {
                Act::Send { from_port, to, content } => {
                    if self.wire.is_own(node, to.ip()) && !to.ip().is_multicast() {
                        let from = std::net::SocketAddr::new(to.ip(), from_port);
                        self.hosts[node.index()].receive(self.now, Datagram { from, to, content });
                    } else {
                        self.wire.send(self.now, self.plan, node, from_port, to, content);
                    }
                }
                Act::Print(line) => {
                    self.audience.printed(node, &line);
                    if self.follows[node.index()] {
                        self.scenario.handle(self.now, Input::Printed { node, line });
                    }
                }
                Act::Report(NodeReport::Ready) => {
                    if self.plan.node(node).ready == Ready::Event {
                        self.scenario.handle(self.now, Input::Ready { node });
                    }
                }
                Act::Report(report) => self.scenario.handle(self.now, Input::Reported { node, report }),
                Act::Keep { name, kept } => self.hosts[node.index()].disk.keep(name, kept),
                Act::Record(journal) => self.hosts[node.index()].disk.record(journal),
                Act::Exit(status) => {
                    self.end(node, ExitStatus::Code(status));
                    return;
                }
            }
        }
        self.set_timer(node);
    }

    fn set_timer(&mut self, node: NodeId) {
        match self.hosts[node.index()].deadline() {
            Some(at) => self.timers.set(node, at.max(self.now)),
            None => _ = self.timers.cancel(node),
        }
    }

    fn end(&mut self, node: NodeId, status: ExitStatus) {
        self.wire.set_forwarding(node, false);
        self.hosts[node.index()].kill();
        self.timers.cancel(node);
        self.scenario.handle(self.now, Input::Exited { node, status });
    }

    /// Carries out what the scenario wants; the verdict, when the run is over.
    fn carry_out(&mut self) -> Option<Verdict> {
        while let Some(output) = self.scenario.poll() {
            let now = self.now;
            match output {
                Output::Record(record) => {
                    if record.event == Event::AllStarted {
                        self.wire.begin_traces(now);
                    }
                    self.audience.record(&record);
                }
                Output::Finished(verdict) => return Some(verdict),
                // Here the model itself carries the packets: there is nothing that it could differ from.
                Output::Calibrate => {}
                Output::Start { node, .. } => self.start(node),
                Output::Stop { node, .. } => {
                    if let Some(status) = self.hosts[node.index()].terminate() {
                        self.end(node, ExitStatus::Code(status));
                    }
                }
                Output::Kill { node } => self.kill(node),
                Output::Signal { node, number } => self.signal(node, number),
                Output::Pause { node } => self.pause(node),
                Output::Resume { node } => self.resume(node),
                Output::Wipe { node } => self.hosts[node.index()].disk.wipe(),
                // There is no kernel that could say anything after a crash.
                Output::PurgeSockets { .. } => {}
                Output::Cut { node } => self.wire.cut(now, node),
                Output::Restore { node } => self.wire.restore(now, node),
                Output::SetLink { node, interface, profile } => self.wire.set_link(now, node, interface, &profile),
                Output::Partition { key, lists } => self.wire.partition(now, key, &lists),
                Output::Heal { key } => self.wire.heal(now, key),
                Output::CompareFile { expectation, node, out, file } => {
                    let finding = self.compare(node, &out, file);
                    self.scenario.handle(now, Input::FileCompared { expectation, finding });
                }
                Output::Settle => self.settle(),
            }
        }
        None
    }

    fn start(&mut self, node: NodeId) {
        let host = &mut self.hosts[node.index()];
        match self.cast.start(self.plan, node, &host.disk, self.now) {
            Ok(program) => {
                host.start(program);
                self.wire.set_forwarding(node, self.plan.node(node).is_router());
                self.scenario.handle(self.now, Input::Started { node });
                if self.plan.node(node).ready == Ready::Started {
                    self.scenario.handle(self.now, Input::Ready { node });
                }
                self.attend(node);
            }
            Err(why) => self.scenario.handle(self.now, Input::StartFailed { node, why }),
        }
    }

    fn kill(&mut self, node: NodeId) {
        if self.hosts[node.index()].is_alive() {
            self.end(node, ExitStatus::Signal(KILL));
        }
    }

    fn pause(&mut self, node: NodeId) {
        self.hosts[node.index()].pause();
        self.wire.set_forwarding(node, false);
        self.set_timer(node);
    }

    fn resume(&mut self, node: NodeId) {
        self.hosts[node.index()].resume(self.now);
        let forwards = self.plan.node(node).is_router() && self.hosts[node.index()].is_alive();
        self.wire.set_forwarding(node, forwards);
        self.attend(node);
    }

    /// What signal(7) says of a program without handlers, and of the two that ask it to end.
    fn signal(&mut self, node: NodeId, number: i32) {
        match number {
            INTERRUPT | TERMINATE => {
                if let Some(status) = self.hosts[node.index()].terminate() {
                    self.end(node, ExitStatus::Code(status));
                }
            }
            CONTINUE => self.resume(node),
            STOP | TERMINAL_STOP | TERMINAL_READ | TERMINAL_WRITE => self.pause(node),
            CHILD | URGENT | WINDOW => {}
            _ => {
                if self.hosts[node.index()].is_alive() {
                    self.end(node, ExitStatus::Signal(number));
                }
            }
        }
    }

    fn compare(&self, node: NodeId, out: &Path, file: FileId) -> FileFinding {
        let Some(Kept { file: of, bytes, differs_at }) = self.hosts[node.index()].disk.file(&out.to_string_lossy())
        else {
            return FileFinding::Unreadable { why: "No such file".to_owned() };
        };
        let expected = match &self.plan.file(file).source {
            FileSource::Generated { size, .. } => size.as_bytes(),
            FileSource::Existing(path) => {
                return FileFinding::Unreadable { why: format!("{} is not read in virtual time", path.display()) };
            }
        };
        match differs_at {
            Some(at) => FileFinding::Differs { at },
            None if of != file => FileFinding::Differs { at: 0 },
            None if bytes != expected => FileFinding::Length { found: bytes, expected },
            None => FileFinding::Identical { bytes },
        }
    }

    fn settle(&mut self) {
        for node in self.scenario.alive() {
            self.kill(node);
        }
        let (links, overflowed) = self.wire.counts(self.plan);
        let mut measured = Measurements { links, ..Measurements::default() };
        if overflowed > 0 {
            measured
                .invalidities
                .push(format!("the emulation itself lost {overflowed} packets for which it had no room"));
        }
        self.scenario.handle(self.now, Input::Measured(measured));
    }
}

// Numbers of signal(7) on Linux, except Alpha, SPARC, MIPS and PA-RISC.
const INTERRUPT: i32 = 2;
const KILL: i32 = 9;
const TERMINATE: i32 = 15;
const CHILD: i32 = 17;
const CONTINUE: i32 = 18;
const STOP: i32 = 19;
const TERMINAL_STOP: i32 = 20;
const TERMINAL_READ: i32 = 21;
const TERMINAL_WRITE: i32 = 22;
const URGENT: i32 = 23;
const WINDOW: i32 = 28;
