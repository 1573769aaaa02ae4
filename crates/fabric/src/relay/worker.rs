//! The relay's thread: take in what arrived, send what is due, sleep until the next deadline.
#![allow(unsafe_code, reason = "ppoll with nanoseconds, timer slack and scheduling are raw system calls")]

use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::mpsc::{self, SyncSender, TryRecvError};

use machine::{Span, Time};

use super::capture::{Capture, CaptureEnding};
use super::change::{Applied, Change};
use super::frame::Frame;
use super::receiver::Receiver;
use super::ring::Received;
use super::switch::Switch;
use super::transmit::{self, Sent};
use super::{Lateness, RelayConfig, RelaySnapshot};
use crate::clock;

/// What a handle asks for.
#[derive(Debug)]
pub(super) enum Command {
    Change(Change, SyncSender<Applied>),
    /// Nothing more is measured, and links are as new.
    EndCalibration(SyncSender<Time>),
    Snapshot(SyncSender<RelaySnapshot>),
    EndCapture(SyncSender<Option<CaptureEnding>>),
    Stop,
}

/// Frames taken in before those due are sent, so that a flood of arrivals does not make the due ones late.
const TAKE_IN: usize = 256;

/// Frames collected before they are sent.
const COLLECT: usize = 256;

/// The most that packets wait for each other, …
const MOST_WAITING: Span = Span::from_micros(50);

/// … and of which share of the shortest delay there and back that is at most one part. Most links delay one direction more than
/// the other, or only one; what comes back then waits as long as a network card would have it wait.
const WAITING_SHARE: u64 = 10;

/// The state of the thread.
#[derive(Debug)]
pub(super) struct Worker {
    receiver: Receiver,
    commands: mpsc::Receiver<Command>,
    wake: OwnedFd,
    switch: Switch,
    /// What takes the switch's place when links have been measured.
    waiting: Option<(RelayConfig, Option<Capture>)>,
    outboxes: Vec<Outbox>,
    /// Outboxes that are not empty.
    touched: Vec<usize>,
    lateness: Lateness,
    kernel_drops: u64,
    truncated: u64,
    unsendable: u64,
    invalid: u64,
    latest_arrival: Time,
    /// Whether the round under way took anything in or sent anything.
    worked: bool,
    /// When the last round began that did.
    last_work: Time,
}

/// What is to be sent to one interface.
#[derive(Debug)]
struct Outbox {
    ifindex: u32,
    /// With the model's time, or none for the relay's own answers.
    frames: Vec<(Frame, Option<Time>)>,
}

impl Worker {
    pub(super) fn new(
        config: RelayConfig,
        receiver: Receiver,
        commands: mpsc::Receiver<Command>,
        wake: OwnedFd,
        capture: Option<Capture>,
    ) -> Self {
        let (first, capture, waiting) = if config.probes.is_empty() {
            (config, capture, None)
        } else {
            (config.for_calibration(), None, Some((config, capture)))
        };
        Worker {
            receiver,
            commands,
            wake,
            outboxes: outboxes(&first),
            switch: Switch::new(&first, capture),
            waiting,
            touched: Vec::new(),
            lateness: Lateness::default(),
            kernel_drops: 0,
            truncated: 0,
            unsendable: 0,
            invalid: 0,
            latest_arrival: Time::ZERO,
            worked: false,
            last_work: Time::ZERO,
        }
    }

    /// Works until it is told to stop; what there was to tell in the end.
    pub(super) fn run(mut self) -> RelaySnapshot {
        favour_this_thread();
        loop {
            let began = clock::now();
            self.worked = false;
            let took_all = self.take_in(began);
            // What is still in the ring has arrived before: the model must see it before anything later happens.
            let horizon = if took_all { began } else { self.latest_arrival };
            let sent_all = self.send_due(horizon);
            if self.obey().is_break() {
                if let Some(ending) = self.switch.end_capture(began) {
                    ending.wait();
                }
                return self.snapshot();
            }
            if took_all && sent_all {
                self.switch.rest();
                self.gather(began);
                self.sleep();
            }
        }
    }

    /// Takes arrivals into the model; whether those were all.
    fn take_in(&mut self, now: Time) -> bool {
        let realtime = RealtimeOffset::read(now);
        let Worker { receiver, switch, latest_arrival, truncated, worked, .. } = self;
        for _ in 0..TAKE_IN {
            let take = |received: Received<'_>| {
                *worked = true;
                // The time of arrival is the kernel's, so a late wake-up does not add to the delay.
                let arrival = realtime.monotonic(received.realtime).max(*latest_arrival).min(now);
                *latest_arrival = arrival;
                if !received.is_whole {
                    *truncated += 1;
                } else if received.has_vlan_tag {
                    switch.refuse_malformed(received.ifindex);
                } else {
                    return switch.receive(arrival, received.ifindex, received.packet, || received.keep());
                }
                None
            };
            let taken = receiver.take(take);
            switch.clear_ring(receiver.trains_taken());
            match taken {
                None => return true,
                Some(None) => {}
                Some(Some((slot, answer))) => put_out(&mut self.outboxes, &mut self.touched, slot, answer, None),
            }
        }
        false
    }

    /// Takes in what had arrived when a command came: the command must not overtake it. As much as fits into the rings, so
    /// that a flood of arrivals does not hold the command back.
    fn take_in_before(&mut self, at: Time) {
        for _ in 0..64 {
            if self.take_in(at) {
                return;
            }
        }
    }

    /// Sends what is due by `horizon`; whether that was all.
    fn send_due(&mut self, horizon: Time) -> bool {
        let mut is_all = false;
        for _ in 0..COLLECT {
            let Some(due) = self.switch.poll(horizon) else {
                is_all = true;
                break;
            };
            put_out(&mut self.outboxes, &mut self.touched, due.slot, due.frame, Some(due.at));
        }
        while let Some(slot) = self.touched.pop() {
            self.worked = true;
            let outbox = &mut self.outboxes[slot];
            let mut rest = &outbox.frames[..];
            while !rest.is_empty() {
                let frames = rest.iter().map(|(frame, _)| frame);
                let Sent { frames, refused, invalid } = transmit::send(self.receiver.sending(), outbox.ifindex, frames);
                self.unsendable += refused;
                self.invalid += invalid;
                let (sent, unsent) = rest.split_at(frames);
                let now = clock::now();
                for due in sent.iter().filter_map(|(_, due)| *due) {
                    self.lateness.record(due, now);
                }
                rest = unsent;
            }
            outbox.frames.clear();
        }
        is_all
    }

    /// Carries out commands; breaks when told to stop, or when nobody is left who could tell.
    fn obey(&mut self) -> std::ops::ControlFlow<()> {
        loop {
            match self.commands.try_recv() {
                Ok(Command::Change(change, done)) => {
                    let at = clock::now();
                    self.take_in_before(at);
                    let entered = self.switch.entered();
                    self.switch.change(at, &change);
                    // Whoever asked may have gone.
                    let _ = done.send(Applied { at, entered, change });
                }
                Ok(Command::EndCalibration(done)) => {
                    let at = clock::now();
                    self.take_in_before(at);
                    self.end_calibration();
                    let _ = done.send(at);
                }
                Ok(Command::Snapshot(answer)) => {
                    let _ = answer.send(self.snapshot());
                }
                Ok(Command::EndCapture(answer)) => {
                    let at = clock::now();
                    self.take_in_before(at);
                    // What the model has decided by now belongs to the capture, sent or not.
                    while !self.send_due(at) {}
                    let _ = answer.send(self.switch.end_capture(at));
                }
                Ok(Command::Stop) | Err(TryRecvError::Disconnected) => return std::ops::ControlFlow::Break(()),
                Err(TryRecvError::Empty) => return std::ops::ControlFlow::Continue(()),
            }
        }
    }

    /// New links for those that were measured: nothing is in them, nothing has been drawn or counted, and there are no
    /// ports but the nodes'.
    fn end_calibration(&mut self) {
        let Some((config, capture)) = self.waiting.take() else { return };
        self.outboxes = outboxes(&config);
        self.switch = Switch::new(&config, capture);
        self.lateness = Lateness::default();
        let _of_probes = self.receiver.take_drops();
        (self.kernel_drops, self.truncated, self.unsendable, self.invalid) = (0, 0, 0, 0);
    }

    fn snapshot(&mut self) -> RelaySnapshot {
        self.kernel_drops += self.receiver.take_drops();
        RelaySnapshot {
            at: clock::now(),
            networks: self.switch.counters(),
            refusals: self.switch.refusals(),
            lateness: self.lateness.clone(),
            kernel_drops: self.kernel_drops,
            truncated: self.truncated,
            unsendable: self.unsendable,
            invalid: self.invalid,
        }
    }

    /// Under load, lets arrivals and deadlines come together before they are dealt with: work of one round costs little more
    /// for many packets than for one. Arrivals may wait because the kernel stamps them, and deadlines for a small share of
    /// the delay. A packet that is alone is never held back.
    fn gather(&mut self, began: Time) {
        if !self.worked {
            return;
        }
        let before = std::mem::replace(&mut self.last_work, began);
        let patience = (self.switch.shortest_loop() / WAITING_SHARE).min(MOST_WAITING);
        if began.since(before) > patience * 2 {
            return;
        }
        let left = (began + patience).since(clock::now());
        if !left.is_zero() {
            self.wait(Some(left), false);
        }
    }

    /// Waits for a frame, a command or the next deadline.
    fn sleep(&self) {
        let timeout = self.switch.deadline().map(|deadline| deadline.since(clock::now()));
        if timeout != Some(Span::ZERO) {
            self.wait(timeout, true);
        }
    }

    /// Waits for a command at most so long, and for frames if `listens`.
    fn wait(&self, timeout: Option<Span>, listens: bool) {
        let mut frames = [-1; 2];
        for (entry, readable) in frames.iter_mut().zip(self.receiver.readable()) {
            *entry = readable.as_raw_fd();
        }
        if wait_for(&self.wake, listens.then_some(frames), timeout) {
            self.receiver.clear();
        }
    }
}

/// Waits for the signal of a command at most so long, and for `frames` if they are given; whether the second of those has
/// become readable. A descriptor of -1 is ignored.
fn wait_for(wake: &OwnedFd, frames: Option<[RawFd; 2]>, timeout: Option<Span>) -> bool {
    let watch = |fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
    let [first, second] = frames.unwrap_or([-1; 2]);
    let mut watched = [watch(wake.as_raw_fd()), watch(first), watch(second)];
    let timeout = timeout.map(|span| libc::timespec {
        tv_sec: (span.as_nanos() / 1_000_000_000) as libc::time_t,
        tv_nsec: (span.as_nanos() % 1_000_000_000) as libc::c_long,
    });
    let timeout = timeout.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
    // SAFETY: the array and the timeout are valid for the call; no signal mask is given.
    unsafe { libc::ppoll(watched.as_mut_ptr(), watched.len() as libc::nfds_t, timeout, std::ptr::null()) };
    // Who only waits for more arrivals leaves a command's signal for the sleep after it, which must not begin before that
    // command was carried out.
    if watched[0].revents != 0 && frames.is_some() {
        let mut count = 0u64;
        // SAFETY: `count` is valid for writing the 8 bytes of an eventfd, which does not block.
        unsafe { libc::read(wake.as_raw_fd(), (&raw mut count).cast(), 8) };
    }
    watched[2].revents != 0
}

fn outboxes(config: &RelayConfig) -> Vec<Outbox> {
    let ports = config.networks.iter().flat_map(|network| &network.ports);
    ports.map(|port| Outbox { ifindex: port.ifindex, frames: Vec::new() }).collect()
}

fn put_out(outboxes: &mut [Outbox], touched: &mut Vec<usize>, slot: usize, frame: Frame, due: Option<Time>) {
    let outbox = &mut outboxes[slot];
    if outbox.frames.is_empty() {
        touched.push(slot);
    }
    outbox.frames.push((frame, due));
}

/// How far `CLOCK_REALTIME`, which stamps arrivals, is ahead of `CLOCK_MONOTONIC`; read anew each time, as it may be set.
#[derive(Clone, Copy, Debug)]
struct RealtimeOffset(u64);

impl RealtimeOffset {
    fn read(now: Time) -> Self {
        RealtimeOffset(clock::realtime().wrapping_sub(now.as_nanos()))
    }

    fn monotonic(self, realtime: u64) -> Time {
        Time::from_nanos(realtime.saturating_sub(self.0))
    }
}

/// Asks for exact timers and for precedence. The first is always granted, the second only with privilege, and the relay
/// does without.
fn favour_this_thread() {
    // SAFETY: these calls take numbers and, for the policy, a parameter that is valid for the call.
    unsafe {
        libc::prctl(libc::PR_SET_TIMERSLACK, 1, 0, 0, 0);
        let parameter = libc::sched_param { sched_priority: 1 };
        if libc::sched_setscheduler(0, libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK, &raw const parameter) != 0 {
            libc::setpriority(libc::PRIO_PROCESS, libc::gettid() as libc::id_t, -10);
        }
    }
}

#[cfg(test)]
mod tests {
    use nix::sys::eventfd::{EfdFlags, EventFd};

    use super::*;

    #[test]
    fn a_command_that_ends_the_gathering_ends_the_sleep_after_it_too() {
        let wake = EventFd::from_value_and_flags(0, EfdFlags::EFD_NONBLOCK).expect("eventfds are to be had");
        wake.write(1).expect("its counter is far from its end");
        let wake: OwnedFd = wake.into();
        let is_set = || {
            let mut watched = libc::pollfd { fd: wake.as_raw_fd(), events: libc::POLLIN, revents: 0 };
            // SAFETY: one structure, valid for the call.
            unsafe { libc::poll(&raw mut watched, 1, 0) == 1 }
        };
        wait_for(&wake, None, None);
        assert!(is_set(), "the sleep that follows would not see it");
        wait_for(&wake, Some([-1; 2]), None);
        assert!(!is_set(), "or the relay would never sleep again");
    }
}
