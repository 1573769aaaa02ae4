//! Announcing a session: to whom, when, and in which sizes.

use std::net::SocketAddr;
use std::sync::Arc;

use machine::{Rate, Size, Span, Time};

use super::super::layout::{LEAST_PAYLOAD, Layout};
use super::super::member::{Member, Standing};
use super::super::packet::{Announce, DATA_HEADER, Packet};
use super::super::protocol::{SenderOutput, SenderWhy};
use super::super::tuning::{
    ANNOUNCE_FIRST, ANNOUNCE_SLOWEST, ANSWER_AFTER, DIGESTS_APART, REPORT_EVERY, REPORTS_A_SECOND, SILENT,
};
use super::{OPENING, Sender, Stage};

/// Someone who answers, but to whom the largest size has not come in so many rounds, will not get it.
const ROUNDS_OF_SIZES: u32 = 3;

/// Whom so many announcements to the group did not help is spoken to alone.
const LONELY: u32 = 20;

/// Announcements to each by itself go out at this rate, but for a burst of this length.
const ANNOUNCE_RATE: Rate = Rate::from_mbit(40);
const ANNOUNCE_BURST: Span = Span::from_millis(2);

/// What passes wherever IPv6 does (RFC 8200: 1280 bytes): nobody is served with less.
const SAFE_SIZE: u16 = 1232;

/// How often a receiver of `receivers` reports unasked.
pub(super) fn report_every(receivers: usize) -> Span {
    REPORT_EVERY.max(Span::from_secs(1) * receivers as u64 / REPORTS_A_SECOND)
}

impl Sender {
    /// Announces to all who are due.
    pub(super) fn announce(&mut self, now: Time) {
        if self.next_to_group().is_some_and(|at| at <= now)
            && let Some(group) = self.config.group
        {
            self.announced_to_group = Some(now);
            self.group_is_new = false;
            self.announce_to(now, group, true, true);
        }
        for index in 0..self.members.len() {
            let member = &self.members[index];
            if self.next_to(member).is_none_or(|at| at > now) {
                continue;
            }
            if self.announce_from > now {
                return;
            }
            let (address, listed) = (member.address, member.listed);
            // Where there is a group it carries the sizes, at first.
            let with_sizes = self.config.group.is_none() || (member.rounds > 1 && !member.is_reached_by_group);
            let member = &mut self.members[index];
            let gap = member.announced.map_or(ANNOUNCE_FIRST, |(_, gap)| (gap * 2).min(ANNOUNCE_SLOWEST));
            // A round is over when its answer could have come.
            let gap = gap.max(member.path.round_trip().unwrap_or(Span::ZERO));
            member.announced = Some((now, gap));
            if member.standing != Standing::Expected {
                member.rounds += 1;
            }
            self.announce_to(now, address, false, with_sizes);
            if listed != address {
                self.announce_to(now, listed, false, with_sizes);
            }
        }
    }

    pub(super) fn next_announcement(&self) -> Option<(Time, SenderWhy)> {
        let members = self.members.iter().filter_map(|member| self.next_to(member));
        let members = members.min().map(|at| at.max(self.announce_from));
        members.into_iter().chain(self.next_to_group()).min().map(|at| (at, SenderWhy::Announce))
    }

    /// When a receiver is to be announced to, if at all.
    fn next_to(&self, member: &Member) -> Option<Time> {
        let again = member.announced.map_or(self.began, |(at, gap)| at + gap);
        match member.standing {
            Standing::Expected => Some(again),
            Standing::Joined if matches!(self.stage, Stage::Gathering) => (!self.knows_size(member)).then_some(again),
            Standing::Joined => Some(again),
            // It may have been started again, and know nothing.
            Standing::Open => {
                let silent = member.heard + SILENT;
                Some(member.announced.map_or(silent, |(at, _)| silent.max(at + ANNOUNCE_SLOWEST)))
            }
            Standing::Complete | Standing::Failed(_) | Standing::GivenUp => None,
        }
    }

    /// When the group is to be announced to: beside each round while the session gathers, then now and then, for those
    /// who start again or late.
    fn next_to_group(&self) -> Option<Time> {
        self.config.group?;
        let unsettled = || self.members.iter().any(|member| !member.is_settled());
        match &self.stage {
            Stage::Gathering => {
                let due = |member: &Member| member.standing == Standing::Joined && !self.knows_size(member);
                let gap = match self.group_is_new {
                    true => ANSWER_AFTER * 2,
                    false if self.members.iter().any(due) => ANNOUNCE_FIRST,
                    false => ANNOUNCE_SLOWEST,
                };
                Some(self.announced_to_group.map_or(self.began, |at| at + gap))
            }
            Stage::Opening { by_multicast: false, .. } => None,
            Stage::Sending(fan) if !fan.is_multicast() => None,
            Stage::Opening { .. } | Stage::Sending(_) if unsettled() => {
                Some(self.announced_to_group.map_or(self.began, |at| at + ANNOUNCE_SLOWEST))
            }
            _ => None,
        }
    }

    /// Whether more announcements would tell nothing of the sizes that reach a receiver.
    fn knows_size(&self, member: &Member) -> bool {
        let Some(report) = &member.report else { return false };
        let top = self.config.sizes.iter().copied().max().unwrap_or(0);
        let reached = match self.config.group {
            Some(_) => report.largest_group >= top,
            None => report.largest_alone >= top,
        };
        (reached && !report.lacks_files) || member.rounds >= ROUNDS_OF_SIZES
    }

    pub(super) fn has_gathered(&self, now: Time) -> bool {
        let is_there = |member: &&Member| member.standing == Standing::Joined;
        if !self.members.iter().any(|member| is_there(&member)) {
            return false;
        }
        let expected = self.members.iter().any(|member| member.standing == Standing::Expected);
        let all_known = self.members.iter().filter(is_there).all(|member| self.knows_size(member));
        (!expected && all_known) || now >= self.began + self.config.gather
    }

    /// Chooses how data go and how large they are, by those who are there.
    pub(super) fn fix_layout(&mut self, now: Time) {
        let joined = || self.members.iter().filter(|member| member.standing == Standing::Joined);
        let reports = || joined().filter_map(|member| member.report.as_ref());
        let by_multicast =
            self.config.group.is_some() && joined().count() > 1 && reports().all(|report| report.largest_group > 0);
        let largest = |by_multicast: bool| {
            let sizes = reports().map(|report| if by_multicast { report.largest_group } else { report.largest_alone });
            let least = sizes.filter(|size| *size > 0).min().unwrap_or(0);
            least.max(self.config.sizes.iter().copied().max().map_or(SAFE_SIZE, |top| top.min(SAFE_SIZE)))
        };
        let payload = (largest(by_multicast).saturating_sub(DATA_HEADER as u16) & !1).max(LEAST_PAYLOAD);
        let layout = match Layout::new(&self.manifest, payload) {
            Ok(layout) => Arc::new(layout),
            Err(error) => return self.fail_all(&error.to_string()),
        };
        for member in self.members.iter_mut().filter(|member| !member.is_settled()) {
            // Whoever hears the group is told by it.
            member.announced = by_multicast.then_some((now, ANNOUNCE_FIRST));
        }
        self.announced_to_group = None;
        self.stage = Stage::Opening { layout, by_multicast, until: now + OPENING };
        self.announce(now);
    }

    fn fail_all(&mut self, why: &str) {
        for (receiver, member) in self.members.iter_mut().enumerate() {
            member.standing = Standing::Failed(why.to_owned());
            self.outputs.push_back(SenderOutput::Failed { receiver, why: why.to_owned() });
        }
    }

    /// Tells one receiver what digests are known; by the group, if it hears that, for others will wait as well.
    pub(super) fn tell_digests(&mut self, now: Time, index: usize) {
        if self.manifest.files().iter().any(|file| file.digest.is_none()) {
            self.outputs.push_back(SenderOutput::Hash);
        }
        if self.manifest.files().iter().all(|file| file.digest.is_none()) {
            return;
        }
        let by_group = matches!(&self.stage, Stage::Sending(fan) if fan.is_multicast());
        let member = &mut self.members[index];
        let group = self.config.group.filter(|_| by_group && member.is_reached_by_group && member.rounds < LONELY);
        let told = if group.is_some() { self.announced_to_group } else { member.announced.map(|(at, _)| at) };
        if told.is_some_and(|at| now.since(at) < DIGESTS_APART) {
            return;
        }
        let address = member.address;
        match group {
            Some(group) => {
                member.rounds += 1;
                self.announced_to_group = Some(now);
                self.announce_to(now, group, true, false);
            }
            None => {
                member.announced = Some((now, ANNOUNCE_SLOWEST));
                self.announce_to(now, address, false, false);
            }
        }
    }

    /// Tells the group when no digest is missing any more, if that takes one datagram: right behind the last data it spares
    /// everybody asking.
    pub(super) fn tell_last_digest(&mut self, now: Time) {
        let files = self.manifest.files();
        let is_all = files.iter().all(|file| file.digest.is_some()) && Announce::page(files, 0) == files.len();
        let by_group = matches!(&self.stage, Stage::Sending(fan) if fan.is_multicast());
        if let Some(group) = self.config.group.filter(|_| is_all && by_group) {
            self.announced_to_group = Some(now);
            self.announce_to(now, group, true, false);
        }
    }

    /// Tells everybody who waits for a digest.
    pub(super) fn tell_all_digests(&mut self, now: Time) {
        for index in 0..self.members.len() {
            let member = &self.members[index];
            let waits = member.report.as_ref().is_some_and(|report| report.lacks_digests);
            if waits && !member.is_settled() {
                self.tell_digests(now, index);
            }
        }
    }

    /// Sends the announcement: first, while sizes are looked for, padded to each of them, the largest first, so that the
    /// answer to the last tells of all.
    fn announce_to(&mut self, now: Time, to: SocketAddr, to_group: bool, with_sizes: bool) {
        let payload = match &self.stage {
            Stage::Opening { layout, .. } => Some(layout.payload()),
            Stage::Sending(fan) => Some(fan.layout().payload()),
            _ => None,
        };
        let files = self.manifest.files();
        let (mut first, mut total) = (0, 0);
        while first < files.len() {
            let count = Announce::page(files, first).max(1);
            let announce = Announce {
                to_group,
                group: self.config.group,
                payload,
                identity: self.config.identity,
                stamp_us: (now.as_nanos() / 1000) as u32,
                report_every_us: (report_every(self.members.len()).as_nanos() / 1000) as u32,
                all_files: files.len() as u16,
                first_file: first as u16,
                files: files[first..first + count].to_vec(),
            };
            let bytes = Packet::Announce(announce).to_bytes(self.config.session);
            if first == 0 && payload.is_none() && with_sizes {
                let mut sizes = self.config.sizes.clone();
                sizes.sort_unstable_by(|one, other| other.cmp(one));
                for size in sizes.into_iter().map(usize::from).filter(|size| *size > bytes.len()) {
                    let mut padded = bytes.clone();
                    padded.resize(size, 0);
                    total += size;
                    self.outputs.push_back(SenderOutput::Datagram { to, bytes: padded });
                }
            }
            total += bytes.len();
            self.outputs.push_back(SenderOutput::Datagram { to, bytes });
            first += count;
        }
        // A burst to a thousand receivers would not fit into the queue of any link.
        let took = ANNOUNCE_RATE.time_for(Size::from_bytes(total as u64));
        self.announce_from = self.announce_from.max(now - ANNOUNCE_BURST) + took;
    }
}
