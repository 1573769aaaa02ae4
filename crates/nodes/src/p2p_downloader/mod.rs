//! `p2p-downloader`: one file from the peers that a tracker names, by the csp2p protocol.
//!
//! [`p2p::Downloader`] decides; this drives it on sockets and disk. The disk, the place and the reports are those of
//! [`downloader`](crate::downloader).
//!
//! * `driver`: the loop between the machine and the rest.
//! * `channel`: one connection to a peer; `asking`: the tracker.
//! * `conclusion`: how it ends, on the disk and in words; `words`: what happens, in words.

mod asking;
mod channel;
mod conclusion;
mod driver;
mod words;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use fetch::Digest;
use machine::{Size, Span};
use p2p::downloader::CONNECTIONS;
use p2p::{layout, tracker_text};

use crate::downloader::place::{Existing, Place};
use crate::downloader::reporter::Reporter;
use crate::downloader::roster::Signals;
use crate::downloader::{DiskError, Format, PlaceError};
use crate::endpoint::Endpoint;
use crate::events::EventSink;
use crate::exit::Exit;

/// Downloads FILE by the csp2p protocol from the peers that TRACKER names, over a few connections at a time; peers may come
/// and go meanwhile
#[derive(Debug, clap::Parser)]
#[command(name = "p2p-downloader", version)]
pub struct Args {
    /// The file, as the tracker knows it
    file: String,
    /// The tracker: a name or an address
    tracker: Endpoint,
    /// Its UDP port
    #[arg(default_value_t = tracker_text::PORT)]
    port: u16,
    /// Where to put it: a file, or a folder
    #[arg(short, long, value_name = "FILE|DIR", default_value = ".")]
    output: PathBuf,
    /// Go on with what is there: an earlier run's part file, or FILE itself. (Without this and --overwrite neither is touched.)
    #[arg(short, long, visible_alias = "continue", visible_short_alias = 'c', conflicts_with = "overwrite")]
    resume: bool,
    /// Begin anew, and replace FILE when the new one is whole
    #[arg(long)]
    overwrite: bool,
    /// The SHA-256 that the file must have; the tracker's counts unless given, if it tells one
    #[arg(long, value_name = "HEX")]
    checksum: Option<Digest>,
    /// Give up when nothing has come for so long; what is here is kept for --resume. 0s is never
    #[arg(long, value_name = "TIME", default_value = "5min")]
    timeout: Span,
    /// Connections at once; the published protocol allows a client 5
    #[arg(long, value_name = "N", default_value_t = CONNECTIONS as u8, value_parser = clap::value_parser!(u8).range(1..=64))]
    connections: u8,
    /// The size of a block
    #[arg(long, value_name = "SIZE", default_value_t = Size::from_bytes(layout::BLOCK))]
    block_size: Size,
    /// The least time between two questions to the tracker
    #[arg(long, value_name = "TIME", default_value = "2s")]
    ask_every: Span,
    /// What to print: for people, or one JSON object a line as on TESTBED_EVENTS_FD
    #[arg(long, value_enum, default_value_t = Format::Human)]
    format: Format,
}

/// Why a download could not be begun or carried on.
#[derive(Debug, thiserror::Error)]
pub enum P2pDownloaderError {
    /// The target cannot be written.
    #[error(transparent)]
    Place(#[from] PlaceError),
    /// The disk failed on the way.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// Signals cannot be caught.
    #[error("cannot catch signals")]
    Signals(#[source] std::io::Error),
}

/// Downloads until the file is whole or cannot be had.
pub(crate) async fn run(args: Args, events: EventSink) -> Result<Exit, P2pDownloaderError> {
    if !tracker_text::is_name(&args.file) {
        eprintln!("error: no file can be called {:?}: a name has no blanks", args.file);
        return Ok(Exit::Usage);
    }
    if args.block_size == Size::default() {
        eprintln!("error: --block-size 0 divides nothing");
        return Ok(Exit::Usage);
    }
    let mut signals = Signals::catch().map_err(P2pDownloaderError::Signals)?;
    let existing = match (args.resume, args.overwrite) {
        (true, _) => Existing::Resume,
        (false, true) => Existing::Overwrite,
        (false, false) => Existing::Refuse,
    };
    let reporter = Reporter::new(events, args.format);
    reporter.ready();
    let target = if args.output.is_dir() {
        // Whatever the tracker calls it, it does not leave the folder.
        args.output.join(Path::new(&args.file).file_name().unwrap_or(OsStr::new("download")))
    } else {
        args.output.clone()
    };
    // A large file that is there already may take a while to be copied.
    let looking = tokio::task::spawn_blocking(move || Place::prepare(&target, existing));
    let (place, remains) = tokio::select! {
        biased;
        prepared = looking => prepared.expect("it does not panic and is not cancelled")?,
        () = signals.next() => {
            eprintln!("interrupted; nothing was fetched yet");
            return Ok(Exit::Interrupted);
        }
    };
    driver::drive(args, place, remains, reporter, signals).await
}
