//! Carries out batches: sends trains at their times, takes what arrives, and notices what may have made it late.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use link::calibration::{Batch, Capacity, Disturbance, Passage, Seen, Train};
use machine::{Span, Time};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::time::{TimeSpec, TimeValLike};

use super::frame::{Label, Mac};
use super::socket::{ProbeSocket, Taken};
use crate::clock;

/// Where the trains of a way begin and end; sockets by position.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ends {
    pub from: usize,
    pub source: Mac,
    pub to: usize,
    pub destination: Mac,
}

/// Sends and receives probes.
#[derive(Debug)]
pub(super) struct Prober {
    pub sockets: Vec<ProbeSocket>,
    /// For each way.
    pub ends: Vec<Ends>,
    /// Of all probes of this calibration.
    pub session: u32,
    pub batch: u32,
    /// Nobody waits for the result any more.
    pub stop: Arc<AtomicBool>,
}

/// A train under way.
#[derive(Debug)]
struct Running {
    way: usize,
    train: Train,
    due: Option<Span>,
    passage: Passage,
    next_burst: Time,
    last_sent: Time,
    /// Which of its frames have arrived at least once.
    arrived: Vec<bool>,
    missing: u32,
}

/// Longer than this nobody sleeps, …
const NAP: Span = Span::from_millis(1);

/// … and who oversleeps by more than this, or is so long kept from sending, has seen too little.
const LATE: Span = Span::from_millis(2);

/// An interface that takes no more is asked again after this.
const RETRY: Span = Span::from_micros(200);

/// The clock of the day may be adjusted by this much in a batch; a probe's time of arrival is by it.
const CLOCK_STEP: Span = Span::from_micros(500);

/// Frames whose passage shows what this machine can carry …
const CAPACITY_FRAMES: u32 = 256;

/// … within this time, …
const CAPACITY_TIME: Span = Span::from_millis(50);

/// … or it is taken to be this.
const LEAST_CAPACITY: Capacity = Capacity(20_000);

impl Prober {
    /// Sends the trains of a batch and waits for what arrives.
    pub(super) fn carry_out(&mut self, batch: &Batch) -> io::Result<Seen> {
        self.batch += 1;
        self.wait(batch.pause)?;
        for socket in &self.sockets {
            socket.take_drops();
        }
        let ahead = realtime_ahead();
        let began = clock::now();
        let mut running: Vec<Running> = batch
            .trains
            .iter()
            .zip(&batch.dues)
            .map(|(&(way, train), &due)| Running {
                way,
                train,
                due,
                passage: Passage::default(),
                next_burst: began,
                last_sent: began,
                arrived: vec![false; train.frames as usize],
                missing: train.frames,
            })
            .collect();
        let places: BTreeMap<u32, usize> =
            running.iter().zip(0..).map(|(running, place)| (running.way as u32, place)).collect();
        let mut listening: Vec<usize> = running.iter().map(|running| self.ends[running.way].to).collect();
        listening.sort_unstable();
        listening.dedup();
        let mut late = Span::ZERO;
        let mut deadline = began + batch.patience;
        loop {
            let now = clock::now();
            for place in 0..running.len() {
                if !running[place].is_sent() && running[place].next_burst <= clock::now() {
                    late = late.max(self.send_burst(&mut running[place])?);
                    // Sending goes on for a while; what arrives meanwhile must find room.
                    self.take_in(&listening, &places, &mut running, ahead)?;
                    deadline = deadline.max(running[place].last_sent + batch.patience);
                }
            }
            self.take_in(&listening, &places, &mut running, ahead)?;
            let all_sent = running.iter().all(Running::is_sent);
            if all_sent && running.iter().all(|running| running.is_over(clock::now()))
                || clock::now() > deadline
                || self.stop.load(Ordering::Relaxed)
            {
                break;
            }
            let next = running.iter().filter(|running| !running.is_sent()).map(|running| running.next_burst).min();
            let nap = next.map_or(NAP, |next| next.since(now).min(NAP));
            let slept_from = clock::now();
            self.sleep(&listening, nap)?;
            late = late.max(clock::now().since(slept_from + nap));
        }
        let unroomed: u64 = listening.iter().map(|socket| self.sockets[*socket].take_drops()).sum();
        let step = realtime_ahead().abs_diff(ahead);
        let disturbance = if unroomed > 0 {
            Some(Disturbance::Receiver(unroomed))
        } else if step > CLOCK_STEP.as_nanos() {
            Some(Disturbance::Clock(Span::from_nanos(step)))
        } else {
            (late > LATE).then_some(Disturbance::Prober(late))
        };
        let passages = running.into_iter().map(|running| (running.way, running.passage)).collect();
        Ok(Seen { passages, disturbance })
    }

    /// What this machine sends, carries and receives, by a train over a way that impairs nothing; where none comes back, by
    /// how long sending takes.
    pub(super) fn capacity(&mut self, ends: Ends, bytes: u32, returns: bool) -> io::Result<Capacity> {
        let way = self.ends.len();
        self.ends.push(ends);
        let mut best = LEAST_CAPACITY;
        for _ in 0..3 {
            let train = Train { frames: CAPACITY_FRAMES, bytes, burst: CAPACITY_FRAMES, gap: Span::ZERO };
            let patience = if returns { CAPACITY_TIME } else { Span::ZERO };
            let batch = Batch { trains: vec![(way, train)], dues: vec![None], patience, pause: Span::ZERO };
            let began = clock::now();
            let seen = self.carry_out(&batch)?;
            let sent = clock::now();
            let passage = &seen.passages[0].1;
            let took = match (returns, passage.sent.first(), passage.arrived.last()) {
                (true, Some(first), Some((_, last))) if passage.arrived.len() == CAPACITY_FRAMES as usize => {
                    last.since(*first)
                }
                (true, ..) => continue,
                // Sending includes what the kernel does up to the bridge; what is behind it costs twice as much again.
                (false, ..) => sent.since(began) * 3,
            };
            let frames = u64::from(CAPACITY_FRAMES) * 1_000_000_000 / took.as_nanos().max(1);
            best = Capacity(best.0.max(frames));
        }
        self.ends.pop();
        Ok(best)
    }

    /// Sends the next burst of a train, and says for how long the machine has kept it from doing so.
    fn send_burst(&self, running: &mut Running) -> io::Result<Span> {
        let Ends { from, source, destination, .. } = self.ends[running.way];
        let first = running.passage.sent.len() as u32;
        let burst = running.train.frames.min((first / running.train.burst + 1) * running.train.burst);
        let labels: Vec<Label> = (first..burst)
            .map(|ordinal| Label { session: self.session, batch: self.batch, way: running.way as u32, ordinal })
            .collect();
        let (mut rest, mut late) = (&labels[..], Span::ZERO);
        while !rest.is_empty() {
            let before = clock::now();
            let Taken { frames, is_full } =
                self.sockets[from].send(destination, source, running.train.bytes as usize, rest)?;
            running.passage.sent.extend(std::iter::repeat_n(before, frames));
            rest = &rest[frames..];
            let after = clock::now();
            if frames > 0 {
                running.last_sent = after;
            }
            if is_full {
                running.passage.was_held_back = true;
                running.next_burst = after + RETRY;
                return Ok(late);
            }
            late = late.max(after.since(before));
        }
        running.next_burst = clock::now() + running.train.gap;
        Ok(late)
    }

    fn take_in(
        &self,
        listening: &[usize],
        places: &BTreeMap<u32, usize>,
        running: &mut [Running],
        ahead: u64,
    ) -> io::Result<()> {
        for socket in listening {
            self.sockets[*socket].receive(|label, realtime| {
                let is_ours = label.session == self.session && label.batch == self.batch;
                let Some(running) = places.get(&label.way).filter(|_| is_ours).map(|place| &mut running[*place]) else {
                    return;
                };
                let ordinal = label.ordinal as usize;
                // A damaged label that is right all the same would be a wonder; it must not be a panic.
                let Some(arrived) = running.arrived.get_mut(ordinal) else { return };
                if !std::mem::replace(arrived, true) {
                    running.missing -= 1;
                }
                running.passage.arrived.push((label.ordinal, Time::from_nanos(realtime.saturating_sub(ahead))));
            })?;
        }
        Ok(())
    }

    fn sleep(&self, listening: &[usize], nap: Span) -> io::Result<()> {
        let mut watched: Vec<PollFd<'_>> = listening
            .iter()
            .map(|socket| PollFd::new(std::os::fd::AsFd::as_fd(&self.sockets[*socket]), PollFlags::POLLIN))
            .collect();
        match ppoll(&mut watched, Some(TimeSpec::nanoseconds(nap.as_nanos() as i64)), None) {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    fn wait(&self, pause: Span) -> io::Result<()> {
        let end = clock::now() + pause;
        while clock::now() < end && !self.stop.load(Ordering::Relaxed) {
            self.sleep(&[], end.since(clock::now()).min(Span::from_millis(20)))?;
        }
        Ok(())
    }
}

impl Running {
    fn is_sent(&self) -> bool {
        self.passage.sent.len() as u32 >= self.train.frames
    }

    /// Whether nothing is to come any more.
    fn is_over(&self, now: Time) -> bool {
        self.missing == 0 || self.due.is_some_and(|due| now > self.last_sent + due)
    }
}

/// How far `CLOCK_REALTIME` is ahead of `CLOCK_MONOTONIC`, in nanoseconds: of a few readings the one between whose two ends
/// the least time passed.
fn realtime_ahead() -> u64 {
    let reading = || {
        let (before, realtime, after) = (clock::now(), clock::realtime(), clock::now());
        let middle = before + after.since(before) / 2;
        (after.since(before), realtime.wrapping_sub(middle.as_nanos()))
    };
    let best = (0..4).map(|_| reading()).min_by_key(|(width, _)| *width);
    best.map_or(0, |(_, ahead)| ahead)
}
