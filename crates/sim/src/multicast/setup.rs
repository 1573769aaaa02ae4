//! What is to happen, and how it went.

use link::{HalfLink, Profile};
use machine::{Rate, Seed, Span, Time};
use p2mp::fast::Fate;
use p2mp::fast::packet::DATA_HEADER;

use super::OVERHEAD;
use crate::tcp;

/// What is to happen.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Of everything random.
    pub seed: Seed,
    /// Bytes of each file.
    pub files: Vec<u64>,
    /// How many receivers there are.
    pub receivers: usize,
    /// How many of them, from the first on, carry real bytes, and compare them.
    pub with_bytes: usize,
    /// The sender's link.
    pub sender_link: Profile,
    /// Each receiver's link.
    pub receiver_link: Profile,
    /// Links of some receivers that differ.
    pub other_links: Vec<(usize, Profile)>,
    /// Whether the sender tries a multicast group.
    pub multicast: bool,
    /// Receivers that the group does not reach.
    pub deaf: Vec<usize>,
    /// A rate on the wire to keep to.
    pub rate: Option<Rate>,
    /// When who dies, and comes back.
    pub faults: Vec<(Time, Fault)>,
    /// How long a receiver may bring nothing new.
    pub give_up: Span,
    /// Who else wants the line.
    pub beside: Option<Beside>,
    /// How busy the machines of all programs are.
    pub stalls: Option<Stalls>,
}

/// A transfer by TCP from the sender's machine to the first receiver's.
#[derive(Clone, Copy, Debug)]
pub struct Beside {
    /// Which TCP.
    pub kind: tcp::Kind,
    /// When it begins.
    pub begins: Time,
    /// What both have brought is noted from here …
    pub from: Time,
    /// … to here.
    pub until: Time,
}

/// How often a program cannot run because others do: its machine has fewer processors than work.
#[derive(Clone, Copy, Debug)]
pub struct Stalls {
    /// Between the end of one and the beginning of the next, in the mean.
    pub every: Span,
    /// The longest; all shorter ones are as likely.
    pub longest: Span,
}

/// What befalls a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A receiver's program dies; its disk stays. One that is killed at the start begins late.
    KillReceiver(usize),
    /// It is started again, at another port.
    ReviveReceiver(usize),
    /// Its machine dies with it: nothing is left.
    WipeReceiver(usize),
    /// The sender's program dies.
    KillSender,
    /// It is started again: another session, from another port.
    ReviveSender,
}

/// How it went.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// When each receiver had all files, checked; `None`: never.
    pub complete_at: Vec<Option<Time>>,
    /// How each receiver's last session ended.
    pub fates: Vec<Option<Fate>>,
    /// What the sender's last life said of each receiver: whether it has everything.
    pub said_complete: Vec<bool>,
    /// When the sender's last life said that it was done.
    pub sender_finished: Option<Time>,
    /// Data packets sent by all lives of the sender.
    pub packets: u64,
    /// Copies of data packets that went out, to whomever.
    pub copies: u64,
    /// Original symbols of all files.
    pub symbols: u64,
    /// Bytes of a symbol.
    pub payload: u16,
    /// Whether data went to the group.
    pub by_multicast: bool,
    /// Packets that were delivered to a host.
    pub deliveries: u64,
    /// Packets that links dropped because their queue was full.
    pub queue_drops: u64,
    /// Times that a receiver had wrong bytes when asked to compare.
    pub wrong_files: u64,
    /// Bytes that the first receiver got by multicast, and by TCP, while both were watched.
    pub shares: (u64, u64),
}

impl Setup {
    /// One file of `length` bytes to `receivers` by multicast over links that impair nothing.
    pub fn new(seed: u64, length: u64, receivers: usize) -> Self {
        Setup {
            seed: Seed::new(seed),
            files: vec![length],
            receivers,
            with_bytes: 0,
            sender_link: Profile::default(),
            receiver_link: Profile::default(),
            other_links: Vec::new(),
            multicast: true,
            deaf: Vec::new(),
            rate: None,
            faults: Vec::new(),
            give_up: Span::from_secs(30),
            beside: None,
            stalls: None,
        }
    }

    /// With this rate on the way out of the sender.
    pub fn up(mut self, rate: Rate) -> Self {
        self.sender_link.up = HalfLink { rate: Some(rate), ..HalfLink::default() };
        self
    }

    /// The ideal time of it by ANCHORS' measure: every byte once at the link's rate, and what is lost again.
    pub fn ideal(&self, rate: Rate, payload: u16, loss: f64) -> f64 {
        let wire = f64::from(payload) + DATA_HEADER as f64 + f64::from(OVERHEAD);
        let bytes: u64 = self.files.iter().sum();
        bytes as f64 * wire / f64::from(payload) / (rate.as_bits_per_sec() as f64 / 8.0) / (1.0 - loss)
    }
}

impl Outcome {
    /// When the last receiver had everything; `None` if one never had.
    pub fn all_complete(&self) -> Option<Time> {
        self.complete_at.iter().copied().collect::<Option<Vec<_>>>()?.into_iter().max()
    }

    /// Data packets sent for each original symbol.
    pub fn sends_per_packet(&self) -> f64 {
        self.packets as f64 / self.symbols as f64
    }
}
