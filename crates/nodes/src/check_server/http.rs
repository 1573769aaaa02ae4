//! `/status`, `/events` and `/done`.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use machine::Span;
use serde::Serialize;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

use super::board::{Board, Change, FileView, ServerView};
use crate::clock;
use crate::http::listen::connections_that_fit;

type Body = UnsyncBoxBody<Bytes, Infallible>;

/// A client may take this long for a head.
const HEAD_PATIENCE: Duration = Duration::from_secs(10);

/// Larger heads are refused, in bytes.
const LONGEST_HEAD: usize = 16 << 10;

/// Serves for ever. Listeners of `/events` get a comment every `interval`, so that both ends notice a dead path.
pub(crate) async fn serve(listener: TcpListener, board: &Arc<Board>, interval: Span) {
    let room = Arc::new(Semaphore::new(connections_that_fit(1)));
    loop {
        let seat = Arc::clone(&room).acquire_owned().await.expect("the semaphore is never closed");
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "cannot accept");
                tokio::time::sleep_until(clock::instant(clock::now()) + Duration::from_millis(20)).await;
                continue;
            }
        };
        // A change is a small packet that must not wait for the answer to the one before.
        let _ = stream.set_nodelay(true);
        let board = Arc::clone(board);
        tokio::spawn(async move {
            let _seat = seat;
            let service =
                service_fn(|request| std::future::ready(Ok::<_, Infallible>(answer(&request, &board, interval))));
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_PATIENCE)
                .max_buf_size(LONGEST_HEAD)
                .serve_connection(TokioIo::new(stream), service);
            if let Err(error) = connection.await {
                tracing::debug!(%error, "connection ended");
            }
        });
    }
}

fn answer(request: &Request<Incoming>, board: &Arc<Board>, interval: Span) -> Response<Body> {
    match (request.method(), request.uri().path()) {
        (&Method::GET | &Method::HEAD, "/status") => {
            let document = serde_json::to_string(&board.status()).expect("its keys are strings");
            typed(text(document + "\n"), "application/json")
        }
        (&Method::GET, "/events") => typed(Response::new(follow(board, interval)), "text/event-stream"),
        (&Method::POST, "/done") => {
            board.note_done();
            status(StatusCode::NO_CONTENT, "")
        }
        (_, "/status" | "/events" | "/done") => {
            let mut response = status(StatusCode::METHOD_NOT_ALLOWED, "another method is needed here\n");
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD, POST"));
            response
        }
        _ => status(StatusCode::NOT_FOUND, "this is a check server: /status, /events, /done\n"),
    }
}

/// The state of all, then every change, as server-sent events (WHATWG HTML §9.2).
fn follow(board: &Arc<Board>, interval: Span) -> Body {
    // Subscribed first, so that no change falls between.
    let changes = board.changes();
    let listener = Listener { first: Some(everything(board)), board: Arc::clone(board), changes };
    let frames = stream::unfold(listener, move |mut listener| async move {
        let text = listener.next(interval).await;
        Some((Ok(Frame::data(Bytes::from(text))), listener))
    });
    StreamBody::new(frames).boxed_unsync()
}

struct Listener {
    board: Arc<Board>,
    changes: Receiver<Change>,
    first: Option<String>,
}

impl Listener {
    async fn next(&mut self, interval: Span) -> String {
        if let Some(first) = self.first.take() {
            return first;
        }
        let deadline = clock::instant(clock::now() + interval);
        match tokio::time::timeout_at(deadline, self.changes.recv()).await {
            Ok(Ok(Change::Server(server))) => self.board.views().get(server).map(server_event).unwrap_or_default(),
            Ok(Ok(Change::File)) => self.board.file().as_ref().map(file_event).unwrap_or_default(),
            // Too slow for single changes: everything again.
            Ok(Err(RecvError::Lagged(_))) => everything(&self.board),
            // The board holds the sender, and this holds the board.
            Ok(Err(RecvError::Closed)) | Err(_) => String::from(":\n\n"),
        }
    }
}

/// What is known of the file comes first: a listener that fetches it may be about to need it.
fn everything(board: &Board) -> String {
    board.file().iter().map(file_event).chain(board.views().iter().map(server_event)).collect()
}

fn server_event(view: &ServerView) -> String {
    event("server", view)
}

fn file_event(view: &FileView) -> String {
    event("file", view)
}

fn event(kind: &str, view: &impl Serialize) -> String {
    let data = serde_json::to_string(view).expect("its keys are strings");
    format!("event: {kind}\ndata: {data}\n\n")
}

fn text(text: impl Into<Bytes>) -> Response<Body> {
    Response::new(Full::new(text.into()).boxed_unsync())
}

fn status(status: StatusCode, body: &'static str) -> Response<Body> {
    let mut response = typed(text(body), "text/plain");
    *response.status_mut() = status;
    response
}

fn typed(mut response: Response<Body>, kind: &'static str) -> Response<Body> {
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
