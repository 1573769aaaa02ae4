//! `check-server`: watches file servers and tells who lives.
//!
//! * `watch`: one server watched over a kept connection.
//! * `board`: what is known of all of them, and the changes of it.
//! * `http`: `/status`, `/events`, `/done`.

pub(crate) mod board;
mod http;
mod watch;

use std::sync::Arc;

use event::NodeReport;
use machine::Span;

use crate::events::EventSink;
use crate::exit::Exit;
use crate::http::Url;
use crate::http::listen::{ListenArgs, ListenError};
use board::Board;

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
    for (server, url) in args.urls.into_iter().enumerate() {
        let board = Arc::clone(&board);
        tokio::spawn(async move { watch::watch(&url, args.interval, |alive| board.set(server, alive)).await });
    }
    events.tell(&NodeReport::Ready);
    let done = board.done();
    tokio::select! {
        () = http::serve(listener, &board, args.interval) => {}
        () = done, if args.until_done => {}
    }
    Ok(Exit::Done)
}
