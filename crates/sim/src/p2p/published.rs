//! The client that was published, in its better form, and the same with requests sent ahead.
//!
//! Five threads with a connection each, to five different peers. Each takes the next block when it has its last one; who
//! loses its connection gives its block back and waits for a peer that the tracker names anew. The file is kept in memory.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;

use bytes::Bytes;
use fetch::{CloseReason, Integrity, Outcome, Progress};
use machine::{Machine, Time};
use p2p::Layout;
use p2p::downloader::{ChannelId, Config, Input, Output};
use p2p::peer_text::{Answers, Heard, Part, Request};
use p2p::tracker_text;

use super::Download;

/// Downloads as published.
#[derive(Debug)]
pub struct Published {
    config: Config,
    /// Requests that each connection has under way; 1 as published.
    ahead: usize,
    layout: Option<Layout>,
    data: Vec<u8>,
    /// Blocks that nobody has asked for, or not for long enough.
    wanted: VecDeque<u64>,
    here: u64,
    received: u64,
    channels: BTreeMap<ChannelId, Thread>,
    begun: u64,
    asks_at: Time,
    outputs: VecDeque<Output>,
    is_over: bool,
}

#[derive(Debug, Default)]
struct Thread {
    peer: Option<SocketAddr>,
    answers: Answers,
    /// What it has asked for.
    blocks: VecDeque<u64>,
    /// Where its next bytes belong.
    at: usize,
}

impl Published {
    /// At its beginning.
    pub fn new(now: Time, config: Config, ahead: usize) -> Published {
        Published {
            config,
            ahead,
            layout: None,
            data: Vec::new(),
            wanted: VecDeque::new(),
            here: 0,
            received: 0,
            channels: BTreeMap::new(),
            begun: 0,
            asks_at: now,
            outputs: VecDeque::new(),
            is_over: false,
        }
    }

    fn told(&mut self, datagram: &[u8]) {
        let Ok(answer) = tracker_text::Answer::decode(datagram) else { return };
        let Some(layout) = Layout::new(answer.size, self.config.block) else { return };
        if self.layout.is_none() {
            self.layout = Some(layout);
            self.data = vec![0; answer.size as usize];
            // The last one is empty where the size is a multiple of a block's.
            self.wanted =
                (0..layout.blocks()).filter(|nth| layout.block(*nth).is_some_and(|at| at.length > 0)).collect();
        }
        for peer in answer.peers {
            let is_new = self.channels.values().all(|thread| thread.peer != Some(peer));
            if is_new && self.channels.len() < self.config.connections && !self.wanted.is_empty() {
                let channel = ChannelId(self.begun);
                self.begun += 1;
                self.channels.insert(channel, Thread { peer: Some(peer), ..Thread::default() });
                self.outputs.push_back(Output::Connect { channel, peer });
                self.ask_ahead(channel);
            }
        }
    }

    fn ask_ahead(&mut self, channel: ChannelId) {
        let Some(thread) = self.channels.get_mut(&channel) else { return };
        while thread.blocks.len() < self.ahead
            && let Some(block) = self.wanted.pop_front()
        {
            thread.blocks.push_back(block);
            let request = Request { file: self.config.file.clone(), part: Part::Block(block), head_only: false };
            self.outputs.push_back(Output::Send { channel, bytes: Bytes::from(format!("{request}\n")) });
        }
        if thread.blocks.is_empty() {
            self.channels.remove(&channel);
            self.outputs.push_back(Output::Close { channel });
        }
    }

    fn received(&mut self, channel: ChannelId, bytes: &[u8]) {
        let Some(thread) = self.channels.get_mut(&channel) else { return };
        let Thread { answers, blocks, at, .. } = thread;
        let (mut is_wrong, mut body) = (false, 0);
        let outcome = answers.feed(bytes, false, |heard| match heard {
            Heard::Head(span) => {
                let asked = blocks.front().and_then(|block| self.layout?.block(*block));
                is_wrong |= asked != Some(span);
                *at = span.offset as usize;
            }
            Heard::Body(bytes) if !is_wrong => {
                self.data[*at..*at + bytes.len()].copy_from_slice(bytes);
                *at += bytes.len();
                body += bytes.len() as u64;
            }
            Heard::Body(_) => {}
            Heard::End => {
                let done = blocks.pop_front().and_then(|block| self.layout?.block(block));
                self.here += done.map_or(0, |span| span.length);
            }
        });
        self.received += body;
        if is_wrong || outcome.is_err() {
            self.outputs.push_back(Output::Close { channel });
            return self.lost(channel);
        }
        self.ask_ahead(channel);
        if self.here == self.data.len() as u64 {
            self.is_over = true;
            self.outputs.push_back(Output::Finished(Outcome::Complete { integrity: Integrity::Transport }));
        }
    }

    fn lost(&mut self, channel: ChannelId) {
        if let Some(thread) = self.channels.remove(&channel) {
            thread.blocks.into_iter().rev().for_each(|block| self.wanted.push_front(block));
        }
    }

    fn wants_peers(&self) -> bool {
        !self.is_over
            && self.channels.len() < self.config.connections
            && (self.layout.is_none() || !self.wanted.is_empty())
    }
}

impl Machine for Published {
    type Input = Input;
    type Output = Output;
    /// To ask the tracker.
    type Why = Asks;

    fn handle(&mut self, now: Time, input: Input) {
        match input {
            Input::Tracker(datagram) => self.told(&datagram),
            Input::Received { channel, bytes } => self.received(channel, &bytes),
            Input::Closed { channel, why } => {
                debug_assert_ne!(why, CloseReason::TimedOut, "no driver here waits in vain");
                self.lost(channel);
            }
            Input::Connected(_) | Input::Disk(_) => {}
        }
        self.advance(now);
    }

    fn advance(&mut self, now: Time) {
        if self.wants_peers() && self.asks_at <= now {
            self.asks_at = now + self.config.ask_every;
            self.outputs.push_back(Output::AskTracker(tracker_text::request(&self.config.file).into()));
        }
    }

    fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    fn deadline(&self) -> Option<(Time, Asks)> {
        self.wants_peers().then_some((self.asks_at, Asks))
    }
}

impl Download for Published {
    fn wants_body(&self) -> bool {
        true
    }

    fn progress(&self) -> Progress {
        Progress {
            length: self.layout.map(|layout| layout.size),
            here: self.here,
            recorded: 0,
            received: self.received,
            wasted: self.received - self.here,
            unwritten: 0,
        }
    }

    fn in_memory(&self) -> Option<&[u8]> {
        Some(&self.data)
    }
}

/// The tracker is due to be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asks;
