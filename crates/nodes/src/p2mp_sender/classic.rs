//! The published stop-and-wait over a socket.

use std::collections::BTreeMap;
use std::io::IoSlice;
use std::net::SocketAddr;
use std::os::fd::AsFd;

use machine::{Machine, Span, Time};
use p2mp::classic::sender::{Acknowledged, Output};
use p2mp::classic::{Dialect, Sender, SenderConfig, Summary};

use super::SenderError;
use super::reporter::Reporter;
use super::source::Source;
use crate::clock;
use crate::signals::Signals;
use crate::udp::{Batch, Buffers, Interest, Refusal, Socket, Train, wait};

/// As many acknowledgements as a thousand receivers send at once fit in, with what the kernel counts beside each.
const BUFFERS: Buffers = Buffers { receive: 4 << 20, send: 4 << 20 };

/// After so many full batches whatever else is due has its turn: a flood must not keep timers and signals waiting.
const MOST_BATCHES: usize = 16;

/// One transfer under way.
pub(super) struct Transfer<'a> {
    pub(super) socket: &'a Socket,
    pub(super) signals: &'a Signals,
    pub(super) source: &'a Source,
    pub(super) dialect: Dialect,
    /// As the user wrote them.
    pub(super) names: &'a [String],
    /// The same receivers' addresses.
    pub(super) addresses: &'a [SocketAddr],
    pub(super) reporter: &'a mut Reporter,
}

/// How a transfer ended.
pub(super) enum End {
    Finished(Summary),
    /// By a signal; so many bytes everybody has acknowledged.
    Interrupted(u64),
}

/// One segment on its way to some receivers.
#[derive(Default)]
struct Segment {
    sequence: Option<u32>,
    data: Vec<u8>,
    datagram: Vec<u8>,
    /// Receivers, by index.
    to: Vec<usize>,
}

impl Transfer<'_> {
    /// Sends until everybody has everything or is given up.
    pub(super) fn run(mut self, config: SenderConfig) -> Result<End, SenderError> {
        self.socket.enlarge(BUFFERS).map_err(SenderError::Socket)?;
        let by_address: BTreeMap<SocketAddr, usize> = self.addresses.iter().copied().zip(0..).collect();
        let mut machine = Sender::new(config, clock::now())?;
        let mut batch = Batch::default();
        let mut segment = Segment::default();
        loop {
            if let Some(summary) = self.carry_out(&mut machine, &mut segment, config.give_up)? {
                return Ok(End::Finished(summary));
            }
            let until = machine.deadline().map_or(Time::MAX, |(at, _)| at);
            let descriptors = [(self.socket.as_fd(), Interest::Read), (self.signals.as_fd(), Interest::Read)];
            let [arrived, ended] = wait(descriptors, until).map_err(SenderError::Socket)?;
            if ended.read {
                return Ok(End::Interrupted(machine.acknowledged()));
            }
            let now = clock::now();
            if arrived.read {
                self.hear(now, &mut batch, |receiver| by_address.get(receiver).copied(), &mut machine)?;
            }
            machine.advance(now);
            self.reporter.progress(now, machine.acknowledged());
        }
    }

    /// Takes the acknowledgements that have arrived.
    fn hear(
        &self,
        now: Time,
        batch: &mut Batch,
        who: impl Fn(&SocketAddr) -> Option<usize>,
        machine: &mut Sender,
    ) -> Result<(), SenderError> {
        for _ in 0..MOST_BATCHES {
            self.socket.receive(batch).map_err(SenderError::Socket)?;
            for datagram in batch.datagrams() {
                let Some(receiver) = who(&datagram.source) else { continue };
                if let Some(acknowledgement) = self.dialect.acknowledgement(datagram.bytes) {
                    machine.handle(now, Acknowledged { receiver, sequence: acknowledgement.sequence });
                }
            }
            if !batch.is_full() {
                break;
            }
        }
        Ok(())
    }

    /// Does what the machine wants; the summary, if that was the last of it.
    fn carry_out(
        &mut self,
        machine: &mut Sender,
        segment: &mut Segment,
        give_up: Span,
    ) -> Result<Option<Summary>, SenderError> {
        while let Some(output) = machine.poll() {
            match output {
                Output::Send { receiver, sequence, length } => {
                    if segment.sequence != Some(sequence) {
                        self.flush(segment);
                        segment.datagram.clear();
                        let (data, datagram) = (&mut segment.data, &mut segment.datagram);
                        self.source.encode(self.dialect, sequence, length, data, datagram)?;
                        segment.sequence = Some(sequence);
                    }
                    segment.to.push(receiver);
                }
                Output::TimedOut { receiver, sequence } => {
                    self.reporter.timed_out(receiver.map(|receiver| self.names[receiver].as_str()), sequence);
                }
                Output::GaveUp { receiver, sequence } => {
                    self.reporter.gave_up(&self.names[receiver], sequence, give_up);
                }
                Output::Finished(summary) => return Ok(Some(summary)),
            }
        }
        self.flush(segment);
        Ok(None)
    }

    /// Sends the segment to those who are to get it now. What the kernel does not take is lost like any other: its timer
    /// runs already.
    fn flush(&mut self, segment: &mut Segment) {
        let pieces = [IoSlice::new(&segment.datagram)];
        let datagram = segment.datagram.len();
        let train = |receiver: &usize| Train { to: self.addresses[*receiver], pieces: &pieces, datagram };
        let trains: Vec<Train<'_>> = segment.to.iter().map(train).collect();
        let mut done = 0;
        while done < trains.len() {
            let sent = self.socket.send_trains(&trains[done..]);
            done += sent.trains;
            let Some(refusal) = sent.refusal else { continue };
            let why = match refusal {
                Refusal::Full => break,
                Refusal::TooLong => format!("{datagram} bytes are too long for the way there"),
                Refusal::Unreachable(error) => error.to_string(),
            };
            let receiver = segment.to[done];
            self.reporter.refused(receiver, &self.names[receiver], &why);
            done += 1;
        }
        segment.to.clear();
    }
}
