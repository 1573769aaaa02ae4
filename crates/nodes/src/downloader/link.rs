//! A source's connections.
//!
//! Ranges follow each other on one connection, the next asked for before the one under way ends: TCP keeps its window,
//! and the source never waits for a question. Until a server has shown that it takes a second request on a connection,
//! each gets a connection of its own. Questions about the file never wait behind a range.

use std::sync::{Mutex, PoisonError};

use fetch::{CloseReason, Input};
use hyper::header::CONTENT_ENCODING;
use tokio::sync::mpsc::Sender;

use super::range::Outlet;
use super::roster::Control;
use super::trouble::Trouble;
use crate::http::Url;
use crate::http::connection::{Answer, Connection, ExchangeError};
use crate::http::dial::dial;
use crate::http::request::request;
use crate::http::tls::Trust;

/// Connections kept while nothing is asked on them.
const MOST_IDLE: usize = 2;

/// A request that met a connection's end is asked again this often: each time it was another request's fault.
const MOST_ATTEMPTS: usize = 4;

/// One source.
#[derive(Debug)]
pub(crate) struct Link {
    /// As the user gave it.
    pub(crate) url: Url,
    /// For reports and lines.
    pub(crate) name: String,
    trust: Trust,
    /// Where redirects led to when it was last asked.
    resolved: Mutex<Url>,
    /// The oldest first: ranges go to the first that takes them.
    connections: Mutex<Vec<(Url, Connection)>>,
    /// What went wrong last, for the engine and in words.
    trouble: Mutex<Option<(CloseReason, String)>>,
    remarks: Sender<Control>,
    /// What was remarked last.
    remarked: Mutex<String>,
}

/// Whether a request may wait for others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lane {
    /// Behind others on their connection: ranges.
    Shared,
    /// On a connection where nothing else is under way.
    Own,
}

impl Link {
    pub(crate) fn new(url: Url, name: String, trust: Trust, remarks: Sender<Control>) -> Self {
        Link {
            resolved: Mutex::new(url.clone()),
            url,
            name,
            trust,
            connections: Mutex::default(),
            trouble: Mutex::default(),
            remarks,
            remarked: Mutex::default(),
        }
    }

    /// Says something about it that is no trouble to the engine; not again what was said last.
    pub(crate) fn remark(&self, words: &str) {
        let mut last = lock(&self.remarked);
        if *last != words {
            words.clone_into(&mut last);
            // One that has a lot to be said about it may lose some.
            let _ = self.remarks.try_send(Control::Remark(format!("{}: {words}", self.name)));
        }
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

    /// Notes that an exchange failed.
    pub(crate) fn failed(&self, trouble: &Trouble) {
        let known = (trouble.reason(), trouble.line());
        let mut last = lock(&self.trouble);
        if last.as_ref() != Some(&known) {
            tracing::info!(source = self.name, error = trouble as &dyn std::error::Error, "{}", known.1);
            *last = Some(known);
        }
    }

    /// Gives up all connections: the source is down, and a new one is the quickest to notice that it is back.
    pub(crate) fn hang_up(&self) {
        lock(&self.connections).drain(..).for_each(|(_, connection)| connection.end());
    }

    /// Sends a GET with these extra fields, and waits for the head of its answer.
    pub(crate) async fn get(&self, url: &Url, fields: &[(&str, String)], lane: Lane) -> Result<Answer, Trouble> {
        self.get_telling(url, fields, lane, None).await
    }

    /// The same, for a question that tells when it has a connection.
    pub(crate) async fn get_telling(
        &self,
        url: &Url,
        fields: &[(&str, String)],
        lane: Lane,
        question: Option<&Outlet>,
    ) -> Result<Answer, Trouble> {
        let request = request("GET", url, fields);
        let mut attempts = 0;
        let answer = loop {
            attempts += 1;
            // Those of a server that closes after each answer may all have others' requests before this one. On a new one it is
            // the first, and what becomes of it there is the server's answer to it.
            let open = if attempts < MOST_ATTEMPTS { self.choose(url, lane) } else { None };
            let connection = match open {
                Some(connection) => connection,
                None => self.connect(url).await?,
            };
            if let Some(outlet) = question {
                outlet.put(Input::Reached { request: outlet.request }).await;
            }
            let (was_first, result) = match connection.send(&request).await {
                Ok(turn) => (turn.is_first(), turn.answer().await),
                Err(error) => (false, Err(error)),
            };
            match result {
                Ok(answer) => break answer,
                // The server may close a connection between two answers, and what another request left ends it too:
                // neither says anything about this one.
                Err(ExchangeError::Unanswered | ExchangeError::Io(_)) if !was_first && attempts < MOST_ATTEMPTS => {
                    connection.end();
                }
                Err(error) => return Err(error.into()),
            }
        };
        if let Some(coding) = answer.head.headers().get(CONTENT_ENCODING).filter(|coding| *coding != "identity") {
            return Err(Trouble::Violation(format!("it sends the file encoded as {coding:?}")));
        }
        Ok(answer)
    }

    fn choose(&self, url: &Url, lane: Lane) -> Option<Connection> {
        let mut connections = lock(&self.connections);
        connections.retain(|(_, connection)| !connection.is_over());
        let mut fitting = connections.iter().filter(|(origin, _)| origin.same_origin(url)).map(|(_, open)| open);
        match lane {
            Lane::Shared => fitting.find(|open| open.persists()),
            Lane::Own => fitting.find(|open| open.persists() && open.waiting() == 0),
        }
        .cloned()
    }

    async fn connect(&self, url: &Url) -> Result<Connection, Trouble> {
        let connection = Connection::new(dial(url, &self.trust).await.map_err(Trouble::Dial)?);
        let mut connections = lock(&self.connections);
        let idle = |open: &Connection| open.persists() && open.waiting() == 0;
        while connections.iter().filter(|(_, open)| idle(open)).count() >= MOST_IDLE {
            let oldest = connections.iter().position(|(_, open)| idle(open)).expect("some were counted");
            connections.remove(oldest).1.end();
        }
        connections.push((url.clone(), connection.clone()));
        Ok(connection)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
