//! One transfer at a receiver.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use machine::{Machine as _, Time};
use nix::sys::eventfd::EventFd;
use p2mp::fast::{
    Announce, DataHeader, Fate, Identity, Layout, Manifest, Packet, Poll, Receiver, ReceiverConfig, ReceiverInput,
    ReceiverOutput, SessionId,
};

use super::Options;
use super::compare::Comparer;
use super::store::{Request, Store};
use super::target;
use super::worker::{Answer, Job, WorkError};
use crate::p2mp_receiver::target::of_sender;
use crate::udp::{Interface, Refusal, Socket};

/// The machine, its files, and what comes out of the one done to the other.
#[derive(Debug)]
pub(super) struct Session {
    options: Options,
    config: ReceiverConfig,
    machine: Receiver,
    wake: Arc<EventFd>,
    /// The address of this host that the sender knows.
    own: Option<IpAddr>,
    store: Option<Store>,
    length: u64,
    /// Bytes of a symbol.
    payload: u64,
    notes: Vec<Note>,
    fate: Option<Fate>,
}

/// What happened, for people and the testbed.
#[derive(Debug)]
pub(super) enum Note {
    /// In a line.
    Says(String),
    /// A file is under its name.
    Kept { path: PathBuf, length: u64 },
}

impl Session {
    /// The session that `announce` is of, which has still to be taken.
    pub(super) fn new(
        options: Options,
        config: ReceiverConfig,
        wake: Arc<EventFd>,
        now: Time,
        from: SocketAddr,
        id: SessionId,
        announce: &Announce,
    ) -> Self {
        let machine = Receiver::new(config.clone(), now, from, id, announce);
        Session {
            options,
            config,
            machine,
            wake,
            own: None,
            store: None,
            length: 0,
            payload: 0,
            notes: Vec::new(),
            fate: None,
        }
    }

    pub(super) fn machine(&self) -> &Receiver {
        &self.machine
    }

    /// How it ended, once it has.
    pub(super) fn fate(&self) -> Option<Fate> {
        self.fate.clone()
    }

    pub(super) fn notes(&mut self) -> impl Iterator<Item = Note> {
        self.notes.drain(..)
    }

    /// Bytes in hand, and of all files.
    pub(super) fn progress(&self) -> (u64, u64) {
        let (held, all) = self.machine.symbols();
        let bytes = u128::from(self.length) * u128::from(held) / u128::from(all.max(1));
        (bytes as u64, self.length)
    }

    /// Bytes received, of use or not.
    pub(super) fn received(&self) -> u64 {
        self.machine.received().saturating_mul(self.payload)
    }

    /// Ends the work on the disk; what is whole and not finished stays for the next run.
    pub(super) fn close(self) {
        drop(self.store);
    }

    /// Somebody has sent it a packet, to that address of this host unless it was to a group. Reports go out from the one
    /// that their sender, who may have moved, has used.
    pub(super) fn asked(&mut self, from: SocketAddr, own: Option<IpAddr>) {
        if own.is_some() && from == self.machine.sender() {
            self.own = own;
        }
    }

    /// Takes a packet without data.
    pub(super) fn take(
        &mut self,
        now: Time,
        socket: &Socket,
        from: SocketAddr,
        session: SessionId,
        packet: Packet<'_>,
        size: usize,
    ) {
        let input = match packet {
            Packet::Announce(announce) => {
                let size = u16::try_from(size).unwrap_or(u16::MAX);
                ReceiverInput::Announce { from, session, announce, size }
            }
            Packet::Release(release) => ReceiverInput::Release { session, release },
            Packet::Data(..) | Packet::Report(_) => return,
        };
        self.machine.handle(now, input);
        self.carry_out(now, socket, None);
    }

    /// Takes data packets that came together: their payloads, and the first one's header as [`ReceiverInput::Data`] has it.
    /// Reports that they ask for are sent by [`Session::advance`], one for all.
    pub(super) fn take_data(
        &mut self,
        now: Time,
        socket: &Socket,
        session: SessionId,
        first: DataHeader,
        symbols: &[&[u8]],
        arrived: Time,
    ) {
        let mut at = 0;
        while at < symbols.len() {
            let count = self.whole(&first, at, &symbols[at..]);
            // One that has not its length counts as lost.
            let end = at + count.max(1);
            if count > 0 {
                let poll = if end == symbols.len() { first.poll } else { Poll::Nobody };
                let (number, symbol) = (first.number + at as u64, first.symbol + at as u16);
                let first = DataHeader { number, symbol, poll, ..first };
                self.machine.handle(now, ReceiverInput::Data { session, first, count: count as u16, arrived });
                self.carry_out(now, socket, Some((symbol, &symbols[at..end])));
            }
            at = end;
        }
    }

    /// How many of the payloads, which begin `at` behind the first packet's, are as long as they should be. The machine
    /// counts symbols and never sees them: only whole ones may be counted.
    fn whole(&mut self, first: &DataHeader, at: usize, symbols: &[&[u8]]) -> usize {
        let Some(store) = &mut self.store else { return symbols.len() };
        let Some(block) = store.blocks.block(first.block) else { return 0 };
        let numbers = usize::from(first.symbol) + at..;
        let is_whole = |(number, symbol): &(usize, &&[u8])| {
            let length = u16::try_from(*number).ok().and_then(|number| block.length_of(number));
            length.map(usize::from) == Some(symbol.len())
        };
        numbers.zip(symbols).take_while(is_whole).count()
    }

    /// Carries out what is due, and what the disk has answered.
    pub(super) fn advance(&mut self, now: Time, socket: &Socket) {
        while let Some(answer) = self.store.as_mut().and_then(|store| store.worker.answer()) {
            match answer {
                Answer::Verified { file, is_right } => {
                    self.machine.handle(now, ReceiverInput::Verified { file, is_right });
                }
                Answer::Kept { path, length } => self.notes.push(Note::Kept { path, length }),
                Answer::Failed(error) => self.fail(now, &error),
            }
        }
        while let Some((file, is_right)) = self.comparer().and_then(|comparer| comparer.answer()) {
            self.machine.handle(now, ReceiverInput::Compared { file, is_right });
        }
        self.machine.advance(now);
        self.carry_out(now, socket, None);
    }

    fn comparer(&mut self) -> Option<&mut Comparer> {
        self.store.as_mut().and_then(|store| store.comparer.as_mut())
    }

    /// Carries out what the machine wants. `data` are the payloads that were handed in last, and the first one's symbol.
    fn carry_out(&mut self, now: Time, socket: &Socket, data: Option<(u16, &[&[u8]])>) {
        while let Some(output) = self.machine.poll() {
            match output {
                ReceiverOutput::Store { block, symbol, count } => {
                    let (Some(store), Some((first, symbols))) = (&mut self.store, data) else { continue };
                    let kept = &symbols[usize::from(symbol - first)..][..usize::from(count)];
                    let mut put = (symbol..).zip(kept).map(|(symbol, bytes)| store.blocks.put(block, symbol, bytes));
                    if let Some(Err(error)) = put.find(Result::is_err) {
                        self.fail(now, &error.into());
                    }
                }
                ReceiverOutput::Restore { block } => self.restore(now, block),
                ReceiverOutput::Datagram { to, bytes } => match socket.send_from(self.own, to, &bytes) {
                    None | Some(Refusal::Full) => {}
                    Some(refusal) => tracing::debug!(%to, ?refusal, "a report was not sent"),
                },
                ReceiverOutput::Join { group } => self.join(socket, group),
                ReceiverOutput::Open { manifest, layout, identity } => self.open(now, manifest, layout, identity),
                ReceiverOutput::Verify { file, digest } => self.verify(file, digest),
                ReceiverOutput::Compare { file, digest } => {
                    if let Some(comparer) = self.comparer() {
                        comparer.give(file, digest);
                    }
                }
                ReceiverOutput::Keep { file } => {
                    if let Some(store) = &mut self.store {
                        store.blocks.forget(file);
                        store.worker.give(Job::Keep { file });
                    }
                }
                ReceiverOutput::Discard { file } => {
                    if let Some(store) = &mut self.store {
                        store.blocks.forget(file);
                        store.worker.give(Job::Discard { file });
                    }
                    self.notes
                        .push(Note::Says("a file has not the digest that its sender says; it comes again".to_owned()));
                }
                ReceiverOutput::Finished(fate) => self.finished(fate),
            }
        }
    }

    fn restore(&mut self, now: Time, index: u32) {
        let Some(store) = &mut self.store else { return };
        if let Err(error) = store.blocks.flush() {
            return self.fail(now, &error.into());
        }
        let Some(block) = store.blocks.block(index) else { return };
        let holds = store.blocks.take(index);
        store.blocks.handed_on().for_each(|job| store.worker.give(job));
        store.worker.give(Job::Whole { block, holds });
    }

    fn verify(&mut self, file: usize, digest: [u8; 32]) {
        let Some(store) = &mut self.store else { return };
        store.blocks.hand_on(file);
        store.blocks.handed_on().for_each(|job| store.worker.give(job));
        store.worker.give(Job::Verify { file, digest });
    }

    fn join(&mut self, socket: &Socket, group: SocketAddr) {
        // The program's port is the only one that it listens on.
        let is_ours = socket.local_address().is_ok_and(|local| local.port() == group.port());
        let interface = self.options.interface.map_or_else(|| Interface::towards(self.machine.sender().ip()), Ok);
        let joined = interface
            .map_err(|error| error.to_string())
            .and_then(|interface| socket.join(group.ip(), &interface).map_err(|error| error.to_string()));
        if let (Err(error), true) = (joined, is_ours) {
            // The sender finds out that it does not reach this receiver so.
            tracing::info!(%group, %error, "cannot listen to the group");
        }
    }

    fn open(&mut self, now: Time, manifest: Arc<Manifest>, layout: Arc<Layout>, identity: Identity) {
        // What is open is closed first: its locks are taken again.
        self.store = None;
        (self.length, self.payload) = (manifest.length(), layout.payload().into());
        let (overwrite, member) = (self.options.overwrite, self.config.member);
        let open = |target: &Path| {
            let paths = target::paths(target, &manifest)?;
            let (manifest, layout) = (Arc::clone(&manifest), Arc::clone(&layout));
            let request = Request { paths, manifest, layout, identity, member, overwrite };
            Store::open(&request, Arc::clone(&self.wake))
        };
        let target = &self.options.target;
        let mut opened = open(target);
        // As a classic sender's file does, when another one holds FILE.
        if let Some(taken) = opened.as_ref().err().filter(|error| error.is_anothers() && !target.is_dir()) {
            let aside = of_sender(target, self.machine.sender());
            self.notes.push(Note::Says(format!("{}: {}", aside.display(), crate::roles::in_a_line(taken))));
            opened = open(&aside);
        }
        match opened {
            Ok((store, held)) => {
                self.store = Some(store);
                let files = manifest.files().len();
                let (length, sender) = (self.length, self.machine.sender());
                let resumed = if held.is_empty() { "" } else { ", a part of which is here already" };
                let what = if files == 1 { "a file".to_owned() } else { format!("{files} files") };
                self.notes.push(Note::Says(format!("{sender} sends {what}, {length} bytes{resumed}")));
                let there = self.store.as_ref().and_then(|store| store.comparer.as_ref());
                let there = there.map_or_else(Vec::new, Comparer::files);
                self.machine.handle(now, ReceiverInput::Opened { held, there });
            }
            Err(error) => self.fail(now, &error),
        }
    }

    fn fail(&mut self, now: Time, error: &WorkError) {
        let why = crate::roles::in_a_line(error);
        self.notes.push(Note::Says(format!("error: {why}")));
        self.machine.handle(now, ReceiverInput::Failed { why });
    }

    fn finished(&mut self, fate: Fate) {
        let sender = self.machine.sender();
        match &fate {
            Fate::Complete => {}
            Fate::GivenUp => self.notes.push(Note::Says(format!("{sender} has given this receiver up"))),
            Fate::Failed(why) => self.notes.push(Note::Says(format!("failed: {why}"))),
        }
        self.fate = Some(fate);
    }
}
