//! The loop between the machine and the rest.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use bytes::Bytes;
use event::SourceState;
use fetch::{Digest, Remains};
use machine::{Machine as _, Rate, Span, Time};
use p2p::downloader::{ChannelId, Config, Downloader, Input, Note, Output};
use p2p::tracker_text::Answer as TrackerAnswer;
use tokio::sync::mpsc::{self, Receiver, Sender, UnboundedReceiver, UnboundedSender};
use tokio::task::AbortHandle;

use super::conclusion::{End, Ending, conclude};
use super::{Args, P2pDownloaderError, asking, channel, words};
use crate::clock;
use crate::downloader::disk::{Answer, Disk};
use crate::downloader::place::{Place, boot};
use crate::downloader::reporter::{Reporter, Seen};
use crate::downloader::roster::Signals;
use crate::exit::Exit;

/// Arrivals that wait for the machine; beyond it the connections wait.
const MOST_ARRIVALS: usize = 8;

/// Without a connection for so long, after nothing has come, nobody is there.
const ALONE_AFTER: Span = Span::from_secs(1);

/// Answers of the disk that are taken at once.
const MOST_ANSWERS: usize = 64;

/// Peers that are remembered for reports.
const MOST_PEERS: usize = 256;

/// Fetches into `place` until the end.
pub(super) async fn drive(
    args: Args,
    place: Place,
    remains: Option<Remains>,
    reporter: Reporter,
    mut signals: Signals,
) -> Result<Exit, P2pDownloaderError> {
    let began = clock::now();
    let (answers, disk_answers) = mpsc::unbounded_channel();
    let disk = Disk::start(&place, answers)?;
    let (to_driver, arrivals) = mpsc::channel(MOST_ARRIVALS);
    let (to_tracker, questions) = mpsc::unbounded_channel();
    let asking = asking::ask(args.tracker, args.port, questions, to_driver.clone(), |line| eprintln!("{line}"));
    let asking = tokio::spawn(asking).abort_handle();
    let config = Config {
        file: args.file,
        boot: boot(),
        expect: args.checksum,
        remains,
        connections: args.connections.into(),
        block: args.block_size.as_bytes(),
        ask_every: args.ask_every,
    };
    let mut driver = Driver {
        machine: Downloader::new(began, config),
        disk,
        links: BTreeMap::new(),
        to_driver,
        to_tracker,
        expected: args.checksum,
        peers: Vec::new(),
        reporter,
        end: None,
        patience: Some(args.timeout).filter(|timeout| !timeout.is_zero()),
        moved: (began, 0),
        said: BTreeMap::new(),
        is_alone: false,
    };
    let end = driver.run(arrivals, disk_answers, &mut signals).await;
    asking.abort();
    driver.links.values().for_each(|link| link.task.abort());
    let progress = driver.machine.progress();
    let peers = driver.seen();
    driver.reporter.last_of(progress, &peers);
    let ending = Ending { end, progress, began, expected: driver.expected };
    conclude(ending, place, driver.disk, &driver.reporter).await
}

struct Driver {
    machine: Downloader,
    disk: Disk,
    /// Connections, also those being made.
    links: BTreeMap<ChannelId, Link>,
    to_driver: Sender<Input>,
    to_tracker: UnboundedSender<Bytes>,
    /// The user's, or else the tracker's.
    expected: Option<Digest>,
    /// Who was connected to, with what came from there; of very many the latest.
    peers: Vec<(SocketAddr, u64)>,
    reporter: Reporter,
    end: Option<End>,
    /// It ends when nothing has come for so long.
    patience: Option<Span>,
    /// When something came last, and how much is here since.
    moved: (Time, u64),
    /// What was said of a peer since it last sent anything: once is enough.
    said: BTreeMap<SocketAddr, String>,
    /// Whether it was said that nobody is there.
    is_alone: bool,
}

struct Link {
    peer: SocketAddr,
    task: AbortHandle,
    requests: UnboundedSender<Bytes>,
    stands: bool,
}

impl Driver {
    async fn run(
        &mut self,
        mut arrivals: Receiver<Input>,
        mut disk_answers: UnboundedReceiver<Answer>,
        signals: &mut Signals,
    ) -> End {
        let (mut inputs, mut answers) = (Vec::with_capacity(MOST_ARRIVALS), Vec::with_capacity(MOST_ANSWERS));
        loop {
            self.carry_out();
            let now = clock::now();
            if let Some(end) = self.end.take().or_else(|| self.is_silent(now)) {
                return end;
            }
            self.look_around(now);
            if self.reporter.is_due(now) {
                let peers = self.seen();
                self.reporter.sample_of(now, self.machine.progress(), &peers);
            }
            let deadline = self.deadline();
            let wants_body = self.machine.wants_body();
            tokio::select! {
                biased;
                () = signals.next() => return End::Interrupted,
                _ = disk_answers.recv_many(&mut answers, MOST_ANSWERS) => {}
                _ = arrivals.recv_many(&mut inputs, MOST_ARRIVALS), if wants_body => {}
                () = tokio::time::sleep_until(clock::instant(deadline)) => {}
            }
            let now = clock::now();
            for answer in answers.drain(..) {
                match answer {
                    Ok(input) => self.machine.handle(now, Input::Disk(input)),
                    Err(error) => return End::Disk(error),
                }
                self.reporter.touch();
            }
            for input in inputs.drain(..) {
                self.hear(now, input);
            }
            self.machine.advance(now);
        }
    }

    fn deadline(&self) -> Time {
        let machine = self.machine.deadline().map(|(at, _)| at);
        let silence = self.patience.map(|patience| self.moved.0 + patience);
        let alone = (!self.is_alone).then(|| self.moved.0 + ALONE_AFTER).filter(|_| !self.is_connected());
        [machine, self.reporter.deadline(), silence, alone].into_iter().flatten().min().unwrap_or(Time::MAX)
    }

    fn is_silent(&mut self, now: Time) -> Option<End> {
        let here = self.machine.progress().here;
        if here != self.moved.1 {
            self.moved = (now, here);
        }
        self.patience.filter(|patience| now.since(self.moved.0) >= *patience).map(End::Silence)
    }

    fn is_connected(&self) -> bool {
        self.links.values().any(|link| link.stands)
    }

    /// Says once that there is nobody to fetch from.
    fn look_around(&mut self, now: Time) {
        if !self.is_alone && !self.is_connected() && now.since(self.moved.0) >= ALONE_AFTER {
            self.is_alone = true;
            eprintln!("no peer is there to fetch from; the tracker is asked on");
        }
    }

    fn hear(&mut self, now: Time, input: Input) {
        match &input {
            Input::Received { channel, bytes } => {
                let peer = self.links.get(channel).map(|link| link.peer);
                peer.iter().for_each(|peer| _ = self.said.remove(peer));
                self.is_alone = false;
                if let Some((_, received)) = self.peers.iter_mut().find(|(known, _)| Some(*known) == peer) {
                    *received += bytes.len() as u64;
                }
            }
            Input::Tracker(datagram) if self.expected.is_none() => {
                let told = TrackerAnswer::decode(datagram).ok().and_then(|answer| answer.digest);
                self.expected = told.map(Digest);
            }
            Input::Connected(channel) => {
                if let Some(link) = self.links.get_mut(channel) {
                    link.stands = true;
                }
            }
            Input::Closed { channel, .. } => _ = self.links.remove(channel),
            _ => {}
        }
        self.machine.handle(now, input);
        self.reporter.touch();
    }

    fn carry_out(&mut self) {
        while let Some(output) = self.machine.poll() {
            match output {
                // It ends only when nobody wants answers any more.
                Output::AskTracker(datagram) => _ = self.to_tracker.send(datagram),
                Output::Connect { channel, peer } => self.connect(channel, peer),
                Output::Send { channel, bytes } => {
                    if let Some(link) = self.links.get(&channel) {
                        let _ = link.requests.send(bytes);
                    }
                }
                Output::Close { channel } => {
                    if let Some(link) = self.links.remove(&channel) {
                        link.task.abort();
                    }
                }
                Output::Disk(output) => {
                    let left = self.disk.carry_out(output);
                    debug_assert!(left.is_none(), "the disk takes all of these");
                }
                Output::Note(note) => self.note(&note),
                Output::Finished(outcome) => self.end = Some(End::Outcome(outcome)),
            }
        }
    }

    fn connect(&mut self, channel: ChannelId, peer: SocketAddr) {
        let (requests, asked) = mpsc::unbounded_channel();
        let task = tokio::spawn(channel::serve(channel, peer, asked, self.to_driver.clone())).abort_handle();
        self.links.insert(channel, Link { peer, task, requests, stands: false });
        if !self.peers.iter().any(|(known, _)| *known == peer) {
            self.forget_one_of_many();
            self.peers.push((peer, 0));
        }
    }

    /// A tracker may name peers without end.
    fn forget_one_of_many(&mut self) {
        let is_idle = |(peer, _): &(SocketAddr, u64)| !self.links.values().any(|link| link.peer == *peer);
        if self.peers.len() >= MOST_PEERS
            && let Some(oldest) = self.peers.iter().position(is_idle)
        {
            let (peer, _) = self.peers.remove(oldest);
            self.said.remove(&peer);
        }
    }

    fn note(&mut self, note: &Note) {
        if let Some(line) = words::line(note) {
            let is_news = match note {
                Note::Lost { peer, .. } => self.said.insert(*peer, line.clone()).as_ref() != Some(&line),
                _ => true,
            };
            if is_news {
                eprintln!("{line}");
            }
        }
        self.reporter.touch();
    }

    /// The peers, in the order in which they were first connected to.
    fn seen(&self) -> Vec<Seen> {
        let channels = self.machine.channels();
        let seen = |(peer, received): &(SocketAddr, u64)| {
            let of_peer = || channels.iter().filter(|status| status.peer == *peer);
            let bytes_per_second: u64 = of_peer().map(|status| status.rate).sum();
            let state = if of_peer().next().is_some() { SourceState::Alive } else { SourceState::Dead };
            let rate = Rate::from_bits_per_sec(bytes_per_second.saturating_mul(8));
            Seen { name: peer.to_string(), state, rate, received: *received }
        };
        self.peers.iter().map(seen).collect()
    }
}
