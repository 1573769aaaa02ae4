//! The flow of data: what goes out when, and to whom.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;

use machine::{Span, Time};

use super::super::layout::Layout;
use super::super::ledger::{Cut, Ledger};
use super::super::member::{Member, Standing};
use super::super::packet::{DATA_HEADER, DataHeader, Poll};
use super::super::path::Sent;
use super::super::protocol::{SenderConfig, SenderOutput, SenderWhy, Train};
use super::super::rate::{Control, Group, of_group, straggling};
use super::super::tuning::{CATCH_UP, REPORTS_A_ROUND, REPORTS_A_SECOND, SAMPLE, SILENT, TRAIN};
use super::audience::{is_needed, open, pace_setters, patience, targets};
use super::demand;

/// Sends one session's data to all who are served together, or to one who is served alone: of the members that it is handed
/// only those count.
#[derive(Debug)]
pub(super) struct Flow {
    pub(super) layout: Arc<Layout>,
    is_alone: bool,
    /// Whether who lags should be served alone: where each gets copies of its own at a rate that is not given.
    parts: bool,
    ledger: Ledger,
    control: Control,
    group: Option<SocketAddr>,
    targets: Option<Arc<[SocketAddr]>>,
    longest_train: u16,
    /// Trains sent: the first number, how many packets, when and in which phase.
    log: VecDeque<(u64, u16, Sent)>,
    next_number: u64,
    /// When the next packet may go.
    pace_at: Time,
    /// When the paths were looked at last.
    surveyed: Option<Time>,
    /// Whether there is no room for more in flight.
    is_full: bool,
    /// Whether there was no room, or nothing to send, after the last packet.
    was_held_up: bool,
    /// What the ways of the receivers lose by themselves, in the mean; in a crowd the most that was measured is chance.
    mean_loss: f64,
    is_crowd: bool,
    /// Packets sent up to the last report of anybody.
    sent_at_report: u64,
    /// Who has been slower than the others for a while.
    laggard: Option<SocketAddr>,
    /// The last packet that asked for reports, and whose turn is next.
    polled: u64,
    turn: u16,
    /// When to ask for reports in vain waited for, and how long to wait after that.
    probe: Option<(Time, Span)>,
}

/// The most trains that are remembered; beyond, the oldest are forgotten and tell nothing of delays.
const LOG: usize = 1 << 16;
/// A report tells of what is in flight for so long, or two round trips.
const LATELY: Span = Span::from_millis(16);
/// Who is silent for longer than a busy machine keeps a program waiting is waited for by nobody.
const STARVED: Span = Span::from_millis(60);
/// Paths are looked at so often at most.
const SURVEY: Span = Span::from_millis(1);
/// Reports that are overdue are asked for after at least this, at most so seldom.
const LEAST_PROBE: Span = Span::from_millis(5);
const MOST_PROBE: Span = Span::from_millis(250);
/// A packet that a report does not tell of so long after two round trips is lost: queues may have grown since the last one.
const OVERDUE: Span = Span::from_millis(60);
/// Who takes less than this share of what the fastest does would hold it up, or lose what it does not take: it is served alone
/// after this time of it.
const LAGS: f64 = 0.75;
const PARTS_AFTER: Span = Span::from_millis(50);
/// More receivers than this are a crowd.
const CROWD: usize = 10;
/// So many short reports take the room of a full packet, and some to spare.
const REPORTS_A_PACKET: f64 = 5.0;
/// Packets between two polls.
const LEAST_POLL: u64 = 8;
const MOST_POLL: u64 = 512;

impl Flow {
    pub(super) fn new(
        now: Time,
        config: &SenderConfig,
        layout: Arc<Layout>,
        ledger: Ledger,
        group: Option<SocketAddr>,
    ) -> Self {
        let wire = f64::from(layout.payload()) + DATA_HEADER as f64 + f64::from(config.overhead);
        let fixed = config.rate.map(|rate| (rate.as_bits_per_sec() as f64 / 8.0 / wire).max(1.0));
        // A train of one call has at most 64 KiB with all headers.
        let fits = 65_000 / (usize::from(layout.payload()) + DATA_HEADER);
        Flow {
            layout,
            is_alone: false,
            parts: group.is_none() && fixed.is_none(),
            ledger,
            control: Control::new(now, fixed),
            group,
            targets: None,
            longest_train: config.longest_train.min(fits as u16).max(1),
            log: VecDeque::new(),
            next_number: 1,
            pace_at: now,
            surveyed: None,
            is_full: false,
            was_held_up: false,
            mean_loss: 0.0,
            is_crowd: false,
            sent_at_report: 0,
            laggard: None,
            polled: 0,
            turn: 0,
            probe: None,
        }
    }

    /// A flow for `member` alone, that goes on where this one is.
    pub(super) fn part(&self, now: Time, member: &Member) -> Self {
        let highest = member.highest();
        let in_flight = self.log.partition_point(|(first, count, _)| first + u64::from(*count) <= highest + 1);
        Flow {
            layout: Arc::clone(&self.layout),
            is_alone: true,
            parts: false,
            ledger: self.ledger.part(highest),
            control: Control::drained(now),
            log: self.log.range(in_flight.saturating_sub(1)..).copied().collect(),
            targets: None,
            surveyed: None,
            laggard: None,
            probe: None,
            ..*self
        }
    }

    /// Who should be served alone, if that was found out since the last call.
    pub(super) fn laggard(&mut self) -> Option<SocketAddr> {
        self.laggard.take()
    }

    pub(super) fn layout(&self) -> &Layout {
        &self.layout
    }

    pub(super) fn is_multicast(&self) -> bool {
        self.group.is_some()
    }

    /// Data packets sent.
    pub(super) fn sent(&self) -> u64 {
        self.next_number - 1
    }

    /// Packets a second.
    pub(super) fn rate(&self) -> f64 {
        self.control.rate()
    }

    pub(super) fn when_sent(&self, number: u64) -> Option<Sent> {
        let at = self.log.partition_point(|(first, _, _)| *first <= number).checked_sub(1)?;
        let (first, count, sent) = self.log[at];
        (number < first + u64::from(count)).then_some(sent)
    }

    /// The last packet that was sent by `at`; 0 if none was, or so long ago that it is forgotten.
    fn sent_by(&self, at: Time) -> u64 {
        let trains = self.log.partition_point(|(_, _, sent)| sent.at <= at);
        trains.checked_sub(1).map_or(0, |last| self.log[last].0 + u64::from(self.log[last].1) - 1)
    }

    /// Receivers came, went or moved.
    pub(super) fn forget_targets(&mut self) {
        self.targets = None;
    }

    /// A report of `members[index]` has come.
    pub(super) fn on_report(&mut self, now: Time, index: usize, members: &mut [Member]) {
        let member = &mut members[index];
        if member.standing == Standing::Open {
            if member.begins.is_none() {
                // What is in flight reaches it only if it listens already.
                let highest = member.highest();
                member.begins = Some(if highest > 0 { highest } else { self.sent() });
                member.advanced = now;
                self.targets = None;
            }
            if self.group.is_some() && member.is_reached_by_group && member.has_lost_group(now, self.sent(), SILENT) {
                member.is_reached_by_group = false;
                self.targets = None;
            }
            // What went out before it was there, it did not see; nor what should have come long before it reported.
            let round_trip = member.path.round_trip().unwrap_or(SILENT);
            let overdue = self.sent_by(now - round_trip * 2 - OVERDUE);
            let seen = member.highest().max(member.begins.unwrap_or(0)).max(overdue);
            member.flying = self.sent().saturating_sub(seen);
            self.sent_at_report = self.sent();
            if member.progressed == now {
                member.progressed_by = self.sent();
            }
            let loss = if self.is_crowd { self.mean_loss } else { member.path.loss() };
            demand::schedule(&mut self.ledger, &self.layout, member, seen, loss);
            // Nobody is given up for want of what was never sent to him.
            if !demand::was_served(&self.ledger, member) {
                member.progressed = now;
            }
        } else {
            self.targets = None;
        }
        self.survey(now, members);
        self.is_full = self.room(now, members) == 0;
        // One that says again what it said does not show that anything arrives.
        if members[index].advanced == now {
            self.probe = None;
        }
        self.arm_probe(now, members);
    }

    /// Sends what may go now.
    pub(super) fn send(&mut self, now: Time, members: &mut [Member], outputs: &mut VecDeque<SenderOutput>) {
        self.survey(now, members);
        let mut room = self.room(now, members);
        if self.was_held_up {
            // Only lateness is caught up with: what waited for room must not go out as a burst.
            self.pace_at = self.pace_at.max(now);
        }
        while self.pace_at <= now && room > 0 {
            let most = self.train_length().min(room.min(u64::from(u16::MAX)) as u16);
            let needed = |block| is_needed(&self.layout, self.is_alone, members, block);
            let Some(cut) = self.ledger.take(&self.layout, most, self.next_number, needed) else { break };
            room -= u64::from(cut.count);
            let poll = self.poll_after(cut.count, members);
            self.emit(now, cut, poll, members, outputs);
        }
        self.is_full = room == 0;
        self.was_held_up = self.is_full || self.ledger.is_idle();
        self.probe_if_due(now, members, outputs);
    }

    pub(super) fn deadline(&self) -> Option<(Time, SenderWhy)> {
        let has_work = !self.is_full && !self.ledger.is_idle();
        let pace = has_work.then_some((self.pace_at, SenderWhy::Pace));
        let probe = self.probe.map(|(at, _)| (at, SenderWhy::Probe));
        [pace, probe].into_iter().flatten().min_by_key(|(at, _)| *at)
    }

    fn emit(&mut self, now: Time, cut: Cut, poll: Poll, members: &[Member], outputs: &mut VecDeque<SenderOutput>) {
        let Cut { block, symbol, count } = cut;
        let to = self
            .targets
            .get_or_insert_with(|| targets(self.group, open(self.is_alone, members), self.next_number))
            .clone();
        let first = DataHeader { number: self.next_number, block, symbol, poll: Poll::Nobody };
        if self.log.len() == LOG {
            self.log.pop_front();
        }
        self.log.push_back((self.next_number, count, Sent { at: now, phase: self.control.phase() }));
        self.next_number += u64::from(count);
        let took = Span::from_secs_f64(f64::from(count) / self.control.rate());
        self.pace_at = self.pace_at.max(now - CATCH_UP) + took;
        self.probe = None;
        if !to.is_empty() {
            outputs.push_back(SenderOutput::Train(Train { to, first, count, poll }));
        }
    }

    /// How many packets go out back to back.
    fn train_length(&self) -> u16 {
        let packets = (self.control.rate() * TRAIN.as_secs_f64()).ceil();
        (packets as u16).clamp(1, self.longest_train)
    }

    /// How many packets more may be in flight: what the rate allows, and what the sockets of the slowest take.
    ///
    /// In flight is what was when those who were heard of late reported, and what went out since the last report of anyone:
    /// with many receivers each reports seldom, and what it said long ago says nothing of now.
    fn room(&self, now: Time, members: &[Member]) -> u64 {
        let patience = patience(members.len());
        let active = || pace_setters(now, patience, self.is_alone, members);
        // Whoever answers but sees nothing new does not hold up those who do.
        let advances = |member: &&Member| now.since(member.advanced) <= patience || member.highest() >= self.sent();
        let on_the_way = active().filter_map(|member| member.path.least_round_trip()).max().unwrap_or(Span::ZERO);
        let lately = |member: &&Member| now.since(member.heard) <= (on_the_way * 2).max(LATELY);
        let Some(window) = active().filter(advances).filter_map(|member| member.report.as_ref()?.window.into()).min()
        else {
            return 0;
        };
        let fresh = active().filter(advances).filter(lately).map(|member| member.flying).max();
        let flying = match fresh {
            Some(flying) => flying + self.sent().saturating_sub(self.sent_at_report),
            // Nobody was heard of late: it counts what each has seen.
            None => {
                let seen = |member: &Member| member.highest().max(member.begins.unwrap_or(0));
                let least = active().filter(advances).map(seen).max().unwrap_or(0);
                self.sent().saturating_sub(least)
            }
        };
        let capacity = self.control.capacity().unwrap_or(0.0);
        let held = f64::from(window.max(16)) + capacity * on_the_way.as_secs_f64();
        let limit = self.control.flight().map_or(held, |flight| flight.min(held)) as u64;
        let room = limit.saturating_sub(flying);
        if self.is_crowd {
            return room;
        }
        // Who is late to report is busy, or gets no processor: what its socket does not hold meanwhile is lost. In a crowd
        // each is asked so seldom that its last report is always old.
        let waited_for =
            active().filter(advances).filter(|member| now.since(member.heard) <= STARVED.max(on_the_way * 2));
        let left = waited_for.filter_map(|member| {
            let unseen = self.sent().saturating_sub(member.highest().max(member.begins.unwrap_or(0)));
            let way = capacity * member.path.round_trip().unwrap_or(Span::ZERO).max(on_the_way).as_secs_f64() * 2.0;
            Some((u64::from(member.report.as_ref()?.window.max(16)) + way as u64).saturating_sub(unseen))
        });
        left.min().map_or(room, |left| room.min(left))
    }

    /// Tells the rate what the paths say.
    fn survey(&mut self, now: Time, members: &mut [Member]) {
        if self.surveyed.is_some_and(|at| now.since(at) < SURVEY) {
            return;
        }
        self.surveyed = Some(now);
        let patience = patience(members.len());
        let is_alone = self.is_alone;
        let open = || open(is_alone, members).filter(|member| member.is_active(now, patience));
        let mut capacities: Vec<_> = open().filter_map(|member| member.path.capacity()).collect();
        let capacity = of_group(&mut capacities);
        // Who is far slower would hold up the others, and of whom nothing is known yet might.
        let straggles = straggling(&capacities);
        let is_known = capacities.len() * 2 >= open().count();
        let lags = capacities.last().map_or(0.0, |best| best * LAGS);
        for member in members.iter_mut().filter(|member| member.is_alone == is_alone) {
            let is_lagging = self.parts
                && member.is_active(now, patience)
                && member.path.capacity().is_some_and(|capacity| capacity < lags);
            member.lags_since = is_lagging.then(|| member.lags_since.unwrap_or(now));
            let round_trip = member.path.round_trip().unwrap_or(Span::ZERO);
            if member.lags_since.is_some_and(|since| now.since(since) >= PARTS_AFTER.max(round_trip * 2)) {
                self.laggard = Some(member.address);
            }
            let is_slow = member.path.capacity().is_some_and(|capacity| capacity < straggles);
            member.sets_pace = !is_slow && (!is_known || member.path.capacity().is_some());
            member.is_straggler = is_slow || member.path.arrived() < 0.5;
        }
        let active = || pace_setters(now, patience, self.is_alone, members);
        // A queue is what it is now: what was said of it long ago does not count.
        let fresh = active().filter(|member| now.since(member.heard) <= LATELY);
        let (mut queues, mut rising): (Vec<_>, Vec<_>) =
            fresh.map(|member| (member.path.queue(), member.path.rising())).unzip();
        queues.sort_unstable();
        rising.sort_unstable();
        let heard = queues.len();
        let heard_lately = active().filter(|member| now.since(member.heard) <= LATELY);
        let congestions = heard_lately.filter_map(|member| member.path.congestion());
        let congestions = congestions.filter(|congestion| now.since(congestion.told) <= LATELY);
        let (congested, sent_from) = congestions
            .fold((0, Time::ZERO), |(count, latest), congestion| (count + 1, latest.max(congestion.sent_from)));
        let group = Group {
            capacity,
            round_trip: active().filter_map(|member| member.path.least_round_trip()).max(),
            queue: queues.get(queues.len() / 2).copied().unwrap_or(Span::ZERO),
            rising: rising.get(rising.len() / 2).copied().unwrap_or(Span::ZERO),
            congested: (congested > 0 && congested * 2 >= heard).then_some(sent_from),
        };
        let losses: f64 = active().map(|member| member.path.loss()).sum();
        let count = active().count();
        (self.mean_loss, self.is_crowd) = (losses / count.max(1) as f64, count > CROWD);
        let arrived = active().map(Member::highest).min().unwrap_or(0);
        self.control.update(now, group, self.sent(), arrived);
        self.targets = None;
    }

    /// Whom the packet `count` from now asks for a report.
    fn poll_after(&mut self, count: u16, members: &[Member]) -> Poll {
        let last = self.next_number + u64::from(count) - 1;
        let round_trip = self.round_trip(members);
        // Where little may be in flight, what may be is a round: nothing would ask for the report that makes room.
        let a_round = self.control.rate() * round_trip.max(SAMPLE).as_secs_f64();
        let a_round = self.control.flight().map_or(a_round, |flight| flight.min(a_round));
        let every = ((a_round / REPORTS_A_ROUND as f64) as u64).clamp(LEAST_POLL, MOST_POLL);
        let is_last = self.ledger.is_idle();
        if last - self.polled < every && !is_last {
            return Poll::Nobody;
        }
        self.polled = last;
        let pause = if is_last { round_trip.max(LEAST_PROBE) } else { Span::from_secs_f64(every as f64 / self.rate()) };
        self.ask(pause, members)
    }

    /// Asks as many receivers as may answer in `pause`, in turn.
    fn ask(&mut self, pause: Span, members: &[Member]) -> Poll {
        let open = open(self.is_alone, members).count() as u64;
        let mut a_second = REPORTS_A_SECOND as f64;
        if self.ledger.is_idle() {
            // Nothing else is going on, and each round of questions costs a round trip: as many bytes as data have.
            a_second = a_second.max(self.control.rate() * REPORTS_A_PACKET);
        }
        let may_answer = ((a_second * pause.as_secs_f64()) as u64).max(4);
        let mut bits = 0;
        while bits < Poll::MOST_BITS && open >> bits > may_answer {
            bits += 1;
        }
        self.turn = self.turn.wrapping_add(1);
        Poll::Slot { bits, slot: self.turn & ((1 << bits) - 1) }
    }

    /// When nothing is going out and reports are overdue, one more symbol asks for them.
    fn probe_if_due(&mut self, now: Time, members: &mut [Member], outputs: &mut VecDeque<SenderOutput>) {
        self.arm_probe(now, members);
        let gap = match self.probe {
            Some((at, gap)) if at <= now => (gap * 2).min(MOST_PROBE),
            _ => return,
        };
        let needed = |block| is_needed(&self.layout, self.is_alone, members, block);
        let cut = match self.ledger.take(&self.layout, 1, self.next_number, needed) {
            Some(cut) => Some(cut),
            None => self.first_lack(members).and_then(|block| {
                let block = self.layout.block(block)?;
                self.ledger.schedule(&block, 1, false);
                self.ledger.take(&self.layout, 1, self.next_number, |_| false)
            }),
        };
        if let Some(cut) = cut {
            let poll = self.ask(gap, members);
            self.emit(now, cut, poll, members, outputs);
        }
        self.probe = Some((now + gap, gap));
    }

    /// Waits for reports if there is nothing else to do, and no longer if there is.
    fn arm_probe(&mut self, now: Time, members: &[Member]) {
        let waits = open(self.is_alone, members).next().is_some();
        if !waits || (!self.is_full && !self.ledger.is_idle()) {
            self.probe = None;
        } else if self.probe.is_none() {
            let gap = (self.round_trip(members) * 2).max(LEAST_PROBE);
            self.probe = Some((now + gap, gap));
        }
    }

    /// A block that somebody lacks; each turn somebody else's.
    fn first_lack(&self, members: &[Member]) -> Option<u32> {
        let open = || open(self.is_alone, members);
        let lacks = |member: &Member| member.report.as_ref()?.runs.first().map(|run| run.first);
        let count = open().count().max(1);
        open().cycle().skip(usize::from(self.turn) % count).take(count).find_map(lacks)
    }

    fn round_trip(&self, members: &[Member]) -> Span {
        let open = || open(self.is_alone, members);
        let of = |member: &Member| member.path.round_trip();
        let paced = open().filter(|member| member.sets_pace).filter_map(of).max();
        paced.or_else(|| open().filter_map(of).max()).unwrap_or(SILENT / 4)
    }
}
