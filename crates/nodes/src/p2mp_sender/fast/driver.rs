//! The loop of a fast sender.

use std::io::{self, IoSlice};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::AsFd;
use std::sync::{Arc, mpsc};

use machine::{Machine as _, Span, Time};
use nix::sys::eventfd::{EfdFlags, EventFd};
use p2mp::fast::packet::DATA_HEADER;
use p2mp::fast::{Layout, Packet, Sender, SenderConfig, SenderInput, SenderOutput, SessionId, Train};

use super::show::Show;
use super::source::{Hashed, Source, SourceError};
use super::{Options, SendError};
use crate::exit::Exit;
use crate::signals::Signals;
use crate::udp::{self, Batch, Buffers, Interest, Interface, MOST_IN_TRAIN, Refusal, Socket};
use crate::{clock, entropy};

/// Asked for; a system gives less.
const BUFFERS: Buffers = Buffers { receive: 4 << 20, send: 4 << 20 };

/// How long to wait for receivers before those who are there begin.
const GATHER: Span = Span::from_secs(1);

/// How long the kernel may have no room before what was to be sent counts as lost.
const PATIENCE: Span = Span::from_millis(20);

/// The largest UDP payload that is tried: what a network card's largest frame takes. Blocks of larger ones would be
/// hundreds of megabytes.
const LARGEST: usize = 8972;

/// Smaller ones that are tried beside the interface's own: Ethernet, and what passes wherever IPv6 or IPv4 does.
const COMMON: [usize; 4] = [1472, 1452, 1232, 548];

/// Sends the files to all receivers: how many have them decides the exit status.
///
/// # Errors
/// When a file, the interface or the socket is not to be used.
pub fn run(options: Options) -> Result<Exit, SendError> {
    let failed = |doing| move |source| SendError::Socket { doing, source };
    // Before any thread: they inherit what is blocked.
    let signals = Signals::catch().map_err(SendError::Signals)?;
    let (source, manifest) = Source::open(&options.files)?;
    let socket = Socket::any(0).map_err(failed("open a socket"))?;
    socket.enlarge(BUFFERS).map_err(failed("size a socket's buffers"))?;
    socket.probe_path().map_err(failed("forbid fragmentation"))?;
    udp::precise_timers();

    let first = options.receivers.first().map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), |(_, address)| address.ip());
    let group = match options.group {
        Some(group) => prepare_group(&socket, &options, first)?.then_some(group),
        None => None,
    };
    let port = options.receivers.first().map_or(0, |(_, address)| address.port());
    let config = SenderConfig {
        session: SessionId(entropy::draw().map_err(failed("draw a session's number"))?),
        identity: source.identity(),
        manifest: manifest.clone(),
        receivers: options.receivers.iter().map(|(_, address)| *address).collect(),
        group: group.map(|group| SocketAddr::new(group, port)),
        sizes: sizes(&options),
        rate: options.rate,
        overhead: if first.is_ipv4() { 42 } else { 62 },
        longest_train: MOST_IN_TRAIN as u16,
        gather: GATHER,
        give_up: options.give_up,
    };
    let wake = EventFd::from_flags(EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC);
    let wake = Arc::new(wake.map_err(|error| failed("make a descriptor to wake up by")(error.into()))?);
    let now = clock::now();
    let session = config.session;
    let show = Show::new(now, options, manifest);
    let machine = Sender::new(now, config);
    let (layout, hashed, is_finished) = (None, None, false);
    let mut driver = Driver { socket, signals, source, machine, session, show, layout, wake, hashed, is_finished };
    driver.hash_what_is_read()?;
    driver.run()
}

/// Whether datagrams to the group can leave at all. Only an interface that the user named has to be there: else everyone
/// can still be sent to alone.
fn prepare_group(socket: &Socket, options: &Options, first: IpAddr) -> Result<bool, SendError> {
    let interface = match options.interface.as_deref() {
        Some(name) => Interface::named(name)?,
        None => match Interface::towards(first) {
            Ok(interface) => interface,
            Err(error) => {
                tracing::info!(%error, "no multicast");
                return Ok(false);
            }
        },
    };
    match socket.send_groups_by(&interface, options.hops, true) {
        Err(source) if options.interface.is_some() => {
            Err(SendError::Socket { doing: "send to groups by that interface", source })
        }
        Err(error) => {
            tracing::info!(%error, "no multicast");
            Ok(false)
        }
        Ok(()) => Ok(true),
    }
}

/// Sizes of datagrams that the ways to all receivers may take, as far as the own interfaces tell.
fn sizes(options: &Options) -> Vec<u16> {
    let fits = |(_, address): &(String, SocketAddr)| {
        let headers = if address.is_ipv4() { 28 } else { 48 };
        // Where no route is known yet, Ethernet is likely.
        udp::path_mtu(address.ip()).map_or(1500, |mtu| mtu as usize).saturating_sub(headers)
    };
    let most = options.receivers.iter().map(fits).min().unwrap_or(COMMON[0]);
    let most = most.min(LARGEST).min(options.most_payload.saturating_add(DATA_HEADER)).max(COMMON[3]);
    let smaller = COMMON.into_iter().filter(|size| *size < most);
    std::iter::once(most).chain(smaller).map(|size| size as u16).collect()
}

struct Driver {
    socket: Socket,
    signals: Signals,
    source: Source,
    machine: Sender,
    session: SessionId,
    show: Show,
    layout: Option<Arc<Layout>>,
    wake: Arc<EventFd>,
    /// What is hashed beside the sending.
    hashed: Option<mpsc::Receiver<Hashed>>,
    is_finished: bool,
}

impl Driver {
    fn run(mut self) -> Result<Exit, SendError> {
        let mut batch = Batch::default();
        self.machine.advance(clock::now());
        loop {
            self.carry_out()?;
            if self.is_finished {
                return Ok(self.show.finish(&self.machine));
            }
            self.show.draw(clock::now(), &self.machine);
            let deadline = self.machine.deadline().map_or(Time::MAX, |(at, _)| at);
            let until = deadline.min(self.show.deadline().unwrap_or(Time::MAX));
            let descriptors =
                [self.socket.as_fd(), self.wake.as_fd(), self.signals.as_fd()].map(|fd| (fd, Interest::Read));
            let failed = |source| SendError::Socket { doing: "wait for datagrams", source };
            let [arrived, woken, ended] = udp::wait(descriptors, until).map_err(failed)?;
            if ended.read {
                self.show.interrupted(&self.machine);
                return Ok(Exit::Interrupted);
            }
            if woken.read {
                self.take_digests()?;
            }
            if arrived.read {
                let failed = |source| SendError::Socket { doing: "receive", source };
                self.socket.receive(&mut batch).map_err(failed)?;
                self.take_reports(&batch);
            }
            self.machine.advance(clock::now());
        }
    }

    fn take_reports(&mut self, batch: &Batch) {
        let now = clock::now();
        for datagram in batch.datagrams() {
            match Packet::parse(datagram.bytes) {
                Ok((session, Packet::Report(report))) => {
                    self.machine.handle(now, SenderInput::Report { from: datagram.source, session, report });
                }
                Ok(_) => {}
                Err(error) => tracing::debug!(from = %datagram.source, %error, "a datagram was ignored"),
            }
        }
    }

    fn take_digests(&mut self) -> Result<(), SourceError> {
        let _ = self.wake.read();
        while let Some(Ok((file, digest))) = self.hashed.as_ref().map(mpsc::Receiver::try_recv) {
            self.machine.handle(clock::now(), SenderInput::Digest { file, digest: digest? });
        }
        Ok(())
    }

    /// Hashes files on a thread of their own as far as reading them has not done it.
    fn hash_beside(&mut self) -> Result<(), SourceError> {
        if let Some(hashed) = self.source.hash(&self.wake)? {
            self.hashed = Some(hashed);
        }
        Ok(())
    }

    /// Tells the digest of what was read to its end, and sees to it that there will be one.
    fn hash_what_is_read(&mut self) -> Result<(), SourceError> {
        if let Some(digest) = self.source.digest() {
            self.machine.handle(clock::now(), SenderInput::Digest { file: 0, digest });
        } else if self.source.is_behind() {
            self.hash_beside()?;
        }
        Ok(())
    }

    fn carry_out(&mut self) -> Result<(), SendError> {
        while let Some(output) = self.machine.poll() {
            match output {
                SenderOutput::Train(train) => {
                    self.send(&train)?;
                    self.hash_what_is_read()?;
                }
                SenderOutput::Hash => self.hash_beside()?,
                SenderOutput::Datagram { to, bytes } => match self.socket.send(to, &bytes) {
                    // The sizes that are tried may be too long even for the own interface.
                    None | Some(Refusal::Full | Refusal::TooLong) => {}
                    Some(Refusal::Unreachable(error)) => tracing::debug!(%to, %error, "not sent"),
                },
                SenderOutput::Started { layout, by_multicast } => {
                    self.show.started(&layout, by_multicast);
                    self.layout = Some(layout);
                }
                SenderOutput::Joined { receiver } => self.show.joined(receiver),
                SenderOutput::Completed { receiver } => self.show.completed(clock::now(), receiver),
                SenderOutput::Failed { receiver, why } => self.show.failed(clock::now(), receiver, &why),
                SenderOutput::GaveUp { receiver } => self.show.gave_up(clock::now(), receiver),
                SenderOutput::Finished => self.is_finished = true,
            }
        }
        Ok(())
    }

    /// Sends a train to everyone: its originals, then its recovery symbols; a shorter original ends what goes at once.
    fn send(&mut self, train: &Train) -> Result<(), SendError> {
        let block = self.layout.as_ref().and_then(|layout| layout.block(train.first.block));
        let block = block.expect("trains are of blocks of the layout that was told");
        let mut sent = 0;
        while sent < train.count {
            let first = train.first.symbol + sent;
            let (left, payload) = (train.count - sent, usize::from(block.payload));
            let alike = if first < block.originals { left.min(block.originals - first) } else { left };
            let symbols = self.source.symbols(&block, first, alike)?;
            let headers: Vec<_> =
                (sent..sent + alike).map(|index| train.header(index).to_bytes(self.session)).collect();
            let pieces: Vec<IoSlice<'_>> = headers
                .iter()
                .zip(symbols.chunks(payload))
                .flat_map(|(header, symbol)| [IoSlice::new(header), IoSlice::new(symbol)])
                .collect();
            let datagram = DATA_HEADER + payload.min(symbols.len());
            let trains: Vec<_> = train.to.iter().map(|to| udp::Train { to: *to, pieces: &pieces, datagram }).collect();
            hand_over(&self.socket, &trains).map_err(|source| SendError::Socket { doing: "send", source })?;
            sent += alike;
        }
        Ok(())
    }
}

/// Sends trains; those that nobody takes are lost, as on any network.
fn hand_over(socket: &Socket, trains: &[udp::Train<'_>]) -> io::Result<()> {
    let mut rest = trains;
    let mut patience = None;
    while !rest.is_empty() {
        let sent = socket.send_trains(rest);
        rest = &rest[sent.trains..];
        match sent.refusal {
            None => {}
            Some(Refusal::Full) => {
                let until = *patience.get_or_insert_with(|| clock::now() + PATIENCE);
                if clock::now() >= until {
                    return Ok(());
                }
                udp::wait([(socket.as_fd(), Interest::Write)], until)?;
            }
            Some(refusal) => {
                tracing::debug!(to = %rest[0].to, ?refusal, "not sent");
                rest = &rest[1..];
            }
        }
    }
    Ok(())
}
