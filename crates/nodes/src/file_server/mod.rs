//! `file-server`: serves one file over HTTP/1.1 with ranges, and its Metalink.
//!
//! hyper cannot hand a file to the kernel's `sendfile`, and that is what makes nginx fast; so this one server parses
//! its heads with httparse and writes its answers itself. It knows GET and HEAD and no request bodies.
//!
//! * `content`: the file as it is now, and the tag that names that state.
//! * `hashes`: hashing it in the background.
//! * `request`: the head of a request, from bytes.
//! * `answer`: what to answer, without doing it.
//! * `connection`: one client: reads, answers, sends.
//! * `meter`: the report of all sending; `throttle` bounds it.
//! * `rot`: damage on purpose.

mod answer;
pub(crate) mod connection;
pub(crate) mod content;
pub(crate) mod hashes;
pub(crate) mod meter;
mod request;
mod rot;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use event::NodeReport;
use machine::{Rate, Ratio, Seed};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use crate::clock;
use crate::events::EventSink;
use crate::exit::Exit;
use crate::http::listen::{ListenArgs, ListenError, connections_that_fit};
use crate::throttle::Throttle;
use content::Content;
pub use content::ContentError;
use hashes::Hashes;
use meter::Meter;
use rot::Rot;

/// Serves FILE over HTTP/1.1 with ranges; `/` redirects to it, `/NAME.meta4` is its Metalink with SHA-256 of each piece
#[derive(Debug, clap::Parser)]
#[command(name = "file-server", version)]
pub struct Args {
    /// The file to serve; a change of it is noticed
    file: PathBuf,
    #[command(flatten)]
    listen: ListenArgs,
    /// Send no faster than this in all, such as 50Mbit
    #[arg(long, value_name = "RATE")]
    rate: Option<Rate>,
    /// For tests of downloaders: flip one bit in this share of the blocks of 16 KiB that are sent, such as 1%, as rotten
    /// memory would; the published hashes stay true
    #[arg(long, value_name = "SHARE")]
    corrupt: Option<Ratio>,
    /// Which blocks those are
    #[arg(long, value_name = "NUMBER", requires = "corrupt", default_value_t = Seed::new(0), hide_default_value = true)]
    seed: Seed,
}

/// Why the server did not start.
#[derive(Debug, thiserror::Error)]
pub enum FileServerError {
    /// The file cannot be served.
    #[error(transparent)]
    Content(#[from] ContentError),
    /// The port cannot be had.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// A rate of zero would never send a byte.
    #[error("--rate 0 would send nothing")]
    NoRate,
}

/// What every connection shares.
struct Shared {
    content: Content,
    hashes: Hashes,
    throttle: Option<Throttle>,
    /// Without it the kernel sends the file, and nothing here sees its bytes.
    rot: Option<Rot>,
    meter: Meter,
}

/// Whether `file` can be served now.
pub(crate) fn check(file: &Path) -> Result<(), ContentError> {
    Content::at(file.to_owned()).map(drop)
}

/// Serves until the process ends.
pub(crate) async fn run(args: Args, events: EventSink) -> Result<Exit, FileServerError> {
    if args.rate.is_some_and(|rate| rate.as_bytes_per_sec() == 0) {
        return Err(FileServerError::NoRate);
    }
    let content = Content::at(args.file)?;
    let room = connections_that_fit(2);
    let listener = args.listen.listen()?;
    let hashes = Hashes::start(content.open()?);
    let corrupt = args.corrupt.filter(|share| *share != Ratio::ZERO);
    let shared = Arc::new(Shared {
        content,
        hashes,
        throttle: args.rate.map(Throttle::new),
        rot: corrupt.map(|share| Rot::new(share, args.seed)),
        meter: Meter::default(),
    });
    if let Ok(address) = listener.local_addr() {
        let damage = corrupt.map(|share| format!(" with one bit flipped in {share} of what is sent"));
        eprintln!("serving {} at http://{address}/{}", shared.content.name(), damage.unwrap_or_default());
    }
    events.tell(&NodeReport::Ready);
    let reports = Arc::clone(&shared);
    tokio::join!(accept(listener, &shared, room), async move { reports.meter.report_to(&events).await });
    Ok(Exit::Done)
}

/// Takes connections for ever, as many at a time as there is room for.
async fn accept(listener: TcpListener, shared: &Arc<Shared>, room: usize) {
    /// Out of descriptors or memory: some will be given back soon.
    const PAUSE: Duration = Duration::from_millis(20);
    let room = Arc::new(Semaphore::new(room));
    loop {
        let seat = Arc::clone(&room).acquire_owned().await.expect("the semaphore is never closed");
        match listener.accept().await {
            Ok((stream, peer)) => {
                let shared = Arc::clone(shared);
                tokio::spawn(async move {
                    let _seat = seat;
                    let _counted = shared.meter.connection();
                    if let Err(error) = connection::serve(stream, &shared).await {
                        tracing::debug!(%peer, %error, "connection ended");
                    }
                });
            }
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                tracing::warn!(%error, "cannot accept");
                tokio::time::sleep_until(clock::instant(clock::now()) + PAUSE).await;
            }
        }
    }
}
