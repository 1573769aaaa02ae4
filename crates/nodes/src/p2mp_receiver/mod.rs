//! `p2mp-receiver`: receives files from point-to-multipoint senders, by whichever format it is spoken to.
//!
//! One socket and one loop: each datagram passes the loss service and then goes by its first bytes to
//!
//! * `classic`: the senders of the published format and of its text dialect;
//! * [`fast`]: the fast mode's sessions.
//!
//! `stream` says how long to let arrive what comes fast. `target` is where files go, `finisher` gives them their names,
//! `reporter` says what is told, to whom.

mod classic;
pub mod fast;
mod finisher;
mod reporter;
mod stream;
mod target;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;
use std::path::PathBuf;

use machine::{Ratio, Seed, Span, Time};
use p2mp::LossService;
use p2mp::classic::Dialect;
use p2mp::fast::{Fate, Packet};

use self::classic::{Ends, Senders};
use self::fast::Fast;
use self::reporter::Reporter;
use self::stream::Stream;
use self::target::Target;
pub use self::target::TargetError;
use crate::events::EventSink;
use crate::exit::Exit;
use crate::signals::Signals;
use crate::udp::{Batch, Buffers, Datagram, Interest, Interface, InterfaceError, Socket, precise_timers, wait};
use crate::{clock, entropy};

/// Room for bursts while the program is not looking, in bytes.
const BUFFERS: Buffers = Buffers { receive: 16 << 20, send: 4 << 20 };

/// After so many full batches whatever else is due has its turn: a flood must not keep timers, signals and reports waiting.
const MOST_BATCHES: usize = 4;

/// Receives FILE from whoever sends to PORT, and itself loses a share P of what arrives
#[derive(Debug, clap::Parser)]
#[command(
    name = "p2mp-receiver",
    version,
    after_long_help = "Serves until it is stopped. While FILE is being received, or is there, what other senders send goes to \
                       FILE.<address>-<port>. Prints `Packet loss, sequence number = X` for every segment that it loses."
)]
pub struct Args {
    /// Where to listen; 7735 is well known, 0 is any that is free
    #[arg(value_name = "PORT")]
    port: u16,
    /// Where to put what comes; for senders that tell names (fast mode), it may be a folder
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The share of arriving segments that are thrown away, 0 to 1
    #[arg(value_name = "P", allow_negative_numbers = true)]
    p: Ratio,
    /// Listen on this address only
    #[arg(long, value_name = "ADDR")]
    bind: Option<IpAddr>,
    /// Listen to groups on this interface, by its name or an address of it; else on that which leads to the sender
    #[arg(long, value_name = "NAME")]
    interface: Option<String>,
    /// Decides which segments are lost; drawn and told unless given
    #[arg(long, value_name = "N", env = "TESTBED_SEED")]
    seed: Option<Seed>,
    /// End once the first file is complete
    #[arg(long)]
    once: bool,
    /// How long to answer a sender that has not heard that its file is complete
    #[arg(long, value_name = "TIME", default_value = "3s")]
    linger: Span,
    /// Replace FILE, once the new one is whole; one that has the sender's digest already (fast mode) stays
    #[arg(long)]
    overwrite: bool,
    /// What to print on stdout: the lines of the assignment, or one JSON object a line as on TESTBED_EVENTS_FD
    #[arg(long, value_enum, default_value_t = Format::Human)]
    format: Format,
}

/// What is printed on stdout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// The lines of the assignment.
    Human,
    /// One JSON object a line.
    Json,
}

/// Why nothing can be received.
#[derive(Debug, thiserror::Error)]
pub enum ReceiverError {
    /// The file cannot be written.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// The port is taken, or not for this user.
    #[error("cannot listen on UDP port {port}")]
    Listen {
        /// Which.
        port: u16,
        /// What the kernel says.
        source: io::Error,
    },
    /// There is no such interface.
    #[error(transparent)]
    Interface(#[from] InterfaceError),
    /// The kernel says no.
    #[error("cannot receive")]
    Receive(#[source] io::Error),
    /// Signals cannot be caught.
    #[error("cannot catch signals")]
    Signals(#[source] io::Error),
    /// No random bits.
    #[error("cannot draw a seed")]
    Seed(#[source] io::Error),
}

/// Receives until it is told to end, or with `--once` until a file is complete.
pub(crate) fn run(args: Args, events: EventSink) -> Result<Exit, ReceiverError> {
    let target = Target { path: args.file.clone(), overwrite: args.overwrite };
    target.look()?;
    let listen = |source| ReceiverError::Listen { port: args.port, source };
    let socket = match args.bind {
        Some(address) => Socket::bind(SocketAddr::new(address, args.port)),
        None => Socket::any(args.port),
    };
    let mut socket = socket.map_err(listen)?;
    // A kernel that does not tell lets answers go by the address that routes want, as most programs do.
    let _ = socket.tell_destinations();
    // One that does not note arrivals takes a busy program's delay for the network's.
    let _ = socket.tell_arrivals();
    let buffers = socket.enlarge(BUFFERS).map_err(listen)?;
    let drawn = match args.seed {
        Some(_) => None,
        None => Some(Seed::new(entropy::draw().map_err(ReceiverError::Seed)?)),
    };
    let seed = args.seed.or(drawn).expect("one that is not given is drawn");
    let signals = Signals::catch().map_err(ReceiverError::Signals)?;
    let reporter = Reporter::new(events, args.format);
    let options = fast::Options {
        target: args.file,
        overwrite: args.overwrite,
        interface: args.interface.as_deref().map(Interface::named).transpose()?,
        buffer: buffers.receive,
    };
    precise_timers();
    let mut receiver = Receiver {
        fast: Fast::new(options, reporter.sinks().to_vec()).map_err(ReceiverError::Receive)?,
        loss: LossService::new(args.p, seed),
        classic: Senders::new(target, args.linger).map_err(ReceiverError::Receive)?,
        reporter,
        stream: Stream::new(clock::now(), fast::window(buffers.receive)),
        socket,
    };
    // Nothing is lost at p = 0, whatever the seed.
    let told = drawn.filter(|_| args.p != Ratio::ZERO);
    receiver.reporter.ready(receiver.socket.local_address().map_err(listen)?, told);
    let ended = receiver.run(&signals, args.once);
    receiver.reporter.all_losses(receiver.loss.tally());
    let unfinished = receiver.classic.end(clock::now(), &mut receiver.reporter);
    if unfinished > 0 {
        eprintln!("{unfinished} bytes of unfinished files are thrown away");
    }
    ended
}

/// What the loop holds.
struct Receiver {
    loss: LossService,
    classic: Senders,
    fast: Fast,
    reporter: Reporter,
    stream: Stream,
    socket: Socket,
}

impl Receiver {
    fn run(&mut self, signals: &Signals, once: bool) -> Result<Exit, ReceiverError> {
        let mut batch = Batch::default();
        loop {
            let rests_until = self.stream.rests_until();
            let due = [self.classic.deadline(), self.fast.deadline(), rests_until];
            let until = due.into_iter().flatten().min().unwrap_or(Time::MAX);
            let read = Interest::Read;
            let socket = if rests_until.is_some() { Interest::Nothing } else { read };
            let disks = [(self.classic.wake(), read), (self.fast.wake(), read)];
            let descriptors = [(self.socket.as_fd(), socket), (signals.as_fd(), read), disks[0], disks[1]];
            let [arrived, ended, finished, woken] = wait(descriptors, until).map_err(ReceiverError::Receive)?;
            if ended.read {
                return Ok(Exit::Interrupted);
            }
            if arrived.read || rests_until.is_some_and(|until| until <= clock::now()) {
                self.receive(&mut batch)?;
            }
            if finished.read {
                self.classic.finished(clock::now(), &self.socket, &mut self.reporter);
            }
            self.classic.advance(clock::now(), &mut self.reporter);
            if woken.read {
                self.fast.woken();
            }
            self.fast.advance(&self.socket);
            self.reporter.losses(clock::now(), self.loss.tally());
            if let Some(exit) = self.ending().filter(|_| once) {
                return Ok(exit);
            }
        }
    }

    /// Takes what has arrived: the loss service comes before anything else, then the first bytes say what a datagram is.
    fn receive(&mut self, batch: &mut Batch) -> Result<(), ReceiverError> {
        let Receiver { loss, classic, fast, reporter, stream, socket } = self;
        let (mut streamed, mut is_drained, mut waits) = (0, false, false);
        for _ in 0..MOST_BATCHES {
            socket.receive(batch).map_err(ReceiverError::Receive)?;
            let now = clock::now();
            let is_left_to_fast = |Datagram { source, destination, bytes, .. }: &Datagram<'_>| {
                let ends = Ends { sender: *source, own: *destination };
                let is_lost = loss.discards();
                match Dialect::read(bytes) {
                    Some((_, segment)) if is_lost => reporter.discarded(segment.sequence.into()),
                    Some((dialect, segment)) => {
                        waits = true;
                        classic.take(now, socket, ends, dialect, &segment, reporter);
                    }
                    None if is_lost => {
                        if let Ok((_, Packet::Data(header, _))) = Packet::parse(bytes) {
                            reporter.discarded(header.number);
                        }
                    }
                    None => {
                        streamed += 1;
                        return true;
                    }
                }
                false
            };
            fast.receive(socket, batch.datagrams().filter(is_left_to_fast));
            is_drained = !batch.is_full();
            if is_drained {
                break;
            }
        }
        stream.received(clock::now(), streamed, is_drained, waits);
        Ok(())
    }

    /// How a transfer ended, if one did.
    fn ending(&mut self) -> Option<Exit> {
        // Why is told already.
        let failed = self.classic.has_failed().then_some(Exit::Machine);
        let complete = self.classic.is_done().then_some(Exit::Done);
        let fast = std::iter::from_fn(|| self.fast.ending()).find_map(|fate| match fate {
            Fate::Complete => Some(Exit::Done),
            Fate::Failed(_) => Some(Exit::Machine),
            // Its sender may come again.
            Fate::GivenUp => None,
        });
        failed.or(complete).or(fast)
    }
}
