//! The sending machine: one session.

mod announce;
mod audience;
mod demand;
mod fan;
mod flow;

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;

use machine::{Machine, Span, Time};

use self::fan::Fan;
use self::flow::Flow;
use super::layout::Layout;
use super::ledger::Ledger;
use super::manifest::Manifest;
use super::member::{Member, Standing};
use super::packet::{MemberId, Packet, Release, SessionId};
use super::protocol::{SenderConfig, SenderInput, SenderOutput, SenderWhy};
use super::report::Report;
use super::tuning::{MOST_RECEIVERS, OPENING, SILENT};

/// Sends files to many receivers.
///
/// First it *gathers*: it announces the session to everyone it expects, in datagrams of several sizes, alone and to the
/// group; who answers has joined. Then it fixes the size of symbols and waits a moment until receivers have *opened* their
/// files and told what they have already. Then it *sends*: all originals once, and whatever reports show to be missing.
/// Receivers may come, go and come back at any time; nobody is waited for who does not answer.
///
/// It ends when each receiver has everything, has failed, or was given up.
#[derive(Debug)]
pub struct Sender {
    config: SenderConfig,
    manifest: Manifest,
    members: Vec<Member>,
    by_id: BTreeMap<MemberId, usize>,
    by_address: BTreeMap<SocketAddr, usize>,
    stage: Stage,
    began: Time,
    announced_to_group: Option<Time>,
    /// Whether somebody has begun to listen to the group since then.
    group_is_new: bool,
    /// When the next announcement to somebody by himself may go.
    announce_from: Time,
    outputs: VecDeque<SenderOutput>,
}

#[derive(Debug)]
enum Stage {
    Gathering,
    Opening {
        layout: Arc<Layout>,
        by_multicast: bool,
        until: Time,
    },
    Sending(Box<Fan>),
    /// Everybody is settled; answers those who have not heard of it.
    Lingering {
        until: Time,
        packets: u64,
    },
    Finished {
        packets: u64,
    },
}

/// How long a sender goes on answering when it is done, at least.
const LINGER: Span = Span::from_millis(60);

/// Why somebody is not served any more who has said too many things that cannot all be true.
const CONTRADICTS: &str = "it contradicts itself again and again";

/// No way takes longer; whoever claims so must not make others wait for it.
const LONGEST_ROUND_TRIP: Span = Span::from_secs(5);

impl Sender {
    /// A sender that begins now.
    pub fn new(now: Time, mut config: SenderConfig) -> Self {
        // A group of one only makes copies for switches to drop.
        if config.receivers.len() < 2 {
            config.group = None;
        }
        let mut members: Vec<Member> = Vec::new();
        let mut by_address = BTreeMap::new();
        for address in config.receivers.iter().take(MOST_RECEIVERS) {
            by_address.entry(*address).or_insert(members.len());
            members.push(Member::new(now, *address));
        }
        Sender {
            manifest: config.manifest.clone(),
            config,
            members,
            by_id: BTreeMap::new(),
            by_address,
            stage: Stage::Gathering,
            began: now,
            announced_to_group: None,
            group_is_new: false,
            announce_from: now,
            outputs: VecDeque::new(),
        }
    }

    /// The receivers, in the order of the configuration.
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// Original symbols of all files; 0 before the size of symbols is known.
    pub fn symbols(&self) -> u64 {
        match &self.stage {
            Stage::Opening { layout, .. } => layout.symbols(),
            Stage::Sending(fan) => fan.layout().symbols(),
            _ => 0,
        }
    }

    /// Data packets sent so far; one that went to several as a copy each counts once.
    pub fn packets(&self) -> u64 {
        match &self.stage {
            Stage::Sending(fan) => fan.sent(),
            Stage::Lingering { packets, .. } | Stage::Finished { packets } => *packets,
            Stage::Gathering | Stage::Opening { .. } => 0,
        }
    }

    /// Packets a second at which data go out now.
    pub fn rate(&self) -> f64 {
        match &self.stage {
            Stage::Sending(fan) => fan.rate(),
            _ => 0.0,
        }
    }

    fn report(&mut self, now: Time, from: SocketAddr, session: SessionId, report: Report) {
        if session != self.config.session {
            return;
        }
        let Some(index) = self.find(now, from, report.member) else { return };
        if self.members[index].is_settled() {
            return self.release(index);
        }
        if !self.members[index].is_news(&report) {
            return;
        }
        // Nobody has more than there is.
        let report = Report { symbols: report.symbols.min(self.symbols()), ..report };
        let sent = match &self.stage {
            Stage::Sending(fan) => fan.when_sent(index, report.highest),
            _ => None,
        };
        let member = &mut self.members[index];
        if member.path.round_trip().is_none() {
            let stamp = (now.as_nanos() / 1000) as u32;
            let round_trip = stamp.wrapping_sub(report.echo_us).saturating_sub(report.echo_held_us);
            member.path.on_echo(now, Span::from_micros(u64::from(round_trip.max(1))).min(LONGEST_ROUND_TRIP));
        }
        let (is_open, is_complete, failure) = (report.is_open, report.is_complete, report.failure.clone());
        let lacks_digests = report.lacks_digests;
        member.take(now, report, sent);
        let was_expected = member.standing == Standing::Expected;
        if was_expected {
            // It listens to the group now: the group's next announcement tells whether it hears it.
            self.group_is_new = true;
            self.outputs.push_back(SenderOutput::Joined { receiver: index });
        }
        let failure = failure.or_else(|| member.contradicts_itself().then(|| CONTRADICTS.to_owned()));
        member.standing = match failure {
            Some(why) => {
                self.outputs.push_back(SenderOutput::Failed { receiver: index, why: why.clone() });
                Standing::Failed(why)
            }
            None if is_complete => {
                self.outputs.push_back(SenderOutput::Completed { receiver: index });
                Standing::Complete
            }
            None if is_open && !matches!(self.stage, Stage::Gathering) => Standing::Open,
            None => Standing::Joined,
        };
        if self.members[index].is_settled() {
            self.release(index);
        }
        if lacks_digests {
            self.tell_digests(now, index);
        }
        if let Stage::Sending(fan) = &mut self.stage {
            fan.on_report(now, index, &mut self.members);
        }
        self.proceed(now);
    }

    /// The receiver that a report is from. One that has moved is known by its number, one that came without it by its
    /// address.
    fn find(&mut self, now: Time, from: SocketAddr, id: MemberId) -> Option<usize> {
        if let Some(index) = self.by_id.get(&id).copied() {
            self.move_to(index, from);
            return Some(index);
        }
        // Nobody knows of strangers: a session is for those whom its user named. On a host of whose receiver nothing is
        // heard, it may have been started again, with nothing left and at another port.
        let on_host = |member: &Member| {
            let is_gone = member.id.is_none() || (!member.is_settled() && now.since(member.heard) > SILENT);
            is_gone && member.address.ip() == from.ip()
        };
        let index = self.by_address.get(&from).copied().or_else(|| self.members.iter().position(on_host))?;
        let member = &mut self.members[index];
        if let Some(former) = member.id.replace(id) {
            // Another one in its place: it has nothing of what that had.
            self.by_id.remove(&former);
            member.begin_anew();
        }
        self.move_to(index, from);
        self.by_id.insert(id, index);
        Some(index)
    }

    /// The receiver is now at `address`.
    fn move_to(&mut self, index: usize, address: SocketAddr) {
        let member = &mut self.members[index];
        if member.address == address {
            return;
        }
        self.by_address.remove(&member.address);
        member.address = address;
        self.by_address.insert(address, index);
        if let Stage::Sending(fan) = &mut self.stage {
            fan.forget_targets();
        }
    }

    fn release(&mut self, index: usize) {
        let member = &self.members[index];
        let Some(id) = member.id else { return };
        let release = Release { member: id, is_complete: member.standing == Standing::Complete };
        let bytes = Packet::Release(release).to_bytes(self.config.session);
        self.outputs.push_back(SenderOutput::Datagram { to: member.address, bytes });
    }

    /// Goes to the next stage if its time has come.
    fn proceed(&mut self, now: Time) {
        match &self.stage {
            Stage::Gathering if self.has_gathered(now) => self.fix_layout(now),
            Stage::Opening { until, .. } => {
                let waits = |member: &Member| member.standing == Standing::Joined;
                if *until <= now || !self.members.iter().any(waits) {
                    self.begin_sending(now);
                }
            }
            _ => {}
        }
        let is_over = self.members.iter().all(Member::is_settled);
        if is_over && !matches!(self.stage, Stage::Lingering { .. } | Stage::Finished { .. }) {
            // Whoever was given up is waited for by nobody, whatever it had said of its way.
            let complete = self.members.iter().filter(|member| member.standing == Standing::Complete);
            let slowest = complete.filter_map(|member| member.path.round_trip()).max();
            let until = now + LINGER.max(slowest.unwrap_or(Span::ZERO) * 2);
            if let Stage::Sending(fan) = &self.stage {
                fan.count(&mut self.members);
            }
            self.stage = Stage::Lingering { until, packets: self.packets() };
        }
    }

    fn begin_sending(&mut self, now: Time) {
        let Stage::Opening { layout, by_multicast, .. } = &self.stage else { return };
        let (layout, by_multicast) = (layout.clone(), *by_multicast);
        self.outputs.push_back(SenderOutput::Started { layout: layout.clone(), by_multicast });
        let group = self.config.group.filter(|_| by_multicast);
        let ledger = Ledger::new(&layout);
        for member in self.members.iter_mut().filter(|member| member.standing == Standing::Open) {
            member.begins = Some(0);
        }
        let common = Flow::new(now, &self.config, layout, ledger, group);
        self.stage = Stage::Sending(Box::new(Fan::new(common)));
    }

    /// Gives up whoever has brought nothing new for too long.
    fn lose_patience(&mut self, now: Time) {
        for index in 0..self.members.len() {
            let member = &mut self.members[index];
            if member.is_settled() || now.since(self.silent_since(index)) < self.config.give_up {
                continue;
            }
            self.members[index].standing = Standing::GivenUp;
            self.outputs.push_back(SenderOutput::GaveUp { receiver: index });
            self.release(index);
        }
    }

    /// Since when a receiver has brought nothing new. One that has every symbol may take its time to compare.
    fn silent_since(&self, index: usize) -> Time {
        let member = &self.members[index];
        let has_all = member.report.as_ref().is_some_and(|report| report.is_open && report.runs.is_empty());
        if has_all { member.heard } else { member.progressed }
    }
}

impl Machine for Sender {
    type Input = SenderInput;
    type Output = SenderOutput;
    type Why = SenderWhy;

    fn handle(&mut self, now: Time, input: SenderInput) {
        match input {
            SenderInput::Report { from, session, report } => self.report(now, from, session, report),
            SenderInput::Digest { file, digest } => {
                self.manifest.set_digest(file, digest);
                self.tell_all_digests(now);
                self.tell_last_digest(now);
            }
        }
    }

    fn advance(&mut self, now: Time) {
        self.lose_patience(now);
        self.announce(now);
        self.proceed(now);
        if let Stage::Sending(fan) = &mut self.stage {
            fan.send(now, &mut self.members, &mut self.outputs);
        }
        if let Stage::Lingering { until, packets } = self.stage
            && until <= now
        {
            self.stage = Stage::Finished { packets };
            self.outputs.push_back(SenderOutput::Finished);
        }
    }

    fn poll(&mut self) -> Option<SenderOutput> {
        self.outputs.pop_front()
    }

    fn deadline(&self) -> Option<(Time, SenderWhy)> {
        if let Stage::Finished { .. } = self.stage {
            return None;
        }
        let unsettled = (0..self.members.len()).filter(|index| !self.members[*index].is_settled());
        let patience = unsettled.map(|index| self.silent_since(index) + self.config.give_up).min();
        let stage = match &self.stage {
            // As long as nobody is there, waiting has no end.
            Stage::Gathering => {
                let is_there = |member: &Member| member.standing == Standing::Joined;
                let until = self.began + self.config.gather;
                self.members.iter().any(is_there).then_some((until, SenderWhy::Patience))
            }
            Stage::Opening { until, .. } | Stage::Lingering { until, .. } => Some((*until, SenderWhy::Patience)),
            Stage::Sending(fan) => fan.deadline(),
            Stage::Finished { .. } => None,
        };
        let patience = patience.map(|at| (at, SenderWhy::Patience));
        [patience, stage, self.next_announcement()].into_iter().flatten().min_by_key(|(at, _)| *at)
    }
}
