//! Servers, a check server and a client that runs the real engine; and what it must never do.
//!
//! * `client`: the engine's driver in virtual time, on a disk that keeps only what was promised.
//! * `witness`: knows what a right file is, and what was recorded.

mod client;
mod witness;

use bytes::Bytes;
use fetch::{CloseReason, Config, Digest, Hashes, Input, Outcome, RequestId};
use machine::{Rate, Seed, Span, Stream, Time};
use rand::RngExt;

use crate::disk::{Damage, Disk};
use crate::queue::Queue;
use crate::server::{Chunk, Content, Health, Server};

use client::Client;
use witness::Witness;

/// What befalls a world.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A server changes its health: `Up` revives, or ends a stall.
    Health(usize, Health),
    /// A server's link changes its rate.
    Rate(usize, Rate),
    /// A server gets another version of the file.
    Content(usize, usize),
    /// The check server says something that is not so.
    Rumour {
        /// About whom.
        server: usize,
        /// What it says.
        alive: bool,
    },
    /// The client's process is killed.
    KillClient,
    /// The client's machine loses power.
    CutPower,
    /// The client starts again, on what it finds.
    ReviveClient(Damage),
}

/// How a download went.
#[derive(Clone, Debug)]
pub struct Report {
    /// The engine's outcome, if it came to one.
    pub outcome: Option<Outcome>,
    /// When it ended, or when the run was given up.
    pub ended: Time,
    /// Body bytes that reached engines, in all lives of the client.
    pub received: u64,
    /// Of those, what the last engine called wasted.
    pub wasted: u64,
    /// Ranges that were asked for.
    pub opens: u64,
    /// Questions that were asked about the file.
    pub questions: u64,
    /// When the first body bytes of each life of each server came.
    pub first_bytes: Vec<FirstBytes>,
    /// What must not happen, and did.
    pub faults: Vec<String>,
    /// What was said, with times.
    pub log: Vec<String>,
}

/// The first body bytes of one life of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FirstBytes {
    /// Which server.
    pub server: usize,
    /// Counts its lives.
    pub life: u32,
    /// When they came.
    pub at: Time,
}

impl Report {
    /// Whether the file is whole and right, and nothing happened that must not.
    pub fn is_complete(&self) -> bool {
        matches!(self.outcome, Some(Outcome::Complete { .. })) && self.faults.is_empty()
    }
}

/// A client, its servers, and what will befall them.
#[derive(Debug)]
pub struct World {
    queue: Queue<Event>,
    contents: Vec<Content>,
    servers: Vec<Server>,
    /// When each server's link will next be looked at, so that it is planned once.
    sending: Vec<Option<Time>>,
    /// How long the check server takes to publish a dead process, and a dead machine.
    check: Option<(Span, Span)>,
    client: Option<Client>,
    disk: Disk,
    has_remains: bool,
    client_lives: u32,
    boots: u8,
    expect: Option<Digest>,
    witness: Witness,
    chance: Stream,
    received: u64,
    opens: u64,
    questions: u64,
    first_bytes: Vec<FirstBytes>,
    ended: Option<(Time, Outcome, u64)>,
}

#[derive(Debug)]
enum Event {
    /// A request reaches its server.
    Reaches { server: usize, life: u32, client_life: u32, request: RequestId, asks: Asks, connection: u64 },
    /// A server has computed hashes that a client waits for.
    Publishes { server: usize, life: u32, client_life: u32, request: RequestId },
    /// A server's link is free.
    Sends(usize),
    /// Body bytes arrive.
    Arrives { server: usize, life: u32, chunk: Chunk },
    /// They are acknowledged.
    Acknowledged { server: usize, life: u32, connection: u64, len: u64 },
    /// Something reaches the client's engine.
    Tells { client_life: u32, input: Input },
    /// A write of the client's is done.
    WriteDone { client_life: u32 },
    /// An append of the client's is done.
    AppendDone { client_life: u32 },
    /// A sync of the client's is done.
    SyncDone { client_life: u32, generation: fetch::Generation },
    /// A piece, or the whole file, is read back and hashed.
    HashDone { client_life: u32, generation: fetch::Generation, piece: Option<(fetch::PieceIndex, fetch::ByteRange)> },
    /// The engine's deadline.
    Wakes { client_life: u32, at: Time },
    /// A fault.
    Befalls(Fault),
}

/// What a request is for.
#[derive(Clone, Copy, Debug)]
enum Asks {
    /// The file's length and tag, and its hashes or not.
    What { manifest: bool },
    /// A part of it.
    Range(fetch::ByteRange),
}

impl World {
    /// A world without servers, whose client has not started yet.
    pub fn new(seed: u64, contents: Vec<Content>) -> Self {
        World {
            queue: Queue::default(),
            witness: Witness::new(contents.clone()),
            contents,
            servers: Vec::new(),
            sending: Vec::new(),
            check: None,
            client: None,
            disk: Disk::default(),
            has_remains: false,
            client_lives: 0,
            boots: 0,
            expect: None,
            chance: Seed::new(seed).derive("world").stream(),
            received: 0,
            opens: 0,
            questions: 0,
            first_bytes: Vec::new(),
            ended: None,
        }
    }

    /// Adds a server.
    pub fn add_server(&mut self, server: Server) {
        self.witness.expect_corruption |= server.corrupt_every > 0;
        self.servers.push(server);
        self.sending.push(None);
    }

    /// Adds a check server, which publishes the death of a process and of a machine after these times.
    pub fn add_check(&mut self, process: Span, machine: Span) {
        self.check = Some((process, machine));
    }

    /// Tells the client which hash the whole must have.
    pub fn expect(&mut self, digest: Digest) {
        self.expect = Some(digest);
    }

    /// Plans a fault.
    pub fn plan(&mut self, at: Time, fault: Fault) {
        self.queue.plan(at, Event::Befalls(fault));
    }

    /// The client believes any journal: a planted bug, to see that it is found.
    pub fn plant_trust_in_damaged_journals(&mut self) {
        self.witness.plant_trust = true;
    }

    /// Starts the client and lets time pass until it ends, or `until`.
    pub fn run(mut self, until: Time) -> Report {
        self.start_client();
        while self.ended.is_none() && self.queue.next_at().is_some_and(|at| at <= until) {
            let event = self.queue.take().expect("there is a next one");
            self.happens(event);
            self.settle();
        }
        let wasted = self.ended.as_ref().map_or(0, |(.., wasted)| *wasted);
        Report {
            ended: self.ended.as_ref().map_or(until, |(at, ..)| *at),
            outcome: self.ended.map(|(_, outcome, _)| outcome),
            received: self.received,
            wasted,
            opens: self.opens,
            questions: self.questions,
            first_bytes: self.first_bytes,
            faults: self.witness.faults,
            log: self.witness.log,
        }
    }

    fn happens(&mut self, event: Event) {
        let now = self.queue.now();
        match event {
            Event::Reaches { server, life, client_life, request, asks, connection } => {
                self.reaches(server, life, client_life, request, asks, connection);
            }
            Event::Publishes { server, life, client_life, request } => {
                let half = self.servers[server].round_trip / 2;
                if self.servers[server].life == life && self.servers[server].keep_promise(request, client_life) {
                    let manifest = self.servers[server].manifest(&self.contents);
                    let input = Input::Hashes { request, manifest };
                    self.queue.plan(now + half, Event::Tells { client_life, input });
                }
            }
            Event::Sends(server) => {
                self.sending[server] = None;
                let life = self.servers[server].life;
                if let Some((chunk, again)) = self.servers[server].send(now) {
                    let back = chunk.arrives + self.servers[server].round_trip / 2;
                    let (connection, len) = (chunk.connection, chunk.bytes.len());
                    self.queue.plan(back, Event::Acknowledged { server, life, connection, len });
                    self.queue.plan(chunk.arrives, Event::Arrives { server, life, chunk });
                    self.ask_again(server, again);
                }
            }
            Event::Arrives { server, life, chunk } => self.arrives(server, life, &chunk),
            Event::Acknowledged { server, life, connection, len } => {
                if self.servers[server].life == life {
                    self.servers[server].acknowledged(connection, len);
                }
            }
            Event::Tells { client_life, input } => self.tell(client_life, input),
            Event::WriteDone { client_life } => self.write_done(client_life),
            Event::AppendDone { client_life } => self.append_done(client_life),
            Event::SyncDone { client_life, generation } => {
                if self.is_current(client_life) {
                    self.disk.sync_ends();
                    self.tell(client_life, Input::Synced { generation });
                }
            }
            Event::HashDone { client_life, generation, piece } => self.hash_done(client_life, generation, piece),
            Event::Wakes { client_life, at } => self.wake(client_life, at),
            Event::Befalls(fault) => self.befalls(fault),
        }
    }

    /// Plans each link's next sending.
    fn settle(&mut self) {
        let now = self.queue.now();
        for (index, server) in self.servers.iter().enumerate() {
            if self.sending[index].is_none()
                && let Some(at) = server.can_send_at(now)
            {
                self.sending[index] = Some(at);
                self.queue.plan(at, Event::Sends(index));
            }
        }
    }

    fn reaches(&mut self, index: usize, life: u32, client_life: u32, request: RequestId, asks: Asks, connection: u64) {
        let now = self.queue.now();
        let half = self.servers[index].round_trip / 2;
        let close = |why| Event::Tells { client_life, input: Input::Closed { request, why } };
        if matches!(self.servers[index].health, Health::Crashed | Health::Killed) {
            self.servers[index].forget_connection(connection);
        }
        match self.servers[index].health {
            // What was sent on a connection of an earlier life meets nobody; a dead machine says nothing at all.
            Health::Crashed => return,
            Health::Killed => return self.queue.plan(now + half, close(CloseReason::Refused)),
            _ if self.servers[index].life != life => return self.queue.plan(now + half, close(CloseReason::Reset)),
            Health::Busy => return self.queue.plan(now + half, close(CloseReason::Status(503))),
            Health::Mute => {
                if matches!(asks, Asks::What { .. }) {
                    self.queue.plan(now, Event::Tells { client_life, input: Input::Reached { request } });
                }
                return;
            }
            Health::Up | Health::Stalled => {}
        }
        let manifest = matches!(asks, Asks::What { manifest: true });
        let description = self.servers[index].description(&self.contents, manifest);
        let Asks::Range(range) = asks else {
            if description.hashes == Hashes::Awaited
                && let Some(at) = self.servers[index].promise(now, request, client_life)
            {
                self.queue.plan(at, Event::Publishes { server: index, life, client_life, request });
            }
            let input = Input::Described { request, description };
            return self.queue.plan(now + half, Event::Tells { client_life, input });
        };
        let whole = fetch::ByteRange::new(0, description.length);
        let range = if self.servers[index].ranges { range.intersect(whole) } else { whole };
        if range.is_empty() {
            return self.queue.plan(now + half, close(CloseReason::Status(416)));
        }
        let head = fetch::Head { range, total: Some(description.length), validator: description.validator };
        if !self.is_current(client_life) || !self.is_open(request) {
            return;
        }
        match self.servers[index].begin(now, connection, request, head.clone()) {
            None => self.send_request(index, request, asks),
            Some(true) => {
                self.queue.plan(now + half, Event::Tells { client_life, input: Input::Opened { request, head } });
            }
            // Behind others: its head comes just before its body.
            Some(false) => {}
        }
    }

    fn arrives(&mut self, index: usize, life: u32, chunk: &Chunk) {
        let server = &self.servers[index];
        // A dead machine's links were cut; a dead process's last bytes still arrive.
        let cut = life < server.cut_before;
        if cut || !self.is_current(chunk.client_life) {
            return;
        }
        let content = &self.contents[chunk.content].bytes;
        let mut bytes = content.slice(chunk.bytes.start as usize..chunk.bytes.end as usize);
        if server.corrupt_every > 0 && self.chance.random_range(0..server.corrupt_every) == 0 {
            let mut spoilt = bytes.to_vec();
            let at = self.chance.random_range(0..spoilt.len());
            spoilt[at] ^= 0x10;
            bytes = Bytes::from(spoilt);
        }
        let request = chunk.request;
        if self.is_open(request) {
            self.received += chunk.bytes.len();
            if !self.first_bytes.iter().any(|first| (first.server, first.life) == (index, life)) {
                self.first_bytes.push(FirstBytes { server: index, life, at: self.queue.now() });
            }
            if let Some(head) = chunk.head.clone() {
                self.tell(chunk.client_life, Input::Opened { request, head });
            }
            if chunk.last {
                self.is_over(request);
            }
            self.tell(chunk.client_life, Input::Body { request, bytes });
        }
    }

    fn befalls(&mut self, fault: Fault) {
        let now = self.queue.now();
        self.witness.say(now, format!("{fault:?}"));
        match fault {
            Fault::Health(server, health) => self.set_health(server, health),
            Fault::Rate(server, rate) => self.servers[server].rate = rate,
            Fault::Content(server, content) => {
                // The process restarts on another file.
                self.set_health(server, Health::Killed);
                self.servers[server].content = content;
                self.set_health(server, Health::Up);
            }
            Fault::Rumour { server, alive } => self.publish(Span::ZERO, server, alive),
            Fault::KillClient => self.kill_client(),
            Fault::CutPower => {
                self.kill_client();
                self.disk.power_goes(&mut self.chance);
                self.boots += 1;
            }
            Fault::ReviveClient(damage) => {
                if self.client.is_none() {
                    self.witness.client_rests(&self.disk, self.boots, damage);
                    self.disk.suffer(damage, &mut self.chance);
                    self.start_client();
                }
            }
        }
    }

    fn set_health(&mut self, index: usize, health: Health) {
        let (now, server) = (self.queue.now(), &mut self.servers[index]);
        let before = std::mem::replace(&mut server.health, health);
        let dead = |health| matches!(health, Health::Killed | Health::Crashed);
        if dead(health) {
            let cut = server.die();
            if health == Health::Crashed {
                server.cut_before = server.life;
            }
            let arrives = now + server.round_trip / 2;
            if health == Health::Killed && before != Health::Crashed {
                for (request, client_life) in cut {
                    let input = Input::Closed { request, why: CloseReason::Reset };
                    self.queue.plan(arrives, Event::Tells { client_life, input });
                }
            }
        }
        if let Some((process, machine)) = self.check
            && dead(before) != dead(health)
        {
            let delay = if health == Health::Crashed || before == Health::Crashed { machine } else { process };
            self.publish(delay, index, !dead(health));
        }
    }

    fn publish(&mut self, delay: Span, server: usize, alive: bool) {
        if let Some(client) = &self.client
            && let Some(source) = client.source(server)
        {
            let client_life = self.client_lives;
            let input = Input::Liveness { source, alive };
            self.queue.plan(self.queue.now() + delay, Event::Tells { client_life, input });
        }
    }

    fn config(&self) -> Config {
        let mut config = Config::new(fetch::Boot([self.boots; 16]));
        config.expect = self.expect;
        config.remains = self.has_remains.then(|| self.remains());
        config
    }
}
