//! A tracker, the published peer and downloaders in virtual time; and what these must never do.
//!
//! * [`setup`]: what a world is made of.
//! * `peer`: tracker and peer, as the crate `p2p` has them.
//! * `client`: the driver of a downloader, on a disk of its own.
//! * `witness`: knows the file, and what is allowed.
//! * [`fluid`](mod@fluid): bounds on how fast any client can be.
//! * [`published`]: the client that was published, to compare with.
//! * [`timing`]: how long downloads take beside the bounds, over many seeds.
//!
//! The network is reliable and in order for connections, each way takes [`Setup::delay`], and nothing has a rate but the
//! peer's ports. Datagrams are lost as [`Setup::datagram_loss`] says.

mod client;
pub mod fluid;
mod peer;
pub mod published;
pub mod setup;
pub mod timing;
mod witness;

use std::collections::BTreeMap;

use bytes::Bytes;
use fetch::{CloseReason, Outcome, Progress};
use machine::{Machine, Stream, Time};
use p2p::downloader::{ChannelId, Config, Downloader, Input, Output};
use rand::{Rng, RngExt};

use crate::queue::Queue;

use client::{Client, Comes};
pub use fluid::Answer;
pub use peer::PortLife;
use peer::{Accepted, Leaves, Of, Peer};
pub use published::Published;
pub use setup::Setup;
pub use timing::{Summary, Timing};

/// A downloader, as its driver sees it.
pub trait Download: Machine<Input = Input, Output = Output> {
    /// Whether channels should be read.
    fn wants_body(&self) -> bool;

    /// How far it is.
    fn progress(&self) -> Progress;

    /// The file, if it is kept in memory and not on the disk.
    fn in_memory(&self) -> Option<&[u8]> {
        None
    }
}

/// How a world went.
#[derive(Clone, Debug)]
pub struct Report {
    /// Of each downloader.
    pub runs: Vec<Run>,
    /// Of every port that there was.
    pub lives: Vec<PortLife>,
}

/// How a download went.
#[derive(Clone, Debug)]
pub struct Run {
    /// How it ended and when, if it did.
    pub ended: Option<(Time, Outcome)>,
    /// What the downloader said last.
    pub progress: Progress,
    /// What the tracker told.
    pub answers: Vec<Answer>,
    /// How often the tracker was asked.
    pub questions: u64,
    /// Channels, in the order in which they were begun.
    pub channels: Vec<Channel>,
    /// What must not happen, and did.
    pub faults: Vec<String>,
    /// What was said and done, with times.
    pub log: Vec<(Time, String)>,
}

/// A connection to a port, as its client saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Channel {
    /// Which.
    pub id: ChannelId,
    /// Whom to; 0 is nobody's.
    pub port: u16,
    /// When it was asked for.
    pub begun: Time,
    /// When bytes first came.
    pub first: Option<Time>,
    /// When bytes came last.
    pub last: Option<Time>,
    /// When it was closed, by whoever.
    pub ended: Option<Time>,
    /// Bytes that came, heads included.
    pub received: u64,
    /// Requests that were sent.
    pub requests: u64,
}

impl Run {
    /// When the file was whole and right, if it was and nothing happened that must not.
    pub fn complete(&self) -> Option<Time> {
        let is_right = self.faults.is_empty();
        self.ended.as_ref().filter(|(_, end)| matches!(end, Outcome::Complete { .. }) && is_right).map(|(at, _)| *at)
    }
}

/// Tracker, peer and downloaders.
#[derive(Debug)]
pub struct World<D> {
    setup: Setup,
    queue: Queue<Event>,
    peer: Peer,
    /// When each of the peer's connections wants to be woken, so that it is planned once.
    served_wakes: BTreeMap<Of, Time>,
    clients: Vec<Client<D>>,
    chance: Stream,
}

#[derive(Debug)]
enum Event {
    /// Ports come and go.
    Changes,
    /// A datagram reaches the tracker.
    Asks {
        client: usize,
        datagram: Bytes,
    },
    /// One of a client's connections reaches the peer: its beginning, bytes, its end.
    Begins {
        of: Of,
        port: u16,
    },
    Sends {
        of: Of,
        bytes: Bytes,
    },
    Ends {
        of: Of,
    },
    /// A connection of the peer wants to be woken.
    Serves {
        of: Of,
        at: Time,
    },
    /// Something reaches a client.
    Comes {
        client: usize,
        what: Comes,
    },
    /// A client's machine wants to be woken.
    Wakes {
        client: usize,
        at: Time,
    },
    /// The first of a client's writes, or appends, under way is done.
    WriteDone {
        client: usize,
    },
    AppendDone {
        client: usize,
    },
    /// A sync is done; a piece, or all, is hashed.
    Synced {
        client: usize,
        generation: fetch::Generation,
    },
    Hashed {
        client: usize,
        generation: fetch::Generation,
        piece: Option<(fetch::PieceIndex, fetch::ByteRange)>,
    },
}

impl<D: Download> World<D> {
    /// A world at its beginning; `downloader` makes each client's machine.
    pub fn new(setup: Setup, downloader: impl Fn(Time, Config) -> D) -> World<D> {
        let mut content = vec![0; setup.size as usize];
        setup.seed("content").stream().fill_bytes(&mut content);
        let content = Bytes::from(content);
        let make = |_| Client::new(downloader(Time::ZERO, setup.config()), &setup, content.clone());
        World {
            queue: Queue::default(),
            clients: (0..setup.downloaders).map(make).collect(),
            peer: Peer::new(&setup, content.clone()),
            served_wakes: BTreeMap::new(),
            chance: setup.seed("network").stream(),
            setup,
        }
    }

    /// Lets time pass until every download has ended, or `until`.
    pub fn run(mut self, until: Time) -> Report {
        if let Some(at) = self.peer.changes_at() {
            self.queue.plan(at, Event::Changes);
        }
        for client in 0..self.clients.len() {
            self.drive(client);
        }
        while self.clients.iter().any(|client| !client.is_over()) && self.queue.next_at().is_some_and(|at| at <= until)
        {
            let event = self.queue.take().expect("there is a next one");
            self.happens(event);
        }
        Report { runs: self.clients.into_iter().map(Client::report).collect(), lives: self.peer.lives }
    }

    fn happens(&mut self, event: Event) {
        let now = self.queue.now();
        let arrives = now + self.setup.delay;
        match event {
            Event::Changes => {
                for (client, channel) in self.peer.change(now) {
                    let what = Comes::Closed(channel, CloseReason::Complete);
                    self.queue.plan(arrives, Event::Comes { client, what });
                }
                if let Some(at) = self.peer.changes_at() {
                    self.queue.plan(at, Event::Changes);
                }
            }
            Event::Asks { client, datagram } => {
                if let Some(answer) = self.peer.ask(now, client, &datagram)
                    && !self.is_lost()
                {
                    self.queue.plan(arrives, Event::Comes { client, what: Comes::Answer(answer) });
                }
            }
            Event::Begins { of: of @ (client, channel), port } => {
                let accepted = self.peer.accept(now, of, port);
                let first = match accepted {
                    Accepted::No => Comes::Closed(channel, CloseReason::Refused),
                    Accepted::Yes | Accepted::TooMany => Comes::Connected(channel),
                };
                self.queue.plan(arrives, Event::Comes { client, what: first });
                if accepted == Accepted::TooMany {
                    self.clients[client].witness.fault(now, "the peer closes one connection too many".to_owned());
                    let what = Comes::Closed(channel, CloseReason::Complete);
                    self.queue.plan(arrives, Event::Comes { client, what });
                }
                self.serve(of);
            }
            Event::Sends { of, bytes } => {
                self.peer.receive(now, of, bytes);
                self.serve(of);
            }
            Event::Ends { of } => {
                self.peer.forget(of);
                self.served_wakes.remove(&of);
            }
            Event::Serves { of, at } => {
                if self.served_wakes.get(&of) == Some(&at) {
                    self.served_wakes.remove(&of);
                    self.peer.advance(now, of);
                    self.serve(of);
                }
            }
            Event::Comes { client, what } => self.comes(client, what),
            Event::Wakes { client, at } => self.wake(client, at),
            Event::WriteDone { client } => self.write_done(client),
            Event::AppendDone { client } => self.clients[client].append_done(),
            Event::Synced { client, generation } => self.synced(client, generation),
            Event::Hashed { client, generation, piece } => self.hashed(client, generation, piece),
        }
    }

    /// Sends what leaves a connection of the peer, and plans when it is looked at again.
    fn serve(&mut self, of: Of) {
        let (client, channel) = of;
        let arrives = self.queue.now() + self.setup.delay;
        let (leaves, wakes) = self.peer.leaves(of);
        for leaves in leaves {
            match leaves {
                Leaves::Bytes(mut bytes) => {
                    // A stream keeps no boundaries: sometimes a part comes by itself.
                    if bytes.len() > 1 && self.chance.random_bool(0.1) {
                        let part = bytes.split_to(self.chance.random_range(1..bytes.len()));
                        self.queue.plan(arrives, Event::Comes { client, what: Comes::Bytes(channel, part) });
                    }
                    self.queue.plan(arrives, Event::Comes { client, what: Comes::Bytes(channel, bytes) });
                }
                Leaves::Close => {
                    let what = Comes::Closed(channel, CloseReason::Complete);
                    self.queue.plan(arrives, Event::Comes { client, what });
                }
            }
        }
        if let Some(at) = wakes
            && self.served_wakes.get(&of).is_none_or(|planned| at < *planned)
        {
            self.served_wakes.insert(of, at);
            self.queue.plan(at, Event::Serves { of, at });
        }
    }

    fn is_lost(&mut self) -> bool {
        self.setup.datagram_loss.holds(self.chance.random())
    }
}

impl Download for Downloader {
    fn wants_body(&self) -> bool {
        Downloader::wants_body(self)
    }

    fn progress(&self) -> Progress {
        Downloader::progress(self)
    }
}
