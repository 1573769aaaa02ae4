//! `downloader`: one file from many servers at once.
//!
//! [`fetch::Engine`] decides; this drives it on sockets and disk.
//!
//! * `driver`: the loop between the engine and the rest.
//! * `roster`: who may have the file.
//! * `name`, `naming`: what the file is called, where the user named a folder.
//! * `link`, `ask`, `range`: a source: its connections, what it has, a range of it.
//! * `trouble`: why an exchange failed, in words and for the engine.
//! * `place`, `disk`: the target, the part file and the journal; writing, hashing and syncing them.
//! * `check`: what a check server says; `watched`: of which sources it says that.
//! * `expected`: the hash that the whole should have, and who says so.
//! * `ports`: which of some ports is a file server and which the check server.
//! * `reporter`, `display`, `bars`: what a testbed and a person see of it.

mod ask;
pub(crate) mod bars;
mod check;
pub(crate) mod disk;
pub(crate) mod display;
mod driver;
mod expected;
mod link;
pub(crate) mod name;
mod naming;
pub(crate) mod place;
mod ports;
mod range;
pub(crate) mod reporter;
pub(crate) mod roster;
pub(crate) mod trouble;
mod watched;

use std::collections::BTreeSet;
use std::path::PathBuf;

use fetch::{Digest, Remains};
use machine::{Rate, Span};

use crate::events::EventSink;
use crate::exit::Exit;
use crate::http::{TrustError, Url};
pub use disk::DiskError;
use naming::Named;
pub use place::PlaceError;
use place::{Existing, Place};
use reporter::Reporter;
use roster::Roster;

/// Downloads one file from all servers at URL… at once; any server may die and come back meanwhile
#[derive(Debug, clap::Parser)]
#[command(name = "downloader", version)]
pub struct Args {
    /// Where the file is; any HTTP server that knows ranges
    #[arg(value_name = "URL", required_unless_present = "ports")]
    urls: Vec<Url>,
    /// Where to put it: a file, or a folder, where it gets the name that the first server advertises
    #[arg(short, long, value_name = "FILE|DIR", default_value = ".")]
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
    /// Go on with what is there: an earlier run's part file, or FILE itself, whoever made it; what is right is kept. (Without
    /// this and --overwrite neither is touched.)
    #[arg(short, long, visible_alias = "continue", visible_short_alias = 'c', conflicts_with = "overwrite")]
    resume: bool,
    /// Begin anew, and replace FILE when the new one is whole and right
    #[arg(long)]
    overwrite: bool,
    /// The SHA-256 that the file must have
    #[arg(long, value_name = "HEX")]
    checksum: Option<Digest>,
    /// Ask for ranges no longer than the file's length divided by N; without it they are sized by measured speeds
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    segments: Option<u32>,
    /// Fetch no faster than this from all servers together, such as 5Mbit or 800kbit
    #[arg(long, value_name = "RATE", value_parser = rate)]
    limit_rate: Option<Rate>,
    /// Certificates (PEM) of the authorities to trust on https, instead of this machine's
    #[arg(long, value_name = "FILE")]
    ca_certificate: Option<PathBuf>,
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
    /// The certificates that the user named cannot be used.
    #[error(transparent)]
    Trust(#[from] TrustError),
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
    let existing = match (args.resume, args.overwrite) {
        (true, _) => Existing::Resume,
        (false, true) => Existing::Overwrite,
        (false, false) => Existing::Refuse,
    };
    let mut roster = Roster::new(&args)?;
    let reporter = Reporter::new(events, args.format);
    reporter.ready();
    let target = if args.output.is_dir() {
        match naming::find(&mut roster).await {
            Named::As(name) => args.output.join(name),
            Named::Nothing => {
                eprintln!("error: no server tells a name for the file; give it one by -o FILE");
                return Ok(Exit::Usage);
            }
            Named::Interrupted => {
                eprintln!("interrupted; nothing was fetched yet");
                return Ok(Exit::Interrupted);
            }
        }
    } else {
        args.output.clone()
    };
    // A large file that is there already may take a while to be read.
    let sought = args.checksum.filter(|_| args.resume);
    let looking =
        tokio::task::spawn_blocking(move || match sought.and_then(|digest| disk::length_if_it_has(&target, digest)) {
            Some(length) => Ok(Before::Whole(target, length)),
            None => Place::prepare(&target, existing).map(|(place, remains)| Before::Part(place, remains)),
        });
    let before = tokio::select! {
        biased;
        before = looking => before.expect("it does not panic and is not cancelled")?,
        () = roster.signals.next() => {
            eprintln!("interrupted; nothing was fetched yet");
            return Ok(Exit::Interrupted);
        }
    };
    let (place, remains) = match before {
        Before::Part(place, remains) => (place, remains),
        Before::Whole(target, length) => {
            eprintln!("{}: {length} bytes are here already, and have the expected SHA-256", target.display());
            reporter.finished(length, args.checksum);
            if let Some(check) = &roster.check {
                check::tell_done(check, &roster.trust).await;
            }
            return Ok(Exit::Done);
        }
    };
    driver::drive(args, roster, place, remains, reporter).await
}

/// What is there before anything is fetched.
enum Before {
    /// The file itself, by its hash, and its length: nobody need be asked.
    Whole(PathBuf, u64),
    Part(Place, Option<Remains>),
}

fn rate(text: &str) -> Result<Rate, String> {
    match text.parse::<Rate>() {
        Ok(rate) if rate.as_bytes_per_sec() == 0 => Err(format!("`{text}` would never bring a byte")),
        Ok(rate) => Ok(rate),
        Err(error) => Err(error.to_string()),
    }
}

/// A number of seconds, as options take it.
pub(crate) fn seconds(text: &str) -> Result<Span, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (0.01..=86_400.0).contains(&seconds) => Ok(Span::from_secs_f64(seconds)),
        _ => Err(format!("`{text}` is not a number of seconds from 0.01 to 86400")),
    }
}
