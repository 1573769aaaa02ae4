//! The sender of a file in fast mode.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use event::{Delivery, NodeReport, Transferred};
use machine::{Machine, Rate, Seed, Span, Time};
use p2mp::fast::packet::DATA_HEADER;
use p2mp::fast::{
    FileEntry, Identity, Layout, Manifest, ManifestError, Packet, Sender, SenderConfig, SenderInput, SenderOutput,
    SessionId, Train,
};
use topology::plan::FileId;

use super::digest;
use crate::program::{Act, Content, Datagram, Program};

/// What a sender is to send, to whom, and how.
#[derive(Clone, Debug)]
pub struct Task {
    /// The file.
    pub file: FileId,
    /// Its name.
    pub name: String,
    /// Its bytes.
    pub length: u64,
    /// The names and addresses of the receivers, at least one.
    pub receivers: Vec<(String, SocketAddr)>,
    /// The most data in a datagram, in bytes.
    pub most_payload: u16,
    /// Of the network, in bytes of IP packet.
    pub mtu: u32,
    /// Whether to try a group.
    pub multicast: bool,
    /// On the wire; found out unless given.
    pub rate: Option<Rate>,
    /// A receiver that brings nothing new for so long is given up.
    pub give_up: Span,
    /// For the session's number.
    pub seed: Seed,
}

/// A sender that starts at once and ends with its transfer.
pub struct FastSender {
    task: Task,
    session: SessionId,
    machine: Sender,
    layout: Option<Arc<Layout>>,
    began: Time,
    /// When the last receiver was done or given up.
    settled: Time,
    complete: Vec<bool>,
    told: u64,
    acts: VecDeque<Act>,
}

const PORT: u16 = 32_768;
/// Those that the program uses unless told otherwise.
const GROUP_V4: IpAddr = IpAddr::V4(Ipv4Addr::new(239, 255, 77, 35));
const GROUP_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xff15, 0, 0, 0, 0, 0, 0, 0x7735));
/// As the program does it: smaller datagrams tried beside the largest, the wait for receivers, datagrams that the kernel
/// cuts from one call.
const COMMON: [u32; 4] = [1472, 1452, 1232, 548];
const GATHER: Span = Span::from_secs(1);
const MOST_IN_TRAIN: u16 = 64;
/// As many progress reports at most.
const REPORTS: u64 = 200;

impl FastSender {
    /// Begins at `now`.
    ///
    /// # Errors
    /// When the file's name is none that receivers take.
    pub fn new(task: Task, now: Time) -> Result<Self, ManifestError> {
        let first = task.receivers.first().map_or(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), |(_, address)| *address);
        let (headers, group) = if first.is_ipv4() { (28, GROUP_V4) } else { (48, GROUP_V6) };
        let most =
            task.mtu.saturating_sub(headers).min(u32::from(task.most_payload) + DATA_HEADER as u32).max(COMMON[3]);
        let sizes = std::iter::once(most).chain(COMMON.into_iter().filter(|size| *size < most));
        let session = SessionId(task.seed.derive("session").value());
        let mut identity = [0; 16];
        identity[..8].copy_from_slice(&(task.file.index() as u64).to_be_bytes());
        let config = SenderConfig {
            session,
            identity: Identity(identity),
            manifest: Manifest::new(vec![FileEntry::new(&task.name, task.length)])?,
            receivers: task.receivers.iter().map(|(_, address)| *address).collect(),
            group: task.multicast.then(|| SocketAddr::new(group, first.port())),
            sizes: sizes.map(|size| size as u16).collect(),
            rate: task.rate,
            overhead: headers as u16 + 14,
            longest_train: MOST_IN_TRAIN,
            gather: GATHER,
            give_up: task.give_up,
        };
        let mut machine = Sender::new(now, config);
        machine.handle(now, SenderInput::Digest { file: 0, digest: digest(task.file) });
        machine.advance(now);
        let mut sender = FastSender {
            session,
            machine,
            layout: None,
            began: now,
            settled: now,
            complete: vec![false; task.receivers.len()],
            told: 0,
            acts: VecDeque::from([Act::Report(NodeReport::Ready)]),
            task,
        };
        sender.carry_out(now);
        Ok(sender)
    }

    fn carry_out(&mut self, now: Time) {
        let mut is_over = false;
        while let Some(output) = self.machine.poll() {
            match output {
                SenderOutput::Datagram { to, bytes } => self.send(to, Content::Bytes(bytes.into())),
                SenderOutput::Train(train) => self.send_train(&train),
                SenderOutput::Started { layout, .. } => {
                    self.layout = Some(layout);
                    self.began = now;
                }
                SenderOutput::Joined { .. } | SenderOutput::Hash => {}
                SenderOutput::Completed { receiver } => {
                    self.complete[receiver] = true;
                    self.settled = now;
                }
                SenderOutput::Failed { .. } | SenderOutput::GaveUp { .. } => self.settled = now,
                SenderOutput::Finished => is_over = true,
            }
        }
        self.tell_progress();
        if is_over {
            self.finish();
        }
    }

    fn send(&mut self, to: SocketAddr, content: Content) {
        self.acts.push_back(Act::Send { from_port: PORT, to, content });
    }

    fn send_train(&mut self, train: &Train) {
        let block = self.layout.as_ref().and_then(|layout| layout.block(train.first.block));
        let block = block.expect("trains are of blocks of the layout that was told");
        for index in 0..train.count {
            let header = train.header(index);
            let length = block.length_of(header.symbol).expect("trains are of symbols of their block");
            for to in train.to.iter() {
                self.send(*to, Content::Symbol { session: self.session, header, length });
            }
        }
    }

    /// The progress is that of the slowest who is still waited for.
    fn tell_progress(&mut self) {
        let all = self.machine.symbols();
        let waited_for = self.machine.members().iter().filter(|member| !member.is_settled());
        let symbols = waited_for.map(|member| member.symbols()).min().unwrap_or(all);
        if all > 0 && symbols >= self.told + (all / REPORTS).max(1) {
            self.told = symbols;
            let bytes = u128::from(self.task.length) * u128::from(symbols) / u128::from(all);
            let report = NodeReport::Progress { bytes: bytes as u64, total: self.task.length, received: 0 };
            self.acts.push_back(Act::Report(report));
        }
    }

    fn finish(&mut self) {
        let symbols = self.layout.as_ref().map_or(0, |layout| layout.symbols());
        let names = self.task.receivers.iter().zip(&self.complete).zip(self.machine.members());
        let receivers = names.map(|(((name, _), complete), member)| Delivery {
            name: name.clone(),
            complete: *complete,
            retransmissions: member.packets.saturating_sub(symbols),
        });
        let transferred = Transferred {
            seconds: self.settled.since(self.began).as_secs_f64(),
            segments: symbols,
            bytes: if self.complete.contains(&true) { self.task.length } else { 0 },
            rounds: None,
            receivers: receivers.collect(),
        };
        self.acts.push_back(Act::Report(NodeReport::Transferred(transferred)));
        self.acts.push_back(Act::Exit(if self.complete.contains(&false) { 1 } else { 0 }));
    }
}

impl Program for FastSender {
    fn receive(&mut self, now: Time, datagram: Datagram) {
        let Content::Bytes(bytes) = &datagram.content else { return };
        if datagram.to.port() != PORT {
            return;
        }
        if let Ok((session, Packet::Report(report))) = Packet::parse(bytes) {
            self.machine.handle(now, SenderInput::Report { from: datagram.from, session, report });
            self.carry_out(now);
        }
    }

    fn advance(&mut self, now: Time) {
        self.machine.advance(now);
        self.carry_out(now);
    }

    fn deadline(&self) -> Option<Time> {
        self.machine.deadline().map(|(at, _)| at)
    }

    fn poll(&mut self) -> Option<Act> {
        self.acts.pop_front()
    }
}
