//! How a run ends: by itself, by its wall limit, by somebody; and what the verdict is.

use std::collections::BTreeSet;

use event::{EndCause, Event, Record, Verdict};
use machine::{Span, Time, Timers};
use topology::plan::{Expected, NodeId};

use crate::expectation::{self, Evidence};
use crate::lifecycle::{Lifecycle, Phase};
use crate::scenario::{Scenario, Stage};
use crate::vocabulary::{Measurements, Output};

/// An interrupted run does not wait longer than this for its programs, whatever their grace.
const LONGEST_GRACE_WHEN_INTERRUPTED: Span = Span::from_secs(3);

impl Scenario {
    pub(crate) fn end_if_nothing_is_awaited(&mut self, now: Time) {
        if self.stage != Stage::Running || self.started.is_none() {
            return;
        }
        let awaited = |expectation: &&topology::plan::Expectation| expectation::awaits_exit(&expectation.what);
        let mut awaited =
            self.plan.expectations().iter().filter(awaited).map(|expectation| expectation.node).peekable();
        let over = if awaited.peek().is_some() {
            awaited.all(|node| self.has_ended_for_good(node))
        } else {
            // What a fault is ending has not ended yet, though the fault has fired.
            self.nodes.iter().all(|node| (node.ready || !node.is_alive()) && !node.is_being_ended())
                && self.schedule.is_over(&self.plan)
                && self.everything_awaited_was_printed()
        };
        if over {
            self.conclude(now);
        }
    }

    fn has_ended_for_good(&self, node: NodeId) -> bool {
        let lifecycle = &self.nodes[node.index()];
        match lifecycle.phase {
            Phase::Ended(_, EndCause::Own) | Phase::Unstartable => lifecycle.revival.is_none(),
            Phase::Ended(..) => lifecycle.revival.is_none() && !self.schedule.may_revive(&self.plan, node),
            _ => false,
        }
    }

    fn everything_awaited_was_printed(&self) -> bool {
        let mut watched = self.plan.expectations().iter().zip(&self.watches);
        watched.all(|(expectation, watch)| match (&expectation.what, watch) {
            (Expected::Prints(_), Some(watch)) => watch.has_matched(),
            _ => true,
        })
    }

    /// Nothing more happens to the nodes: what is left is to compare, to measure and to judge.
    pub(crate) fn conclude(&mut self, now: Time) {
        if self.stage != Stage::Running {
            return;
        }
        self.stage = Stage::Comparing;
        self.ended = Some(now);
        self.timers = Timers::default();
        for node in self.plan.node_ids() {
            self.record_held_back_progress(now, node);
        }
        for (index, expectation) in self.plan.expectations().iter().enumerate() {
            if let Expected::File { out, file } = &expectation.what {
                let (node, out, file) = (expectation.node, out.clone(), *file);
                self.outputs.push_back(Output::CompareFile { expectation: index, node, out, file });
            }
        }
        self.decide_when_compared(now);
    }

    pub(crate) fn decide_when_compared(&mut self, now: Time) {
        let mut compared = self.plan.expectations().iter().zip(&self.files);
        let all =
            compared.all(|(expectation, file)| file.is_some() || !matches!(expectation.what, Expected::File { .. }));
        if self.stage != Stage::Comparing || !all {
            return;
        }
        for (index, expectation) in self.plan.expectations().iter().enumerate() {
            let finding = expectation::decide(
                expectation,
                &Evidence {
                    node: &self.nodes[expectation.node.index()],
                    started: self.started,
                    watch: self.watches[index].as_ref(),
                    file: self.files[index].as_ref(),
                },
            );
            if !finding.held {
                self.failures.push(format!("{}, found {}", expectation.label, finding.found));
            }
            let (label, held, found) = (expectation.label.clone(), finding.held, finding.found);
            let event = Event::ExpectationChecked { expectation: index, label, held, found };
            self.outputs.push_back(Output::Record(Record::new(now.since(self.began), event)));
        }
        for (entry, what) in self.schedule.shortcomings(&self.plan) {
            self.failures.push(format!("`{}` {what}", self.plan.events()[entry].label));
        }
        self.settle();
    }

    pub(crate) fn settle(&mut self) {
        self.stage = Stage::Settling;
        self.outputs.push_back(Output::Settle);
    }

    pub(crate) fn interrupt(&mut self, now: Time, signal: String) {
        if self.interrupted || matches!(self.stage, Stage::Settling | Stage::Over) {
            return;
        }
        self.interrupted = true;
        self.timers = Timers::default();
        self.ended = Some(now);
        self.record(now, Event::InterruptReceived { signal });
        for node in self.plan.node_ids() {
            let grace = self.plan.node(node).stop_grace.min(LONGEST_GRACE_WHEN_INTERRUPTED);
            if self.nodes[node.index()].is_alive() {
                self.outputs.push_back(Output::Stop { node, grace });
            }
        }
        self.stage = Stage::Settling;
        if !self.nodes.iter().any(Lifecycle::is_alive) {
            self.outputs.push_back(Output::Settle);
        }
    }

    pub(crate) fn time_out(&mut self, now: Time) {
        let unended: Vec<String> = self
            .plan
            .expectations()
            .iter()
            .filter(|expectation| expectation::awaits_exit(&expectation.what))
            .map(|expectation| expectation.node)
            .filter(|node| !self.has_ended_for_good(*node))
            .collect::<BTreeSet<_>>()
            .into_iter()
            .map(|node| {
                format!("{} is {}", self.plan.node(node).name, expectation::phase_in_words(&self.nodes[node.index()]))
            })
            .collect();
        let timeout = self.plan.timeout();
        self.failures.push(match unended.as_slice() {
            [] => format!("timeout: {timeout} passed"),
            _ => format!("timeout: {timeout} passed; {}", unended.join(", ")),
        });
        if matches!(self.stage, Stage::Raising | Stage::Calibrating) {
            self.stage = Stage::Running;
        }
        self.conclude(now);
    }

    pub(crate) fn judge(&mut self, now: Time, measured: Measurements) {
        for link in measured.links {
            self.record(now, Event::LinkCounted(link));
        }
        if let Some(recording) = measured.recording {
            self.record(now, Event::PacketsRecorded(recording));
        }
        for (of, lag) in measured.lags {
            self.record(now, Event::LagMeasured { of, lag });
        }
        self.invalidities.extend(measured.invalidities);
        let (verdict, causes) = if self.interrupted {
            (Verdict::Interrupted, vec!["interrupted".to_owned()])
        } else if !self.invalidities.is_empty() {
            let mut causes = std::mem::take(&mut self.invalidities);
            causes.append(&mut self.failures);
            (Verdict::Invalid, causes)
        } else if !self.failures.is_empty() {
            (Verdict::Fail, std::mem::take(&mut self.failures))
        } else {
            (Verdict::Pass, Vec::new())
        };
        let took = self.ended.unwrap_or(now).since(self.started.unwrap_or(self.began));
        self.record(now, Event::RunEnded { verdict, causes, took });
        self.stage = Stage::Over;
        self.outputs.push_back(Output::Finished(verdict));
    }
}
