//! `check-server`: watches file servers and tells who lives.
//!
//! * `watch`: one server watched over a kept connection.
//! * `board`: what is known of all of them, and the changes of it.
//! * `expected`: the SHA-256 that the file of all servers should have.
//! * `http`: `/status`, `/events`, `/done`.

pub(crate) mod board;
mod expected;
mod http;
pub(crate) mod watch;

use std::path::PathBuf;
use std::sync::Arc;

use event::NodeReport;
use fetch::Digest;
use machine::Span;

use crate::events::EventSink;
use crate::exit::Exit;
use crate::http::Url;
use crate::http::listen::{ListenArgs, ListenError};
use board::{Board, FileView};
pub use expected::ExpectedError;

/// Watches the servers at URL…: GET /status tells their state as JSON, GET /events every change as it happens
#[derive(Debug, clap::Parser)]
#[command(name = "check-server", version)]
pub struct Args {
    /// The servers, such as http://server-1:8080/
    #[arg(required = true, value_name = "URL")]
    urls: Vec<Url>,
    #[command(flatten)]
    listen: ListenArgs,
    /// Between two questions to a server that says nothing; a silent death is noticed within two of them
    #[arg(long, value_name = "TIME", default_value = "500ms")]
    interval: Span,
    /// The SHA-256 of the file that all servers should have: told to downloaders, who use it where no server publishes
    /// hashes
    #[arg(long, value_name = "HEX")]
    checksum: Option<Digest>,
    /// The file itself, to be hashed in the background; a change of it is noticed
    #[arg(long, value_name = "FILE", conflicts_with = "checksum")]
    file: Option<PathBuf>,
    /// Exit when a downloader says that it has everything
    #[arg(long)]
    until_done: bool,
}

/// Why the server did not start.
#[derive(Debug, thiserror::Error)]
pub enum CheckServerError {
    /// The port cannot be had.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The file to hash cannot be read.
    #[error(transparent)]
    Expected(#[from] ExpectedError),
    /// Questions without a pause would flood the servers.
    #[error("--interval {0} is shorter than 10ms")]
    Interval(Span),
}

/// The shortest interval between questions.
const SHORTEST_INTERVAL: Span = Span::from_millis(10);

/// Watches until the process ends, or with `--until-done` until a downloader is done.
pub(crate) async fn run(args: Args, events: EventSink) -> Result<Exit, CheckServerError> {
    if args.interval < SHORTEST_INTERVAL {
        return Err(CheckServerError::Interval(args.interval));
    }
    let listener = args.listen.listen()?;
    if let Ok(address) = listener.local_addr() {
        eprintln!("watching {} servers at http://{address}/status", args.urls.len());
    }
    let board = Arc::new(Board::new(&args.urls, events.clone()));
    if let Some(sha256) = args.checksum {
        board.set_file(FileView::new(Some(sha256), None));
    }
    if let Some(file) = args.file {
        expected::follow(file, Arc::clone(&board))?;
    }
    for (server, url) in args.urls.into_iter().enumerate() {
        let board = Arc::clone(&board);
        tokio::spawn(
            async move { watch::watch(&url, args.interval, |alive, peer| board.set(server, alive, peer)).await },
        );
    }
    events.tell(&NodeReport::Ready);
    let done = board.done();
    tokio::select! {
        () = http::serve(listener, &board, args.interval) => {}
        () = done, if args.until_done => {}
    }
    Ok(Exit::Done)
}
