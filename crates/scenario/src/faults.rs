//! Firing the entries of `events:`, and undoing them.

use event::Event;
use machine::Time;
use topology::plan::{Action, EventId, NodeId, Trigger};

use crate::expectation;
use crate::lifecycle::{Ending, Phase, Revival};
use crate::scenario::{Scenario, Stage};
use crate::vocabulary::{Output, Why};

impl Scenario {
    pub(crate) fn fire(&mut self, now: Time, entry: usize) {
        if self.stage != Stage::Running || !self.schedule.fire(entry, now) {
            return;
        }
        let event = self.plan.events()[entry].clone();
        self.record(now, Event::FaultFired { entry, label: event.label.clone() });
        let refusals = self.act(now, entry, &event.action);
        if let Some(why) = refusals {
            self.schedule.fail(entry);
            self.record(now, Event::FaultFailed { entry, label: event.label, why });
        }
        if let Some(lasts) = event.lasts {
            self.timers.set(Why::Undo(entry), now + lasts);
        }
        let ending: Vec<NodeId> = match &event.action {
            Action::Kill(nodes) | Action::Crash(nodes) | Action::Stop(nodes) | Action::Restart(nodes) => {
                let is_ending = |node: &&NodeId| self.nodes[node.index()].is_being_ended();
                nodes.iter().filter(is_ending).copied().collect()
            }
            _ => Vec::new(),
        };
        if ending.is_empty() {
            self.plan_next(now, entry);
        } else {
            self.ending.push((entry, ending));
        }
        self.end_if_nothing_is_awaited(now);
    }

    /// Plans the entry below one that is carried out, if its trigger is `after:`.
    fn plan_next(&mut self, now: Time, entry: usize) {
        if let Some(Trigger::AfterPrevious(after)) = self.plan.events().get(entry + 1).map(|next| &next.when) {
            self.timers.set(Why::Fire(entry + 1), now + *after);
        }
    }

    /// A program has ended: to end it is carried out now, and not when that was begun. A busy machine may take its time.
    pub(crate) fn plan_what_follows_the_end_of(&mut self, now: Time, node: NodeId) {
        for (_, ending) in &mut self.ending {
            ending.retain(|other| *other != node);
        }
        let over: Vec<usize> =
            self.ending.extract_if(.., |(_, ending)| ending.is_empty()).map(|(entry, _)| entry).collect();
        over.into_iter().for_each(|entry| self.plan_next(now, entry));
    }

    /// Carries out an action; why it could not be, for the first node where it could not.
    fn act(&mut self, now: Time, entry: usize, action: &Action) -> Option<String> {
        match action {
            Action::Kill(nodes) => self.each(nodes, |scenario, node| scenario.end_program(node, Ending::Kill)),
            Action::Crash(nodes) => self.each(nodes, |scenario, node| scenario.end_program(node, Ending::Crash)),
            Action::Stop(nodes) => self.each(nodes, |scenario, node| scenario.end_program(node, Ending::Stop)),
            Action::Restart(nodes) => self.each(nodes, |scenario, node| {
                scenario.end_program(node, Ending::Stop)?;
                scenario.nodes[node.index()].revival = Some(Revival { wipe: false });
                Ok(())
            }),
            Action::Revive { nodes, wipe } => {
                self.each(nodes, |scenario, node| scenario.revive_when_ended(node, Revival { wipe: *wipe }))
            }
            Action::Pause(nodes) => self.each(nodes, |scenario, node| scenario.pause(now, node)),
            Action::Resume(nodes) => self.each(nodes, |scenario, node| scenario.resume(now, node)),
            Action::Signal(nodes, number) => self.each(nodes, |scenario, node| {
                scenario.must_run(node)?;
                scenario.outputs.push_back(Output::Signal { node, number: *number });
                Ok(())
            }),
            Action::SetLink { profiles, .. } => {
                let id = self.event_id(entry);
                for (node, interface, _) in profiles {
                    self.link_changes[node.index()][*interface].push(id);
                    self.apply_link(*node, *interface);
                }
                None
            }
            Action::Partition(lists) => {
                self.outputs.push_back(Output::Partition { key: entry, lists: lists.clone() });
                None
            }
        }
    }

    fn each(
        &mut self,
        nodes: &[NodeId],
        mut action: impl FnMut(&mut Self, NodeId) -> Result<(), String>,
    ) -> Option<String> {
        let mut refusals = Vec::new();
        for node in nodes {
            refusals.extend(action(self, *node).err());
        }
        (!refusals.is_empty()).then(|| refusals.join("; "))
    }

    fn must_run(&self, node: NodeId) -> Result<(), String> {
        let lifecycle = &self.nodes[node.index()];
        if lifecycle.can_be_ended() {
            return Ok(());
        }
        Err(format!("{} does not run: {}", self.plan.node(node).name, expectation::phase_in_words(lifecycle)))
    }

    fn end_program(&mut self, node: NodeId, ending: Ending) -> Result<(), String> {
        self.must_run(node)?;
        self.nodes[node.index()].begin_ending(ending);
        match ending {
            Ending::Kill => self.outputs.push_back(Output::Kill { node }),
            Ending::Crash => {
                self.nodes[node.index()].cut = true;
                self.outputs.extend([Output::Cut { node }, Output::Kill { node }]);
            }
            Ending::Stop => {
                let grace = self.plan.node(node).stop_grace;
                self.outputs.push_back(Output::Stop { node, grace });
            }
        }
        Ok(())
    }

    fn revive_when_ended(&mut self, node: NodeId, revival: Revival) -> Result<(), String> {
        let lifecycle = &mut self.nodes[node.index()];
        if lifecycle.can_be_ended() {
            return Err(format!("{} already runs", self.plan.node(node).name));
        }
        if lifecycle.is_alive() {
            lifecycle.revival = Some(revival);
        } else {
            self.revive(node, revival);
        }
        Ok(())
    }

    pub(crate) fn revive(&mut self, node: NodeId, revival: Revival) {
        if revival.wipe {
            self.outputs.push_back(Output::Wipe { node });
        }
        if std::mem::take(&mut self.nodes[node.index()].cut) {
            self.outputs.push_back(Output::Restore { node });
        }
        self.start(node);
    }

    fn pause(&mut self, now: Time, node: NodeId) -> Result<(), String> {
        self.must_run(node)?;
        self.nodes[node.index()].phase = Phase::Paused;
        self.outputs.push_back(Output::Pause { node });
        let name = self.name(node);
        self.record(now, Event::NodePaused { node: name });
        Ok(())
    }

    fn resume(&mut self, now: Time, node: NodeId) -> Result<(), String> {
        let lifecycle = &mut self.nodes[node.index()];
        if lifecycle.phase != Phase::Paused {
            return Err(format!("{} is not paused", self.plan.node(node).name));
        }
        lifecycle.phase = Phase::Running;
        self.outputs.push_back(Output::Resume { node });
        let name = self.name(node);
        self.record(now, Event::NodeResumed { node: name });
        Ok(())
    }

    fn apply_link(&mut self, node: NodeId, interface: usize) {
        let active = self.link_changes[node.index()][interface].iter().copied();
        let profile = self.plan.link_during(node, interface, active);
        self.outputs.push_back(Output::SetLink { node, interface, profile });
    }

    fn event_id(&self, entry: usize) -> EventId {
        self.plan.event_ids().nth(entry).expect("an entry's position lies in the plan")
    }

    pub(crate) fn undo(&mut self, now: Time, entry: usize) {
        if self.stage != Stage::Running {
            return;
        }
        let event = self.plan.events()[entry].clone();
        self.schedule.undo(entry);
        self.record(now, Event::FaultUndone { entry, label: event.label });
        // What somebody else has undone meanwhile needs no undoing: a revived node is not revived twice.
        match &event.action {
            Action::Kill(nodes) | Action::Crash(nodes) | Action::Stop(nodes) => {
                for node in nodes {
                    let _already_runs = self.revive_when_ended(*node, Revival { wipe: false });
                }
            }
            Action::Pause(nodes) => {
                for node in nodes {
                    let _not_paused = self.resume(now, *node);
                }
            }
            Action::SetLink { profiles, .. } => {
                let id = self.event_id(entry);
                for (node, interface, _) in profiles {
                    self.link_changes[node.index()][*interface].retain(|active| *active != id);
                    self.apply_link(*node, *interface);
                }
            }
            Action::Partition(_) => self.outputs.push_back(Output::Heal { key: entry }),
            Action::Resume(_) | Action::Restart(_) | Action::Signal(..) | Action::Revive { .. } => {}
        }
        self.end_if_nothing_is_awaited(now);
    }
}
