//! Who is served together, and who by itself.
//!
//! One flow serves all. Where each gets copies of its own anyway, who is much slower than others gets a flow of its own: at a
//! rate of its own, of what it lacks. Its packets are numbered on from those that it has been sent before.

use std::collections::VecDeque;
use std::net::SocketAddr;

use machine::Time;

use super::super::layout::{Layout, MOST_BLOCKS};
use super::super::member::{Member, Standing};
use super::super::path::Sent;
use super::super::protocol::{SenderOutput, SenderWhy};
use super::flow::Flow;

/// All flows of a session.
#[derive(Debug)]
pub(super) struct Fan {
    common: Flow,
    /// Whom each serves, and how many packets of the common flow it went on from.
    alone: Vec<(usize, u64, Flow)>,
    /// Packets of flows that are over.
    sent_before: u64,
}

/// Each flow looks at its receiver every millisecond, and has an account of every block.
const MOST_ALONE: usize = 64;

impl Fan {
    pub(super) fn new(common: Flow) -> Self {
        Fan { common, alone: Vec::new(), sent_before: 0 }
    }

    pub(super) fn layout(&self) -> &Layout {
        self.common.layout()
    }

    pub(super) fn is_multicast(&self) -> bool {
        self.common.is_multicast()
    }

    /// Data packets sent.
    pub(super) fn sent(&self) -> u64 {
        let alone = self.alone.iter().map(|(_, before, flow)| flow.sent() - before);
        self.common.sent() + self.sent_before + alone.sum::<u64>()
    }

    /// Packets a second of the common flow.
    pub(super) fn rate(&self) -> f64 {
        self.common.rate()
    }

    /// When the packet was sent to the receiver.
    pub(super) fn when_sent(&self, index: usize, number: u64) -> Option<Sent> {
        let alone = self.alone.iter().find(|(whom, ..)| *whom == index);
        alone.map_or(&self.common, |(_, _, flow)| flow).when_sent(number)
    }

    pub(super) fn forget_targets(&mut self) {
        self.common.forget_targets();
        self.alone.iter_mut().for_each(|(_, _, flow)| flow.forget_targets());
    }

    /// A report of `members[index]` has come.
    pub(super) fn on_report(&mut self, now: Time, index: usize, members: &mut [Member]) {
        match self.alone.iter_mut().find(|(whom, ..)| *whom == index) {
            Some((_, _, flow)) => flow.on_report(now, 0, &mut members[index..=index]),
            None => self.common.on_report(now, index, members),
        }
    }

    /// Sends what may go now.
    pub(super) fn send(&mut self, now: Time, members: &mut [Member], outputs: &mut VecDeque<SenderOutput>) {
        self.end(members);
        self.common.send(now, members, outputs);
        if let Some(laggard) = self.common.laggard() {
            self.part(now, laggard, members);
        }
        for (whom, _, flow) in &mut self.alone {
            flow.send(now, &mut members[*whom..=*whom], outputs);
        }
    }

    pub(super) fn deadline(&self) -> Option<(Time, SenderWhy)> {
        let alone = self.alone.iter().filter_map(|(_, _, flow)| flow.deadline());
        alone.chain(self.common.deadline()).min_by_key(|(at, _)| *at)
    }

    /// Gives the receiver at `address` a flow of its own.
    fn part(&mut self, now: Time, address: SocketAddr, members: &mut [Member]) {
        let blocks = self.layout().blocks() as usize;
        if self.alone.len() >= MOST_ALONE || (self.alone.len() + 1) * blocks > MOST_BLOCKS as usize {
            return;
        }
        let is_it = |member: &Member| member.address == address && member.standing == Standing::Open;
        let Some(index) = members.iter().position(is_it) else { return };
        members[index].is_alone = true;
        self.alone.push((index, self.common.sent(), self.common.part(now, &members[index])));
        self.common.forget_targets();
    }

    /// Ends the flows of those who need nothing more.
    fn end(&mut self, members: &mut [Member]) {
        let sent_before = &mut self.sent_before;
        self.alone.retain(|(whom, before, flow)| {
            let is_over = members[*whom].is_settled();
            if is_over {
                members[*whom].packets = flow.sent();
                *sent_before += flow.sent() - before;
            }
            !is_over
        });
    }

    /// Notes how many packets each was sent.
    pub(super) fn count(&self, members: &mut [Member]) {
        members.iter_mut().filter(|member| !member.is_alone).for_each(|member| member.packets = self.common.sent());
        self.alone.iter().for_each(|(whom, _, flow)| members[*whom].packets = flow.sent());
    }
}
