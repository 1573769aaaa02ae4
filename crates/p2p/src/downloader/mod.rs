//! The downloader: asks the tracker, puts its few connections where they bring most, and fetches blocks over them.
//!
//! Which bytes come from whom, what is on the disk and whether it is right is the [`fetch`] engine's work: each connection is
//! a source of its own to it, with a pace of its own. Here is what the engine does not know: who there is, that connections
//! are few and can be made anew elsewhere, and how blocks are asked for.
//!
//! * [`protocol`]: what it hears and says; start here to write a driver.
//! * `channel`: one connection: ranges to requests, answers to bytes.
//! * `peers`: who is known.
//! * `placement`: which peer a connection is worth having to.

mod channel;
mod peers;
mod placement;
pub mod protocol;

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;

use bytes::Bytes;
use fetch::{
    Blocks, CloseReason, Description, Digest, Engine, Expectation, Hashes, Outcome, Progress, RequestId, SourceId,
    Validator,
};
use machine::{Machine, Span, Time, Timers};

pub use protocol::{CONNECTIONS, ChannelId, ChannelStatus, Config, Input, Note, Output, Why};

use crate::layout::Layout;
use crate::tracker_text::{self, Answer};
use channel::Channel;
use peers::Peers;
use placement::{Candidate, Slot, State, Work};

/// A question that was not answered is asked again this much later than the tracker may answer again: its clock began with
/// an answer that was lost.
const ASK_SLACK: Span = Span::from_millis(50);

/// Channels are looked at this often, whatever happens.
const PLACE_EVERY: Span = Span::from_millis(100);

/// From the making of a channel to its first byte, in seconds, as long as none was measured.
const LATENCY_GUESS: f64 = 0.5;

/// Seconds for each byte, less than which nobody takes.
const FASTEST: f64 = 1e-12;

/// Fetches one file from the peers that a tracker names.
#[derive(Debug)]
pub struct Downloader {
    config: Config,
    peers: Peers,
    channels: BTreeMap<ChannelId, Channel>,
    /// Of the file, once it was named.
    layout: Option<Layout>,
    told_digest: Option<[u8; 32]>,
    engine: Option<Engine>,
    /// Where the engine's requests are.
    requests: BTreeMap<RequestId, ChannelId>,
    /// Seconds from the making of a channel to its first byte.
    latency: Option<f64>,
    asked: Option<Time>,
    is_alone: bool,
    is_finished: bool,
    next_channel: u64,
    timers: Timers<Why>,
    outputs: VecDeque<Output>,
}

impl Downloader {
    /// One that knows nothing but the name of its file, and asks the tracker at once.
    pub fn new(now: Time, config: Config) -> Downloader {
        let mut timers = Timers::default();
        timers.set(Why::Ask, now);
        Downloader {
            config,
            peers: Peers::default(),
            channels: BTreeMap::new(),
            layout: None,
            told_digest: None,
            engine: None,
            requests: BTreeMap::new(),
            latency: None,
            asked: None,
            is_alone: false,
            is_finished: false,
            next_channel: 0,
            timers,
            outputs: VecDeque::new(),
        }
    }

    /// Whether channels may be read: not while the disk is behind.
    pub fn wants_body(&self) -> bool {
        self.engine.as_ref().is_none_or(Engine::wants_body)
    }

    /// How far it is.
    pub fn progress(&self) -> Progress {
        self.engine.as_ref().map_or_else(Progress::default, Engine::progress)
    }

    /// The channels that are there, in the order of their making.
    pub fn channels(&self) -> Vec<ChannelStatus> {
        let status = |(id, channel): (&ChannelId, &Channel)| ChannelStatus {
            channel: *id,
            peer: channel.peer,
            received: channel.received,
            rate: self.peers.get(channel.peer).and_then(|peer| peer.pace).map_or(0, |pace| (1.0 / pace) as u64),
        };
        self.channels.iter().map(status).collect()
    }

    fn note(&mut self, note: Note) {
        self.outputs.push_back(Output::Note(note));
    }

    // ---- the tracker ----

    fn ask(&mut self, now: Time) {
        self.asked = Some(now);
        self.outputs.push_back(Output::AskTracker(tracker_text::request(&self.config.file).into()));
        self.timers.set(Why::Ask, now + self.config.ask_every + ASK_SLACK);
    }

    /// Whether another peer would be of use.
    fn wants_peers(&self, now: Time) -> bool {
        self.engine.is_none() || self.state(now).is_none_or(|(state, _)| state.wants_another(0.0))
    }

    fn tracker_said(&mut self, now: Time, datagram: &[u8]) {
        let answer = match Answer::decode(datagram) {
            Ok(answer) => answer,
            Err(error) => return self.note(Note::TrackerOdd(error.to_string())),
        };
        if let Some(asked) = self.asked {
            self.timers.set(Why::Ask, (asked + self.config.ask_every).max(now + self.config.ask_every));
        }
        if let Err(odd) = self.identify(now, &answer) {
            return self.note(Note::TrackerOdd(odd));
        }
        self.carry_out(now);
        for peer in answer.peers {
            let used: Vec<SocketAddr> = self.channels.values().map(|channel| channel.peer).collect();
            if self.peers.named(now, peer, |address| used.contains(&address)) {
                self.note(Note::Peer(peer));
            }
        }
        self.place(now);
    }

    /// Learns the file from the first answer, and holds later ones against it.
    fn identify(&mut self, now: Time, answer: &Answer) -> Result<(), String> {
        let block = self.config.block;
        if let Some(layout) = self.layout {
            if answer.size != layout.size {
                return Err(format!("it now tells of {} bytes instead of {}", answer.size, layout.size));
            }
            // One that its peers have not told it yet, or not again, contradicts nothing.
            if self.told_digest.zip(answer.digest).is_some_and(|(told, now)| told != now) {
                return Err("it now tells another SHA-256".into());
            }
            if let (None, Some(digest), Some(engine)) = (self.told_digest, answer.digest, &mut self.engine) {
                self.told_digest = Some(digest);
                engine.handle(now, fetch::Input::Expect(Expectation::Digest(Digest(digest))));
            }
            return Ok(());
        }
        let layout = Layout::new(answer.size, block).ok_or_else(|| format!("{} bytes are no size", answer.size))?;
        if answer.blocks != layout.blocks() {
            return Err(format!(
                "it counts {} blocks in {} bytes: with blocks of {block} there are {}",
                answer.blocks,
                answer.size,
                layout.blocks()
            ));
        }
        let small = u32::try_from(block).ok().filter(|block| fetch::Pieces::of_blocks(answer.size, *block).is_some());
        let size = small.ok_or_else(|| format!("{} bytes in blocks of {block} are too many", answer.size))?;
        let blocks = Blocks { size, sources: u32::try_from(self.config.connections).unwrap_or(u32::MAX) };
        self.layout = Some(layout);
        self.told_digest = answer.digest;
        self.engine = Some(Engine::new(fetch::Config {
            expect: self.config.expect.or(answer.digest.map(Digest)),
            remains: self.config.remains.take(),
            blocks: Some(blocks),
            ..fetch::Config::new(self.config.boot)
        }));
        self.note(Note::Found { size: layout.size, blocks: layout.blocks() });
        Ok(())
    }

    /// What is fetched. There is nothing but name and size by which a file is the one of an earlier run.
    fn description(&self, layout: Layout) -> Description {
        let name: String = self.config.file.chars().filter(char::is_ascii_alphanumeric).take(100).collect();
        let tag = format!("\"csp2p-{name}-{}-{}\"", layout.size, layout.block_size());
        Description {
            length: layout.size,
            validator: Validator::parse(&tag),
            ranges: true,
            hashes: Hashes::Unpublished,
        }
    }

    // ---- channels ----

    fn connect(&mut self, now: Time, peer: SocketAddr) {
        let channel = ChannelId(self.next_channel);
        self.next_channel += 1;
        self.channels.insert(channel, Channel::new(now, peer));
        self.outputs.push_back(Output::Connect { channel, peer });
    }

    fn connected(&mut self, now: Time, id: ChannelId) {
        let Some(engine) = &mut self.engine else { return };
        let Some(channel) = self.channels.get_mut(&id).filter(|channel| channel.source.is_none()) else { return };
        let peer = channel.peer;
        let pace = self.peers.get(peer).and_then(|known| known.pace);
        channel.source = Some(match (pace, self.latency) {
            (Some(pace), Some(latency)) => engine.add_known_source(now, 1.0 / pace.max(FASTEST), span(latency)),
            _ => engine.add_source(now),
        });
        self.note(Note::Opened { channel: id, peer });
        self.carry_out(now);
    }

    fn received(&mut self, now: Time, id: ChannelId, bytes: &Bytes) {
        let Some(engine) = &mut self.engine else { return };
        let Some(channel) = self.channels.get_mut(&id) else { return };
        let was_measured = channel.pace.measured().is_some();
        let was_silent = channel.pace.first().is_none();
        let mut told = Vec::new();
        let outcome = channel.feed(now, bytes, |input| told.push(input));
        told.into_iter().for_each(|input| engine.handle(now, input));
        let Some(channel) = self.channels.get(&id) else { return };
        let (peer, measured) = (channel.peer, channel.pace.measured());
        if let (Some(pace), Some(source)) = (measured, channel.source) {
            engine.set_speed(now, source, 1.0 / pace.max(FASTEST));
        }
        if was_silent && channel.pace.first().is_some() {
            let latency = now.since(channel.begun).as_secs_f64();
            self.latency = Some(self.latency.map_or(latency, |known| (known * 3.0 + latency) / 4.0));
        }
        if let (Some(pace), Some(known)) = (measured, self.peers.get_mut(peer)) {
            known.pace = Some(pace);
        }
        if let Err(why) = outcome {
            self.ban(now, id, peer, why);
        }
        self.carry_out(now);
        if !was_measured && measured.is_some() {
            self.place(now);
        }
    }

    /// What it says is of no use, and may be harm: nothing more is asked of it.
    fn ban(&mut self, now: Time, id: ChannelId, peer: SocketAddr, why: String) {
        if let Some(known) = self.peers.get_mut(peer) {
            known.is_banned = true;
        }
        self.note(Note::Banned { peer, why });
        self.close(now, id);
        let others: Vec<ChannelId> =
            self.channels.iter().filter(|(_, channel)| channel.peer == peer).map(|(id, _)| *id).collect();
        others.into_iter().for_each(|other| self.close(now, other));
        self.place(now);
    }

    fn close(&mut self, now: Time, id: ChannelId) {
        if self.channels.contains_key(&id) {
            self.outputs.push_back(Output::Close { channel: id });
            self.forget(now, id);
        }
    }

    /// Its ranges go to the others.
    fn forget(&mut self, now: Time, id: ChannelId) {
        let Some(channel) = self.channels.remove(&id) else { return };
        let slow = channel.at_least(now, self.latency.unwrap_or(LATENCY_GUESS));
        if let Some(known) = self.peers.get_mut(channel.peer) {
            // Or else it would be tried again, as one of which nothing is known.
            known.at_least = known.at_least.max(slow);
        }
        self.requests.retain(|_, of| *of != id);
        if let (Some(engine), Some(source)) = (&mut self.engine, channel.source) {
            engine.remove_source(now, source);
        }
        self.carry_out(now);
    }

    fn lost(&mut self, now: Time, id: ChannelId, why: CloseReason) {
        let Some(channel) = self.channels.get(&id) else { return };
        let (peer, delivered) = (channel.peer, channel.received > 0);
        self.peers.lost(now, peer, delivered, why);
        self.note(Note::Lost { peer, why });
        self.forget(now, id);
        self.place(now);
    }

    // ---- the engine ----

    fn channel_of(&self, source: SourceId) -> Option<ChannelId> {
        self.channels.iter().find(|(_, channel)| channel.source == Some(source)).map(|(id, _)| *id)
    }

    fn carry_out(&mut self, now: Time) {
        while let Some(output) = self.engine.as_mut().and_then(Engine::poll) {
            match output {
                fetch::Output::Describe { request, source, .. } => self.describe(now, request, source),
                fetch::Output::Open { request, source, range, .. } => {
                    let (Some(id), Some(layout)) = (self.channel_of(source), self.layout) else { continue };
                    let Some(channel) = self.channels.get_mut(&id) else { continue };
                    let bytes = channel.ask(&self.config.file, layout, request, range);
                    self.requests.insert(request, id);
                    self.outputs.push_back(Output::Send { channel: id, bytes });
                }
                fetch::Output::Cancel { request } => self.cancelled(now, request),
                fetch::Output::Note(fetch::Note::Source { .. } | fetch::Note::NoRanges { .. }) => {}
                fetch::Output::Note(note) => self.note(Note::Engine(note)),
                fetch::Output::Finished(outcome) => self.finish(outcome),
                disk => self.outputs.push_back(Output::Disk(disk)),
            }
        }
    }

    /// The engine asks what is known already; if it asks again, it heard nothing from the source for too long.
    fn describe(&mut self, now: Time, request: RequestId, source: SourceId) {
        let (Some(id), Some(layout)) = (self.channel_of(source), self.layout) else { return };
        let Some(channel) = self.channels.get_mut(&id) else { return };
        if std::mem::replace(&mut channel.is_described, true) {
            self.outputs.push_back(Output::Close { channel: id });
            self.lost(now, id, CloseReason::TimedOut);
            return;
        }
        let description = self.description(layout);
        if let Some(engine) = &mut self.engine {
            engine.handle(now, fetch::Input::Described { request, description });
        }
    }

    /// Nobody can be told to stop: what is not wanted comes, unless the channel ends.
    fn cancelled(&mut self, now: Time, request: RequestId) {
        let Some(id) = self.requests.remove(&request) else { return };
        let Some(channel) = self.channels.get_mut(&id) else { return };
        channel.cancel(request);
        let unwanted = channel.unwanted() as f64;
        let pace = self.peers.get(channel.peer).and_then(|peer| peer.pace).unwrap_or(0.0);
        if unwanted * pace > self.latency.unwrap_or(LATENCY_GUESS) {
            self.close(now, id);
            self.timers.set(Why::Place, now);
        }
    }

    fn finish(&mut self, outcome: Outcome) {
        self.is_finished = true;
        self.timers = Timers::default();
        let open: Vec<ChannelId> = std::mem::take(&mut self.channels).into_keys().collect();
        self.outputs.extend(open.into_iter().map(|channel| Output::Close { channel }));
        self.outputs.push_back(Output::Finished(outcome));
    }

    // ---- placement ----

    /// What is known for placing channels, and the addresses of its peers; `None` where nothing is to be placed.
    fn state(&self, now: Time) -> Option<(State, Vec<SocketAddr>)> {
        let progress = self.engine.as_ref()?.progress();
        let missing = self.layout?.size - progress.here.min(self.layout?.size);
        let latency = self.latency.unwrap_or(LATENCY_GUESS);
        let usable: Vec<SocketAddr> = self.peers.usable(now).map(|peer| peer.address).collect();
        let mut addresses = usable.clone();
        for channel in self.channels.values() {
            if !addresses.contains(&channel.peer) {
                addresses.push(channel.peer);
            }
        }
        let at_least = |address: SocketAddr| {
            let of = self.channels.values().filter(|channel| channel.peer == address);
            let known = self.peers.get(address).map_or(0.0, |peer| peer.at_least);
            of.map(|channel| channel.at_least(now, latency)).fold(known, f64::max)
        };
        let candidate = |address: &SocketAddr| Candidate {
            pace: self.peers.get(*address).and_then(|peer| peer.pace),
            at_least: at_least(*address),
            is_open: usable.contains(address),
        };
        let peers = addresses.iter().map(candidate).collect();
        let slot = |channel: &Channel| Slot {
            work: addresses.iter().position(|address| *address == channel.peer).map(|peer| Work {
                peer,
                starts: match channel.pace.first() {
                    Some(_) => 0.0,
                    None => (latency - now.since(channel.begun).as_secs_f64()).max(0.01),
                },
            }),
            begun: channel.begun_block() as f64,
        };
        let mut slots: Vec<Slot> = self.channels.values().map(slot).collect();
        slots.resize(self.config.connections.max(slots.len()), Slot { work: None, begun: 0.0 });
        Some((State { slots, peers, missing: missing as f64, latency }, addresses))
    }

    /// Puts channels where they bring most.
    fn place(&mut self, now: Time) {
        if self.is_finished || self.engine.is_none() {
            return;
        }
        for _ in 0..2 * self.config.connections {
            let Some((state, addresses)) = self.state(now) else { break };
            if state.missing <= 0.0 && self.layout.is_some_and(|layout| layout.size > 0) {
                break;
            }
            let moves = state.next_moves();
            if moves.is_empty() {
                break;
            }
            // Closing one changes the places of the others.
            let ids: Vec<ChannelId> = self.channels.keys().copied().collect();
            for next in moves {
                let to = addresses[next.peer];
                if let Some((&id, channel)) = ids.get(next.slot).and_then(|id| self.channels.get_key_value(id)) {
                    let from = channel.peer;
                    self.note(Note::Moved { channel: id, from, to });
                    self.close(now, id);
                }
                self.connect(now, to);
            }
        }
        let alone = self.channels.is_empty() && self.peers.usable(now).next().is_none();
        if alone && !self.is_alone {
            self.note(Note::Alone);
        }
        self.is_alone = alone;
        let soon = if self.channels.is_empty() { self.peers.next_back(now) } else { Some(now + PLACE_EVERY) };
        match soon {
            Some(at) => self.timers.set(Why::Place, at),
            None => _ = self.timers.cancel(Why::Place),
        }
    }
}

impl Machine for Downloader {
    type Input = Input;
    type Output = Output;
    type Why = Why;

    fn handle(&mut self, now: Time, input: Input) {
        if self.is_finished {
            return;
        }
        match input {
            Input::Tracker(datagram) => self.tracker_said(now, &datagram),
            Input::Connected(channel) => self.connected(now, channel),
            Input::Received { channel, bytes } => self.received(now, channel, &bytes),
            Input::Closed { channel, why } => self.lost(now, channel, why),
            Input::Disk(answer) => {
                if let Some(engine) = &mut self.engine {
                    engine.handle(now, answer);
                }
                self.carry_out(now);
            }
        }
    }

    fn advance(&mut self, now: Time) {
        while let Some((_, why)) = self.timers.pop(now) {
            match why {
                Why::Ask if self.wants_peers(now) => self.ask(now),
                Why::Ask => self.timers.set(Why::Ask, now + PLACE_EVERY),
                Why::Place | Why::Engine(_) => self.place(now),
            }
        }
        if let Some(engine) = &mut self.engine {
            engine.advance(now);
        }
        self.carry_out(now);
    }

    fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    fn deadline(&self) -> Option<(Time, Why)> {
        if self.is_finished {
            return None;
        }
        let engine = self.engine.as_ref().and_then(Machine::deadline).map(|(at, why)| (at, Why::Engine(why)));
        self.timers.next().into_iter().chain(engine).min_by_key(|(at, _)| *at)
    }
}

fn span(seconds: f64) -> Span {
    Span::from_nanos((seconds * 1e9) as u64)
}
