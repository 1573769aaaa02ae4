//! `downloader`: one file from many servers at once.
//!
//! [`fetch::Engine`] decides; this drives it on sockets and disk.
//!
//! * `driver`: the loop between the engine and the rest.
//! * `link`, `ask`, `range`: a source: its connections, what it has, a range of it.
//! * `trouble`: why an exchange failed, in words and for the engine.
//! * `place`, `disk`: the target, the part file and the journal; writing, hashing and syncing them.
//! * `check`: what a check server says.
//! * `ports`: which of some ports is a file server and which the check server.
//! * `reporter`, `display`: what a testbed and a person see of it.

mod ask;
mod check;
mod disk;
mod display;
mod driver;
mod link;
mod place;
mod ports;
mod range;
mod reporter;
mod trouble;

use std::collections::BTreeSet;
use std::path::PathBuf;

use fetch::Digest;
use machine::Span;

use crate::events::EventSink;
use crate::exit::Exit;
use crate::http::Url;
pub use disk::DiskError;
pub use place::PlaceError;
use place::{Existing, Place};

/// Downloads one file from all servers at URL… at once; any server may die and come back meanwhile
#[derive(Debug, clap::Parser)]
#[command(name = "downloader", version)]
pub struct Args {
    /// Where the file is; any HTTP server that knows ranges
    #[arg(value_name = "URL", required_unless_present = "ports")]
    urls: Vec<Url>,
    /// Where to put it: a file, or a folder to take the name of the first URL
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// A check server, such as http://check:8080/
    #[arg(long, value_name = "URL")]
    check: Option<Url>,
    /// Address of servers that are given by their ports
    #[arg(short, long, value_name = "ADDR", default_value = "127.0.0.1", requires = "ports")]
    address: String,
    /// Ports of servers on one address; each is asked whether it is a file server or the check server
    #[arg(short, long, value_name = "PORT", num_args = 1.., conflicts_with_all = ["urls", "check"],
          value_parser = clap::value_parser!(u16).range(1024..))]
    ports: Vec<u16>,
    /// Go on where an earlier run stopped
    #[arg(short, long)]
    resume: bool,
    /// Replace FILE if it exists
    #[arg(long)]
    overwrite: bool,
    /// The SHA-256 that the file must have
    #[arg(long, value_name = "HEX")]
    checksum: Option<Digest>,
    /// Seconds between two metric lines, where there is no terminal to draw bars on: of each server kB received and
    /// assigned, and its speed; the total speed is the sum of the servers'
    #[arg(short, long, value_name = "SECONDS", default_value = "1", value_parser = seconds)]
    interval: Span,
    /// What to print: for people, or one JSON object a line as on TESTBED_EVENTS_FD
    #[arg(long, value_enum, default_value_t = Format::Human)]
    format: Format,
}

/// What is printed on stdout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// Metric lines, or bars on a terminal.
    Human,
    /// One JSON object a line.
    Json,
}

/// Why a download could not be begun or carried on.
#[derive(Debug, thiserror::Error)]
pub enum DownloaderError {
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
pub(crate) async fn run(args: Args, events: EventSink) -> Result<Exit, DownloaderError> {
    let distinct: BTreeSet<_> = args.ports.iter().collect();
    if distinct.len() != args.ports.len() {
        eprintln!("error: a port is given twice");
        return Ok(Exit::Usage);
    }
    let Some(target) = target(&args) else {
        eprintln!("error: {} is a folder, and the URL names no file", args.output.display());
        return Ok(Exit::Usage);
    };
    let existing = match (args.resume, args.overwrite) {
        (true, _) => Existing::Resume,
        (false, true) => Existing::Overwrite,
        (false, false) => Existing::Refuse,
    };
    let (place, remains) = Place::prepare(target, existing)?;
    driver::drive(args, place, remains, events).await
}

/// The file to make: as given, or in the given folder under the URL's name.
fn target(args: &Args) -> Option<PathBuf> {
    if !args.output.is_dir() {
        return Some(args.output.clone());
    }
    let name = args.urls.first().map(Url::file_name).unwrap_or_default();
    place::safe_name(name).map(|name| args.output.join(name))
}

fn seconds(text: &str) -> Result<Span, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (0.01..=86_400.0).contains(&seconds) => Ok(Span::from_secs_f64(seconds)),
        _ => Err(format!("`{text}` is not a number of seconds from 0.01 to 86400")),
    }
}
