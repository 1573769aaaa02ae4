//! The scenario itself: what goes in, what it wants done, and how the run proceeds.

use std::collections::VecDeque;

use event::{EndCause, Event, ExitStatus, NetworkInfo, NodeInfo, NodeReport, Record};
use machine::{Machine, Time, Timers};
use topology::Plan;
use topology::plan::{EventId, Expected, Medium, NodeId, Program, Ready, Trigger};

use crate::expectation::{FileFinding, Watch};
use crate::lifecycle::{Ending, Lifecycle, Phase};
use crate::schedule::Schedule;
use crate::vocabulary::{About, Input, Output, Why};

/// A run of a plan, from the standing fabric to the verdict.
///
/// Calls come in this order: [`Input::Raised`] once, [`Input::Calibrated`] after [`Output::Calibrate`]; then whatever the engine sees, until [`Output::Settle`]; then
/// [`Input::Exited`] of every node that was alive and [`Input::Measured`]; [`Output::Finished`] is the last output.
/// Outputs are to be carried out in order, each before the next: a crash is [`Output::Cut`], then [`Output::Kill`].
#[derive(Debug)]
pub struct Scenario {
    pub(crate) plan: Plan,
    pub(crate) began: Time,
    pub(crate) started: Option<Time>,
    pub(crate) stage: Stage,
    /// Whether links are measured first.
    calibrates: bool,
    pub(crate) nodes: Vec<Lifecycle>,
    /// Start order: for each node those that it still waits for.
    pub(crate) awaited: Vec<Vec<NodeId>>,
    pub(crate) ready_logs: Vec<Option<Watch>>,
    pub(crate) schedule: Schedule,
    pub(crate) watches: Vec<Option<Watch>>,
    pub(crate) files: Vec<Option<FileFinding>>,
    /// For each node and interface the entries of `events:` whose changes are in force, in the order in which they
    /// fired.
    pub(crate) link_changes: Vec<Vec<Vec<EventId>>>,
    pub(crate) timers: Timers<Why>,
    /// Entries that wait for programs to end before the entry `after:` them can be planned.
    pub(crate) ending: Vec<(usize, Vec<NodeId>)>,
    pub(crate) outputs: VecDeque<Output>,
    pub(crate) failures: Vec<String>,
    pub(crate) invalidities: Vec<String>,
    pub(crate) interrupted: bool,
    pub(crate) ended: Option<Time>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    Raising,
    Calibrating,
    Running,
    Comparing,
    Settling,
    Over,
}

impl Scenario {
    /// A run of `plan` that begins now.
    pub fn new(plan: Plan, about: About, now: Time) -> Self {
        let nodes = plan.nodes().len();
        let watches = plan.expectations().iter().map(|expectation| match &expectation.what {
            Expected::Prints(pattern) | Expected::NeverPrints(pattern) => Some(Watch::new(pattern)),
            _ => None,
        });
        let ready_logs = plan.nodes().iter().map(|node| match &node.ready {
            Ready::Log(pattern) => Some(Watch::new(pattern)),
            _ => None,
        });
        let mut scenario = Scenario {
            began: now,
            started: None,
            stage: Stage::Raising,
            calibrates: false,
            nodes: vec![Lifecycle::default(); nodes],
            awaited: plan.nodes().iter().map(|node| node.after.clone()).collect(),
            ready_logs: ready_logs.collect(),
            schedule: Schedule::new(&plan),
            watches: watches.collect(),
            files: vec![None; plan.expectations().len()],
            link_changes: plan.nodes().iter().map(|node| vec![Vec::new(); node.interfaces.len()]).collect(),
            timers: Timers::default(),
            ending: Vec::new(),
            outputs: VecDeque::new(),
            failures: Vec::new(),
            invalidities: Vec::new(),
            interrupted: false,
            ended: None,
            plan,
        };
        scenario.timers.set(Why::Timeout, now + scenario.plan.timeout());
        let began = scenario.began_event(about);
        scenario.record(now, began);
        scenario
    }

    /// The same, with links measured before the first node starts.
    #[must_use]
    pub fn calibrated_first(mut self) -> Self {
        self.calibrates = true;
        self
    }

    /// Whether the lines that `node` prints are needed.
    pub fn follows(&self, node: NodeId) -> bool {
        let by_event =
            self.plan.events().iter().any(|event| matches!(&event.when, Trigger::Prints(of, _) if *of == node));
        let by_expectation = self.plan.expectations().iter().zip(&self.watches);
        by_event
            || self.ready_logs[node.index()].is_some()
            || by_expectation.into_iter().any(|(expectation, watch)| expectation.node == node && watch.is_some())
    }

    /// The nodes in which a program runs, or is about to.
    pub fn alive(&self) -> Vec<NodeId> {
        self.plan.node_ids().filter(|node| self.nodes[node.index()].is_alive()).collect()
    }

    /// The plan that is run.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    fn began_event(&self, about: About) -> Event {
        let plan = &self.plan;
        let program = |program: &Program| match program {
            Program::Role(role) => role.name().to_owned(),
            Program::Run { words, .. } => words.first().cloned().unwrap_or_default(),
        };
        let nodes = plan.nodes().iter().map(|node| NodeInfo {
            name: node.name.clone(),
            group: node.group.clone(),
            program: program(&node.program),
            addresses: node.interfaces.iter().map(|interface| interface.address.to_string()).collect(),
        });
        let networks = plan.networks().iter().map(|network| NetworkInfo {
            name: network.name.clone(),
            subnet: format!("{}/{}", network.subnet.base, network.subnet.prefix),
            medium: match network.medium {
                Medium::Bridge => "bridge",
                Medium::Relay => "relay",
                Medium::Netem => "netem",
            }
            .to_owned(),
            why: network.why.clone(),
        });
        Event::RunBegan {
            name: plan.name().to_owned(),
            file: about.file,
            seed: plan.seed(),
            engine: about.engine,
            version: about.version,
            unix_ms: about.unix_ms,
            timeout: plan.timeout(),
            nodes: nodes.collect(),
            networks: networks.collect(),
            faults: plan.events().iter().map(|event| event.label.clone()).collect(),
            expectations: plan.expectations().iter().map(|expectation| expectation.label.clone()).collect(),
            repeat: about.repeat,
        }
    }

    pub(crate) fn record(&mut self, now: Time, event: Event) {
        self.outputs.push_back(Output::Record(Record::new(now.since(self.began), event)));
    }

    pub(crate) fn name(&self, node: NodeId) -> String {
        self.plan.node(node).name.clone()
    }

    // Start order.

    pub(crate) fn begin_to_start(&mut self, now: Time) {
        self.stage = Stage::Running;
        self.start_those_that_can(now);
    }

    fn start_those_that_can(&mut self, now: Time) {
        for node in self.plan.node_ids() {
            let waits = &mut self.awaited[node.index()];
            waits.retain(|other| !self.nodes[other.index()].ready);
            if waits.is_empty() && self.nodes[node.index()].phase == Phase::Waiting {
                self.start(node);
            }
        }
        self.note_all_started(now);
    }

    pub(crate) fn start(&mut self, node: NodeId) {
        let incarnation = self.nodes[node.index()].start();
        self.outputs.push_back(Output::Start { node, incarnation });
    }

    pub(crate) fn note_all_started(&mut self, now: Time) {
        let waiting =
            |node: &Lifecycle| node.incarnation == 0 || node.incarnation == 1 && node.phase == Phase::Starting;
        if self.started.is_some() || self.nodes.iter().any(waiting) {
            return;
        }
        self.started = Some(now);
        self.record(now, Event::AllStarted);
        for (entry, event) in self.plan.events().iter().enumerate() {
            if let Trigger::At(after) = event.when {
                self.timers.set(Why::Fire(entry), now + after);
            }
        }
        // Progress that was made, and lines that were printed, while others were still starting count from here on.
        for node in self.plan.node_ids() {
            self.fire_by_progress(now, node);
        }
        for entry in self.schedule.fired_by_early_lines() {
            self.fire(now, entry);
        }
    }

    // What nodes tell.

    fn node_started(&mut self, now: Time, node: NodeId) {
        let lifecycle = &mut self.nodes[node.index()];
        if lifecycle.phase != Phase::Starting {
            return;
        }
        lifecycle.phase = Phase::Running;
        let incarnation = lifecycle.incarnation;
        let name = self.name(node);
        self.record(now, Event::NodeStarted { node: name, incarnation });
        self.note_all_started(now);
    }

    fn node_start_failed(&mut self, now: Time, node: NodeId, why: String) {
        let lifecycle = &mut self.nodes[node.index()];
        lifecycle.phase = Phase::Unstartable;
        let incarnation = lifecycle.incarnation;
        let name = self.name(node);
        self.failures.push(format!("{name}: {why}"));
        self.record(now, Event::NodeStartFailed { node: name, incarnation, why });
        self.conclude(now);
    }

    fn node_ready(&mut self, now: Time, node: NodeId) {
        let lifecycle = &mut self.nodes[node.index()];
        if lifecycle.ready || !lifecycle.is_alive() {
            return;
        }
        lifecycle.ready = true;
        let incarnation = lifecycle.incarnation;
        let name = self.name(node);
        self.record(now, Event::NodeReady { node: name, incarnation });
        if self.started.is_none() {
            self.start_those_that_can(now);
        }
        self.end_if_nothing_is_awaited(now);
    }

    fn node_reported(&mut self, now: Time, node: NodeId, report: NodeReport) {
        let lifecycle = &mut self.nodes[node.index()];
        let logged = match report {
            NodeReport::Progress { .. } => lifecycle.report_progress(now, report),
            _ => lifecycle.may_log_report(now).then_some(report),
        };
        if let Some(report) = logged {
            self.record_reports_left_out(now, node);
            self.record_report(now, node, report);
        }
        self.fire_by_progress(now, node);
    }

    fn record_report(&mut self, now: Time, node: NodeId, report: NodeReport) {
        let incarnation = self.nodes[node.index()].incarnation;
        let node = self.name(node);
        self.record(now, Event::NodeReported { node, incarnation, report });
    }

    fn record_reports_left_out(&mut self, now: Time, node: NodeId) {
        let count = std::mem::take(&mut self.nodes[node.index()].reports_left_out);
        if count > 0 {
            let incarnation = self.nodes[node.index()].incarnation;
            let node = self.name(node);
            self.record(now, Event::ReportsLeftOut { node, incarnation, count });
        }
    }

    pub(crate) fn record_held_back_progress(&mut self, now: Time, node: NodeId) {
        if let Some(report) = self.nodes[node.index()].take_unlogged() {
            self.record_report(now, node, report);
        }
    }

    fn fire_by_progress(&mut self, now: Time, node: NodeId) {
        let (Some(progress), Some(_), Stage::Running) = (self.nodes[node.index()].progress, self.started, self.stage)
        else {
            return;
        };
        for entry in self.schedule.fired_by_progress(node, progress) {
            self.record_held_back_progress(now, node);
            self.fire(now, entry);
        }
    }

    fn node_printed(&mut self, now: Time, node: NodeId, line: &str) {
        if self.ready_logs[node.index()].as_mut().is_some_and(|watch| watch.observe(line)) {
            self.node_ready(now, node);
        }
        let mut matched = Vec::new();
        for (expectation, watch) in self.plan.expectations().iter().zip(&mut self.watches) {
            if let Some(watch) = watch.as_mut().filter(|_| expectation.node == node)
                && watch.observe(line)
            {
                matched.push(watch.pattern().to_owned());
            }
        }
        for pattern in matched {
            let node = self.name(node);
            self.record(now, Event::OutputMatched { node, pattern, line: line.to_owned() });
        }
        if self.started.is_none() {
            self.schedule.note_early_line(node, line);
        } else if self.stage == Stage::Running {
            for entry in self.schedule.fired_by_line(node, line) {
                self.fire(now, entry);
            }
        }
        self.end_if_nothing_is_awaited(now);
    }

    fn node_exited(&mut self, now: Time, node: NodeId, status: ExitStatus) {
        if !self.nodes[node.index()].is_alive() {
            return;
        }
        self.record_held_back_progress(now, node);
        self.record_reports_left_out(now, node);
        let run_is_over = matches!(self.stage, Stage::Settling | Stage::Over) || self.interrupted;
        let lifecycle = &mut self.nodes[node.index()];
        let incarnation = lifecycle.incarnation;
        let was_ready = lifecycle.ready;
        let (cause, ending) = lifecycle.end(now, status, run_is_over);
        let revival = lifecycle.revival.take();
        let name = self.name(node);
        self.record(now, Event::NodeExited { node: name.clone(), incarnation, status, cause });
        if run_is_over {
            return;
        }
        if ending == Some(Ending::Crash) {
            self.outputs.push_back(Output::PurgeSockets { node });
        }
        if let Some(revival) = revival {
            self.revive(node, revival);
        } else if cause == EndCause::Own
            && !was_ready
            && self.plan.nodes().iter().any(|other| other.after.contains(&node))
        {
            self.failures.push(format!("{name}: {status} before it was ready"));
            self.conclude(now);
            return;
        }
        self.plan_what_follows_the_end_of(now, node);
        self.note_all_started(now);
        self.end_if_nothing_is_awaited(now);
    }
}

impl Machine for Scenario {
    type Input = Input;
    type Output = Output;
    type Why = Why;

    fn handle(&mut self, now: Time, input: Input) {
        match input {
            Input::Raised { took } if self.stage == Stage::Raising => {
                self.record(now, Event::FabricRaised { took });
                if self.calibrates {
                    self.stage = Stage::Calibrating;
                    self.outputs.push_back(Output::Calibrate);
                } else {
                    self.begin_to_start(now);
                }
            }
            Input::Raised { .. } => {}
            Input::Calibrated(calibration) if self.stage == Stage::Calibrating => self.calibrated(now, calibration),
            Input::Calibrated(_) => {}
            Input::RecordingBegan(links) => self.record(now, Event::RecordingBegan(*links)),
            Input::LinksChanged(changes) => {
                changes.into_iter().for_each(|change| self.record(now, Event::LinksChanged(change)));
            }
            Input::Started { node } => self.node_started(now, node),
            Input::StartFailed { node, why } => self.node_start_failed(now, node, why),
            Input::Ready { node } => self.node_ready(now, node),
            Input::Reported { node, report } => self.node_reported(now, node, report),
            Input::Printed { node, line } => self.node_printed(now, node, &line),
            Input::Exited { node, status } => {
                self.node_exited(now, node, status);
                if self.interrupted && self.stage == Stage::Settling && !self.nodes.iter().any(Lifecycle::is_alive) {
                    self.outputs.push_back(Output::Settle);
                }
            }
            Input::ActionFailed { node, why } => {
                self.failures.push(format!("{}: {why}", self.plan.node(node).name));
            }
            Input::NodeLost { node, why } => {
                self.invalidities.push(format!("{}: {why}", self.plan.node(node).name));
                self.nodes[node.index()].phase = Phase::Unstartable;
                self.conclude(now);
            }
            Input::FileCompared { expectation, finding } => {
                self.files[expectation] = Some(finding);
                self.decide_when_compared(now);
            }
            Input::Measured(measured) if self.stage == Stage::Settling => self.judge(now, measured),
            Input::Measured(_) => {}
            Input::Interrupted { signal } => self.interrupt(now, signal),
        }
    }

    fn advance(&mut self, now: Time) {
        while let Some((_, why)) = self.timers.pop(now) {
            match why {
                Why::Timeout => self.time_out(now),
                Why::Fire(entry) if !self.schedule.has_fired(entry) => self.fire(now, entry),
                Why::Fire(_) => {}
                Why::Undo(entry) => self.undo(now, entry),
            }
        }
    }

    fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    fn deadline(&self) -> Option<(Time, Why)> {
        self.timers.next()
    }
}
