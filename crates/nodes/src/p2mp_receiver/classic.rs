//! The classic senders that a receiver hears, each with a file of its own.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::BorrowedFd;
use std::os::unix::fs::FileExt;

use machine::{Machine, Span, Time};
use p2mp::classic::receiver::{Arrived, Output};
use p2mp::classic::{Acknowledgement, Dialect, Receiver, Segment};

use super::finisher::{Finished, Finisher};
use super::reporter::Reporter;
use super::target::{Target, TargetError};
use crate::downloader::PlaceError;
use crate::downloader::place::Place;
use crate::roles::in_a_line;
use crate::udp::Socket;

/// More senders at once are not heard: memory and descriptors are bounded, whoever sends.
const MOST_SENDERS: usize = 256;

/// A sender that is silent for so long will not come back. Longer than senders usually wait for others.
const PATIENCE: Span = Span::from_secs(300);

/// When too many want to be heard, one that has been silent for so long goes first.
const CROWDED: Span = Span::from_secs(40);

/// All classic transfers of one receiver.
#[derive(Debug)]
pub(super) struct Senders {
    target: Target,
    /// How long to answer a sender that repeats the end.
    linger: Span,
    senders: BTreeMap<SocketAddr, Session>,
    finisher: Finisher,
    /// Whether a file is complete, and its sender was given its time to hear of it.
    done: bool,
    /// FILE could not be written; why is told already.
    failed: bool,
    /// Used again for every answer.
    answer: Vec<u8>,
}

/// Who sent a segment, and which address of this host it was sent to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ends {
    pub(super) sender: SocketAddr,
    /// Answers come from there: a sender knows its receivers by their addresses.
    pub(super) own: Option<IpAddr>,
}

/// One sender.
#[derive(Debug)]
struct Session {
    /// Of the segment that was heard last.
    ends: Ends,
    dialect: Dialect,
    machine: Receiver,
    stage: Stage,
    /// Its file is FILE itself.
    is_main: bool,
    begun: Time,
    heard: Time,
}

#[derive(Debug)]
enum Stage {
    /// The file is on its way.
    Receiving { place: Place, part: File },
    /// All of it is here, and gets its final name; until then the end is not acknowledged.
    Finishing,
    /// It is under its final name.
    Complete,
    /// It cannot be had; the sender is not answered.
    Refused,
}

impl Senders {
    /// # Errors
    /// When the kernel has no descriptor or no thread left.
    pub(super) fn new(target: Target, linger: Span) -> io::Result<Self> {
        let (senders, finisher) = (BTreeMap::new(), Finisher::start()?);
        Ok(Senders { target, linger, senders, finisher, done: false, failed: false, answer: Vec::new() })
    }

    /// Readable when the disk has done something; then [`finished`](Senders::finished).
    pub(super) fn wake(&self) -> BorrowedFd<'_> {
        self.finisher.wake()
    }

    /// Takes one segment that the loss service left.
    pub(super) fn take(
        &mut self,
        now: Time,
        socket: &Socket,
        ends: Ends,
        dialect: Dialect,
        segment: &Segment<'_>,
        reporter: &mut Reporter,
    ) {
        let source = ends.sender;
        // A datagram is less than 64 KiB long.
        let arrived =
            Arrived { sequence: segment.sequence, length: segment.data.len() as u32, sound: dialect.is_sound(segment) };
        if !self.senders.contains_key(&source) {
            // Only the beginning of a file makes a new sender: whoever came in the middle could not be helped.
            if arrived.sequence != 0 || !arrived.sound || !self.has_room(now, reporter) {
                return;
            }
            let session = self.begin(now, ends, dialect, reporter);
            self.senders.insert(source, session);
        }
        let Some(session) = self.senders.get_mut(&source).filter(|session| session.dialect == dialect) else { return };
        (session.heard, session.ends) = (now, ends);
        if let Stage::Refused | Stage::Finishing = session.stage {
            return;
        }
        session.machine.handle(now, arrived);
        while let Some(output) = session.machine.poll() {
            let done = match output {
                // Only once the file has its name is that of the end true.
                Output::Acknowledge { .. } if matches!(session.stage, Stage::Finishing) => Ok(()),
                Output::Acknowledge { sequence } => {
                    acknowledge(&mut self.answer, socket, ends, dialect, sequence);
                    Ok(())
                }
                Output::Write { offset, .. } => session.write(segment.data, u64::from(offset)),
                Output::Finished { length } => {
                    if let Stage::Receiving { place, .. } = std::mem::replace(&mut session.stage, Stage::Finishing) {
                        self.finisher.give(source, place, u64::from(length));
                    }
                    Ok(())
                }
            };
            if let Err(error) = done {
                eprintln!("error: {source}: {}", in_a_line(&error));
                // Whoever comes beside the first must not end the program.
                self.failed |= session.is_main;
                session.fail();
                return;
            }
        }
        reporter.progress(now, session.machine.received());
    }

    /// Tells the senders whose files have got their names.
    pub(super) fn finished(&mut self, now: Time, socket: &Socket, reporter: &mut Reporter) {
        while let Some(Finished { sender, length, path }) = self.finisher.next() {
            let Some(session) = self.senders.get_mut(&sender) else { continue };
            match path {
                Ok(path) => {
                    session.stage = Stage::Complete;
                    session.heard = now;
                    reporter.complete(&path, sender, length, now.since(session.begun));
                    // It was received by sequence numbers of 32 bits.
                    acknowledge(&mut self.answer, socket, session.ends, session.dialect, length as u32);
                }
                Err(error) => {
                    eprintln!("error: {sender}: {}", in_a_line(&TargetError::from(error)));
                    self.failed |= session.is_main;
                    session.stage = Stage::Refused;
                }
            }
        }
    }

    /// Lets go of senders that are done or silent.
    pub(super) fn advance(&mut self, now: Time, reporter: &mut Reporter) {
        let linger = self.linger;
        let due = |session: &Session| session.expiry(linger) <= now;
        let silent: Vec<SocketAddr> =
            self.senders.iter().filter(|(_, session)| due(session)).map(|(source, _)| *source).collect();
        for source in silent {
            let Some(session) = self.senders.remove(&source) else { continue };
            self.done |= matches!(session.stage, Stage::Complete);
            session.leave(source, reporter);
        }
    }

    /// When [`advance`](Senders::advance) has something to do.
    pub(super) fn deadline(&self) -> Option<Time> {
        self.senders.values().map(|session| session.expiry(self.linger)).min()
    }

    /// Whether a file is complete, and its sender has been told or fell silent.
    pub(super) fn is_done(&self) -> bool {
        self.done
    }

    /// Whether FILE itself could not be written.
    pub(super) fn has_failed(&self) -> bool {
        self.failed
    }

    /// The program ends: whole files get their names, what is not complete is of no use to anybody. Bytes that are thrown
    /// away.
    pub(super) fn end(mut self, now: Time, reporter: &mut Reporter) -> u64 {
        for Finished { sender, length, path } in self.finisher.end() {
            let begun = self.senders.get(&sender).map_or(now, |session| session.begun);
            match path {
                Ok(path) => reporter.complete(&path, sender, length, now.since(begun)),
                Err(error) => eprintln!("error: {sender}: {}", in_a_line(&TargetError::from(error))),
            }
        }
        let unfinished = self.senders.into_values().filter_map(|session| match session.stage {
            Stage::Receiving { place, .. } => {
                place.discard();
                Some(session.machine.received())
            }
            Stage::Finishing | Stage::Complete | Stage::Refused => None,
        });
        unfinished.sum()
    }

    fn begin(&mut self, now: Time, ends: Ends, dialect: Dialect, reporter: &Reporter) -> Session {
        let source = ends.sender;
        let is_under_way = |stage: &Stage| matches!(stage, Stage::Receiving { .. } | Stage::Finishing);
        let is_taken = |session: &Session| session.is_main && is_under_way(&session.stage);
        let mut is_main = !self.senders.values().any(is_taken) && self.target.is_free();
        let mut place = self.target.prepare(source, !is_main);
        // By a sender of the other mode, now or earlier, or by another process.
        if let (true, Err(TargetError::Locked { .. } | TargetError::Unfinished { .. })) = (is_main, &place) {
            is_main = false;
            place = self.target.prepare(source, true);
        }
        let opened = place.and_then(|place| {
            let failed = |source| PlaceError::Io { doing: "open", path: place.part_path().to_owned(), source };
            let part = place.part().map_err(failed)?;
            reporter.begun(source, place.target());
            Ok(Stage::Receiving { place, part })
        });
        let stage = opened.unwrap_or_else(|error| {
            eprintln!("error: {source} is not answered: {}", in_a_line(&error));
            self.failed |= is_main;
            Stage::Refused
        });
        Session { ends, dialect, machine: Receiver::new(), stage, is_main, begun: now, heard: now }
    }

    /// Whether another sender may be heard; one that is silent may have to go for it.
    fn has_room(&mut self, now: Time, reporter: &mut Reporter) -> bool {
        if self.senders.len() < MOST_SENDERS {
            return true;
        }
        let longest = self.senders.iter().min_by_key(|(_, session)| session.heard).map(|(source, _)| *source);
        let silent = longest.filter(|source| now.since(self.senders[source].heard) >= CROWDED);
        let Some(session) = silent.and_then(|source| self.senders.remove_entry(&source)) else {
            tracing::warn!("{MOST_SENDERS} senders at once are all that are heard");
            return false;
        };
        let (source, session) = session;
        session.leave(source, reporter);
        true
    }
}

impl Session {
    fn write(&mut self, data: &[u8], offset: u64) -> Result<(), TargetError> {
        let Stage::Receiving { place, part, .. } = &self.stage else { return Ok(()) };
        part.write_all_at(data, offset).map_err(|source| {
            TargetError::Place(PlaceError::Io { doing: "write", path: place.part_path().to_owned(), source })
        })
    }

    fn fail(&mut self) {
        if let Stage::Receiving { place, .. } = std::mem::replace(&mut self.stage, Stage::Refused) {
            place.discard();
        }
    }

    /// When nothing more is to be expected of it, if it stays silent.
    fn expiry(&self, linger: Span) -> Time {
        match self.stage {
            Stage::Complete => self.heard + linger,
            Stage::Receiving { .. } | Stage::Refused => self.heard + PATIENCE,
            // Its thread may take as long as it likes.
            Stage::Finishing => Time::MAX,
        }
    }

    fn leave(self, source: SocketAddr, reporter: &mut Reporter) {
        if let Stage::Receiving { place, .. } = self.stage {
            reporter.lost_sender(source, self.machine.received());
            place.discard();
        }
    }
}

/// If it is not sent, it is repeated when the segment is.
fn acknowledge(answer: &mut Vec<u8>, socket: &Socket, ends: Ends, dialect: Dialect, sequence: u32) {
    answer.clear();
    dialect.write_acknowledgement(Acknowledgement { sequence }, answer);
    if let Some(refusal) = socket.send_from(ends.own, ends.sender, answer) {
        tracing::debug!(?refusal, "an acknowledgement was not sent");
    }
}
