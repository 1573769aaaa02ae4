//! `peer`: serves one file by the csp2p protocol, at the published model's pace.
//!
//! The machines are [`p2p::serving`], [`p2p::ports`] and [`p2p::admission`].
//!
//! * `doors`: the ports, which come and go.
//! * `visitors`: who is connected, on whichever port.
//! * `connection`: one client: reads, waits, sends.
//! * `announcer`: tells trackers of this peer.

mod announcer;
mod connection;
mod doors;
mod visitors;

use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use event::NodeReport;
use fetch::ByteRange;
use machine::{Machine as _, Seed, Size, Span, Time};
use p2p::admission::{self, Excess};
use p2p::announcement::{Announcement, LONGEST_NAME, MOST_PORTS};
use p2p::ports::Knobs;
use p2p::{Layout, layout, peer_text, tracker_text};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use self::announcer::Announcer;
use self::doors::Doors;
use self::visitors::Visitors;
use crate::endpoint::Endpoint;
use crate::events::EventSink;
use crate::exit::Exit;
use crate::file_server::ContentError;
use crate::file_server::content::{Content, READ, Snapshot};
use crate::file_server::meter::Meter;
use crate::http::listen::{ListenError, connections_that_fit};
use crate::{clock, entropy};

/// Serves FILE by the csp2p protocol over TCP: on one fixed port, and on others that come and go; each at a pace of its own
#[derive(Debug, clap::Parser)]
#[command(
    name = "peer",
    version,
    after_long_help = "Unless told otherwise it is as slow as the published one. `--pre-delay 0s --stretch 0s --ports 0` has no \
                       limits; `--stretch 200ms` is the published test mode."
)]
pub struct Args {
    /// The file to serve
    file: PathBuf,
    /// A tracker to announce itself to, and to keep doing so; it is ours. At port 19876 unless it is given; may be repeated
    #[arg(long = "tracker", value_name = "HOST[:PORT]")]
    trackers: Vec<Endpoint>,
    /// What clients call the file; its own name unless given
    #[arg(long)]
    name: Option<String>,
    /// Address to listen on; `::` takes IPv4 too, where the machine has IPv6 at all
    #[arg(long, value_name = "ADDR", default_value = "::")]
    listen: IpAddr,
    /// The port that stays, at four fifths of the slowest pace; 0 takes a free one and prints it
    #[arg(long, value_name = "N", default_value_t = peer_text::PORT)]
    port: u16,
    /// Other ports, between 20000 and 32767
    #[arg(long, value_name = "N", default_value_t = 31)]
    ports: usize,
    /// How often another port appears and one of the older is retired, with its connections; 0s is never
    #[arg(long, value_name = "TIME", default_value = "30s")]
    churn: Span,
    /// The size of a block
    #[arg(long, value_name = "SIZE", default_value_t = Size::from_bytes(layout::BLOCK))]
    block_size: Size,
    /// From a request until the first byte of its answer
    #[arg(long, value_name = "TIME", default_value = "1s")]
    pre_delay: Span,
    /// What leaves at once on a connection
    #[arg(long, value_name = "SIZE", default_value_t = Size::from_bytes(1000))]
    bytes_per_event: Size,
    /// The slowest pace: a port's time between two such events is less, by its number and the seed, in whole milliseconds
    #[arg(long, value_name = "TIME", default_value = "10ms")]
    stretch: Span,
    /// Connections that a client may have at once, by its address, over all ports
    #[arg(long, value_name = "N", default_value_t = admission::PUBLISHED)]
    max_connections: usize,
    /// When a client opens one more, close any of its open ones, as newer servers do, and not the new one
    #[arg(long)]
    close_random: bool,
    /// A connection on which nothing happens for so long is closed
    #[arg(long, value_name = "TIME", default_value = "1min")]
    idle: Span,
    /// Decides the ports, their paces and random blocks
    #[arg(long, value_name = "N", env = "TESTBED_SEED")]
    seed: Option<Seed>,
}

/// Why the peer did not start.
#[derive(Debug, thiserror::Error)]
pub enum PeerError {
    /// The file cannot be served.
    #[error(transparent)]
    Content(#[from] ContentError),
    /// No client could ask for it.
    #[error(
        "a file cannot be asked for as {0:?}: a name has no blanks, and at most {LONGEST_NAME} bytes; give another by --name"
    )]
    Name(String),
    /// A knob at a value at which nothing would be served, or announced.
    #[error("{0}")]
    Knob(String),
    /// The fixed port cannot be had.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// Signals cannot be caught.
    #[error("cannot catch signals")]
    Signals(#[source] io::Error),
    /// No random bits.
    #[error("cannot draw a seed")]
    Seed(#[source] io::Error),
}

/// What every connection shares.
struct Shared {
    name: String,
    layout: Layout,
    snapshot: Arc<Snapshot>,
    pre_delay: Span,
    bytes_per_event: u64,
    idle: Span,
    visitors: Arc<Visitors>,
    meter: Meter,
}

/// Serves until it is told to end.
pub(crate) async fn run(args: Args, events: EventSink) -> Result<Exit, PeerError> {
    let layout_of = check(&args)?;
    let content = Content::at(args.file.clone())?;
    let snapshot = content.open()?;
    let name = match &args.name {
        Some(name) => name.clone(),
        None => args.file.file_name().unwrap_or_default().to_string_lossy().into_owned(),
    };
    if !tracker_text::is_name(&name) || name.len() > LONGEST_NAME || name.contains(char::REPLACEMENT_CHARACTER) {
        return Err(PeerError::Name(name));
    }
    let layout = layout_of(snapshot.identity.length)?;
    let seed = match args.seed {
        Some(seed) => seed,
        None => Seed::new(entropy::draw().map_err(PeerError::Seed)?),
    };
    let excess = if args.close_random { Excess::RandomOpen } else { Excess::Newcomer };
    let shared = Arc::new(Shared {
        layout,
        pre_delay: args.pre_delay,
        bytes_per_event: args.bytes_per_event.as_bytes(),
        idle: args.idle,
        visitors: Visitors::new(args.max_connections, excess, connections_that_fit(1), seed),
        meter: Meter::default(),
        name: name.clone(),
        snapshot: Arc::clone(&snapshot),
    });
    let mut ends = [SignalKind::terminate(), SignalKind::interrupt()].map(signal).into_iter();
    let (Some(Ok(mut terminated)), Some(Ok(mut interrupted))) = (ends.next(), ends.next()) else {
        return Err(PeerError::Signals(io::Error::last_os_error()));
    };
    let knobs = Knobs { stretch: args.stretch, ports: args.ports, churn: Some(args.churn).filter(|at| !at.is_zero()) };
    let mut doors = Doors::open(knobs, args.listen, args.port, seed, &shared)?;
    let own = Announcement { file: name, layout, ports: doors.ports(), digest: None };
    let (tell, told) = watch::channel(own);
    let announcers: Vec<Announcer> =
        args.trackers.into_iter().map(|tracker| Announcer::new(tracker, args.listen, told.clone())).collect();
    // Whoever starts once this is ready should find it at the tracker.
    futures_util::future::join_all(announcers.iter().map(Announcer::tell)).await;
    eprintln!("serving {} at {} and {} other ports", shared.name, doors.fixed(), doors.ports().len() - 1);
    events.tell(&NodeReport::Ready);
    let reports = Arc::clone(&shared);
    tokio::spawn(async move { reports.meter.report_to(&events).await });
    let mut hashing = tokio::task::spawn_blocking(move || hash(&snapshot));
    let mut is_hashed = false;
    let announcing = futures_util::future::join_all(announcers.iter().map(Announcer::keep_telling));
    let working = async {
        loop {
            let due = doors.machine.deadline().map_or(Time::MAX, |(at, _)| at);
            tokio::select! {
                digest = &mut hashing, if !is_hashed => {
                    is_hashed = true;
                    tell.send_modify(|own| own.digest = digest.ok().flatten());
                }
                () = tokio::time::sleep_until(clock::instant(due)) => {
                    doors.advance(&shared);
                    tell.send_modify(|own| own.ports = doors.ports());
                }
            }
        }
    };
    tokio::select! {
        () = working => {}
        _ = announcing, if !announcers.is_empty() => {}
        _ = terminated.recv() => {}
        _ = interrupted.recv() => {}
    }
    tell.send_modify(|own| own.ports.clear());
    futures_util::future::join_all(announcers.iter().map(Announcer::tell)).await;
    Ok(Exit::Interrupted)
}

/// Refuses knobs that make no sense; what is left to see is whether the file can be divided.
fn check(args: &Args) -> Result<impl Fn(u64) -> Result<Layout, PeerError> + use<>, PeerError> {
    let most = MOST_PORTS - 1;
    let wrong = if args.ports > most {
        format!("--ports {} is more than {most}", args.ports)
    } else if args.bytes_per_event.as_bytes() == 0 {
        "--bytes-per-event 0 would send nothing".to_owned()
    } else if args.max_connections == 0 {
        "--max-connections 0 would serve nobody".to_owned()
    } else if args.idle.is_zero() {
        "--idle 0s would close every connection at once".to_owned()
    } else {
        let block = args.block_size;
        let wrong = move || PeerError::Knob(format!("--block-size {block} cannot divide the file"));
        return Ok(move |size| Layout::new(size, block.as_bytes()).ok_or_else(wrong));
    };
    Err(PeerError::Knob(wrong))
}

/// The file's SHA-256; `None` if it cannot be read, or is another meanwhile.
fn hash(snapshot: &Snapshot) -> Option<[u8; 32]> {
    let whole = ByteRange { start: 0, end: snapshot.identity.length };
    let digest = snapshot.digest(whole, &mut vec![0; READ])?;
    snapshot.is_unchanged().then_some(digest.0)
}
