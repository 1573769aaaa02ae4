//! A source's connections: kept alive between requests, as many as there are requests at once.

use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use fetch::CloseReason;
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{ACCEPT_ENCODING, CONTENT_ENCODING, HOST, USER_AGENT};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;

use super::trouble::Trouble;
use crate::http::Url;
use crate::http::dial::dial;

/// Read from a socket at once at most, in bytes, and so the bound of an answer's head.
const READ_BUFFER: usize = 256 << 10;

/// Connections kept while nothing is asked on them.
const MOST_IDLE: usize = 3;

type Sender = SendRequest<Empty<Bytes>>;

/// One source.
#[derive(Debug)]
pub(crate) struct Link {
    /// As the user gave it.
    pub(crate) url: Url,
    /// For reports and lines.
    pub(crate) name: String,
    /// Where redirects led to when it was last asked.
    resolved: Mutex<Url>,
    idle: Mutex<Vec<(Url, Sender)>>,
    /// What went wrong last, for the engine and in words.
    trouble: Mutex<Option<(CloseReason, String)>>,
}

/// An answer, and the connection that it comes over.
pub(crate) struct Exchange {
    pub(crate) response: Response<Incoming>,
    origin: Url,
    sender: Sender,
}

impl Link {
    pub(crate) fn new(url: Url, name: String) -> Self {
        Link { resolved: Mutex::new(url.clone()), url, name, idle: Mutex::default(), trouble: Mutex::default() }
    }

    /// Where the file is, redirects followed.
    pub(crate) fn resolved(&self) -> Url {
        lock(&self.resolved).clone()
    }

    pub(crate) fn set_resolved(&self, url: Url) {
        *lock(&self.resolved) = url;
    }

    /// What went wrong last, in words.
    pub(crate) fn trouble(&self) -> Option<String> {
        lock(&self.trouble).as_ref().map(|(_, line)| line.clone())
    }

    /// A reason of the engine's in as many words as are known.
    pub(crate) fn in_words(&self, why: CloseReason) -> String {
        let last = lock(&self.trouble);
        last.as_ref().filter(|(reason, _)| *reason == why).map_or_else(|| why.to_string(), |(_, line)| line.clone())
    }

    /// Notes that an exchange failed. Connections that stood idle meanwhile are as doubtful.
    pub(crate) fn failed(&self, trouble: &Trouble) {
        lock(&self.idle).clear();
        let known = (trouble.reason(), trouble.line());
        let mut last = lock(&self.trouble);
        if last.as_ref() != Some(&known) {
            tracing::info!(source = self.name, error = trouble as &dyn std::error::Error, "{}", known.1);
            *last = Some(known);
        }
    }

    /// Sends a GET with these extra fields, over an idle connection or a new one.
    pub(crate) async fn get(&self, url: &Url, fields: &[(&str, String)]) -> Result<Exchange, Trouble> {
        if let Some(sender) = self.take_idle(url) {
            // The server may have closed it just now: that is no failure, and worth one new connection.
            match send(sender, url, fields).await {
                Err(Trouble::Http(error))
                    if error.is_canceled() || error.is_closed() || error.is_incomplete_message() => {}
                done => return done,
            }
        }
        let stream = dial(url).await.map_err(Trouble::Dial)?;
        let (sender, connection) =
            http1::Builder::new().max_buf_size(READ_BUFFER).handshake(TokioIo::new(stream)).await?;
        tokio::spawn(async move {
            // Ends when the sender and the body are gone; what broke it is told to whoever waits for the body.
            let _ = connection.await;
        });
        send(sender, url, fields).await
    }

    /// Gives a connection back whose answer was read to its end.
    pub(crate) fn keep(&self, exchange: Exchange) {
        let mut idle = lock(&self.idle);
        if !exchange.sender.is_closed() && idle.len() < MOST_IDLE {
            idle.push((exchange.origin, exchange.sender));
        }
    }

    fn take_idle(&self, url: &Url) -> Option<Sender> {
        let mut idle = lock(&self.idle);
        idle.retain(|(_, sender)| !sender.is_closed());
        let at = idle.iter().position(|(origin, _)| origin.same_origin(url))?;
        Some(idle.swap_remove(at).1)
    }
}

async fn send(mut sender: Sender, url: &Url, fields: &[(&str, String)]) -> Result<Exchange, Trouble> {
    sender.ready().await?;
    let mut request = Request::get(url.target())
        .header(HOST, url.authority())
        .header(USER_AGENT, concat!("downloader/", env!("CARGO_PKG_VERSION")))
        // Ranges of a compressed answer are not ranges of the file.
        .header(ACCEPT_ENCODING, "identity");
    for (name, value) in fields {
        request = request.header(*name, value);
    }
    let request =
        request.body(Empty::new()).map_err(|error| Trouble::Violation(format!("it cannot be asked: {error}")))?;
    let response = sender.send_request(request).await?;
    if let Some(coding) = response.headers().get(CONTENT_ENCODING).filter(|coding| *coding != "identity") {
        return Err(Trouble::Violation(format!("it sends the file encoded as {coding:?}")));
    }
    Ok(Exchange { response, origin: url.clone(), sender })
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
