//! `tracker`: tells who has a file, of those that it was told of and of those that announce themselves.
//!
//! The machine is [`p2p::tracker`]; `tracked` is a file on the command line.

mod tracked;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;

use event::NodeReport;
use machine::{Seed, Size, Span, Time};
use p2p::tracker::{Swarm, Tracker};
use p2p::{Layout, layout, peer_text, tracker_text};

use self::tracked::Tracked;
use crate::endpoint::Endpoint;
use crate::events::EventSink;
use crate::exit::Exit;
use crate::signals::Signals;
use crate::udp::{Batch, Interest, Socket, wait};
use crate::{clock, entropy};

/// After so many full batches signals have their turn.
const MOST_BATCHES: usize = 4;

/// Tells clients of the csp2p protocol, over UDP, who has a file: any two of the PEERs, and of those that announce themselves
#[derive(Debug, clap::Parser)]
#[command(
    name = "tracker",
    version,
    after_long_help = "Our `peer --tracker HOST` announces itself, with its file; so neither --file nor a PEER is needed. What \
                       is given here stands against announcements of another file of that name."
)]
pub struct Args {
    /// Who has all files that are named here, at port 18765 unless it is given
    #[arg(value_name = "PEER")]
    peers: Vec<Endpoint>,
    /// A file and its size, such as movie=805975; may be repeated. With its SHA-256, as movie=805975,HEX, downloaders can
    /// verify it
    #[arg(long = "file", value_name = "NAME=SIZE")]
    files: Vec<Tracked>,
    /// The size of a block of those files
    #[arg(long, value_name = "SIZE", default_value_t = Size::from_bytes(layout::BLOCK))]
    block_size: Size,
    /// Answer a client at most once in this time
    #[arg(long, value_name = "TIME", default_value = "2s")]
    interval: Span,
    /// Listen on this address only
    #[arg(long, value_name = "ADDR")]
    listen: Option<IpAddr>,
    /// Port to listen on; 0 takes a free one and prints it
    #[arg(long, value_name = "N", default_value_t = tracker_text::PORT)]
    port: u16,
    /// Decides which peers are named
    #[arg(long, value_name = "N", env = "TESTBED_SEED")]
    seed: Option<Seed>,
}

/// Why the tracker did not start, or ended.
#[derive(Debug, thiserror::Error)]
pub enum TrackerError {
    /// There would be no blocks.
    #[error("--block-size {0} cannot divide {1}")]
    Block(Size, String),
    /// A PEER has files, and none is named.
    #[error("{0} is named, and no --file that it has")]
    NoFile(Endpoint),
    /// A peer's name means nothing here.
    #[error("cannot find {peer}")]
    Unknown {
        /// As given.
        peer: Endpoint,
        /// What the resolver says.
        source: io::Error,
    },
    /// The port is taken, or not for this user.
    #[error("cannot listen on UDP port {port}")]
    Listen {
        /// Which.
        port: u16,
        /// What the kernel says.
        source: io::Error,
    },
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

/// Answers until it is told to end.
pub(crate) fn run(args: Args, events: EventSink) -> Result<Exit, TrackerError> {
    let mut tracker = tracker(&args)?;
    let listen = |source| TrackerError::Listen { port: args.port, source };
    let socket = match args.listen {
        Some(address) => Socket::bind(SocketAddr::new(address, args.port)),
        None => Socket::any(args.port),
    };
    let mut socket = socket.map_err(listen)?;
    // A kernel that does not tell lets answers go by the address that routes want, as most programs do.
    let _ = socket.tell_destinations();
    let signals = Signals::catch().map_err(TrackerError::Signals)?;
    eprintln!("tracking on UDP {}", socket.local_address().map_err(listen)?);
    events.tell(&NodeReport::Ready);
    let mut batch = Batch::default();
    loop {
        let descriptors = [(socket.as_fd(), Interest::Read), (signals.as_fd(), Interest::Read)];
        let [arrived, ended] = wait(descriptors, Time::MAX).map_err(TrackerError::Receive)?;
        if ended.read {
            return Ok(Exit::Interrupted);
        }
        if arrived.read {
            receive(&socket, &mut batch, &mut tracker)?;
        }
    }
}

/// One that knows what the command line says.
fn tracker(args: &Args) -> Result<Tracker, TrackerError> {
    if let (Some(peer), []) = (args.peers.first(), args.files.as_slice()) {
        return Err(TrackerError::NoFile(peer.clone()));
    }
    let find = |peer: &Endpoint| {
        let found = peer.resolve(peer_text::PORT);
        found.map_err(|source| TrackerError::Unknown { peer: peer.clone(), source })
    };
    let peers = args.peers.iter().map(find).collect::<Result<Vec<_>, _>>()?;
    let seed = match args.seed {
        Some(seed) => seed,
        None => Seed::new(entropy::draw().map_err(TrackerError::Seed)?),
    };
    let mut tracker = Tracker::new(args.interval, seed);
    for Tracked { name, size, digest } in &args.files {
        let layout = Layout::new(size.as_bytes(), args.block_size.as_bytes());
        let layout = layout.ok_or_else(|| TrackerError::Block(args.block_size, name.clone()))?;
        let digest = digest.as_ref().map(|digest| digest.0);
        tracker.track(name.clone(), Swarm { layout, digest, peers: peers.clone() });
    }
    Ok(tracker)
}

fn receive(socket: &Socket, batch: &mut Batch, tracker: &mut Tracker) -> Result<(), TrackerError> {
    for _ in 0..MOST_BATCHES {
        socket.receive(batch).map_err(TrackerError::Receive)?;
        let now = clock::now();
        for datagram in batch.datagrams() {
            let Some(answer) = tracker.hear(now, datagram.source, datagram.bytes) else { continue };
            // Who cannot be answered asks again.
            if let Some(refusal) = socket.send_from(datagram.destination, datagram.source, answer.as_bytes()) {
                tracing::debug!(client = %datagram.source, ?refusal, "not answered");
            }
        }
        if !batch.is_full() {
            break;
        }
    }
    Ok(())
}
