//! The fast mode of a receiver: sessions of [`p2mp::fast::Receiver`] over the program's socket and the disk.
//!
//! * `session`: one transfer: its machine, its files, and what comes out of the one done to the other.
//! * `target`: where the files of a session go.
//! * `store`, `blocks`: files opened; symbols on their way into them.
//! * `prefix`: how far a file is hashed.
//! * `worker`: restoring, hashing, recording and naming, on a thread of its own; `sync`: syncing, on another.
//! * `journal`: what is on the disk already; `compare`: what is there under its final name.

mod blocks;
mod compare;
mod journal;
mod prefix;
mod session;
mod store;
mod sync;
mod target;
mod worker;

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;
use std::sync::Arc;

use event::NodeReport;
use machine::{Machine as _, Span, Time};
use nix::sys::eventfd::{EfdFlags, EventFd};
use p2mp::fast::{DataHeader, Fate, MemberId, Packet, Poll, ReceiverConfig, SessionId};

use self::session::{Note, Session};
use crate::clock;
use crate::entropy;
use crate::events::EventSink;
use crate::p2mp_receiver::target::of_sender;
use crate::udp::{Datagram, Interface, Socket};

/// The most sessions at a time: each may hold some megabytes.
const MOST_SESSIONS: usize = 8;

/// When too many want to be heard, one whose sender has been silent for so long goes first; living ones speak at least
/// every quarter of a second.
const CROWDED: Span = Span::from_secs(3);

/// So many sessions that are over are remembered, so that what is still on its way does not begin them again.
const REMEMBERED: usize = 64;

/// What a datagram of common size costs in a socket's buffer, as the kernel counts.
const DATAGRAM_COSTS: usize = 2304;

/// Between two samples of the progress.
const SAMPLE_EVERY: Span = Span::from_millis(50);

/// How long a receiver answers a sender that has not heard of the end.
const LINGER: Span = Span::from_secs(5);

/// What the user wants.
#[derive(Clone, Debug)]
pub struct Options {
    /// FILE, or a folder.
    pub target: PathBuf,
    /// Whether what is under the final names may be replaced in the end.
    pub overwrite: bool,
    /// On which to listen to groups; by default the one that leads to the sender.
    pub interface: Option<Interface>,
    /// Bytes that the socket's buffer takes, as the kernel counts.
    pub buffer: usize,
}

/// All sessions of a receiver. The order of calls: after each [`receive`](Fast::receive), and whenever
/// [`deadline`](Fast::deadline) has come or [`wake`](Fast::wake) is readable, [`advance`](Fast::advance).
#[derive(Debug)]
pub struct Fast {
    options: Options,
    member: MemberId,
    sessions: Vec<Session>,
    over: VecDeque<SessionId>,
    wake: Arc<EventFd>,
    sinks: Vec<EventSink>,
    sample_due: Time,
    sampled: (u64, u64),
    /// How sessions ended that nobody has asked for yet.
    endings: VecDeque<Fate>,
}

/// How many datagrams a socket's buffer of so many bytes takes.
pub(super) fn window(buffer: usize) -> u32 {
    u32::try_from(buffer / DATAGRAM_COSTS).unwrap_or(u32::MAX).max(1)
}

/// Data packets that came behind each other: symbols beside each other of one block, numbered in the same order.
#[derive(Default)]
struct Train<'a> {
    /// Of which session, and the first header with the poll of whichever asks.
    first: Option<(SessionId, DataHeader)>,
    symbols: Vec<&'a [u8]>,
    /// From where the first came, and to which address of this host unless it was to a group.
    way: Option<(SocketAddr, Option<IpAddr>)>,
    /// When the last one arrived.
    arrived: Time,
}

impl<'a> Train<'a> {
    /// Whether a packet is the next one of it. None is after one that asks for a report.
    fn takes(&self, id: SessionId, header: &DataHeader) -> bool {
        let count = self.symbols.len();
        count < usize::from(u16::MAX)
            && self.first.is_some_and(|(session, first)| {
                (session, first.block, first.poll) == (id, header.block, Poll::Nobody)
                    && first.number + count as u64 == header.number
                    && usize::from(first.symbol) + count == usize::from(header.symbol)
            })
    }

    fn append(&mut self, header: &DataHeader, symbol: &'a [u8], arrived: Time) {
        if let Some((_, first)) = &mut self.first {
            first.poll = header.poll;
        }
        self.symbols.push(symbol);
        self.arrived = arrived;
    }
}

impl Fast {
    /// No sessions yet. What happens is told to `sinks`, and to people on stderr.
    ///
    /// # Errors
    /// When the kernel has no descriptor or no random number left.
    pub fn new(options: Options, sinks: Vec<EventSink>) -> io::Result<Self> {
        let member = match target::earlier_member(&options.target) {
            Some(member) => member,
            None => MemberId(entropy::draw()?),
        };
        let wake = Arc::new(EventFd::from_flags(EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC)?);
        Ok(Fast {
            options,
            member,
            sessions: Vec::new(),
            over: VecDeque::new(),
            wake,
            sinks,
            sample_due: Time::ZERO,
            sampled: (0, 0),
            endings: VecDeque::new(),
        })
    }

    /// The descriptor was readable: from now on it is for what the disk does next.
    pub fn woken(&self) {
        let _ = self.wake.read();
    }

    /// Readable when the disk has done something; then [`woken`](Fast::woken) and [`advance`](Fast::advance).
    pub fn wake(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }

    /// How a session ended, each told once.
    pub fn ending(&mut self) -> Option<Fate> {
        self.endings.pop_front()
    }

    /// Whether files are being received.
    pub fn is_busy(&self) -> bool {
        !self.sessions.is_empty()
    }

    /// Bytes in hand, and of all files, of all sessions together.
    pub fn progress(&self) -> Option<(u64, u64)> {
        let each = self.sessions.iter().map(Session::progress);
        each.reduce(|one, other| (one.0.saturating_add(other.0), one.1.saturating_add(other.1)))
    }

    /// Takes datagrams of the fast mode, all that came at once, in their order.
    pub fn receive<'a>(&mut self, socket: &Socket, datagrams: impl IntoIterator<Item = Datagram<'a>>) {
        let now = clock::now();
        let mut train = Train::default();
        for Datagram { source, destination, arrived, bytes } in datagrams {
            let (id, packet) = match Packet::parse(bytes) {
                Ok(parsed) => parsed,
                Err(error) => {
                    tracing::debug!(%source, %error, "a datagram was ignored");
                    continue;
                }
            };
            if let Packet::Data(header, symbol) = packet {
                if !train.takes(id, &header) {
                    self.take(now, socket, &mut train);
                    train.first = Some((id, header));
                    train.way = Some((source, destination));
                }
                train.append(&header, symbol, arrived.unwrap_or(now));
                continue;
            }
            // What came before it has its effect before it.
            self.take(now, socket, &mut train);
            let Some(index) = self.find(id, &packet, now, source) else { continue };
            self.sessions[index].asked(source, destination);
            self.sessions[index].take(now, socket, source, id, packet, bytes.len());
        }
        self.take(now, socket, &mut train);
    }

    /// Takes the data packets of a train, which is empty then.
    fn take(&mut self, now: Time, socket: &Socket, train: &mut Train<'_>) {
        if let Some((id, first)) = train.first.take()
            && let Some(session) = self.sessions.iter_mut().find(|session| session.machine().session() == id)
        {
            train.way.into_iter().for_each(|(source, destination)| session.asked(source, destination));
            session.take_data(now, socket, id, first, &train.symbols, train.arrived);
        }
        train.symbols.clear();
    }

    /// Carries out what is due, and what the disk has answered.
    pub fn advance(&mut self, socket: &Socket) {
        let now = clock::now();
        for session in &mut self.sessions {
            session.advance(now, socket);
        }
        let mut index = 0;
        while index < self.sessions.len() {
            let notes: Vec<Note> = self.sessions[index].notes().collect();
            notes.into_iter().for_each(|note| self.tell(note));
            let Some(fate) = self.sessions[index].fate() else {
                index += 1;
                continue;
            };
            let session = self.sessions.remove(index);
            if fate == Fate::Complete {
                let (_, total) = session.progress();
                let progress = NodeReport::Progress { bytes: total, total, received: session.received() };
                let finished = NodeReport::Finished { bytes: total, sha256: None };
                self.sinks.iter().for_each(|sink| [&progress, &finished].into_iter().for_each(|fact| sink.tell(fact)));
            }
            self.over.push_back(session.machine().session());
            if self.over.len() > REMEMBERED {
                self.over.pop_front();
            }
            session.close();
            self.endings.push_back(fate);
        }
        self.sample(now);
    }

    /// When [`Fast::advance`] must be called at the latest.
    pub fn deadline(&self) -> Option<Time> {
        let machines = self.sessions.iter().filter_map(|session| session.machine().deadline());
        let samples = (self.is_busy() && !self.sinks.is_empty()).then_some(self.sample_due);
        machines.map(|(at, _)| at).chain(samples).min()
    }

    /// The session that a packet is of; a new one if it announces one.
    fn find(&mut self, id: SessionId, packet: &Packet<'_>, now: Time, source: SocketAddr) -> Option<usize> {
        let known = self.sessions.iter().position(|session| session.machine().session() == id);
        if known.is_some() {
            return known;
        }
        let Packet::Announce(announce) = packet else { return None };
        // The sender of the same files, started again.
        let same = self.sessions.iter().position(|session| session.machine().identity() == announce.identity);
        if same.is_some() || self.over.contains(&id) {
            return same;
        }
        let place = self.room(now)?;
        let config = ReceiverConfig { member: self.member, window: window(self.options.buffer), linger: LINGER };
        let mut options = self.options.clone();
        // The first has FILE; those beside it are told apart by their senders.
        if !options.target.is_dir() && self.is_busy() {
            options.target = of_sender(&options.target, source);
        }
        let wake = Arc::clone(&self.wake);
        let session = Session::new(options, config, wake, now, source, id, announce);
        if place < self.sessions.len() {
            std::mem::replace(&mut self.sessions[place], session).close();
        } else {
            self.sessions.push(session);
        }
        Some(place)
    }

    /// Where another session may go: behind the others, or in the place of one whose sender is silent. What that has stays
    /// on the disk, so it can be gone on with.
    fn room(&self, now: Time) -> Option<usize> {
        if self.sessions.len() < MOST_SESSIONS {
            return Some(self.sessions.len());
        }
        let heard = |index: &usize| self.sessions[*index].machine().heard();
        let longest = (0..self.sessions.len()).min_by_key(heard);
        longest.filter(|index| now.since(heard(index)) >= CROWDED)
    }

    fn tell(&self, note: Note) {
        match note {
            Note::Says(line) => eprintln!("{line}"),
            Note::Kept { path, length } => {
                eprintln!("{}: {length} bytes, checked", path.display());
            }
        }
    }

    fn sample(&mut self, now: Time) {
        if self.sinks.is_empty() || now < self.sample_due {
            return;
        }
        self.sample_due = now + SAMPLE_EVERY;
        if let Some((bytes, total)) = self.progress().filter(|progress| *progress != self.sampled) {
            self.sampled = (bytes, total);
            let received = self.sessions.iter().map(Session::received).sum();
            let report = NodeReport::Progress { bytes, total, received };
            self.sinks.iter().for_each(|sink| _ = sink.sample(&report));
        }
    }
}
