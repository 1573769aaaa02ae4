//! What a sender knows of one receiver.

use std::net::SocketAddr;

use machine::{Span, Time};

use super::packet::MemberId;
use super::path::{Path, Sent};
use super::report::Report;

/// So often a receiver may have less than before, or be another one.
const MOST_FALLS: u32 = 64;

/// One receiver, as the sender sees it.
#[derive(Clone, Debug)]
pub struct Member {
    /// Where the user said that it is.
    pub listed: SocketAddr,
    /// Where it was heard last.
    pub address: SocketAddr,
    /// Who it is, once it has said so.
    pub id: Option<MemberId>,
    /// How far it is.
    pub standing: Standing,
    /// The way to it.
    pub path: Path,
    /// Whether the group's datagrams reach it.
    pub is_reached_by_group: bool,
    /// When it was heard last.
    pub heard: Time,
    /// When it had something new last.
    pub progressed: Time,
    /// How far it was last: whether it takes data, knows all files, and symbols.
    best: (bool, bool, u64),
    /// How often it was less far than before.
    falls: u32,
    /// The last packet that had gone out then.
    pub progressed_by: u64,
    /// When it was announced to last, and how long before the next time.
    pub announced: Option<(Time, Span)>,
    /// How often it was announced to since it was there.
    pub rounds: u32,
    /// What it said last.
    pub report: Option<Report>,
    /// The last packet that went out before it took data.
    pub begins: Option<u64>,
    /// When it saw a new packet last.
    pub advanced: Time,
    /// How many packets were in flight to it when its last report came.
    pub flying: u64,
    /// Whether it is much slower than the others: what it lacks then comes after what they do.
    pub is_straggler: bool,
    /// Whether sending keeps to what it can take.
    pub sets_pace: bool,
    /// How many data packets it was sent, once that is over.
    pub packets: u64,
    /// Since when it has been so slow that it should be served alone.
    pub lags_since: Option<Time>,
    /// Whether a flow of its own serves it.
    pub is_alone: bool,
    /// From which packet on the group's reach is being judged.
    reach_since: Option<(u64, Time)>,
}

/// How far a receiver is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Not heard of.
    Expected,
    /// There, but its files are not open.
    Joined,
    /// Takes data.
    Open,
    /// Has everything.
    Complete,
    /// Cannot go on, and why.
    Failed(String),
    /// Silent, or got nowhere.
    GivenUp,
}

impl Member {
    /// Somebody who is expected at `address`.
    pub fn new(now: Time, address: SocketAddr) -> Self {
        Member {
            listed: address,
            address,
            id: None,
            standing: Standing::Expected,
            path: Path::default(),
            is_reached_by_group: false,
            heard: now,
            progressed: now,
            best: (false, false, 0),
            falls: 0,
            progressed_by: 0,
            announced: None,
            rounds: 0,
            report: None,
            begins: None,
            advanced: now,
            flying: 0,
            is_straggler: false,
            sets_pace: true,
            packets: 0,
            lags_since: None,
            is_alone: false,
            reach_since: None,
        }
    }

    /// Whether nothing more is expected of it.
    pub fn is_settled(&self) -> bool {
        matches!(self.standing, Standing::Complete | Standing::Failed(_) | Standing::GivenUp)
    }

    /// Whether it takes data, lacks some, and was heard within `patience` or four round trips: whoever is not, holds nobody
    /// up.
    pub fn is_active(&self, now: Time, patience: Span) -> bool {
        let patience = patience.max(self.path.round_trip().unwrap_or(Span::ZERO) * 4);
        self.standing == Standing::Open && now.since(self.heard) <= patience
    }

    /// The highest packet number that it has seen.
    pub fn highest(&self) -> u64 {
        self.report.as_ref().map_or(0, |report| report.highest)
    }

    /// Symbols that it has.
    pub fn symbols(&self) -> u64 {
        self.report.as_ref().map_or(0, |report| report.symbols)
    }

    /// Whether `report` tells of a later moment than the one before: datagrams may overtake each other.
    pub fn is_news(&self, report: &Report) -> bool {
        let Some(last) = &self.report else { return true };
        let later_echo = report.echo_us.wrapping_sub(last.echo_us) as i32;
        let further = report.received >= last.received && report.highest >= last.highest;
        later_echo > 0 || (later_echo == 0 && further)
    }

    /// Takes a report that is news.
    pub fn take(&mut self, now: Time, report: Report, sent: Option<Sent>) {
        let begins_anew = self.report.as_ref().is_some_and(|last| report.received < last.received);
        if begins_anew {
            (self.falls, self.best) = (self.falls + 1, Default::default());
            self.path.reset_counters();
            self.begins = None;
        }
        self.note_progress(now, (report.is_open, !report.lacks_files, report.symbols));
        if report.highest > self.highest() || begins_anew {
            self.advanced = now;
        }
        self.heard = now;
        self.is_reached_by_group |= report.largest_group > 0;
        if let Some(sent) = sent {
            self.path.on_report(now, &report, sent);
        }
        self.report = Some(report);
    }

    /// Whoever is further than before has brought something new, and so has one that falls back, as it began anew or a file
    /// came out wrong: but that is counted.
    fn note_progress(&mut self, now: Time, told: (bool, bool, u64)) {
        if told != self.best {
            self.falls += u32::from(told < self.best);
            self.best = told;
            self.progressed = now;
        }
    }

    /// Somebody else is in its place, with nothing of what it had.
    pub fn begin_anew(&mut self) {
        (self.falls, self.best) = (self.falls + 1, Default::default());
        self.report = None;
        self.begins = None;
        self.path.reset_counters();
    }

    /// Whether it has taken back what it said more often than who is started again and again does. To claim now this and
    /// now that would hold up others, and keep a sender from ending.
    pub fn contradicts_itself(&self) -> bool {
        self.falls > MOST_FALLS
    }

    /// Looks whether what goes to the group still arrives: switches that forget groups are common. `sent` is the number of
    /// the last packet; true when the receiver answers, but has seen nothing new for `patience`.
    pub fn has_lost_group(&mut self, now: Time, sent: u64, patience: Span) -> bool {
        let highest = self.highest();
        match self.reach_since {
            Some((seen, since)) if seen == highest && sent > highest => now.since(since) > patience,
            _ => {
                self.reach_since = Some((highest, now));
                false
            }
        }
    }
}
